/*-------------------------------------------------------------------------
 *
 * suspect.c
 *		Instances and tasks that may be at fault for the death of a process.
 *
 * Those that were under way when the server went down (inflight.c), and the one whose turn ended its process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/spin.h"

#include "memory/inflight.h"
#include "memory/shmem.h"
#include "memory/suspect.h"

#define SUSPECTS_MAX 1024

typedef struct Suspects
{
	slock_t		mutex;
	int			count;
	struct
	{
		pg_uuid_t	id;
		Oid			dbid;
	}			places[SUSPECTS_MAX];
} Suspects;

static Suspects *area = NULL;

/* add adds one; when the list is full, it is left out. Under the mutex, or alone. */
static void
add(Oid dbid, const pg_uuid_t *id)
{
	if (area->count == SUSPECTS_MAX)
		return;
	area->places[area->count].id = *id;
	area->places[area->count++].dbid = dbid;
}

/* find is the place of one, or -1. */
static int
find(const pg_uuid_t *id)
{
	for (int i = 0; i < area->count; i++)
		if (area->places[i].dbid == MyDatabaseId &&
			memcmp(area->places[i].id.data, id->data, UUID_LEN) == 0)
			return i;
	return -1;
}

bool
rom_suspect_is(const pg_uuid_t *id)
{
	bool		found;

	/* nearly always none */
	if (area == NULL || area->count == 0)
		return false;
	SpinLockAcquire(&area->mutex);
	found = find(id) >= 0;
	SpinLockRelease(&area->mutex);
	return found;
}

void
rom_suspect_add(const pg_uuid_t *id)
{
	if (area == NULL)
		return;
	SpinLockAcquire(&area->mutex);
	add(MyDatabaseId, id);
	SpinLockRelease(&area->mutex);
}

void
rom_suspect_clear(const pg_uuid_t *id)
{
	int			i;

	if (area == NULL || area->count == 0)
		return;
	SpinLockAcquire(&area->mutex);
	i = find(id);
	if (i >= 0)
		area->places[i] = area->places[--area->count];
	SpinLockRelease(&area->mutex);
}

static Size
shmem_size(void)
{
	return sizeof(Suspects);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(*area));
	SpinLockInit(&area->mutex);
	rom_inflight_read(add);
}

void
rom_suspect_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy suspects",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
