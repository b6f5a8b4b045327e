/*-------------------------------------------------------------------------
 *
 * progress.c
 *		Progress of running instances in shared memory.
 *
 * Reports are hints for people and progress bars; the row keeps the last one
 * that was committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/jb.h"
#include "memory/progress.h"
#include "memory/shmem.h"
#include "memory/ways.h"

typedef struct ProgressKey
{
	pg_uuid_t	id;
	Oid			dbid;
} ProgressKey;

typedef struct ProgressEntry
{
	RomWay		way;
	ProgressKey key;
	RomProgress progress;
} ProgressEntry;

static RomWays table = {
	.name = "romancy progress",
	.sets = 512,
	.ways = 8,
	.key = sizeof(ProgressKey),
	.entry = sizeof(ProgressEntry),
};

static ProgressKey
make_key(const pg_uuid_t *id)
{
	ProgressKey key;

	key.id = *id;
	key.dbid = MyDatabaseId;
	return key;
}

void
rom_progress_put(const pg_uuid_t *id, int32 namespace, RomProgress *progress)
{
	ProgressKey key = make_key(id);
	RomWaysSet *set = rom_ways_lock(&table, &key);
	ProgressEntry *entry;

	if (set == NULL)
		return;
	entry = rom_ways_make(&table, set, &key, rom_ways_holder(namespace));
	if (entry->progress.at != 0)
		progress->first_at = entry->progress.first_at;
	entry->progress = *progress;
	rom_ways_unlock(set);
}

bool
rom_progress_get(const pg_uuid_t *id, RomProgress *progress)
{
	ProgressKey key = make_key(id);
	RomWaysSet *set = rom_ways_lock(&table, &key);
	ProgressEntry *entry;

	if (set == NULL)
		return false;
	entry = rom_ways_find(&table, set, &key);
	if (entry != NULL)
		*progress = entry->progress;
	rom_ways_unlock(set);
	return entry != NULL;
}

void
rom_progress_forget(const pg_uuid_t *id)
{
	ProgressKey key = make_key(id);
	RomWaysSet *set = rom_ways_lock(&table, &key);
	ProgressEntry *entry;

	if (set == NULL)
		return;
	entry = rom_ways_find(&table, set, &key);
	if (entry != NULL)
		rom_ways_free(entry);
	rom_ways_unlock(set);
}

Jsonb *
rom_progress_document(const RomProgress *progress, const char *note)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_int(&jb, "done", progress->done);
	if (progress->total >= 0)
		rom_jb_int(&jb, "total", progress->total);
	rom_jb_text(&jb, "note", note);
	rom_jb_time(&jb, "first_at", progress->first_at);
	rom_jb_time(&jb, "at", progress->at);
	return rom_jb_end(&jb);
}

void
rom_progress_init(void)
{
	rom_shmem_register_table(&table, NULL);
}
