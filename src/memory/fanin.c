/*-------------------------------------------------------------------------
 *
 * fanin.c
 *		How many ends an instance still waits for, in shared memory.
 *
 * Sets of a few entries, each set with a mutex of its own; a full set forgets
 * its first entry, whose instance is then woken by every end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "memory/fanin.h"
#include "memory/shmem.h"

#define SETS 512
#define WAYS 8

typedef struct FaninEntry
{
	pg_uuid_t	key;
	Oid			dbid;			/* invalid: free */
	int64		left;
} FaninEntry;

typedef struct FaninSet
{
	slock_t		mutex;
	int			victim;			/* the entry that goes next when all are taken */
	FaninEntry	entries[WAYS];
} FaninSet;

static FaninSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(FaninSet) * SETS;
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(FaninSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
}

/* find finds the key's entry; the set's mutex is held. */
static FaninEntry *
find(FaninSet *set, const pg_uuid_t *key)
{
	for (int i = 0; i < WAYS; i++)
		if (set->entries[i].dbid == MyDatabaseId &&
			memcmp(&set->entries[i].key, key, sizeof(pg_uuid_t)) == 0)
			return &set->entries[i];
	return NULL;
}

static FaninSet *
set_of(const pg_uuid_t *key)
{
	return &sets[hash_bytes(key->data, UUID_LEN) % SETS];
}

void
rom_fanin_set(const pg_uuid_t *key, int64 count)
{
	FaninSet   *set;
	FaninEntry *entry;

	if (sets == NULL)
		return;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = find(set, key);
	for (int i = 0; entry == NULL && i < WAYS; i++)
		if (!OidIsValid(set->entries[i].dbid))
			entry = &set->entries[i];
	if (entry == NULL)
	{
		entry = &set->entries[set->victim];
		set->victim = (set->victim + 1) % WAYS;
	}
	entry->key = *key;
	entry->dbid = MyDatabaseId;
	entry->left = count;
	SpinLockRelease(&set->mutex);
}

bool
rom_fanin_end(const pg_uuid_t *key)
{
	FaninSet   *set;
	FaninEntry *entry;
	bool		wake = true;

	if (sets == NULL)
		return true;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = find(set, key);
	if (entry != NULL)
	{
		wake = --entry->left <= 0;
		if (wake)
			entry->dbid = InvalidOid;
	}
	SpinLockRelease(&set->mutex);
	return wake;
}

void
rom_fanin_forget(const pg_uuid_t *key)
{
	FaninSet   *set;
	FaninEntry *entry;

	if (sets == NULL)
		return;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = find(set, key);
	if (entry != NULL)
		entry->dbid = InvalidOid;
	SpinLockRelease(&set->mutex);
}

void
rom_fanin_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy fanin",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
