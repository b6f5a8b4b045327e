/*-------------------------------------------------------------------------
 *
 * waiter.c
 *		Client sessions that wait, without a snapshot, for something to happen.
 *
 * A place per process, by its number, in the list of the bucket that its key
 * falls into. The commit hook looks at one bucket, mostly empty, and takes
 * its mutex only when it is not. Its news is copied into the place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "memory/shmem.h"
#include "memory/waiter.h"

#define BUCKETS 1024
#define NOBODY (-1)
#define CHUNK 32

/* How long a session without shared memory sleeps before it looks again. */
#define LOOK_AGAIN_MS 1000

typedef struct Bucket
{
	slock_t		mutex;
	int			first;
	int			beside;			/* how many of the list are */
} Bucket;

typedef struct Waiter
{
	uint64		key;
	int			next;
	bool		woken;
	bool		beside;			/* it uses up no wake-up */
	bool		is_told;
	RomTold		told;
} Waiter;

typedef struct Waiters
{
	Bucket		buckets[BUCKETS];
	Waiter		waiters[FLEXIBLE_ARRAY_MEMBER];
} Waiters;

static Waiters *area = NULL;
static bool registered = false;
static bool exit_hooked = false;

static Size
shmem_size(void)
{
	return add_size(offsetof(Waiters, waiters),
					mul_size(MaxBackends, sizeof(Waiter)));
}

static void
shmem_attach(void *place, bool found)
{
	int			i;

	area = place;
	if (found)
		return;
	memset(area, 0, shmem_size());
	for (i = 0; i < BUCKETS; i++)
	{
		SpinLockInit(&area->buckets[i].mutex);
		area->buckets[i].first = NOBODY;
	}
}

uint64
rom_waiter_key(char kind, const void *id, Size len)
{
	return hash_bytes_extended(id, len,
							   ((uint64) MyDatabaseId << 8) | (uint8) kind);
}

static void
leave(int code, Datum arg)
{
	rom_waiter_unregister();
}

/* enter registers this backend for key. */
static void
enter(uint64 key, bool beside)
{
	Waiter	   *waiter;
	Bucket	   *bucket;

	if (area == NULL)
		return;
	rom_waiter_unregister();
	if (!exit_hooked)
	{
		before_shmem_exit(leave, 0);
		exit_hooked = true;
	}

	waiter = &area->waiters[ROM_PROC_NUMBER()];
	bucket = &area->buckets[key % BUCKETS];
	SpinLockAcquire(&bucket->mutex);
	waiter->key = key;
	waiter->woken = waiter->is_told = false;
	waiter->beside = beside;
	bucket->beside += beside ? 1 : 0;
	waiter->next = bucket->first;
	bucket->first = ROM_PROC_NUMBER();
	registered = true;
	SpinLockRelease(&bucket->mutex);

	/* what the caller looks at next must be read after this can be seen */
	pg_memory_barrier();
}

void
rom_waiter_register(uint64 key)
{
	enter(key, false);
}

void
rom_waiter_register_beside(uint64 key)
{
	enter(key, true);
}

void
rom_waiter_unregister(void)
{
	int			me;
	Bucket	   *bucket;
	int		   *link;
	bool		unused;

	if (area == NULL || !registered)
		return;
	me = ROM_PROC_NUMBER();
	bucket = &area->buckets[area->waiters[me].key % BUCKETS];
	SpinLockAcquire(&bucket->mutex);
	link = &bucket->first;
	while (*link != me)
		link = &area->waiters[*link].next;
	*link = area->waiters[me].next;
	registered = false;
	bucket->beside -= area->waiters[me].beside ? 1 : 0;
	unused = area->waiters[me].woken && !area->waiters[me].beside;
	SpinLockRelease(&bucket->mutex);
	if (unused)
		rom_waiter_notify_some(area->waiters[me].key, 1);
}

/* Milliseconds until until, rounded up; at the most max. */
static long
milliseconds_until(TimestampTz until, long max)
{
	long		ms;

	if (until >= DT_NOEND)
		return max;
	ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	return Min(ms, max);
}

bool
rom_waiter_sleep(TimestampTz until)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = ROM_WAIT_EVENT("RomancyWait");

	for (;;)
	{
		long		ms;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		if (area != NULL && registered)
		{
			Waiter	   *waiter = &area->waiters[ROM_PROC_NUMBER()];
			Bucket	   *bucket = &area->buckets[waiter->key % BUCKETS];
			bool		woken;

			SpinLockAcquire(&bucket->mutex);
			woken = waiter->woken;
			waiter->woken = false;
			SpinLockRelease(&bucket->mutex);
			if (woken)
				return true;
			ms = milliseconds_until(until, 60 * 60 * 1000L);
		}
		else
			ms = milliseconds_until(until, LOOK_AGAIN_MS);
		if (ms <= 0)
			return false;

		if (WaitLatch(MyLatch,
					  WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  ms, wait_event) & WL_LATCH_SET)
			continue;
		if (area == NULL || !registered)
			return until >= DT_NOEND || GetCurrentTimestamp() < until;
	}
}

void
rom_waiter_notify(uint64 key)
{
	rom_waiter_notify_some(key, INT_MAX);
}

/*
 * notify wakes some of a bucket that wait for key, or, with any, for whatever it be; those beside them all. told: or NULL.
 */
static void
notify(Bucket *bucket, bool any, uint64 key, int number, const RomTold *told)
{
	int			procnos[CHUNK];
	int			n;
	int			beside;
	int			i;

	/*
	 * the caller's change was made before a session that registers now looks,
	 * or that session is seen here
	 */
	pg_memory_barrier();
	if (*(volatile int *) &bucket->first == NOBODY)
		return;

	do
	{
		n = 0;
		SpinLockAcquire(&bucket->mutex);
		beside = bucket->beside;
		for (i = bucket->first; i != NOBODY && n < CHUNK && (number > 0 || beside > 0);
			 i = area->waiters[i].next)
		{
			Waiter	   *waiter = &area->waiters[i];

			beside -= waiter->beside ? 1 : 0;
			if ((any || waiter->key == key) && !waiter->woken && (waiter->beside || number > 0))
			{
				waiter->woken = true;
				waiter->is_told = told != NULL;
				if (told != NULL)
					memcpy(&waiter->told, told, offsetof(RomTold, data) + told->len);
				procnos[n++] = i;
				number -= waiter->beside ? 0 : 1;
			}
		}
		SpinLockRelease(&bucket->mutex);
		for (i = 0; i < n; i++)
			SetLatch(&GetPGProcByNumber(procnos[i])->procLatch);
	} while (n == CHUNK);
}

void
rom_waiter_notify_some(uint64 key, int number)
{
	if (area != NULL)
		notify(&area->buckets[key % BUCKETS], false, key, number, NULL);
}

void
rom_waiter_tell(uint64 key, const RomTold *told)
{
	if (area != NULL)
		notify(&area->buckets[key % BUCKETS], false, key, INT_MAX, told);
}

bool
rom_waiter_told(const pg_uuid_t *id, RomTold *told)
{
	Waiter	   *waiter;
	Bucket	   *bucket;
	bool		is_told;

	if (area == NULL || !registered)
		return false;
	waiter = &area->waiters[ROM_PROC_NUMBER()];
	bucket = &area->buckets[waiter->key % BUCKETS];
	SpinLockAcquire(&bucket->mutex);
	is_told = waiter->is_told && memcmp(&waiter->told.id, id, sizeof(*id)) == 0;
	if (is_told)
		memcpy(told, &waiter->told, offsetof(RomTold, data) + waiter->told.len);
	SpinLockRelease(&bucket->mutex);
	return is_told;
}

void
rom_waiter_notify_all(void)
{
	for (int i = 0; area != NULL && i < BUCKETS; i++)
		notify(&area->buckets[i], true, 0, INT_MAX, NULL);
}

void
rom_waiter_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy waiters",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
