/*-------------------------------------------------------------------------
 *
 * rotation.c
 *		The keys of a queue take turns: shared memory holds the one that was
 *		served last.
 *
 * A hint: one that is lost lets the queue begin with its first key again.
 * Where the library is not preloaded it is the session's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "tasks/rotation.h"

#define SETS 64
#define WAYS 4

/* The rhythm of looks for tasks without a key, and their greatest share of the time. */
#define LOOK_INTERVAL (10 * USECS_PER_SEC)
#define LOOK_SHARE 50

typedef struct Turn
{
	uint64		queue;			/* 0: free */
	TimestampTz look_at;
	uint32		used;			/* number of its last use */
	bool		served;			/* is there a last one? */
	char		last[ROM_ROTATION_KEY_MAX + 1];
} Turn;

typedef struct Rotation
{
	slock_t		mutex;
	uint32		uses;
	Turn		turns[SETS][WAYS];
} Rotation;

static Rotation *area = NULL;

static Size
shmem_size(void)
{
	return sizeof(Rotation);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(Rotation));
	SpinLockInit(&area->mutex);
}

/* prepare makes an area where there is none. */
static void
prepare(void)
{
	if (area == NULL)
		shmem_attach(MemoryContextAlloc(TopMemoryContext, sizeof(Rotation)), false);
}

/* find_turn finds or makes a queue's; the mutex is held. */
static Turn *
find_turn(uint64 queue)
{
	Turn	   *set = area->turns[queue % SETS];
	Turn	   *place = &set[0];

	for (int i = 0; i < WAYS; i++)
	{
		if (set[i].queue == queue)
		{
			place = &set[i];
			break;
		}
		if (set[i].used < place->used)
			place = &set[i];
	}
	if (place->queue != queue)
	{
		memset(place, 0, sizeof(Turn));
		place->queue = queue;
	}
	place->used = ++area->uses;
	return place;
}

bool
rom_rotation_last(uint64 queue, char *key)
{
	Turn	   *turn;
	bool		served;

	prepare();
	SpinLockAcquire(&area->mutex);
	turn = find_turn(queue);
	strcpy(key, turn->last);
	served = turn->served;
	SpinLockRelease(&area->mutex);
	return served;
}

void
rom_rotation_served(uint64 queue, const char *key)
{
	Turn	   *turn;

	prepare();
	SpinLockAcquire(&area->mutex);
	turn = find_turn(queue);
	strlcpy(turn->last, key, sizeof(turn->last));
	turn->served = true;
	SpinLockRelease(&area->mutex);
}

bool
rom_rotation_look(uint64 queue)
{
	TimestampTz now = GetCurrentTimestamp();
	Turn	   *turn;
	bool		look;

	prepare();
	SpinLockAcquire(&area->mutex);
	turn = find_turn(queue);
	look = turn->look_at <= now;
	if (look)
		turn->look_at = now + LOOK_INTERVAL;
	SpinLockRelease(&area->mutex);
	return look;
}

void
rom_rotation_looked(uint64 queue, int64 took)
{
	TimestampTz now = GetCurrentTimestamp();

	prepare();
	SpinLockAcquire(&area->mutex);
	find_turn(queue)->look_at = now + Max(LOOK_INTERVAL, took * LOOK_SHARE);
	SpinLockRelease(&area->mutex);
}

void
rom_rotation_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy rotation",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
