/*-------------------------------------------------------------------------
 *
 * progress.c
 *		Progress of running instances in shared memory.
 *
 * A small set-associative table: an instance hashes to a set of WAYS entries,
 * the oldest of which gives way. Reports are hints for people and progress
 * bars; the row keeps the last one that was committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "base/jb.h"
#include "memory/progress.h"
#include "memory/shmem.h"

#define SETS 512
#define WAYS 8

typedef struct ProgressEntry
{
	Oid			dbid;			/* InvalidOid: free */
	pg_uuid_t	id;
	RomProgress progress;
} ProgressEntry;

typedef struct ProgressSet
{
	slock_t		mutex;			/* guards the entries */
	ProgressEntry entries[WAYS];
} ProgressSet;

static ProgressSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(ProgressSet) * SETS;
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(ProgressSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
}

/* set_of finds the set of an instance. */
static ProgressSet *
set_of(const pg_uuid_t *id)
{
	return &sets[hash_bytes(id->data, UUID_LEN) % SETS];
}

/* find finds its entry; the set's mutex is held. */
static ProgressEntry *
find(ProgressSet *set, const pg_uuid_t *id)
{
	for (int i = 0; i < WAYS; i++)
		if (set->entries[i].dbid == MyDatabaseId &&
			memcmp(&set->entries[i].id, id, sizeof(pg_uuid_t)) == 0)
			return &set->entries[i];
	return NULL;
}

void
rom_progress_put(const pg_uuid_t *id, RomProgress *progress)
{
	ProgressSet *set;
	ProgressEntry *entry;

	if (sets == NULL)
		return;
	set = set_of(id);
	SpinLockAcquire(&set->mutex);
	entry = find(set, id);
	if (entry != NULL)
		progress->first_at = entry->progress.first_at;
	else
	{
		entry = &set->entries[0];
		for (int i = 0; i < WAYS && OidIsValid(entry->dbid); i++)
			if (!OidIsValid(set->entries[i].dbid) ||
				set->entries[i].progress.at < entry->progress.at)
				entry = &set->entries[i];
	}
	entry->dbid = MyDatabaseId;
	entry->id = *id;
	entry->progress = *progress;
	SpinLockRelease(&set->mutex);
}

bool
rom_progress_get(const pg_uuid_t *id, RomProgress *progress)
{
	ProgressSet *set;
	ProgressEntry *entry;

	if (sets == NULL)
		return false;
	set = set_of(id);
	SpinLockAcquire(&set->mutex);
	entry = find(set, id);
	if (entry != NULL)
		*progress = entry->progress;
	SpinLockRelease(&set->mutex);
	return entry != NULL;
}

void
rom_progress_forget(const pg_uuid_t *id)
{
	ProgressSet *set;
	ProgressEntry *entry;

	if (sets == NULL)
		return;
	set = set_of(id);
	SpinLockAcquire(&set->mutex);
	entry = find(set, id);
	if (entry != NULL)
		entry->dbid = InvalidOid;
	SpinLockRelease(&set->mutex);
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
	static const RomShmemPart part = {
		.name = "romancy progress",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
