/*-------------------------------------------------------------------------
 *
 * fanin.c
 *		How many ends an instance still waits for, in shared memory.
 *
 * An entry that gives way (ways.h) is forgotten: its instance is then woken by
 * every end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "memory/fanin.h"
#include "memory/shmem.h"
#include "memory/ways.h"

typedef struct FaninKey
{
	pg_uuid_t	id;
	Oid			dbid;
} FaninKey;

typedef struct FaninEntry
{
	RomWay		way;
	FaninKey	key;
	int64		left;
} FaninEntry;

static RomWays table = {
	.name = "romancy fanin",
	.sets = 512,
	.ways = 8,
	.key = sizeof(FaninKey),
	.entry = sizeof(FaninEntry),
};

static FaninKey
make_key(const pg_uuid_t *id)
{
	FaninKey	key;

	key.id = *id;
	key.dbid = MyDatabaseId;
	return key;
}

void
rom_fanin_set(const pg_uuid_t *key, int32 namespace, int64 count)
{
	FaninKey	full = make_key(key);
	RomWaysSet *set = rom_ways_lock(&table, &full);
	FaninEntry *entry;

	if (set == NULL)
		return;
	entry = rom_ways_make(&table, set, &full, rom_ways_holder(namespace));
	entry->left = count;
	rom_ways_unlock(set);
}

bool
rom_fanin_end(const pg_uuid_t *key)
{
	FaninKey	full = make_key(key);
	RomWaysSet *set = rom_ways_lock(&table, &full);
	FaninEntry *entry;
	bool		wake = true;

	if (set == NULL)
		return true;
	entry = rom_ways_find(&table, set, &full);
	if (entry != NULL)
	{
		wake = --entry->left <= 0;
		if (wake)
			rom_ways_free(entry);
	}
	rom_ways_unlock(set);
	return wake;
}

void
rom_fanin_forget(const pg_uuid_t *key)
{
	FaninKey	full = make_key(key);
	RomWaysSet *set = rom_ways_lock(&table, &full);
	FaninEntry *entry;

	if (set == NULL)
		return;
	entry = rom_ways_find(&table, set, &full);
	if (entry != NULL)
		rom_ways_free(entry);
	rom_ways_unlock(set);
}

void
rom_fanin_init(void)
{
	rom_shmem_register_table(&table, NULL);
}
