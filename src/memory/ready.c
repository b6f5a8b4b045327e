/*-------------------------------------------------------------------------
 *
 * ready.c
 *		Instances that are ready for a turn, or will be at a known time.
 *
 * The ring is under the roster's mutex, the heaps (due.c) under the ready
 * lock. Whoever holds that lock empties the ring into the heaps first.
 *
 * When there is no room for a ready instance, it is dropped and its database
 * is marked for a scan, which begins when there is room. When there is none
 * for a deadline, the farthest quarter is dropped, and each database's horizon
 * says from when on its deadlines are incomplete. When the heap is half empty, or
 * the horizon comes, a scheduler reads on from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "memory/due.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/shmem.h"

#define RING_SIZE 16384
#define CHUNK 32

typedef struct Ready
{
	/* the ring: under the roster's mutex */
	int			ring_first;
	int			ring_count;
	RomReadyItem ring[RING_SIZE];

	/* under the ready lock */
	bool		horizons;		/* some database has one */
	bool		refill_asked;	/* and was told that there is room again */
	bool		low_wanted;		/* the launcher waits for it, with a scan */
} Ready;

static Ready *area = NULL;
static RomDue *heaps = NULL;	/* behind it */

/* What is to be done after the release of the ready lock. */
typedef struct Outcome
{
	RomLatches	latches;		/* executors to wake */
	Oid			dbid;			/* the last owner that has nobody idle */
	Oid			owner;
} Outcome;

#define READY_TRANCHE "romancy_ready"

/* The ready lock: of the queues and of the deadlines. */
static LWLock *ready_lock = NULL;

static Size
shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(Ready)), rom_due_size());
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	ready_lock = &GetNamedLWLockTranche(READY_TRANCHE)->lock;
	heaps = (RomDue *) ((char *) place + MAXALIGN(sizeof(Ready)));
	if (found)
		return;
	memset(area, 0, sizeof(Ready));
	rom_due_init(heaps);
}

/* Marks a database for a scan, for something of it was dropped. */
static void
mark_scan(Oid dbid, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL && !database->scan)
	{
		database->scan = true;
		if (!rom_roster_wake_scheduler_locked(roster, dbid, &outcome->latches))
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE,
								   &outcome->latches);
	}
	SpinLockRelease(&roster->mutex);
}

/* Puts an item into its queue. False: it is there already, or there is no room. */
static bool
enqueue(const RomReadyItem *item, TimestampTz now, Outcome *outcome)
{
	RomDueResult result = rom_due_push(heaps, item, now);

	if (result == ROM_DUE_FULL)
		mark_scan(item->dbid, outcome);
	return result == ROM_DUE_ADDED;
}

/* A deadline of the database is not in memory: its horizon comes nearer. */
static void
lower_horizon(Oid dbid, TimestampTz at)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL && at < database->horizon)
		database->horizon = at;
	SpinLockRelease(&roster->mutex);
	area->horizons = true;
	area->refill_asked = false;
}

/* There is room for the deadlines that were dropped: has them read again. */
static void
ask_refill(Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	bool		some = false;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];

		if (!OidIsValid(database->dbid) || database->horizon >= DT_NOEND)
			continue;
		some = true;
		database->refill = true;
		if (!rom_roster_wake_scheduler_locked(roster, database->dbid,
											  &outcome->latches))
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE,
								   &outcome->latches);
	}
	SpinLockRelease(&roster->mutex);
	area->horizons = some;
	area->refill_asked = some;
}

/* Is it past the database's horizon, so that it comes with what is there? */
static bool
past_horizon(const RomReadyItem *item)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	bool		past;

	if (!area->horizons)
		return false;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, item->dbid, false);
	past = database != NULL && item->at >= database->horizon;
	SpinLockRelease(&roster->mutex);
	return past;
}

static void
add_deadline(const RomReadyItem *item)
{
	if (item->at >= DT_NOEND || past_horizon(item))
		return;
	if (rom_due_add_deadline(heaps, item) != ROM_DUE_FULL)
		return;
	rom_due_drop_farthest(heaps, lower_horizon);
	if (!past_horizon(item))
		(void) rom_due_add_deadline(heaps, item);
}

/* Wakes an executor for an item, unless the last one of the same owner found nobody idle. */
static void
wake_for(const RomReadyItem *item, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();

	if (item->dbid == outcome->dbid && item->owner == outcome->owner)
		return;
	SpinLockAcquire(&roster->mutex);
	if (!rom_roster_wake_locked(roster, item->dbid, item->owner,
								&outcome->latches))
	{
		outcome->dbid = item->dbid;
		outcome->owner = item->owner;
	}
	SpinLockRelease(&roster->mutex);
}

/* Empties the ring. Who is to run what was ready when it was put there has been woken then. */
static void
pump_ring(TimestampTz now, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	RomReadyItem items[CHUNK];
	int			n;
	int			i;

	do
	{
		SpinLockAcquire(&roster->mutex);
		n = Min(area->ring_count, CHUNK);
		for (i = 0; i < n; i++)
		{
			items[i] = area->ring[area->ring_first];
			area->ring_first = (area->ring_first + 1) % RING_SIZE;
		}
		area->ring_count -= n;
		SpinLockRelease(&roster->mutex);

		for (i = 0; i < n; i++)
		{
			if (items[i].at > now)
				add_deadline(&items[i]);
			else
				enqueue(&items[i], now, outcome);
		}
	} while (n > 0);
}

/* Moves the deadlines that are over into the queues. dbid, owner: of the caller, who needs no waking. */
static void
expire(TimestampTz now, Oid dbid, Oid owner, Outcome *outcome)
{
	RomReadyItem item;

	while (rom_due_take_deadline(heaps, now, &item))
		if (enqueue(&item, now, outcome) &&
			(item.dbid != dbid || item.owner != owner))
			wake_for(&item, outcome);
	if (area->horizons && !area->refill_asked && rom_due_half_empty(heaps))
		ask_refill(outcome);
}

static void
outcome_init(Outcome *outcome)
{
	outcome->latches.count = 0;
	outcome->dbid = InvalidOid;
	outcome->owner = InvalidOid;
}

/*
 * Items go in by chunks, so that the mutex is held for short. at in the past
 * or present means ready.
 */
void
rom_ready_put(const RomReadyItem *items, int n, TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();
	Oid			busy_db = InvalidOid;
	Oid			busy_owner = InvalidOid;
	int			done = 0;

	if (roster == NULL)
		return;

	while (done < n)
	{
		RomLatches	latches;
		int			last = Min(done + CHUNK, n);

		latches.count = 0;
		SpinLockAcquire(&roster->mutex);
		for (; done < last; done++)
		{
			const RomReadyItem *item = &items[done];

			if (area->ring_count == RING_SIZE)
			{
				RomDatabase *database =
					rom_roster_database_locked(roster, item->dbid, true);

				if (database != NULL && !database->scan)
				{
					database->scan = true;
					rom_roster_wake_scheduler_locked(roster, item->dbid,
													 &latches);
				}
				rom_roster_tell_locked(roster,
									   ROM_TELL_RING | ROM_TELL_DATABASE,
									   &latches);
				continue;
			}
			area->ring[(area->ring_first + area->ring_count++) % RING_SIZE] =
				*item;

			if (item->at > now)
			{
				if (item->at < roster->launcher_wakes_at)
				{
					roster->launcher_wakes_at = item->at;
					rom_roster_tell_locked(roster, ROM_TELL_RING, &latches);
				}
			}
			else if (item->dbid != busy_db || item->owner != busy_owner)
			{
				if (!rom_roster_wake_locked(roster, item->dbid, item->owner,
											&latches))
				{
					busy_db = item->dbid;
					busy_owner = item->owner;
				}
			}
		}
		if (area->ring_count > RING_SIZE / 2)
			rom_roster_tell_locked(roster, ROM_TELL_RING, &latches);
		SpinLockRelease(&roster->mutex);
		rom_latches_set(&latches);
	}
}

/* How many executors an owner has. */
static int
count_executors(Oid dbid, Oid owner)
{
	RomRoster  *roster = rom_roster_get();
	int			count = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];

		if (worker->kind == ROM_WORKER_EXECUTOR && worker->dbid == dbid &&
			worker->owner == owner && !worker->leave &&
			(worker->state == ROM_WORKER_IDLE ||
			 worker->state == ROM_WORKER_RUNNING))
			count++;
	}
	SpinLockRelease(&roster->mutex);
	return count;
}

/* There is little left: a scan that waits may begin. */
static void
tell_low(Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();

	area->low_wanted = false;
	SpinLockAcquire(&roster->mutex);
	rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &outcome->latches);
	SpinLockRelease(&roster->mutex);
}

int
rom_ready_take(Oid dbid, Oid owner, pg_uuid_t *ids, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	Outcome		outcome;
	RomDueQueue *queue;
	int			n = 0;

	outcome_init(&outcome);
	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, dbid, owner, &outcome);

	queue = rom_due_find(heaps, dbid, owner);
	if (queue != NULL && queue->count > 0)
	{
		if (queue->count < max)
		{
			/* once: its answer may change, and Max() would ask twice */
			int			executors = count_executors(dbid, owner);

			executors = Max(executors, 1);
			max = (queue->count + executors - 1) / executors;
		}
		while (n < max && queue->count > 0)
			rom_due_pop(heaps, queue, &ids[n++]);
		queue->waiting_since = now;

		if (area->low_wanted && rom_due_low(heaps))
			tell_low(&outcome);

		/* what came by its deadline has woken nobody yet */
		if (queue->count > 0)
		{
			RomReadyItem rest;

			rest.dbid = dbid;
			rest.owner = owner;
			wake_for(&rest, &outcome);
		}
	}
	LWLockRelease(ready_lock);
	rom_latches_set(&outcome.latches);
	return n;
}

/* any_waits: does any owner of any database have ready work? Under the lock. */
static bool
any_waits(void)
{
	for (int i = 0; i < rom_due_queues(heaps); i++)
		if (rom_due_queue(heaps, i)->count > 0)
			return true;
	return false;
}

bool
rom_ready_rest(int worker, bool leave)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *me = &roster->workers[worker];
	TimestampTz now = GetCurrentTimestamp();
	RomDueQueue *queue;
	RomLatches	latches;
	bool		rest = false;

	latches.count = 0;
	LWLockAcquire(ready_lock, LW_SHARED);
	queue = rom_due_find(heaps, me->dbid, me->owner);
	if (queue == NULL || queue->count == 0)
	{
		/* others that wait for a place may have ours: the launcher decides */
		bool		waits = !leave && any_waits();

		SpinLockAcquire(&roster->mutex);
		if (area->ring_count == 0)
		{
			me->state = leave ? ROM_WORKER_LEAVING : ROM_WORKER_IDLE;
			me->since = now;
			rest = true;
			if (waits && roster->room_wanted)
				rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
		}
		SpinLockRelease(&roster->mutex);
	}
	LWLockRelease(ready_lock);
	rom_latches_set(&latches);
	return rest;
}

TimestampTz
rom_ready_pump(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	Outcome		outcome;

	outcome_init(&outcome);
	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, InvalidOid, InvalidOid, &outcome);
	next = rom_due_next_deadline(heaps);
	LWLockRelease(ready_lock);
	rom_latches_set(&outcome.latches);
	return next;
}

int
rom_ready_list(RomReadyQueue *queues)
{
	int			n = 0;
	int			i;

	LWLockAcquire(ready_lock, LW_SHARED);
	for (i = 0; i < rom_due_queues(heaps); i++)
	{
		RomDueQueue *queue = rom_due_queue(heaps, i);

		if (queue->count == 0)
			continue;
		queues[n].dbid = queue->dbid;
		queues[n].owner = queue->owner;
		queues[n].count = queue->count;
		queues[n].waiting_since = queue->waiting_since;
		n++;
	}
	LWLockRelease(ready_lock);
	return n;
}

bool
rom_ready_room(void)
{
	bool		room;

	LWLockAcquire(ready_lock, LW_SHARED);
	room = !rom_due_filled(heaps);
	LWLockRelease(ready_lock);
	return room;
}

bool
rom_ready_low(void)
{
	bool		low;

	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	low = rom_due_low(heaps);
	area->low_wanted = !low;
	LWLockRelease(ready_lock);
	return low;
}

void
rom_ready_purge(Oid dbid)
{
	Outcome		outcome;

	outcome_init(&outcome);
	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	pump_ring(GetCurrentTimestamp(), &outcome);
	rom_due_purge(heaps, dbid);
	LWLockRelease(ready_lock);
	rom_latches_set(&outcome.latches);
}

void
rom_ready_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy ready",
		.size = shmem_size,
		.attach = shmem_attach,
		.purge = rom_ready_purge,
		.tranche = READY_TRANCHE,
	};

	rom_shmem_register(&part);
}
