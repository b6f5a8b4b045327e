/*-------------------------------------------------------------------------
 *
 * ready.c
 *		Instances that are ready for a turn, or will be at a known time.
 *
 * The ring is under the roster's mutex, the heaps (due.c) under the ready lock.
 * A holder of that lock first empties the ring into the heaps.
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

#include "memory/due.h"
#include "memory/guc.h"
#include "memory/hold.h"
#include "memory/lane.h"
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

/* Delay after which slow work that may not be taken is considered again, if nothing else happens. */
#define LOOK_AGAIN (1 * USECS_PER_SEC)

static Ready *area = NULL;
static RomDue *heaps = NULL;	/* behind it */
static int	my_place = -1;		/* of an executor in the roster */
static TimestampTz quick_done_at = 0;

/*
 * This executor has taken a member of which nothing was known, when took_up_to was the last that had come; and it has seen quick steps of it, or
 * others. Members that came since then, perhaps from its turn, may be of another kind.
 */
static bool took_unknown = false;
static uint64 took_up_to = 0;
static bool seen_quick = false;
static bool seen_slow = false;

/* The member of the slow lane that this executor, which may begin no slow step, tries. */
static bool trying = false;
static pg_uuid_t tried;

/* Of so many tries one takes the best of all, tried or not: where new ones come all the time, there are always some that were not. */
#define PROBES_UNTRIED 4

/* Actions that are left for after the release of the ready lock. */
typedef struct Outcome
{
	RomLatches	latches;		/* executors to wake */
	Oid			dbid;			/* the last owner that has no idle executor */
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

/* Wakes an executor for an item, unless the last item of the same owner found no idle executor. */
static void
wake_for(const RomReadyItem *item, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now;

	if (item->dbid == outcome->dbid && item->owner == outcome->owner)
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&roster->mutex);
	if (!rom_roster_wake_locked(roster, item->dbid, item->owner, item->slow, item->unknown, now,
								&outcome->latches))
	{
		outcome->dbid = item->dbid;
		outcome->owner = item->owner;
	}
	SpinLockRelease(&roster->mutex);
}

/* wake_rest wakes an executor for what an owner's queue, which is not empty, holds still. */
static void
wake_rest(const RomWorker *me, const RomDueQueue *queue, Outcome *outcome)
{
	RomReadyItem rest = {.dbid = me->dbid,.owner = me->owner};

	rest.slow = queue->count[ROM_DUE_QUICK] == 0;
	rest.unknown = rom_due_unknown(queue) > 0;
	wake_for(&rest, outcome);
}

/* Empties the ring. Executors for items that were ready when they were put into it have been woken then. */
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

/* Moves the deadlines that are over into the queues. dbid, owner: of the caller, which needs no waking. */
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
			RomReadyItem *into;

			if (rom_hold_keeps(item->dbid, item->owner, item->at, now))
				continue;
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
			into = &area->ring[(area->ring_first + area->ring_count++) % RING_SIZE];
			*into = *item;
			into->tried = item->slow && trying && memcmp(&item->id, &tried, sizeof(pg_uuid_t)) == 0;

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
											item->slow, item->unknown, now, &latches))
				{
					busy_db = item->dbid;
					busy_owner = item->owner;
				}
			}
		}
		if (area->ring_count > RING_SIZE / 2)
			rom_roster_tell_locked(roster, ROM_TELL_RING, &latches);
		SpinLockRelease(&roster->mutex);
		rom_roster_set_latches(&latches);
	}
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

void
rom_ready_executor(int worker)
{
	my_place = worker;
}

/* set_slow notes in the roster whether an executor is in a slow step; the mutex is held. */
static void
set_slow_locked(RomWorker *me, bool slow, TimestampTz now)
{
	if (slow)
		rom_roster_forget_pending_locked(rom_roster_get(), me->dbid, me->owner);
	me->slow = slow;
	me->slow_since = now;
	me->unknown = false;
}

int
rom_ready_take(int place, pg_uuid_t *ids, int max, bool *slow)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *me = &roster->workers[place];
	TimestampTz now = GetCurrentTimestamp();
	Outcome		outcome;
	RomDueQueue *queue;
	RomStaff	staff;
	int			nquick;
	int			nslow;
	int			n = 0;

	*slow = trying = false;
	outcome_init(&outcome);
	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, me->dbid, me->owner, &outcome);

	queue = rom_due_find(heaps, me->dbid, me->owner);
	nquick = queue ? queue->count[ROM_DUE_QUICK] : 0;
	nslow = queue ? queue->count[ROM_DUE_SLOW] : 0;
	if (queue != NULL && quick_done_at > queue->quick_at)
		queue->quick_at = quick_done_at;
	if (queue != NULL && took_unknown && seen_quick && !seen_slow)
		rom_due_learn(queue, took_up_to);
	took_up_to = queue != NULL ? queue->unknowns : 0;
	took_unknown = seen_quick = seen_slow = false;
	SpinLockAcquire(&roster->mutex);
	if (me->slow && queue != NULL)
		rom_lane_ended(queue, me->slow_since, now);
	rom_lane_count_locked(roster, me, now, &staff);
	if (nslow > 0 && rom_lane_may_be_slow(queue, &staff, now))
		*slow = true;
	set_slow_locked(me, *slow, now);
	SpinLockRelease(&roster->mutex);

	if (*slow)
	{
		rom_due_pop(heaps, queue, ROM_DUE_SLOW, &ids[n++]);
		queue->slow_since = now;
	}
	else if (nslow > 0 && nquick == 0 && Max(queue->slow_since, queue->probed_at) + LOOK_AGAIN <= now)
	{
		/*
		 * its next step may be quick after all, or it has been cancelled,
		 * which the steps under way wait for; if not, it goes back, and the
		 * others of the lane have their try before it
		 */
		if (++queue->probes % PROBES_UNTRIED != 0)
			rom_due_pop_untried(heaps, queue, &ids[n++]);
		else
			rom_due_pop(heaps, queue, ROM_DUE_SLOW, &ids[n++]);
		tried = ids[0];
		trying = true;
		queue->probed_at = now;
		*slow = true;
	}
	else if (nquick > 0)
	{
		/*
		 * (one that may begin no long step hands all that are long to the
		 * lane at once)
		 */
		bool		may = rom_lane_may_be_slow(queue, &staff, now);

		took_unknown = may && rom_due_is_unknown(heaps, queue);
		if (took_unknown)
		{
			SpinLockAcquire(&roster->mutex);
			me->unknown = true;
			SpinLockRelease(&roster->mutex);
			rom_due_pop(heaps, queue, ROM_DUE_QUICK, &ids[n++]);
		}
		else
			n = rom_due_pop_quick(heaps, queue, !may, ids, rom_lane_share(queue, &staff, may, max));
	}
	if (n > 0)
	{
		queue->waiting_since = now;
		if (area->low_wanted && rom_due_low(heaps))
			tell_low(&outcome);

		/* no executor was woken yet for an item that came by its deadline */
		if (nquick + nslow > n)
			wake_rest(me, queue, &outcome);
	}
	LWLockRelease(ready_lock);
	rom_roster_set_latches(&outcome.latches);
	return n;
}

/* any_waits: does any owner of any database have ready work? Under the lock. */
static bool
any_waits(void)
{
	for (int i = 0; i < rom_due_queues(heaps); i++)
	{
		RomDueQueue *queue = rom_due_queue(heaps, i);

		if (queue->count[ROM_DUE_QUICK] + queue->count[ROM_DUE_SLOW] > 0)
			return true;
	}
	return false;
}

bool
rom_ready_enter_slow(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomWorker  *me;
	Outcome		outcome;
	RomDueQueue *queue;
	RomStaff	staff;
	bool		may;

	if (roster == NULL || my_place < 0)
		return true;
	me = &roster->workers[my_place];
	if (*(volatile bool *) &me->leave)
		return false;			/* its place is wanted */
	if (me->slow)
		return true;
	outcome_init(&outcome);
	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, me->dbid, me->owner, &outcome);
	queue = rom_due_find(heaps, me->dbid, me->owner);
	SpinLockAcquire(&roster->mutex);
	rom_lane_count_locked(roster, me, now, &staff);
	may = rom_lane_may_be_slow(queue, &staff, now);
	if (may)
		set_slow_locked(me, true, now);
	SpinLockRelease(&roster->mutex);

	/* whatever waits now, we do not come for it soon */
	if (may && queue != NULL && queue->count[ROM_DUE_QUICK] + queue->count[ROM_DUE_SLOW] > 0)
		wake_rest(me, queue, &outcome);
	LWLockRelease(ready_lock);
	rom_roster_set_latches(&outcome.latches);
	return may;
}

void
rom_ready_step_took(bool quick)
{
	seen_quick |= quick;
	seen_slow |= !quick;
}

void
rom_ready_quick_done(void)
{
	quick_done_at = GetCurrentTimestamp();
	seen_quick = true;
}

bool
rom_ready_rest(int worker, bool leave, TimestampTz *until)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *me = &roster->workers[worker];
	TimestampTz now = GetCurrentTimestamp();
	RomDueQueue *queue;
	RomLatches	latches;
	RomStaff	staff;
	int			nquick;
	int			nslow;
	bool		waits;
	bool		rest = false;

	latches.count = 0;
	*until = DT_NOEND;
	LWLockAcquire(ready_lock, LW_SHARED);
	queue = rom_due_find(heaps, me->dbid, me->owner);
	nquick = queue ? queue->count[ROM_DUE_QUICK] : 0;
	nslow = queue ? queue->count[ROM_DUE_SLOW] : 0;
	waits = !leave && any_waits();
	SpinLockAcquire(&roster->mutex);
	rom_lane_count_locked(roster, me, now, &staff);
	if (area->ring_count == 0 && nquick == 0 &&
		(nslow == 0 || !rom_lane_may_be_slow(queue, &staff, now)))
	{
		me->state = leave ? ROM_WORKER_LEAVING : ROM_WORKER_IDLE;
		me->since = now;
		me->slow = me->unknown = false;
		me->slow_since = DT_NOEND;
		rest = true;
		if (nslow > 0)
		{
			/* another executor might run it */
			*until = now + LOOK_AGAIN;
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
		}
		/* others that wait for a place may have ours: the launcher decides */
		else if (roster->room_wanted && waits)
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
	}
	SpinLockRelease(&roster->mutex);
	LWLockRelease(ready_lock);
	rom_roster_set_latches(&latches);
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
	rom_roster_set_latches(&outcome.latches);
	return next;
}

void
rom_ready_earlier(int64 step)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(ready_lock, LW_EXCLUSIVE);
	rom_due_earlier(heaps, step, now);
	LWLockRelease(ready_lock);
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

		if (queue->count[ROM_DUE_QUICK] + queue->count[ROM_DUE_SLOW] == 0)
			continue;
		queues[n].dbid = queue->dbid;
		queues[n].owner = queue->owner;
		queues[n].quick = queue->count[ROM_DUE_QUICK];
		queues[n].slow = queue->count[ROM_DUE_SLOW];
		queues[n].unknown = rom_due_unknown(queue);
		queues[n].waiting_since = queue->waiting_since;
		queues[n].stands_since = queue->count[ROM_DUE_SLOW] == 0 ? queue->waiting_since :
			queue->count[ROM_DUE_QUICK] == 0 ? queue->slow_since : Min(queue->waiting_since, queue->slow_since);
		queues[n].quick_at = queue->quick_at;
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
	rom_roster_set_latches(&outcome.latches);
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
