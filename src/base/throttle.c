/*-------------------------------------------------------------------------
 *
 * throttle.c
 *		Limits of activities that run in the database: how many at a time, and
 *		how many per time, in shared memory.
 *
 * A slot is held by a process, from the begin of the attempt to the end of its
 * transaction, when its locks are released: until then what it did is not done.
 * A process runs one activity at a time, so one slot for each name will do,
 * however many attempts share the transaction. Slots are counted in the
 * activity's entry; a process that exits gives its own back, and after a crash
 * shared memory is made anew, when none of them runs.
 *
 * The bucket of a rate limit is refilled evenly. Who finds no token books the next one that is
 * not booked, and comes again when it is due, so that those who wait do not all come at
 * once. A booking is a place in the row, not a token: who comes without one
 * waits behind the bookings, unless tokens pile up because others did not come for
 * theirs. An abort takes back what its transaction took and booked. What is left is written down at the
 * end of the transaction (bucket_rows.h), and read again after a start.
 *
 * Who finds no slot is in a queue of its activity, and made ready when a
 * slot is free. It stays known as woken until its next turn: one that does not
 * use the slot (it was cancelled, or is gone) lets the next come. All of that
 * is a hint: everybody who waits has a time at which it asks again by itself.
 *
 * Where the library is not preloaded, and in a session whose clock was moved
 * forward (drain), buckets are the session's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/spin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/bucket.h"
#include "base/bucket_rows.h"
#include "base/clock.h"
#include "base/ready.h"
#include "base/shmem.h"
#include "base/throttle.h"
#include "base/wake.h"

#define SETS 128
#define WAYS 8
#define WAITERS 4096
#define HASHES 1024
#define CHUNK 32
#define NONE (-1)

/* What t_bucket knows these buckets by, with the activity's name. */
#define SCOPE "activity"

/* Who waits for a slot asks again after so long at the latest, and the more they are the less often. */
#define SLOT_WAIT_MIN USECS_PER_SEC
#define SLOT_WAIT_MAX (30 * USECS_PER_SEC)

/* Who waits for a token that is due much later looks now and then: limits change, and others are cancelled. */
#define TOKEN_WAIT USECS_PER_MINUTE

/* All of those who wait for one activity are not to ask more often than this, on average. */
#define ASK_EVERY (20 * INT64CONST(1000))

/* An activity. */
typedef struct Entry
{
	uint64		key;			/* of its name and database; 0: free */
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
	slock_t		mutex;
	int			woken;			/* of all entries */
	int			free;			/* waiters */
	int			hashes[HASHES];
	Entry		entries[SETS * WAYS];
	Waiter		waiters[WAITERS];
} Throttles;

/* A slot that this process holds. */
typedef struct Hold
{
	uint64		key;
	bool		keep;			/* beyond the commit */
	bool		kept;			/* the commit is over: to the release */
} Hold;

/* A token that this transaction took, or booked. */
typedef struct Taken
{
	uint64		key;
	int			level;			/* of the subtransaction that it falls with */
	bool		own;			/* from the session's own bucket */
	TimestampTz booked;			/* 0: took */
	TimestampTz before;			/* what was booked before that */
	/* of a token: what is to be written down */
	bool		record;
	double		left;
	TimestampTz at;
	int64		period;
	char		activity[ROM_NAME_MAX + 1];
} Taken;

/* A bucket of the session's own. */
typedef struct OwnTokens
{
	uint64		key;
	RomBucket	tokens;
} OwnTokens;

static Throttles *area = NULL;
static HTAB *own_tokens = NULL;

/* Both in TopMemoryContext. */
static Hold *holds = NULL;
static int	nholds = 0;
static int	holds_size = 0;
static Taken *taken = NULL;
static int	ntaken = 0;
static int	taken_size = 0;

Size
rom_throttle_shmem_size(void)
{
	return sizeof(Throttles);
}

void
rom_throttle_shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(Throttles));
	SpinLockInit(&area->mutex);
	for (int i = 0; i < HASHES; i++)
		area->hashes[i] = NONE;
	for (int i = 0; i < WAITERS; i++)
	{
		area->waiters[i].entry = NONE;
		area->waiters[i].next = i + 1 < WAITERS ? i + 1 : NONE;
	}
}

static uint64
key_of(const char *activity)
{
	uint64		key = hash_bytes_extended((const unsigned char *) activity,
										  strlen(activity), MyDatabaseId);

	return Max(key, 1);
}

/* ---------------------------------------------------------------- tokens */

/* jitter draws from the upper half of a time. */
static int64
jitter(int64 us)
{
	return (int64) (us * (0.5 + 0.5 * pg_prng_double(&pg_global_prng_state)));
}

/*
 * take takes a token, or books one for an asker who waits. random: a part of the time after which it
 * looks again at the latest; 0: when the token is due. What it took or booked is in note. The mutex is
 * held, if it is of a shared bucket.
 */
static bool
take(RomBucket *t, RomAsker *asker, TimestampTz now, double random, TimestampTz covered, Taken *note)
{
	double		every = rom_bucket_every(t);
	bool		enough = rom_bucket_has_token(t);
	int64		look;

	/* it has booked one: after a restart nobody else knows of it */
	t->booked = Max(t->booked, asker->held_at);
	if (enough && (t->booked <= now || t->left >= 2 ||
				   (asker->held_at > 0 && asker->held_at <= now)))
	{
		note->record = rom_bucket_take(t, now, covered, &note->left, &note->at);
		note->period = t->period;
		return true;
	}
	if (!asker->waits)
		return false;
	if (asker->held_at <= now)
	{
		TimestampTz due = now + (enough ? 0 : rom_bucket_until_next(t));

		note->before = t->booked;
		t->booked = Max(t->booked + (int64) every, due);
		asker->held_at = note->booked = t->booked;
		asker->held_until = 0;
	}
	if (asker->held_until > now)
		return false;
	if (random == 0)
	{
		asker->held_until = asker->held_at;
		return false;
	}
	look = Max(TOKEN_WAIT, (int64) ((asker->held_at - now) / every * ASK_EVERY));
	asker->held_until = Min(asker->held_at, now + (int64) (look * random));
	return false;
}

/* own_bucket finds or makes the session's own bucket; the shared one's content is what it begins with. */
static RomBucket *
own_bucket(uint64 key, const RomBucket *shared)
{
	OwnTokens  *own;
	bool		found;

	if (own_tokens == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(OwnTokens);
		ctl.hcxt = TopMemoryContext;
		own_tokens = hash_create("romancy rate limits", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	own = hash_search(own_tokens, &key, HASH_ENTER, &found);
	if (!found)
		own->tokens = *shared;
	return &own->tokens;
}

/* ---------------------------------------------------------------- entries and waiters: the mutex is held */

/* is_idle: does it hold nothing that a new entry does not? */
static bool
is_idle(const Entry *e, TimestampTz now)
{
	const RomBucket *t = &e->tokens;

	return e->running == 0 && e->woken == 0 && e->waiting == 0 &&
		(t->rate == 0 || (t->booked <= now &&
						  t->left + (double) (now - t->at) * t->rate / t->period >= t->rate));
}

/* find_entry finds an activity's entry; NULL for none. create: makes one, if there is room. */
static Entry *
find_entry(uint64 key, bool create, TimestampTz now)
{
	Entry	   *set = &area->entries[key % SETS * WAYS];
	Entry	   *place = NULL;

	for (int i = 0; i < WAYS; i++)
	{
		if (set[i].key == key)
			return &set[i];
		if (place == NULL && create && (set[i].key == 0 || is_idle(&set[i], now)))
			place = &set[i];
	}
	if (!create || place == NULL)
		return NULL;
	memset(place, 0, sizeof(Entry));
	place->key = key;
	place->first = place->last = NONE;
	return place;
}

/* is_known: is there something in an activity's bucket, or has nobody used it since the start? It takes the mutex. */
static bool
is_known(uint64 key)
{
	Entry	   *e;
	bool		known;

	SpinLockAcquire(&area->mutex);
	e = find_entry(key, false, 0);
	known = e != NULL && e->tokens.rate > 0;
	SpinLockRelease(&area->mutex);
	return known;
}

static int *
hash_of(const pg_uuid_t *id)
{
	return &area->hashes[hash_bytes(id->data, UUID_LEN) % HASHES];
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
	waiter->entry = NONE;
	waiter->next = area->free;
	area->free = w;
}

/* add_waiter puts an asker into the queue: in front, if it has been woken in vain. When there is no room it has its time. */
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
	w = area->free;
	if (w == NONE)
		return;
	waiter = &area->waiters[w];
	area->free = waiter->next;
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

/* wake_some takes those out of the queue for whom there are slots: at most CHUNK, whom the caller makes ready when it has let go of the mutex. */
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
		items[n++].priority = waiter->priority;
	}
	return n;
}

/* make_ready is for those that wake_some() gave, without the mutex. */
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

/* ---------------------------------------------------------------- what this process has */

/* let_go gives a slot back. */
static void
let_go(uint64 key)
{
	RomReadyItem items[CHUNK];
	int			n = 0;
	Entry	   *e;

	SpinLockAcquire(&area->mutex);
	e = find_entry(key, false, 0);
	if (e != NULL)
	{
		e->running--;
		n = wake_some(e, items);
	}
	SpinLockRelease(&area->mutex);
	make_ready(items, n);
}

/* end_holds: a transaction is over. What is to be kept beyond its commit is kept. */
static void
end_holds(bool commit)
{
	int			left = 0;

	for (int i = 0; i < nholds; i++)
	{
		Hold		hold = holds[i];

		hold.kept = hold.kept || (commit && hold.keep);
		if (hold.kept)
			holds[left++] = hold;
		else
			let_go(hold.key);
	}
	nholds = left;
}

int
rom_throttle_mark(void)
{
	return ntaken;
}

/* undo gives back what a note says. The mutex is held, if it is of a shared bucket. */
static void
undo(RomBucket *t, const Taken *note)
{
	if (note->booked == 0)
		rom_bucket_give_back(t, 1);
	else if (t->booked == note->booked)
		t->booked = note->before;	/* unless others have booked since */
}

void
rom_throttle_back(int mark)
{
	while (ntaken > mark)
	{
		Taken	   *note = &taken[--ntaken];
		Entry	   *e;
		OwnTokens  *own;

		if (note->own)
		{
			own = own_tokens ? hash_search(own_tokens, &note->key, HASH_FIND, NULL) : NULL;
			if (own != NULL)
				undo(&own->tokens, note);
			continue;
		}
		SpinLockAcquire(&area->mutex);
		e = find_entry(note->key, false, 0);
		if (e != NULL)
			undo(&e->tokens, note);
		SpinLockRelease(&area->mutex);
	}
}

/* record writes down what the buckets have left that this transaction has taken from. */
static void
record(void)
{
	for (int i = 0; i < ntaken; i++)
	{
		Taken	   *note = &taken[i];
		bool		newest = note->record && !note->own;

		for (int later = i + 1; later < ntaken && newest; later++)
			newest = !taken[later].record || taken[later].own || taken[later].key != note->key;
		if (newest)
			rom_bucket_rows_write(SCOPE, note->activity, note->left, note->at, note->period);
	}
}

/* recorded is called when that is committed. */
static void
recorded(void)
{
	for (int i = 0; i < ntaken; i++)
	{
		Entry	   *e;

		if (!taken[i].record || taken[i].own)
			continue;
		SpinLockAcquire(&area->mutex);
		e = find_entry(taken[i].key, false, 0);
		if (e != NULL)
			e->covered = Max(e->covered, taken[i].at);
		SpinLockRelease(&area->mutex);
	}
	ntaken = 0;
}

static void
at_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			record();
			break;
		case XACT_EVENT_COMMIT:
			recorded();
			break;
		case XACT_EVENT_PREPARE:
			ntaken = 0;
			break;
		case XACT_EVENT_ABORT:
			rom_throttle_back(0);
			break;
		default:
			break;
	}
}

static void
at_subxact(SubXactEvent event, SubTransactionId mySubid,
		   SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	int			mark = ntaken;

	while (mark > 0 && taken[mark - 1].level >= level)
		mark--;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		rom_throttle_back(mark);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (; mark < ntaken; mark++)
			taken[mark].level = level - 1;
}

static void
at_release(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (nholds > 0 && phase == RESOURCE_RELEASE_AFTER_LOCKS && isTopLevel)
		end_holds(isCommit);
}

/* The process ends: what it ran is rolled back before another begins. */
static void
at_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	rom_throttle_release();
}

/* prepare makes room for one hold and one token more, so that nothing fails under the mutex. */
static void
prepare(void)
{
	static bool registered = false;

	if (holds == NULL)
	{
		holds = MemoryContextAlloc(TopMemoryContext, 16 * sizeof(Hold));
		holds_size = 16;
	}
	else if (nholds == holds_size)
	{
		holds = repalloc(holds, 2 * holds_size * sizeof(Hold));
		holds_size *= 2;
	}
	if (taken == NULL)
	{
		taken = MemoryContextAlloc(TopMemoryContext, 32 * sizeof(Taken));
		taken_size = 32;
	}
	else if (ntaken == taken_size)
	{
		taken = repalloc(taken, 2 * taken_size * sizeof(Taken));
		taken_size *= 2;
	}
	if (registered)
		return;
	registered = true;
	RegisterXactCallback(at_xact, NULL);
	RegisterSubXactCallback(at_subxact, NULL);
	RegisterResourceReleaseCallback(at_release, NULL);
	if (area != NULL)
		before_shmem_exit(at_exit, 0);
}

/* ---------------------------------------------------------------- for others */

/* hold_until is when an asker who found no slot asks again, unless it is woken. */
static void
hold_until(RomAsker *asker, int waiting, TimestampTz now)
{
	int64		delay;

	if (asker->held_at == 0 || asker->held_at > now)
		asker->held_at = now;
	if (asker->held_until > now)
		return;
	delay = Max((now - asker->held_at) / 2, waiting * ASK_EVERY);
	delay = Min(Max(delay, SLOT_WAIT_MIN), SLOT_WAIT_MAX);
	asker->held_until = now + jitter(delay);
}

RomAdmission
rom_throttle_admit(const char *activity, const RomThrottle *throttle, RomAsker *asker)
{
	uint64		key = key_of(activity);
	TimestampTz now = rom_now();
	TimestampTz wall = GetCurrentTimestamp();
	bool		own = area == NULL || rom_clock_is_ahead();
	double		random = 0.5 + 0.5 * pg_prng_double(&pg_global_prng_state);
	bool		slot = throttle->max_concurrency > 0 && area != NULL;
	RomAdmission result = ROM_ADMITTED;
	Hold	   *hold = NULL;
	RomReadyItem items[CHUNK];
	RomBucket	shared = {0};
	double		left = throttle->rate;
	TimestampTz left_at = now;
	Entry	   *e = NULL;
	Taken	   *note;
	int			waiting = 0;
	int			n = 0;

	if (throttle->rate > 0 && !own && !is_known(key))
		(void) rom_bucket_rows_read(SCOPE, activity, &left, &left_at);
	prepare();
	note = &taken[ntaken];		/* it counts if something was taken or booked */
	memset(note, 0, sizeof(Taken));
	for (int i = 0; i < nholds && hold == NULL; i++)
		if (holds[i].key == key)
			hold = &holds[i];
	if (area != NULL)
	{
		SpinLockAcquire(&area->mutex);
		e = find_entry(key, true, wall);
		if (e == NULL)
			result = slot ? ROM_HELD_SLOT : ROM_HELD_TOKEN; /* no room: later */
		else
		{
			shared = e->tokens;
			if (e->max != throttle->max_concurrency)
			{
				e->max = throttle->max_concurrency;
				n = wake_some(e, items);
			}
			if (slot && hold == NULL && e->running >= e->max)
			{
				result = ROM_HELD_SLOT;
				if (asker->waits)
					add_waiter(e, asker);
				waiting = e->waiting;
			}
			else if (throttle->rate > 0 && !own)
			{
				if (e->tokens.rate == 0)
					rom_bucket_begin(&e->tokens, throttle->rate, throttle->period, left, left_at);
				rom_bucket_refill(&e->tokens, throttle->rate, throttle->period, now);
				if (!take(&e->tokens, asker, now, random, e->covered, note))
					result = ROM_HELD_TOKEN;
			}
			if (result == ROM_ADMITTED && slot && hold == NULL)
				e->running++;
			if (result == ROM_ADMITTED)
			{
				int			w = find_waiter(&asker->id);

				if (w != NONE)
					forget_waiter(w);
			}
		}
		SpinLockRelease(&area->mutex);
		make_ready(items, n);
	}
	if (result == ROM_ADMITTED && slot && hold == NULL)
	{
		hold = &holds[nholds++];
		hold->key = key;
		hold->keep = hold->kept = false;
	}
	if (result == ROM_ADMITTED && throttle->rate > 0 && own)
	{
		RomBucket  *t = own_bucket(key, &shared);

		/*
		 * (a slot that it then does not use is held to the end of the
		 * transaction)
		 */
		if (t->rate == 0)
			rom_bucket_begin(t, throttle->rate, throttle->period, throttle->rate, now);
		rom_bucket_refill(t, throttle->rate, throttle->period, now);
		if (!take(t, asker, now, 0, DT_NOEND, note))
			result = ROM_HELD_TOKEN;
	}
	if (note->booked > 0 || (result == ROM_ADMITTED && throttle->rate > 0))
	{
		note->key = key;
		note->level = asker->level;
		note->own = own;
		strlcpy(note->activity, activity, sizeof(note->activity));
		ntaken++;
	}
	if (result == ROM_ADMITTED)
	{
		if (hold != NULL && asker->keep)
			hold->keep = true;
	}
	else if (result == ROM_HELD_SLOT || (area != NULL && e == NULL))
		hold_until(asker, waiting, now);
	return result;
}

void
rom_throttle_settle(const pg_uuid_t *ids, int n)
{
	if (area == NULL || *(volatile int *) &area->woken == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		RomReadyItem items[CHUNK];
		int			woken = 0;
		int			w;

		SpinLockAcquire(&area->mutex);
		w = find_waiter(&ids[i]);
		if (w != NONE && area->waiters[w].woken)
		{
			Entry	   *e = &area->entries[area->waiters[w].entry];

			forget_waiter(w);
			woken = wake_some(e, items);
		}
		SpinLockRelease(&area->mutex);
		make_ready(items, woken);
	}
}

void
rom_throttle_release(void)
{
	while (nholds > 0)
		let_go(holds[--nholds].key);
}

void
rom_throttle_clock_reset(void)
{
	if (own_tokens == NULL || !rom_clock_is_ahead())
		return;
	hash_destroy(own_tokens);
	own_tokens = NULL;
}

/* changed is called after the commit that changed a definition. */
static void
changed(const void *arg)
{
	uint64		key;
	int			n;

	memcpy(&key, arg, sizeof(key));
	do
	{
		RomReadyItem items[CHUNK];
		Entry	   *e;

		n = 0;
		SpinLockAcquire(&area->mutex);
		e = find_entry(key, false, 0);
		if (e != NULL)
		{
			e->max = 0;			/* whoever asks next says what it is */
			e->tokens.booked = 0;
			n = wake_some(e, items);
		}
		SpinLockRelease(&area->mutex);
		make_ready(items, n);
	} while (n == CHUNK);
}

void
rom_throttle_changed(const char *activity)
{
	uint64		key = key_of(activity);

	rom_wake_call(changed, &key, sizeof(key));
}

void
rom_throttle_purge(Oid dbid)
{
	if (area == NULL)
		return;
	SpinLockAcquire(&area->mutex);
	for (int w = 0; w < WAITERS; w++)
		if (area->waiters[w].entry != NONE && area->waiters[w].dbid == dbid)
			forget_waiter(w);
	SpinLockRelease(&area->mutex);
}
