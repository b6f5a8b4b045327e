/*-------------------------------------------------------------------------
 *
 * poller.c
 *		Programs that fetch from queues, in shared memory: who, what for, when last.
 *
 * A small set-associative table, as progress.c has one: queue and worker_id hash to a set of
 * WAYS entries.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "tasks/poller.h"

#define SETS 128
#define WAYS 8

typedef struct PollerSet
{
	slock_t		mutex;			/* guards the entries */
	RomPoller	entries[WAYS];
} PollerSet;

static PollerSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(PollerSet) * SETS;
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(PollerSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
}

/* cut copies a name, and no part of a character. */
static void
cut(char *to, const char *name)
{
	int			len = pg_mbcliplen(name, strlen(name), ROM_POLLER_NAME - 1);

	memcpy(to, name, len);
	to[len] = '\0';
}

/* The names by which an entry is found, cut. */
typedef struct PollerKey
{
	char		queue[ROM_POLLER_NAME];
	char		worker_id[ROM_POLLER_NAME];
	PollerSet  *set;
} PollerKey;

/* make_key cuts the names and finds their set. */
static void
make_key(PollerKey *key, const char *queue, const char *worker_id)
{
	uint32		hash;

	cut(key->queue, queue);
	cut(key->worker_id, worker_id);
	hash = hash_bytes((unsigned char *) key->queue, strlen(key->queue)) ^
		hash_bytes_uint32(hash_bytes((unsigned char *) key->worker_id, strlen(key->worker_id)));
	key->set = &sets[hash % SETS];
}

/* find finds the entry of a key; its set's mutex is held. */
static RomPoller *
find(const PollerKey *key)
{
	for (int i = 0; i < WAYS; i++)
	{
		RomPoller  *entry = &key->set->entries[i];

		if (entry->dbid == MyDatabaseId && strcmp(entry->queue, key->queue) == 0 &&
			strcmp(entry->worker_id, key->worker_id) == 0)
			return entry;
	}
	return NULL;
}

/* oldest is the entry that gives way to a new one: a free one, or that of the longest silence. */
static RomPoller *
oldest(PollerSet *set)
{
	RomPoller  *entry = &set->entries[0];

	for (int i = 0; i < WAYS && OidIsValid(entry->dbid); i++)
		if (!OidIsValid(set->entries[i].dbid) || set->entries[i].last_at < entry->last_at)
			entry = &set->entries[i];
	return entry;
}

void
rom_poller_begin(const char *queue, const char *worker_id, bool waits)
{
	PollerKey	key;
	RomPoller  *entry;
	TimestampTz now = GetCurrentTimestamp();
	Oid			role = GetUserId();

	if (sets == NULL)
		return;
	make_key(&key, queue, worker_id);
	SpinLockAcquire(&key.set->mutex);
	entry = find(&key);
	if (entry == NULL)
	{
		entry = oldest(key.set);
		entry->dbid = MyDatabaseId;
		entry->first_at = now;
		entry->polls = entry->tasks = 0;
		strlcpy(entry->queue, key.queue, ROM_POLLER_NAME);
		strlcpy(entry->worker_id, key.worker_id, ROM_POLLER_NAME);
	}
	entry->role = role;
	entry->pid = MyProcPid;
	entry->waits = waits;
	entry->last_at = now;
	entry->polls++;
	SpinLockRelease(&key.set->mutex);
}

void
rom_poller_end(const char *queue, const char *worker_id, int tasks)
{
	PollerKey	key;
	RomPoller  *entry;
	TimestampTz now = GetCurrentTimestamp();

	if (sets == NULL)
		return;
	make_key(&key, queue, worker_id);
	SpinLockAcquire(&key.set->mutex);
	entry = find(&key);
	if (entry != NULL)
	{
		if (entry->pid == MyProcPid)
			entry->waits = false;
		entry->last_at = now;
		entry->tasks += tasks;
	}
	SpinLockRelease(&key.set->mutex);
}

int
rom_poller_count(void)
{
	return sets == NULL ? 0 : SETS * WAYS;
}

bool
rom_poller_get(int n, RomPoller *poller)
{
	PollerSet  *set = &sets[n / WAYS];
	RomPoller  *entry = &set->entries[n % WAYS];
	bool		found;

	SpinLockAcquire(&set->mutex);
	found = entry->dbid == MyDatabaseId;
	if (found)
		*poller = *entry;
	SpinLockRelease(&set->mutex);
	/* a session that was ended while it waited could not say so */
	if (found && poller->waits && BackendPidGetProc(poller->pid) == NULL)
		poller->waits = false;
	return found;
}

bool
rom_poller_since(const char *queue, TimestampTz since)
{
	char		name[ROM_POLLER_NAME];

	cut(name, queue);
	for (int i = 0; i < rom_poller_count(); i++)
	{
		RomPoller	poller;

		if (rom_poller_get(i, &poller) && strcmp(poller.queue, name) == 0 &&
			(poller.waits || poller.last_at >= since))
			return true;
	}
	return false;
}

void
rom_poller_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy pollers",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
