/*-------------------------------------------------------------------------
 *
 * obstacles.h
 *		Reasons why workflows do not run in this database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OBSTACLES_H
#define ROM_OBSTACLES_H

typedef struct RomObstacles
{
	char	   *texts[16];		/* a sentence each, without a period */
	int			count;

	char	   *others;			/* of other owners' workers; NULL: nothing */

	/* other facts that were found */
	bool		preloaded;
	bool		launcher;
	bool		adopted;
	char	   *sql_version;	/* of the extension's objects; NULL: the
								 * library's */
	int			workers;		/* of all databases */
	int			max_workers;
} RomObstacles;

/* Looks for all of them. Engine SQL of its own; a snapshot is needed. */
extern void rom_obstacles_find(RomObstacles *found);

/* Adds one. */
extern void rom_obstacles_add(RomObstacles *found, char *text);

/* All of them in one text, for a DETAIL: sentences. */
extern char *rom_obstacles_text(const RomObstacles *found);

#endif							/* ROM_OBSTACLES_H */
