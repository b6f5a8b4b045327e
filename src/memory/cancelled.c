/*-------------------------------------------------------------------------
 *
 * cancelled.c
 *		Instances that were cancelled in the last ten minutes.
 *
 * An executor that is about to begin one of the many tasks of an instance asks here whether it is worth looking for a request in the table, where
 * all results that the instance waits for have to be read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/cancelled.h"
#include "memory/shmem.h"

/* The last ones are kept, so long. */
#define CANCELS_MAX 1024
#define KEPT_US (10 * USECS_PER_MINUTE)

typedef struct Cancels
{
	slock_t		mutex;
	uint64		count;			/* that have been noted */
	TimestampTz forgotten_at;	/* when the last of those was noted that had
								 * to make room */
	struct
	{
		pg_uuid_t	id;
		TimestampTz at;
	}			last[CANCELS_MAX];
} Cancels;

static Cancels *area = NULL;

void
rom_cancelled_note(const pg_uuid_t *id)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	if (area == NULL)
		return;
	SpinLockAcquire(&area->mutex);
	i = area->count++ % CANCELS_MAX;
	area->forgotten_at = area->last[i].at;
	area->last[i].id = *id;
	area->last[i].at = now;
	SpinLockRelease(&area->mutex);
}

bool
rom_cancelled_lately(const pg_uuid_t *id, bool maybe)
{
	TimestampTz since;
	bool		found;

	/* nearly always none */
	if (area == NULL || *(volatile uint64 *) &area->count == 0)
		return false;
	since = GetCurrentTimestamp() - KEPT_US;
	SpinLockAcquire(&area->mutex);
	found = maybe && area->forgotten_at > since;
	for (uint64 n = area->count; !found && n > 0 && n + CANCELS_MAX > area->count; n--)
	{
		if (area->last[(n - 1) % CANCELS_MAX].at <= since)
			break;
		found = memcmp(&area->last[(n - 1) % CANCELS_MAX].id, id, UUID_LEN) == 0;
	}
	SpinLockRelease(&area->mutex);
	return found;
}

static Size
shmem_size(void)
{
	return sizeof(Cancels);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(*area));
	SpinLockInit(&area->mutex);
}

void
rom_cancelled_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy cancels",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
