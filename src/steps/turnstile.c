/*-------------------------------------------------------------------------
 *
 * turnstile.c
 *		The limits of activities in the database, in shared memory: how many
 *		run, the tokens in their buckets, and the instances that wait.
 *
 * An asker that finds no token books the next one that is not booked, and asks
 * again when it is due, so that waiting askers do not all come at once
 * (memory/bucket.h).
 *
 * An asker that finds no slot is queued on the activity and made ready when a
 * slot is released. It is marked as woken until its next turn: if it does not
 * use the slot then (it was cancelled or deleted), the next asker is woken. All
 * of this is a hint: each waiting asker has a time at which it asks again by
 * itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "defs/definition.h"
#include "memory/bucket.h"
#include "memory/ready.h"
#include "memory/shmem.h"
#include "steps/turnstile.h"

#define SETS 256
#define WAYS 16
#define WAITERS 4096
#define SHARES 1024
#define HASHES 1024
#define CHUNK 32
#define NONE (-1)
#define TRANCHE "RomancyThrottles"

/* Interval (us) at which an asker whose token is due much later looks again: limits change, and other bookings are cancelled. */
#define TOKEN_WAIT USECS_PER_MINUTE

/* An activity. */
typedef struct Entry
{
	uint64		key;			/* of its name and database; 0: free */
	Oid			dbid;
	Oid			owner;			/* whose step came first */
	RomBucket	tokens;
	TimestampTz covered;		/* what is written down of them holds until
								 * then */
	int			max;			/* max_concurrency as it was used last; 0:
								 * none */
	int			running;		/* slots held */
	int			woken;			/* waiters that were woken and had no turn yet */
	int			waiting;		/* in the queue: */
	int			first;
	int			last;
} Entry;

typedef struct Waiter
{
	pg_uuid_t	id;
	Oid			dbid;
	Oid			owner;
	int32		priority;
	int			entry;			/* NONE: free */
	bool		woken;			/* not in the queue any more */
	int			prev;			/* in the queue */
	int			next;			/* or, if free, of the free ones */
	int			chain;			/* next with the same hash */
} Waiter;

typedef struct Throttles
{
	int			woken;			/* of all entries */
	int			free;			/* waiters */
	int			nfree;
	int			shares[SHARES]; /* waiters of the owners of one hash */
	int			hashes[HASHES];
	Entry		entries[SETS * WAYS];
	Waiter		waiters[WAITERS];
} Throttles;

static Throttles *area = NULL;

/* Guards all that is in area: places are searched, and queues are walked, which is too long for a spinlock. */
static LWLock *lock = NULL;

static Size
shmem_size(void)
{
	return sizeof(Throttles);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(area, 0, sizeof(Throttles));
	for (int i = 0; i < HASHES; i++)
		area->hashes[i] = NONE;
	area->nfree = WAITERS;
	for (int i = 0; i < WAITERS; i++)
	{
		area->waiters[i].entry = NONE;
		area->waiters[i].next = i + 1 < WAITERS ? i + 1 : NONE;
	}
}

/* ---------------------------------------------------------------- tokens */

bool
rom_turnstile_take(RomBucket *t, RomAsker *asker, TimestampTz now, double random, TimestampTz covered, RomTaking *taking)
{
	double		every = rom_bucket_every(t);
	int64		look;

	/*
	 * after a restart only the asker knows of its booking; one that the
	 * bucket knows nothing of else was made at another rate
	 */
	if (t->booked == 0)
		t->booked = asker->held_at;
	else if (asker->held_at > t->booked)
		asker->held_at = asker->held_until = 0;
	if (rom_bucket_may_take(t, asker->held_at, now))
	{
		taking->record = rom_bucket_take(t, now, covered, &taking->left, &taking->at);
		taking->period = t->period;
		return true;
	}
	if (!asker->waits)
		return false;
	if (asker->held_at <= now)
	{
		taking->before = t->booked;
		asker->held_at = taking->booked = rom_bucket_book(t, 0, now, DT_NOEND);
		asker->held_until = 0;
	}
	if (asker->held_until > now)
		return false;
	if (random == 0)
	{
		asker->held_until = asker->held_at;
		return false;
	}
	look = Max(TOKEN_WAIT, (int64) ((asker->held_at - now) / every * ROM_ASK_EVERY));
	asker->held_until = Min(asker->held_at, now + (int64) (look * random));
	return false;
}

void
rom_turnstile_undo(RomBucket *t, const RomTaking *taking)
{
	if (taking->booked == 0)
		rom_bucket_give_back(t, 1);
	else if (t->booked == taking->booked)
		t->booked = taking->before; /* unless others have booked since */
}

/* ---------------------------------------------------------------- entries and waiters: the lock is held */

/* is_idle: does it hold nothing that a new entry does not? */
static bool
is_idle(const Entry *e, TimestampTz now)
{
	const RomBucket *t = &e->tokens;

	return e->running == 0 && e->woken == 0 && e->waiting == 0 &&
		(t->rate == 0 || (t->booked <= now &&
						  t->left + (double) (now - t->at) * t->rate / t->period >= t->rate));
}

/* find_entry finds an activity's entry; NULL for none. */
static Entry *
find_entry(uint64 key)
{
	Entry	   *set = &area->entries[key % SETS * WAYS];

	for (int i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i];
	return NULL;
}

/*
 * make_entry finds an activity's entry, or makes it, if there is room. An owner gets no more entries of a set than it
 * leaves free, so that others' activities find a place, too.
 */
static Entry *
make_entry(uint64 key, Oid owner, TimestampTz now)
{
	Entry	   *set = &area->entries[key % SETS * WAYS];
	Entry	   *place = find_entry(key);
	int			nfree = 0;
	int			own = 0;

	if (place != NULL)
		return place;
	for (int i = 0; i < WAYS; i++)
	{
		if (set[i].key == 0 || is_idle(&set[i], now))
		{
			nfree++;
			if (place == NULL)
				place = &set[i];
		}
		else if (set[i].owner == owner && set[i].dbid == MyDatabaseId)
			own++;
	}
	if (own >= nfree)
		return NULL;
	memset(place, 0, sizeof(Entry));
	place->key = key;
	place->dbid = MyDatabaseId;
	place->owner = owner;
	place->first = place->last = NONE;
	return place;
}

/* share_of is the count of the waiters of an owner's, and of those that have the same hash. */
static int *
share_of(Oid dbid, Oid owner)
{
	return &area->shares[hash_combine(murmurhash32(dbid), murmurhash32(owner)) % SHARES];
}

static int *
hash_of(const pg_uuid_t *id)
{
	return &area->hashes[hash_bytes_extended(id->data, UUID_LEN, rom_shmem_salt()) % HASHES];
}

/* find_waiter finds a waiter of this database by its id, or NONE. */
static int
find_waiter(const pg_uuid_t *id)
{
	int			w = *hash_of(id);

	while (w != NONE && (area->waiters[w].dbid != MyDatabaseId ||
						 memcmp(&area->waiters[w].id, id, sizeof(pg_uuid_t)) != 0))
		w = area->waiters[w].chain;
	return w;
}

/* unlink_waiter takes a waiter out of its activity's queue. */
static void
unlink_waiter(int w)
{
	Waiter	   *waiter = &area->waiters[w];
	Entry	   *e = &area->entries[waiter->entry];

	if (waiter->prev != NONE)
		area->waiters[waiter->prev].next = waiter->next;
	else
		e->first = waiter->next;
	if (waiter->next != NONE)
		area->waiters[waiter->next].prev = waiter->prev;
	else
		e->last = waiter->prev;
	e->waiting--;
}

/* forget_waiter takes it out of everything. */
static void
forget_waiter(int w)
{
	Waiter	   *waiter = &area->waiters[w];
	int		   *chain = hash_of(&waiter->id);

	if (waiter->woken)
	{
		area->entries[waiter->entry].woken--;
		area->woken--;
	}
	else
		unlink_waiter(w);
	while (*chain != w)
		chain = &area->waiters[*chain].chain;
	*chain = waiter->chain;
	(*share_of(waiter->dbid, waiter->owner))--;
	waiter->entry = NONE;
	waiter->next = area->free;
	area->free = w;
	area->nfree++;
}

/* add_waiter puts an asker into the queue: first, if it was woken and found no slot. If there is no room, or its owner has as many as it leaves free, it asks again at its time. */
static void
add_waiter(Entry *e, const RomAsker *asker)
{
	int			w = find_waiter(&asker->id);
	bool		front = false;
	Waiter	   *waiter;

	if (w != NONE)
	{
		if (!area->waiters[w].woken && &area->entries[area->waiters[w].entry] == e)
			return;
		front = area->waiters[w].woken;
		forget_waiter(w);
	}
	if (*share_of(MyDatabaseId, asker->owner) >= area->nfree)
		return;
	w = area->free;
	waiter = &area->waiters[w];
	area->free = waiter->next;
	area->nfree--;
	(*share_of(MyDatabaseId, asker->owner))++;
	waiter->id = asker->id;
	waiter->dbid = MyDatabaseId;
	waiter->owner = asker->owner;
	waiter->priority = asker->priority;
	waiter->entry = e - area->entries;
	waiter->woken = false;
	waiter->chain = *hash_of(&asker->id);
	*hash_of(&asker->id) = w;
	waiter->prev = front ? NONE : e->last;
	waiter->next = front ? e->first : NONE;
	if (waiter->prev != NONE)
		area->waiters[waiter->prev].next = w;
	else
		e->first = w;
	if (waiter->next != NONE)
		area->waiters[waiter->next].prev = w;
	else
		e->last = w;
	e->waiting++;
}

/* wake_some takes those out of the queue for whom there are slots: at most CHUNK, whom the caller makes ready when it has released the lock. */
static int
wake_some(Entry *e, RomReadyItem *items)
{
	int			n = 0;

	while (n < CHUNK && e->first != NONE &&
		   (e->max == 0 || e->running + e->woken < e->max))
	{
		Waiter	   *waiter = &area->waiters[e->first];

		unlink_waiter(e->first);
		waiter->woken = true;
		e->woken++;
		area->woken++;
		items[n].id = waiter->id;
		items[n].dbid = waiter->dbid;
		items[n].owner = waiter->owner;
		items[n].slow = items[n].unknown = false;
		items[n++].priority = waiter->priority;
	}
	return n;
}

/* ---------------------------------------------------------------- for others */

/* make_ready is for those that wake_some() gave, without the lock. */
static void
make_ready(RomReadyItem *items, int n)
{
	TimestampTz now;

	if (n == 0)
		return;
	now = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
		items[i].at = now;
	rom_ready_put(items, n, now);
}

bool
rom_turnstile_is_known(uint64 key)
{
	Entry	   *e;
	bool		known;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	e = find_entry(key);
	known = e != NULL && e->tokens.rate > 0;
	LWLockRelease(lock);
	return known;
}

RomAdmission
rom_turnstile_pass(uint64 key, const RomLimits *limits, RomAsker *asker, RomPassage *passage)
{
	TimestampTz wall = GetCurrentTimestamp();
	RomAdmission result = ROM_ADMITTED;
	RomReadyItem items[CHUNK];
	int			n = 0;
	Entry	   *e;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	e = make_entry(key, asker->owner, wall);
	passage->room = e != NULL;
	if (e == NULL)
		result = passage->slot ? ROM_HELD_SLOT : ROM_HELD_TOKEN;	/* later */
	else
	{
		passage->bucket = e->tokens;
		if (e->max != limits->max_concurrency)
		{
			e->max = limits->max_concurrency;
			n = wake_some(e, items);
		}
		if (passage->slot && e->running >= e->max)
		{
			result = ROM_HELD_SLOT;
			if (asker->waits)
				add_waiter(e, asker);
			passage->waiting = e->waiting;
		}
		else if (passage->token)
		{
			if (e->tokens.rate == 0)
				rom_bucket_begin(&e->tokens, limits,
								 passage->left, passage->left_at);
			rom_bucket_refill(&e->tokens, limits, passage->now);
			if (!rom_turnstile_take(&e->tokens, asker, passage->now, passage->random, e->covered,
									passage->taking))
				result = ROM_HELD_TOKEN;
		}
		if (result == ROM_ADMITTED && passage->slot)
			e->running++;
		if (result == ROM_ADMITTED)
		{
			int			w = find_waiter(&asker->id);

			if (w != NONE)
				forget_waiter(w);
		}
	}
	LWLockRelease(lock);
	make_ready(items, n);
	return result;
}

void
rom_turnstile_leave(uint64 key)
{
	RomReadyItem items[CHUNK];
	int			n = 0;
	Entry	   *e;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	e = find_entry(key);
	if (e != NULL)
	{
		e->running--;
		n = wake_some(e, items);
	}
	LWLockRelease(lock);
	make_ready(items, n);
}

void
rom_turnstile_give_back(uint64 key, const RomTaking *taking)
{
	Entry	   *e;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	e = find_entry(key);
	if (e != NULL)
		rom_turnstile_undo(&e->tokens, taking);
	LWLockRelease(lock);
}

void
rom_turnstile_recorded(uint64 key, TimestampTz until)
{
	Entry	   *e;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	e = find_entry(key);
	if (e != NULL)
		e->covered = Max(e->covered, until);
	LWLockRelease(lock);
}

void
rom_turnstile_changed(uint64 key)
{
	int			n;

	do
	{
		RomReadyItem items[CHUNK];
		Entry	   *e;

		n = 0;
		LWLockAcquire(lock, LW_EXCLUSIVE);
		e = find_entry(key);
		if (e != NULL)
		{
			e->max = 0;			/* the next asker says what it is */
			e->tokens.booked = ROM_BUCKET_NONE_BOOKED;
			n = wake_some(e, items);
		}
		LWLockRelease(lock);
		make_ready(items, n);
	} while (n == CHUNK);
}

void
rom_turnstile_settle(const pg_uuid_t *ids, int n)
{
	if (area == NULL || *(volatile int *) &area->woken == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		RomReadyItem items[CHUNK];
		int			woken = 0;
		int			w;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		w = find_waiter(&ids[i]);
		if (w != NONE && area->waiters[w].woken)
		{
			Entry	   *e = &area->entries[area->waiters[w].entry];

			forget_waiter(w);
			woken = wake_some(e, items);
		}
		LWLockRelease(lock);
		make_ready(items, woken);
	}
}

static void
purge(Oid dbid)
{
	if (area == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int w = 0; w < WAITERS; w++)
		if (area->waiters[w].entry != NONE && area->waiters[w].dbid == dbid)
			forget_waiter(w);
	LWLockRelease(lock);
}

void
rom_turnstile_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy throttles",
		.size = shmem_size,
		.attach = shmem_attach,
		.purge = purge,
		.tranche = TRANCHE,
	};

	rom_shmem_register(&part);
}
