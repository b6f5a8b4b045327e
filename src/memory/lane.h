/*-------------------------------------------------------------------------
 *
 * lane.h
 *		Who may begin a step that is not quick, by what the other executors are
 *		doing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LANE_H
#define ROM_LANE_H

#include "memory/due.h"
#include "memory/roster.h"

/* The states of the executors, as one executor counts them. */
typedef struct RomStaff
{
	int			quick;			/* others of its owner that are in no slow
								 * step */
	int			starting;		/* others of its owner that start */
	int			slow;			/* others of its owner that are */
	int			overtime;		/* others of its owner that are in slow steps
								 * beyond their time */
	int			database_slow;	/* others of its database that are */
	int			all_slow;		/* executors of all owners in slow steps, but
								 * for itself */
	int			database;		/* executors of its database, with itself */
	int			taken;			/* places, by executors and schedulers */
	int			places;			/* that there can be workers in */
} RomStaff;

/* rom_lane_count_locked counts them for an executor; the roster's mutex is held. */
extern void rom_lane_count_locked(RomRoster *roster, const RomWorker *me, TimestampTz now, RomStaff *staff);

/* rom_lane_may_be_slow says whether that executor may begin a step that is not quick. queue: its owner's, or NULL. */
extern bool rom_lane_may_be_slow(const RomDueQueue *queue, const RomStaff *staff, TimestampTz now);

/*
 * rom_lane_share says how many quick members, at most max, that executor takes of those that wait (some do): its fair share. One that may begin a
 * slow step takes none that are unknown together with others.
 */
extern int	rom_lane_share(const RomDueQueue *queue, const RomStaff *staff, bool may_be_slow, int max);

/*
 * rom_lane_ended notes that an executor has ended a slow step, which began at began. The next one that waits
 * beside quick work waits as long as this one took: so both have half of an executor's time.
 */
extern void rom_lane_ended(RomDueQueue *queue, TimestampTz began, TimestampTz now);

#endif							/* ROM_LANE_H */
