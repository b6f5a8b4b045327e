/*-------------------------------------------------------------------------
 *
 * ready.h
 *		Instances that are ready for a turn, or will be at a known time.
 *
 * A commit puts what it made ready into the ring. Executors and the launcher
 * move it on: what is due into the queue of its database and owner, what is
 * not into the heap of deadlines, and deadlines that are over into the
 * queues. All of it may hold an instance that has nothing to do, and lacks
 * some that have: then the database's scan flag is set, or its horizon.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_READY_H
#define ROM_READY_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "memory/due.h"

/* A queue that is not empty, for the launcher. */
typedef struct RomReadyQueue
{
	Oid			dbid;
	Oid			owner;
	int			quick;			/* members that share transactions */
	int			unknown;		/* of these: taken alone, as their steps may
								 * be long */
	int			slow;			/* members that run alone */
	TimestampTz waiting_since;	/* since when it is not empty and no item was
								 * taken from it */
	TimestampTz stands_since;	/* likewise, of the lane that has waited
								 * longer: a sweep that finds what runs and
								 * has it looked at again changes nothing for
								 * slow members */
	TimestampTz quick_at;		/* when quick work was last done; 0: never */
} RomReadyQueue;

/* Puts items into the ring and wakes executors for them. Spinlock only, does not raise: for the commit hook. */
extern void rom_ready_put(const RomReadyItem *items, int n, TimestampTz now);

/*
 * rom_ready_take takes work for an executor (its place in the roster): up to max
 * quick members, the executor's fair share of them, or one of which nothing is known, or one member that is not quick (*slow). Higher
 * priority first, then older. Returns how many.
 */
extern int	rom_ready_take(int worker, pg_uuid_t *ids, int max, bool *slow);

/*
 * rom_ready_enter_slow asks for an executor whether it may run a step that is not quick
 * now, in its own place; if so, the roster says from then on that it does. If not,
 * the step goes to the slow lane. True for a process that is no executor.
 */
extern bool rom_ready_enter_slow(void);

/* rom_ready_executor tells this process, an executor, its place in the roster. */
extern void rom_ready_executor(int worker);

/*
 * rom_ready_step_took tells how a step went, quick or not: when a member of which nothing was known had none that were not, the others that wait
 * share transactions.
 */
extern void rom_ready_step_took(bool quick);

/* rom_ready_quick_done notes that this executor has done quick work: the next ready work of its owner will probably be quick as well. */
extern void rom_ready_quick_done(void);

/*
 * Worker (its place in the roster) finds nothing to take: it becomes idle,
 * or leaving. False, and neither, when something has come meanwhile. *until: when to look
 * again, for what waits but may not be taken yet; DT_NOEND for never.
 */
extern bool rom_ready_rest(int worker, bool leave, TimestampTz *until);

/* Moves all deadlines step microseconds earlier, because the clock was set back by that much. */
extern void rom_ready_earlier(int64 step);

/* Moves everything on; returns the nearest deadline, DT_NOEND for none. */
extern TimestampTz rom_ready_pump(void);

/* The queues that are not empty; returns how many. queues has room for ROM_READY_QUEUES. */
extern int	rom_ready_list(RomReadyQueue *queues);

/* Is there room for a scan to continue? */
extern bool rom_ready_room(void);

/* Is there little enough for a scan to begin? If not, the launcher is told (ROM_TELL_DATABASE) when there is. */
extern bool rom_ready_low(void);

/* Forgets a database (dropped, or without the extension). */
extern void rom_ready_purge(Oid dbid);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_ready_init(void);

#endif							/* ROM_READY_H */
