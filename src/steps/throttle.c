/*-------------------------------------------------------------------------
 *
 * throttle.c
 *		Limits of activities that run in the database: how many at a time, and
 *		how many per time, in shared memory.
 *
 * A slot is held by a process, from the begin of the attempt to the end of its
 * transaction, when its locks are released: until then its effects are not
 * committed. A process runs one activity at a time, so one slot for each name
 * is enough, however many attempts share the transaction. Slots are counted in
 * the activity's entry; a process that exits gives its own back, and after a
 * crash shared memory is made anew, when none of them runs.
 *
 * An abort gives back the tokens that its transaction took or booked. The
 * tokens that are left are written to a row at the end of the transaction
 * (bucket_rows.h), and read after a start. turnstile.c has the queue of those
 * that wait.
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
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/spi.h"
#include "defs/definition.h"
#include "memory/bucket.h"
#include "memory/bucket_rows.h"
#include "memory/shmem.h"
#include "memory/wake.h"
#include "memory/xact.h"
#include "steps/throttle.h"
#include "steps/turnstile.h"

/* The prefix of these buckets' names in t_bucket, before the namespace and the activity's name. */
#define SCOPE "activity/%d"

/* Longest delay (us) until an instance that waits for a slot asks again; it grows with their number. */
#define SLOT_WAIT_MIN USECS_PER_SEC
#define SLOT_WAIT_MAX (30 * USECS_PER_SEC)

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
	RomNote		note;
	uint64		key;
	bool		own;			/* from the session's own bucket */
	RomTaking	taking;
	int32		namespace;
	char		activity[ROM_NAME_MAX + 1];
} Taken;

/* A bucket of the session's own. */
typedef struct OwnTokens
{
	uint64		key;
	RomBucket	tokens;
} OwnTokens;

static HTAB *own_tokens = NULL;

/* In TopMemoryContext. */
static Hold *holds = NULL;
static int	nholds = 0;
static int	holds_size = 0;

static RomNotes notes = {.size = sizeof(Taken)};

/* taken_at is number i of what was taken. */
static Taken *
taken_at(int i)
{
	return (Taken *) notes.array + i;
}

static uint64
key_of(int32 namespace, const char *activity)
{
	uint64		key = hash_bytes_extended((const unsigned char *) activity,
										  strlen(activity),
										  (((uint64) (uint32) namespace << 32) | MyDatabaseId) ^ rom_shmem_salt());

	return Max(key, 1);
}

/* jitter draws from the upper half of a time. */
static int64
jitter(int64 us)
{
	return (int64) (us * (0.5 + 0.5 * pg_prng_double(&pg_global_prng_state)));
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

/* ---------------------------------------------------------------- what this process has */

/* end_holds: the transaction has ended. Holds that outlive its commit stay. */
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
			rom_turnstile_leave(hold.key);
	}
	nholds = left;
}

int
rom_throttle_mark(void)
{
	return notes.count;
}

/* undo gives a token back. */
static void
undo(void *undone)
{
	Taken	   *note = undone;

	if (note->own)
	{
		OwnTokens  *own = own_tokens ? hash_search(own_tokens, &note->key, HASH_FIND, NULL) : NULL;

		if (own != NULL)
			rom_turnstile_undo(&own->tokens, &note->taking);
	}
	else
		rom_turnstile_give_back(note->key, &note->taking);
}

/* record writes down what the buckets have left that this transaction has taken from. */
static void
record(void)
{
	/* (the extension may have been dropped in the same transaction) */
	if (notes.count == 0 || !OidIsValid(rom_extension_oid()))
		return;
	for (int i = 0; i < notes.count; i++)
	{
		Taken	   *note = taken_at(i);
		bool		newest = note->taking.record && !note->own;

		for (int later = i + 1; later < notes.count && newest; later++)
			newest = !taken_at(later)->taking.record || taken_at(later)->own || taken_at(later)->key != note->key;
		if (newest)
			rom_bucket_rows_write(psprintf(SCOPE, note->namespace), note->activity, note->taking.left, note->taking.at,
								  note->taking.period);
	}
}

/* recorded is called when that is committed. */
static void
recorded(void)
{
	for (int i = 0; i < notes.count; i++)
	{
		Taken	   *note = taken_at(i);

		if (note->taking.record && !note->own)
			rom_turnstile_recorded(note->key, note->taking.at);
	}
	rom_xact_forget(&notes);
}

static void
pre_commit(bool prepare)
{
	record();
}

static void
prepared(void)
{
	rom_xact_forget(&notes);
}

static void
after_locks(bool commit)
{
	if (nholds > 0)
		end_holds(commit);
}

/* The process ends: its attempt is rolled back before another begins. */
static void
at_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	rom_throttle_release();
}

/* prepare makes room for one hold and one token more, so that nothing fails under the lock. */
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
	rom_xact_reserve(&notes, 1);
	if (registered)
		return;
	registered = true;
	if (rom_shmem_available())
		before_shmem_exit(at_exit, 0);
}

/* ---------------------------------------------------------------- for others */

/* hold_until returns when an asker that found no slot asks again, unless it is woken. */
static void
hold_until(RomAsker *asker, int waiting, TimestampTz now)
{
	int64		delay;

	if (asker->held_at == 0 || asker->held_at > now)
		asker->held_at = now;
	if (asker->held_until > now)
		return;
	delay = Max((now - asker->held_at) / 2, waiting * ROM_ASK_EVERY);
	delay = Min(Max(delay, SLOT_WAIT_MIN), SLOT_WAIT_MAX);
	asker->held_until = now + jitter(delay);
}

RomAdmission
rom_throttle_admit(int32 namespace, const char *activity, const RomLimits *limits, RomAsker *asker)
{
	uint64		key = key_of(namespace, activity);
	bool		is_shared = rom_shmem_available();
	bool		own = !is_shared || rom_clock_is_ahead();
	RomPassage	passage = {0};
	RomAdmission result = ROM_ADMITTED;
	Hold	   *hold = NULL;
	Taken		taken;

	passage.now = rom_now();
	passage.random = 0.5 + 0.5 * pg_prng_double(&pg_global_prng_state);
	passage.token = limits->rate > 0 && !own;
	passage.left = limits->rate;
	passage.left_at = passage.now;
	if (passage.token && !rom_turnstile_is_known(key))
		(void) rom_bucket_rows_read(psprintf(SCOPE, namespace), activity, &passage.left, &passage.left_at);
	prepare();
	memset(&taken, 0, sizeof(Taken));
	passage.taking = &taken.taking;
	for (int i = 0; i < nholds && hold == NULL; i++)
		if (holds[i].key == key)
			hold = &holds[i];
	passage.slot = limits->max_concurrency > 0 && is_shared && hold == NULL;
	if (is_shared)
		result = rom_turnstile_pass(key, limits, asker, &passage);
	if (result == ROM_ADMITTED && passage.slot)
	{
		hold = &holds[nholds++];
		hold->key = key;
		hold->keep = hold->kept = false;
	}
	if (result == ROM_ADMITTED && limits->rate > 0 && own)
	{
		RomBucket  *bucket = own_bucket(key, &passage.bucket);

		/*
		 * (a slot that it then does not use is held to the end of the
		 * transaction)
		 */
		if (bucket->rate == 0)
			rom_bucket_begin(bucket, limits, limits->rate, passage.now);
		rom_bucket_refill(bucket, limits, passage.now);
		if (!rom_turnstile_take(bucket, asker, passage.now, 0, DT_NOEND, passage.taking))
			result = ROM_HELD_TOKEN;
	}
	if (taken.taking.booked > 0 || (result == ROM_ADMITTED && limits->rate > 0))
	{
		taken.key = key;
		taken.note.level = asker->level;
		taken.own = own;
		taken.namespace = namespace;
		strlcpy(taken.activity, activity, sizeof(taken.activity));
		*(Taken *) rom_xact_note(&notes, asker->level) = taken;
	}
	if (result == ROM_ADMITTED)
	{
		if (hold != NULL && asker->keep)
			hold->keep = true;
	}
	else if (result == ROM_HELD_SLOT || (is_shared && !passage.room))
		hold_until(asker, passage.waiting, passage.now);
	return result;
}

void
rom_throttle_release(void)
{
	while (nholds > 0)
		rom_turnstile_leave(holds[--nholds].key);
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

	memcpy(&key, arg, sizeof(key));
	rom_turnstile_changed(key);
}

void
rom_throttle_changed(int32 namespace, const char *activity)
{
	uint64		key = key_of(namespace, activity);

	rom_wake_call(changed, &key, sizeof(key));
}

static const RomXactPart part = {
	.name = "slots and tokens of activities in the database",
	.order = ROM_XACT_GIVE_BACK,
	.pre_commit = pre_commit,
	.committed = recorded,
	.prepared = prepared,
	.after_locks = after_locks,
	.notes = &notes,
	.undo = undo,
};

void
rom_throttle_back(int mark)
{
	rom_xact_undo(&part, mark);
}

void
rom_throttle_init(void)
{
	rom_xact_register(&part);
}
