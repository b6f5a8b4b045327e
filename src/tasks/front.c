/*-------------------------------------------------------------------------
 *
 * front.c
 *		Marks: from where on each queue's index has ready tasks, in shared
 *		memory.
 *
 * Claimed tasks leave dead entries at the head of the index t_task_ready, and
 * while any snapshot may still see them they stay. A claim that read them all
 * would get slower with every task. So each queue has a mark: before it there
 * are dead entries only, and a claim begins there.
 *
 * A scan moves the mark up to the first entry whose row is not dead for sure; a
 * row that another transaction inserts, claims or deletes just now is not,
 * however that transaction ends. The code that makes an entry lowers the mark
 * to it right after, before its commit. One case is left, an entry that was
 * made behind a scan under way: a scan is registered from its beginning, the
 * least entry made since is noted with it, and at its end it goes no farther
 * than that.
 *
 * So no task is ever before the mark. Even so correctness does not rest on it:
 * every now and then, and when nothing is found, a scan begins at the start. It
 * finds entries for which the mark was not lowered (rows that were written by
 * hand).
 *
 * A queue without a place is scanned from its start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "memory/ways.h"
#include "tasks/front.h"
#include "tasks/notify.h"

#define PASSES 16

/* Longest name of a queue, in bytes, with what t_task puts before it. */
#define QUEUE_MAX 255

/* A whole scan comes again after this time, and takes at the most this share of it. */
#define WHOLE_INTERVAL (10 * USECS_PER_SEC)
#define WHOLE_SHARE 50

/* With nothing found behind the mark, after this. */
#define EMPTY_INTERVAL USECS_PER_SEC

/* A scan under way; one that ended in an error stays until its place is needed. */
typedef struct Pass
{
	uint64		number;			/* 0: free */
	bool		made;			/* has an entry been made since? */
	RomFrontKey least;			/* the least of them */
} Pass;

typedef struct FrontKey
{
	Oid			dbid;
	char		queue[QUEUE_MAX + 1];
} FrontKey;

typedef struct Front
{
	RomWay		way;
	FrontKey	key;
	bool		known;			/* is there a mark? */
	RomFrontKey mark;
	TimestampTz whole_at;		/* when to scan from the start again */
	Pass		passes[PASSES];
} Front;

static RomWays table = {
	.name = "romancy fronts",
	.sets = 64,
	.ways = 4,
	.key = sizeof(FrontKey),
	.entry = sizeof(Front),
};

/* compare orders places as the index does. */
static int
compare(const RomFrontKey *a, const RomFrontKey *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	return memcmp(a->id.data, b->id.data, UUID_LEN);
}

/* lock locks the set of a queue, and fills its key; NULL without shared memory, or for a name that is too long. */
static RomWaysSet *
lock(const char *queue, FrontKey *key)
{
	if (strlen(queue) > QUEUE_MAX)
		return NULL;
	memset(key, 0, sizeof(*key));
	key->dbid = MyDatabaseId;
	strcpy(key->queue, queue);
	return rom_ways_lock(&table, key);
}

/* register_pass gives a scan a place, that of the oldest if need be; the set's mutex is held. */
static void
register_pass(Front *front, RomFrontPass *pass)
{
	pass->slot = 0;
	for (int i = 1; i < PASSES; i++)
		if (front->passes[i].number < front->passes[pass->slot].number)
			pass->slot = i;
	pass->number = front->way.used;
	front->passes[pass->slot].number = pass->number;
	front->passes[pass->slot].made = false;
}

void
rom_front_begin(RomFrontPass *pass, const char *queue, bool whole)
{
	FrontKey	key;
	RomWaysSet *set;
	Front	   *front;
	int32		namespace;

	memset(pass, 0, sizeof(RomFrontPass));
	pass->whole = true;
	pass->begun = GetCurrentTimestamp();
	(void) rom_notify_queue_name(queue, &namespace);
	set = lock(queue, &key);
	pass->known = set != NULL;
	if (!pass->known)
		return;
	front = rom_ways_make(&table, set, &key, rom_ways_holder(namespace));
	register_pass(front, pass);
	pass->from = front->mark;
	pass->whole = whole || !front->known || pass->begun >= front->whole_at;
	pass->distrust = !pass->whole &&
		pass->begun >= front->whole_at - WHOLE_INTERVAL + EMPTY_INTERVAL;
	rom_ways_unlock(set);
}

void
rom_front_end(const RomFrontPass *pass, const char *queue, const RomFrontKey *reached)
{
	TimestampTz now;
	FrontKey	key;
	RomWaysSet *set;
	Front	   *front;

	if (!pass->known)
		return;
	now = GetCurrentTimestamp();
	set = lock(queue, &key);
	front = rom_ways_find(&table, set, &key);

	/*
	 * numbers are a set's, so a queue that has lost its place meanwhile, and
	 * has another, has others
	 */
	if (front != NULL && front->passes[pass->slot].number == pass->number)
	{
		Pass	   *mine = &front->passes[pass->slot];

		mine->number = 0;
		if (pass->whole)
			front->whole_at = now + Max(WHOLE_INTERVAL, (now - pass->begun) * WHOLE_SHARE);
		if (reached != NULL)
		{
			RomFrontKey mark = *reached;

			if (mine->made && compare(&mine->least, &mark) < 0)
				mark = mine->least;
			/* too high it was: those that began there do not know better */
			if (front->known && pass->whole && compare(&mark, &front->mark) < 0)
				memset(front->passes, 0, sizeof(front->passes));
			if (!front->known || pass->whole || compare(&mark, &front->mark) > 0)
				front->mark = mark;
			front->known = true;
		}
	}
	rom_ways_unlock(set);
}

/* lower notes that an entry was made at key. */
static void
lower(const char *queue, const RomFrontKey *key)
{
	FrontKey	full;
	RomWaysSet *set = lock(queue, &full);
	Front	   *front;

	if (set == NULL)
		return;
	front = rom_ways_find(&table, set, &full);
	if (front != NULL)
	{
		if (front->known && compare(key, &front->mark) < 0)
			front->mark = *key;
		for (int i = 0; i < PASSES; i++)
		{
			Pass	   *pass = &front->passes[i];

			if (pass->number != 0 && (!pass->made || compare(key, &pass->least) < 0))
			{
				pass->made = true;
				pass->least = *key;
			}
		}
	}
	rom_ways_unlock(set);
}

void
rom_front_lower(const char *queue, int32 priority, const pg_uuid_t *id)
{
	RomFrontKey key;

	key.rank = -(int64) priority;
	key.id = *id;
	lower(queue, &key);
}

void
rom_front_reset(const char *queue)
{
	RomFrontKey key = {.rank = PG_INT64_MIN};

	lower(queue, &key);
}

void
rom_front_init(void)
{
	rom_shmem_register_table(&table, NULL);
}
