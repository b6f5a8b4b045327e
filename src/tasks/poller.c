/*-------------------------------------------------------------------------
 *
 * poller.c
 *		Programs that fetch from queues, in shared memory: who, what for, when last.
 *
 * The key is queue and worker_id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "memory/ways.h"
#include "tasks/notify.h"
#include "tasks/poller.h"

typedef struct PollerEntry
{
	RomWay		way;
	RomPoller	poller;			/* begins with its key */
} PollerEntry;

static RomWays table = {
	.name = "romancy pollers",
	.sets = 128,
	.ways = 8,
	.key = sizeof(RomPollerKey),
	.entry = sizeof(PollerEntry),
};

/* cut copies a name, and no part of a character. */
static void
cut(char *to, const char *name)
{
	int			len = pg_mbcliplen(name, strlen(name), ROM_POLLER_NAME - 1);

	memcpy(to, name, len);
	to[len] = '\0';
}

/* make_key cuts the names. */
static void
make_key(RomPollerKey *key, const char *queue, const char *worker_id)
{
	memset(key, 0, sizeof(*key));
	key->dbid = MyDatabaseId;
	cut(key->queue, queue);
	cut(key->worker_id, worker_id);
}

/* hash_name is what hashtext() makes of a name. */
static int32
hash_name(const char *name, int len)
{
	return DatumGetInt32(hash_any((const unsigned char *) name, len));
}

void
rom_poller_begin(const RomClaim *claim, bool waits)
{
	RomPollerKey key;
	RomWaysSet *set;
	RomPoller  *poller;
	TimestampTz now = GetCurrentTimestamp();
	Oid			role = GetUserId();
	int32		namespace;
	int32		unknown[ROM_POLLER_UNKNOWN];
	int			kept = Min(claim->nunknown, ROM_POLLER_UNKNOWN);

	(void) rom_notify_queue_name(claim->queue, &namespace);
	make_key(&key, claim->queue, claim->worker_id);
	for (int i = 0; i < kept; i++)
		unknown[i] = hash_name(VARDATA_ANY(claim->unknown[i]), VARSIZE_ANY_EXHDR(claim->unknown[i]));
	set = rom_ways_lock(&table, &key);
	if (set == NULL)
		return;
	poller = &((PollerEntry *) rom_ways_make(&table, set, &key, rom_ways_holder(namespace)))->poller;
	if (poller->polls == 0)
		poller->first_at = now;
	poller->role = role;
	poller->pid = MyProcPid;
	poller->waits = waits;
	poller->last_at = now;
	poller->polls++;
	poller->nunknown = claim->nunknown;
	memcpy(poller->unknown, unknown, kept * sizeof(int32));
	rom_ways_unlock(set);
}

void
rom_poller_end(const char *queue, const char *worker_id, int tasks)
{
	RomPollerKey key;
	RomWaysSet *set;
	PollerEntry *entry;
	TimestampTz now = GetCurrentTimestamp();

	make_key(&key, queue, worker_id);
	set = rom_ways_lock(&table, &key);
	if (set == NULL)
		return;
	entry = rom_ways_find(&table, set, &key);
	if (entry != NULL)
	{
		if (entry->poller.pid == MyProcPid)
			entry->poller.waits = false;
		entry->poller.last_at = now;
		entry->poller.tasks += tasks;
	}
	rom_ways_unlock(set);
}

int
rom_poller_count(void)
{
	return rom_ways_places(&table);
}

bool
rom_poller_get(int n, RomPoller *poller)
{
	PollerEntry entry;

	if (!rom_ways_copy(&table, n, &entry) || entry.poller.key.dbid != MyDatabaseId)
		return false;
	*poller = entry.poller;
	/* a session that was ended while it waited could not say so */
	if (poller->waits && BackendPidGetProc(poller->pid) == NULL)
		poller->waits = false;
	return true;
}

/* passes: does the program pass over tasks of that name (hashed)? */
static bool
passes(const RomPoller *poller, int32 name)
{
	for (int i = 0; i < Min(poller->nunknown, ROM_POLLER_UNKNOWN); i++)
		if (poller->unknown[i] == name)
			return true;
	return false;
}

bool
rom_poller_since(const char *queue, const char *name, TimestampTz since)
{
	char		cut_queue[ROM_POLLER_NAME];
	int32		hash = name ? hash_name(name, strlen(name)) : 0;

	cut(cut_queue, queue);
	for (int i = 0; i < rom_poller_count(); i++)
	{
		RomPoller	poller;

		if (rom_poller_get(i, &poller) && strcmp(poller.key.queue, cut_queue) == 0 &&
			(poller.waits || poller.last_at >= since) && (name == NULL || !passes(&poller, hash)))
			return true;
	}
	return false;
}

void
rom_poller_init(void)
{
	rom_shmem_register_table(&table, NULL);
}
