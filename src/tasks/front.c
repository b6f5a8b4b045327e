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
 * Sets of a few queues, each set with a mutex of its own. A queue without a
 * place is scanned from its start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/shmem.h"
#include "tasks/front.h"

#define SETS 64
#define WAYS 4
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

typedef struct Front
{
	Oid			dbid;			/* invalid: free */
	char		queue[QUEUE_MAX + 1];
	bool		known;			/* is there a mark? */
	RomFrontKey mark;
	TimestampTz whole_at;		/* when to scan from the start again */
	Pass		passes[PASSES];
} Front;

typedef struct FrontSet
{
	slock_t		mutex;
	int			victim;			/* the place that is given away next */
	uint64		number;			/* of the last pass */
	Front		fronts[WAYS];
} FrontSet;

static FrontSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(FrontSet) * SETS;
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(FrontSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
}

/* compare orders places as the index does. */
static int
compare(const RomFrontKey *a, const RomFrontKey *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	return memcmp(a->id.data, b->id.data, UUID_LEN);
}

/* set_of is the number of the queue's set. */
static int
set_of(const char *queue)
{
	return hash_combine(hash_bytes((const unsigned char *) queue, strlen(queue)),
						MyDatabaseId) % SETS;
}

/* find is the queue's place in a set whose mutex is held, or -1. */
static int
find(const FrontSet *set, const char *queue)
{
	for (int i = 0; i < WAYS; i++)
		if (set->fronts[i].dbid == MyDatabaseId &&
			strcmp(set->fronts[i].queue, queue) == 0)
			return i;
	return -1;
}

/* make gives the queue a place, in another's stead if need be; the set's mutex is held. */
static int
make(FrontSet *set, const char *queue)
{
	int			way = set->victim;
	Front	   *front;

	for (int i = 0; i < WAYS; i++)
		if (!OidIsValid(set->fronts[i].dbid))
		{
			way = i;
			break;
		}
	if (way == set->victim)
		set->victim = (set->victim + 1) % WAYS;
	front = &set->fronts[way];
	memset(front, 0, sizeof(Front));
	front->dbid = MyDatabaseId;
	strlcpy(front->queue, queue, sizeof(front->queue));
	return way;
}

/* register_pass gives a scan a place, that of the oldest if need be; the set's mutex is held. */
static void
register_pass(FrontSet *set, Front *front, RomFrontPass *pass)
{
	pass->slot = 0;
	for (int i = 1; i < PASSES; i++)
		if (front->passes[i].number < front->passes[pass->slot].number)
			pass->slot = i;
	pass->number = ++set->number;
	front->passes[pass->slot].number = pass->number;
	front->passes[pass->slot].made = false;
}

void
rom_front_begin(RomFrontPass *pass, const char *queue, bool whole)
{
	FrontSet   *set;
	Front	   *front;

	memset(pass, 0, sizeof(RomFrontPass));
	pass->whole = true;
	pass->known = sets != NULL && strlen(queue) <= QUEUE_MAX;
	if (!pass->known)
		return;
	pass->begun = GetCurrentTimestamp();
	pass->set = set_of(queue);
	set = &sets[pass->set];
	SpinLockAcquire(&set->mutex);
	pass->way = find(set, queue);
	if (pass->way < 0)
		pass->way = make(set, queue);
	front = &set->fronts[pass->way];
	register_pass(set, front, pass);
	pass->from = front->mark;
	pass->whole = whole || !front->known || pass->begun >= front->whole_at;
	pass->distrust = !pass->whole &&
		pass->begun >= front->whole_at - WHOLE_INTERVAL + EMPTY_INTERVAL;
	SpinLockRelease(&set->mutex);
}

void
rom_front_end(const RomFrontPass *pass, const RomFrontKey *reached)
{
	TimestampTz now;
	FrontSet   *set;
	Front	   *front;
	Pass	   *mine;

	if (!pass->known)
		return;
	now = GetCurrentTimestamp();
	set = &sets[pass->set];
	SpinLockAcquire(&set->mutex);
	front = &set->fronts[pass->way];
	mine = &front->passes[pass->slot];
	/* numbers are a set's, so another queue that has got the place has others */
	if (mine->number == pass->number)
	{
		mine->number = 0;
		if (pass->whole)
			front->whole_at = now + Max(WHOLE_INTERVAL, (now - pass->begun) * WHOLE_SHARE);
		if (reached != NULL)
		{
			RomFrontKey key = *reached;

			if (mine->made && compare(&mine->least, &key) < 0)
				key = mine->least;
			/* too high it was: those that began there do not know better */
			if (front->known && pass->whole && compare(&key, &front->mark) < 0)
				memset(front->passes, 0, sizeof(front->passes));
			if (!front->known || pass->whole || compare(&key, &front->mark) > 0)
				front->mark = key;
			front->known = true;
		}
	}
	SpinLockRelease(&set->mutex);
}

/* lower notes that an entry was made at key. */
static void
lower(const char *queue, const RomFrontKey *key)
{
	FrontSet   *set;
	int			way;

	if (sets == NULL)
		return;
	set = &sets[set_of(queue)];
	SpinLockAcquire(&set->mutex);
	way = find(set, queue);
	if (way >= 0)
	{
		Front	   *front = &set->fronts[way];

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
	SpinLockRelease(&set->mutex);
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
	static const RomShmemPart part = {
		.name = "romancy fronts",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
