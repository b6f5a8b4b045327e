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

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "memory/ways.h"
#include "tasks/rotation.h"

/* The rhythm of looks for tasks without a key, and their greatest share of the time. */
#define LOOK_INTERVAL (10 * USECS_PER_SEC)
#define LOOK_SHARE 50

typedef struct Turn
{
	RomWay		way;
	uint64		queue;			/* the key: a hash of database and queue */
	TimestampTz look_at;
	bool		served;			/* is there a last one? */
	char		last[ROM_ROTATION_KEY_MAX + 1];
} Turn;

static RomWays table = {
	.name = "romancy rotation",
	.sets = 64,
	.ways = 4,
	.key = sizeof(uint64),
	.entry = sizeof(Turn),
};

/* lock_turn finds or makes a queue's, and locks its set; rom_ways_unlock() of the result's ends that. */
static Turn *
lock_turn(const RomRotation *queue, RomWaysSet **set)
{
	/* without shared memory: one of the session's own */
	if (table.area == NULL)
		rom_ways_attach(&table, MemoryContextAlloc(TopMemoryContext, rom_ways_size(&table)), false);
	*set = rom_ways_lock(&table, &queue->key);
	return rom_ways_make(&table, *set, &queue->key, rom_ways_holder(queue->namespace));
}

bool
rom_rotation_last(const RomRotation *queue, char *key)
{
	RomWaysSet *set;
	Turn	   *turn = lock_turn(queue, &set);
	bool		served = turn->served;

	strcpy(key, turn->last);
	rom_ways_unlock(set);
	return served;
}

void
rom_rotation_served(const RomRotation *queue, const char *key)
{
	RomWaysSet *set;
	Turn	   *turn = lock_turn(queue, &set);

	strlcpy(turn->last, key, sizeof(turn->last));
	turn->served = true;
	rom_ways_unlock(set);
}

bool
rom_rotation_look(const RomRotation *queue)
{
	TimestampTz now = GetCurrentTimestamp();
	RomWaysSet *set;
	Turn	   *turn = lock_turn(queue, &set);
	bool		look = turn->look_at <= now;

	if (look)
		turn->look_at = now + LOOK_INTERVAL;
	rom_ways_unlock(set);
	return look;
}

void
rom_rotation_looked(const RomRotation *queue, bool more, int64 took)
{
	TimestampTz now = GetCurrentTimestamp();
	RomWaysSet *set;
	Turn	   *turn = lock_turn(queue, &set);

	turn->look_at = more ? now : now + Max(LOOK_INTERVAL, took * LOOK_SHARE);
	rom_ways_unlock(set);
}

void
rom_rotation_init(void)
{
	rom_shmem_register_table(&table, NULL);
}
