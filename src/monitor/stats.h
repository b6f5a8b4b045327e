/*-------------------------------------------------------------------------
 *
 * stats.h
 *		Statistics of workflows and activities.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STATS_H
#define ROM_STATS_H

#include "memory/stat.h"

/* RomStatKey.kind */
typedef enum RomStatKind
{
	ROM_STAT_WORKFLOW,			/* id: def_id */
	ROM_STAT_ACTIVITY
} RomStatKind;

/* RomStatSums.counters of a workflow */
enum
{
	ROM_STAT_STARTED,
	ROM_STAT_COMPLETED,
	ROM_STAT_FAILED,
	ROM_STAT_CANCELLED,
	ROM_STAT_RECURRED,
	ROM_STAT_TURNS
};

/* RomStatSums.counters of an activity */
enum
{
	ROM_STAT_CALLS,
	ROM_STAT_FAILURES,
	ROM_STAT_RETRIES
};

/* Registers with the engine; called from _PG_init. */
extern void rom_stats_init(void);

/*
 * The next entry, from *place on, of this database that the current user may see; false at the end. *owner: its
 * owner's name, NULL when that role was dropped.
 */
extern bool rom_stats_next(int *place, RomStat *stat, char **owner);

#endif							/* ROM_STATS_H */
