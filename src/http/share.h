/*-------------------------------------------------------------------------
 *
 * share.h
 *		Requests under way, and how many more may begin: of all, and of a namespace.
 *
 * Local to the HTTP worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_SHARE_H
#define ROM_HTTP_SHARE_H

/* The place of a request. */
typedef struct RomSharePlace
{
	bool		taken;			/* it is under way, or its outcome is to be
								 * recorded */
	bool		held;			/* another transaction keeps its outcome from
								 * being recorded: it takes no place, */
	size_t		bytes;			/* but so much memory */
} RomSharePlace;

/* Room for more requests. */
extern int	rom_share_room(void);

/*
 * Room for more requests of a namespace: where there is more than one, the last places are for those that have few. At most that of all. A claim begins
 * with rom_share_look(), which enters the engine by itself.
 */
extern void rom_share_look(void);
extern int	rom_share_room_of(int32 namespace);

/* A request of the namespace begins; it ends. */
extern void rom_share_begin(int32 namespace, RomSharePlace *place);
extern void rom_share_end(int32 namespace, RomSharePlace *place);

/* A request whose outcome, with an answer of so many bytes, cannot be recorded for long gives up its place, unless there are too many of them. */
extern void rom_share_hold(int32 namespace, RomSharePlace *place, size_t bytes);

/* Has a place become free since one was refused that had room but for its namespace's share? Asked once. */
extern bool rom_share_freed(void);

#endif							/* ROM_HTTP_SHARE_H */
