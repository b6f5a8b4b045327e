/*-------------------------------------------------------------------------
 *
 * crossing.c
 *		Detects that a message was sent and a receiver began to wait for it at
 *		the same time, in transactions that did not see each other.
 *
 * Why nothing is lost: let a waiter's look not see a message, and the sender's
 * look not see the waiter. Both have committed later than the other looked.
 * After that each adds to its count, then reads the other's. If the waiter does
 * not see the sender's addition, the sender's reading comes after the
 * waiter's addition, and sees it.
 *
 * The rows that a key stands for can be cached as well. A transaction that
 * changes them increments "changing" before it writes, then "version", and
 * decrements "changing" when its commit is visible. A reader reads the version
 * first: if "changing" is 0 after that, each change is either complete and
 * visible to any new snapshot, or increments the version later. COMMIT PREPARED
 * counts as a change of everything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/crossing.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/wake.h"
#include "memory/xact.h"

#define BUCKETS 2048
#define KEYS_MAX 256

/* A transaction that changes more keys changes all of them. */
#define CHANGES_MAX 32

typedef struct Bucket
{
	pg_atomic_uint64 sent;
	pg_atomic_uint64 waited;
	pg_atomic_uint64 version;	/* changes of what a key of it stands for */
	pg_atomic_uint32 changing;	/* transactions that are at one */
} Bucket;

/* A key that the sweep of its database is to look at. */
typedef struct Asked
{
	Oid			dbid;
	int			sweep;
	char		key[ROM_CROSSING_KEY_MAX + 1];
} Asked;

typedef struct Crossing
{
	Bucket		buckets[BUCKETS];
	Bucket		every;			/* changes that concern all keys */
	slock_t		mutex;			/* of what follows */
	uint64		lost;			/* counts: keys were lost, or all are asked
								 * for */
	int			count;
	Asked		asked[KEYS_MAX];
} Crossing;

/* The part of a note that the commit hook needs. */
typedef struct CrossingNote
{
	Bucket	   *bucket;
	uint64		seen;			/* the other side's count before the look */
	int			sweep;
	pg_uuid_t	id;
	Oid			owner;
	int32		priority;
	char		key[ROM_CROSSING_KEY_MAX + 1];
} CrossingNote;

static Crossing *area = NULL;

/* Those that this transaction changes. */
static Bucket *changes[CHANGES_MAX];
static int	nchanges = 0;

static Size
shmem_size(void)
{
	return sizeof(Crossing);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(Crossing));
	for (int i = 0; i <= BUCKETS; i++)
	{
		Bucket	   *bucket = i < BUCKETS ? &area->buckets[i] : &area->every;

		pg_atomic_init_u64(&bucket->sent, 0);
		pg_atomic_init_u64(&bucket->waited, 0);
		pg_atomic_init_u64(&bucket->version, 0);
		pg_atomic_init_u32(&bucket->changing, 0);
	}
	SpinLockInit(&area->mutex);
	area->lost = 1;
}

static Bucket *
bucket_of(const char *key)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) key,
										   strlen(key), MyDatabaseId ^ rom_shmem_salt());

	return &area->buckets[hash % BUCKETS];
}

/* make_note fills a note for key; the commit hook gets a copy. */
static void
make_note(CrossingNote *note, const char *key)
{
	memset(note, 0, sizeof(CrossingNote));
	note->bucket = bucket_of(key);
	strlcpy(note->key, key, sizeof(note->key));
}

void
rom_crossing_ask(const char *key, int sweep)
{
	int			i;

	if (area == NULL)
		return;
	SpinLockAcquire(&area->mutex);
	for (i = 0; i < area->count; i++)
		if (area->asked[i].dbid == MyDatabaseId &&
			area->asked[i].sweep == sweep &&
			strcmp(area->asked[i].key, key) == 0)
			break;
	if (i == KEYS_MAX)
		area->lost++;
	else if (i == area->count)
	{
		area->asked[i].dbid = MyDatabaseId;
		area->asked[i].sweep = sweep;
		strlcpy(area->asked[i].key, key, sizeof(area->asked[i].key));
		area->count++;
	}
	SpinLockRelease(&area->mutex);
	rom_roster_sweep(MyDatabaseId, sweep, GetCurrentTimestamp());
}

void
rom_crossing_ask_all(int sweep)
{
	if (area == NULL)
		return;
	SpinLockAcquire(&area->mutex);
	area->lost++;
	SpinLockRelease(&area->mutex);
	rom_roster_sweep(MyDatabaseId, sweep, GetCurrentTimestamp());
}

bool
rom_crossing_take(int sweep, char *key, bool *all)
{
	static uint64 lost_seen[ROM_SWEEP_MAX];
	bool		found = false;

	if (area == NULL)
		return false;
	SpinLockAcquire(&area->mutex);
	if (area->lost != lost_seen[sweep])
	{
		lost_seen[sweep] = area->lost;
		*all = true;
	}
	for (int i = 0; i < area->count && !found; i++)
	{
		if (area->asked[i].dbid != MyDatabaseId ||
			area->asked[i].sweep != sweep)
			continue;
		found = true;
		memcpy(key, area->asked[i].key, sizeof(area->asked[i].key));
		area->asked[i] = area->asked[--area->count];
	}
	SpinLockRelease(&area->mutex);
	return found;
}

/* after_send and the like run in the commit hook. */
static void
after_send(const void *arg)
{
	const CrossingNote *note = arg;

	pg_atomic_fetch_add_u64(&note->bucket->sent, 1);
	if (pg_atomic_read_u64(&note->bucket->waited) != note->seen)
		rom_crossing_ask(note->key, note->sweep);
}

static void
after_wait(const void *arg)
{
	const CrossingNote *note = arg;
	RomReadyItem item;

	pg_atomic_fetch_add_u64(&note->bucket->waited, 1);
	if (pg_atomic_read_u64(&note->bucket->sent) == note->seen)
		return;
	memset(&item, 0, sizeof(item));
	item.id = note->id;
	item.dbid = MyDatabaseId;
	item.owner = note->owner;
	item.priority = note->priority;
	item.at = GetCurrentTimestamp();
	rom_ready_put(&item, 1, item.at);
}

static void
after_enter(const void *arg)
{
	const CrossingNote *note = arg;

	pg_atomic_fetch_add_u64(&note->bucket->waited, 1);
}

static void
after_ask(const void *arg)
{
	const CrossingNote *note = arg;

	rom_crossing_ask(note->key, note->sweep);
}

void
rom_crossing_send(const char *key, int sweep)
{
	CrossingNote note;

	if (area == NULL)
		return;
	make_note(&note, key);
	note.sweep = sweep;
	note.seen = pg_atomic_read_u64(&note.bucket->waited);
	pg_memory_barrier();
	rom_wake_call(after_send, &note, sizeof(note));
}

uint64
rom_crossing_look(const char *key)
{
	uint64		seen;

	if (area == NULL)
		return 0;
	seen = pg_atomic_read_u64(&bucket_of(key)->sent);
	pg_memory_barrier();
	return seen;
}

void
rom_crossing_wait(const char *key, uint64 seen, const pg_uuid_t *id, Oid owner,
				  int32 priority)
{
	CrossingNote note;

	if (area == NULL)
		return;
	make_note(&note, key);
	note.seen = seen;
	note.id = *id;
	note.owner = owner;
	note.priority = priority;
	rom_wake_call(after_wait, &note, sizeof(note));
}

void
rom_crossing_enter(const char *key, bool now)
{
	CrossingNote note;

	if (area == NULL)
		return;
	make_note(&note, key);
	if (now)
		after_enter(&note);
	else
		rom_wake_call(after_enter, &note, sizeof(note));
}

void
rom_crossing_ask_later(const char *key, int sweep)
{
	CrossingNote note;

	if (area == NULL)
		return;
	make_note(&note, key);
	note.sweep = sweep;
	rom_wake_call(after_ask, &note, sizeof(note));
}

void
rom_crossing_change(const char *key)
{
	Bucket	   *bucket;

	if (area == NULL)
		return;
	bucket = key == NULL || nchanges >= CHANGES_MAX - 1 ?
		&area->every : bucket_of(key);
	for (int i = 0; i < nchanges; i++)
		if (changes[i] == bucket)
			return;
	changes[nchanges++] = bucket;
	pg_atomic_fetch_add_u32(&bucket->changing, 1);
	pg_atomic_fetch_add_u64(&bucket->version, 1);
}

uint64
rom_crossing_version(const char *key)
{
	Bucket	   *bucket;
	uint64		version;

	if (area == NULL)
		return 0;
	bucket = bucket_of(key);
	/* both only grow: the same sum means that neither has changed */
	version = pg_atomic_read_u64(&bucket->version) +
		pg_atomic_read_u64(&area->every.version) + 1;
	pg_read_barrier();
	if (pg_atomic_read_u32(&bucket->changing) > 0 ||
		pg_atomic_read_u32(&area->every.changing) > 0)
		return 0;
	pg_memory_barrier();
	return version;
}

/* at_xact ends the transaction's changes: they can be seen now, or never. Changes that were prepared are not visible before COMMIT PREPARED. */
static void
ended(void)
{
	while (nchanges > 0)
		pg_atomic_fetch_sub_u32(&changes[--nchanges]->changing, 1);
}

void
rom_crossing_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy crossing",
		.size = shmem_size,
		.attach = shmem_attach,
	};
	static const RomXactPart xact = {
		.name = "keys that change",
		.order = ROM_XACT_LET_READ,
		.committed = ended,
		.prepared = ended,
		.aborted = ended,
	};

	rom_shmem_register(&part);
	rom_xact_register(&xact);
}
