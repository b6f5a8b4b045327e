/*-------------------------------------------------------------------------
 *
 * unwritten.c
 *		Errors of the engine in turns that could not be written into the instance's row, in shared memory.
 *
 * A full disk, or a table that refuses all writes, keeps the error of a turn from being shown with its instance. The last few are here,
 * for view waiting and for health(). One is over when the instance's row has been written since, or, where that cannot be seen, after some time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/shmem.h"
#include "memory/unwritten.h"

#define ENTRIES 64

/* An error is shown for this time (ms) at least, and until the next try may have been. */
#define SHOWN_MS 60000

typedef struct Area
{
	slock_t		mutex;
	RomUnwritten entries[ENTRIES];
} Area;

static Area *area = NULL;

static Size
area_size(void)
{
	return sizeof(Area);
}

static void
attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(Area));
	SpinLockInit(&area->mutex);
}

static void
purge(Oid dbid)
{
	SpinLockAcquire(&area->mutex);
	for (int i = 0; i < ENTRIES; i++)
		if (area->entries[i].dbid == dbid)
			area->entries[i].dbid = InvalidOid;
	SpinLockRelease(&area->mutex);
}

void
rom_unwritten_note(const RomUnwritten *error)
{
	RomUnwritten entry = *error;
	RomUnwritten *place;

	if (area == NULL)
		return;
	entry.dbid = MyDatabaseId;
	entry.at = GetCurrentTimestamp();
	SpinLockAcquire(&area->mutex);
	place = &area->entries[0];
	for (int i = 0; i < ENTRIES; i++)
	{
		RomUnwritten *e = &area->entries[i];

		if (e->dbid == entry.dbid && memcmp(&e->instance, &entry.instance, sizeof(pg_uuid_t)) == 0)
		{
			place = e;
			break;
		}
		if (OidIsValid(place->dbid) && (!OidIsValid(e->dbid) || e->at < place->at))
			place = e;
	}
	*place = entry;
	SpinLockRelease(&area->mutex);
}

RomUnwritten *
rom_unwritten_list(int *n)
{
	RomUnwritten *list = palloc_array(RomUnwritten, ENTRIES);
	TimestampTz since = GetCurrentTimestamp() - Max(2 * (int64) rom_guc_retry_backoff_max, SHOWN_MS) * INT64CONST(1000);

	*n = 0;
	if (area == NULL)
		return list;
	SpinLockAcquire(&area->mutex);
	for (int i = 0; i < ENTRIES; i++)
		if (area->entries[i].dbid == MyDatabaseId && area->entries[i].at >= since)
			list[(*n)++] = area->entries[i];
	SpinLockRelease(&area->mutex);
	return list;
}

void
rom_unwritten_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy unwritten errors",
		.size = area_size,
		.attach = attach,
		.purge = purge,
	};

	rom_shmem_register(&part);
}
