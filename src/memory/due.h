/*-------------------------------------------------------------------------
 *
 * due.h
 *		Bounded heaps of instances in shared memory: a queue per database and
 *		owner, and the deadlines. For ready.c, which has the lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DUE_H
#define ROM_DUE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct RomReadyItem
{
	pg_uuid_t	id;
	Oid			dbid;
	Oid			owner;
	int32		priority;
	bool		slow;			/* its next step is not known to be quick: it
								 * runs alone */
	bool		tried;			/* one that is slow: an executor that may
								 * begin no slow step has tried it;
								 * rom_ready_put() sets it */
	bool		unknown;		/* how long its step takes is not known, and
								 * it may well be long: it is taken alone,
								 * while nothing of the kind was seen to be
								 * quick */
	TimestampTz at;				/* since when, or from when on */
} RomReadyItem;

/* Most queues. */
#define ROM_READY_QUEUES 1024

typedef struct RomDue RomDue;

/* A queue; the caller sets waiting_since. */
typedef struct RomDueQueue
{
	Oid			dbid;			/* invalid: the place is free */
	Oid			owner;
	int			root[2];		/* of quick members, but for those that came
								 * as unknown; and of the slow lane */
	int			tried;			/* root of those of the slow lane that were
								 * tried since all of them were last */
	int			count[2];
	TimestampTz waiting_since;
	TimestampTz slow_since;		/* no slow member was taken since, and none
								 * has ended */
	int64		slow_wait;		/* so long a slow one waits beside quick ones;
								 * the caller changes it */
	TimestampTz probed_at;		/* a slow member was tried by an executor that
								 * may begin no slow step; the caller sets it */
	uint32		probes;			/* the number of such tries; likewise */
	TimestampTz quick_at;		/* quick work was done; the caller sets it */
	int			unknown_root;	/* of the quick members: those that came as
								 * unknown */
	int			unknown;		/* how many these are */
	uint64		unknowns;		/* the number of the last that came; they are
								 * numbered */
	uint64		learned;		/* up to this number they are known to be
								 * quick */
} RomDueQueue;

#define ROM_DUE_QUICK 0
#define ROM_DUE_SLOW 1

/* The longest that a slow member waits beside quick ones (us) before it takes turns with them; and the first one. */
#define ROM_SLOW_WAITS_MAX (1 * USECS_PER_SEC)

typedef enum RomDueResult
{
	ROM_DUE_ADDED,
	ROM_DUE_THERE,				/* is there already */
	ROM_DUE_FULL
} RomDueResult;

extern Size rom_due_size(void);
extern void rom_due_init(RomDue *heaps);

/*
 * Adds a ready instance to the queue of its owner. One that waits in the slow lane and comes as a quick one
 * later than that moves: something has happened to it. (A scan that finds it again comes with an
 * earlier time.)
 */
extern RomDueResult rom_due_push(RomDue *heaps, const RomReadyItem *item,
								 TimestampTz now);

/* The owner's queue, or NULL. Any of them, by number from 0. */
extern RomDueQueue *rom_due_find(RomDue *heaps, Oid dbid, Oid owner);
extern RomDueQueue *rom_due_queue(RomDue *heaps, int number);
extern int	rom_due_queues(RomDue *heaps);

/* How many of a queue's quick members are unknown still, at the most; and is the best of them, of which there are some, one of those? */
extern int	rom_due_unknown(const RomDueQueue *queue);
extern bool rom_due_is_unknown(RomDue *heaps, RomDueQueue *queue);

/* One of those that came up to the unknown one of this number (unknowns) turned out to be quick: they all are known to be. */
extern void rom_due_learn(RomDueQueue *queue, uint64 number);

/* Takes the best of a queue's quick members, at most max; those that are unknown as well, or not. Returns how many. */
extern int	rom_due_pop_quick(RomDue *heaps, RomDueQueue *queue, bool unknown, pg_uuid_t *ids, int max);

/* Takes the best of a queue's quick members, or of its slow lane (lane), of which there are some. */
extern void rom_due_pop(RomDue *heaps, RomDueQueue *queue, int lane, pg_uuid_t *id);

/* Takes the best of a queue's slow lane, of which there are some, that was not tried yet; when all were, they are tried again. */
extern void rom_due_pop_untried(RomDue *heaps, RomDueQueue *queue, pg_uuid_t *id);

/* Has a scan filled the pool of the queues as far as it may; is so little left that the next scan is worth its while? */
extern bool rom_due_filled(RomDue *heaps);
extern bool rom_due_low(RomDue *heaps);

/* Adds a deadline; the same instance may have several, at different times. */
extern RomDueResult rom_due_add_deadline(RomDue *heaps,
										 const RomReadyItem *item);

/* The nearest deadline; DT_NOEND for none. */
extern TimestampTz rom_due_next_deadline(RomDue *heaps);

/* Takes the nearest deadline, if there is one by now. */
extern bool rom_due_take_deadline(RomDue *heaps, TimestampTz now,
								  RomReadyItem *item);

/* Drops the farthest quarter of the deadlines; dropped is told of each. */
extern void rom_due_drop_farthest(RomDue *heaps,
								  void (*dropped) (Oid dbid, TimestampTz at));

/* Has all deadlines come by step microseconds earlier, for a clock that was set back to now. */
extern void rom_due_earlier(RomDue *heaps, int64 step, TimestampTz now);

/* Are fewer than half of the places for deadlines taken? */
extern bool rom_due_half_empty(RomDue *heaps);

/* Forgets everything of a database. */
extern void rom_due_purge(RomDue *heaps, Oid dbid);

#endif							/* ROM_DUE_H */
