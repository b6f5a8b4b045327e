/*-------------------------------------------------------------------------
 *
 * ready.c
 *		Instances that are ready for a turn, or will be at a known time.
 *
 * Order in a queue: each point of priority is worth a minute of age. What is
 * queued together is therefore taken in strict order of priority, oldest
 * first, and nothing starves for ever behind what comes later.
 *
 * The queues share a pool of nodes. A queue is a pairing heap, linked by
 * numbers of nodes; a hash table finds an instance that is queued already, so
 * that scans that find it again do not fill the pool. When the pool is full, or
 * one queue has half of it, the item is dropped and its database is marked for a
 * scan, which begins when there is room.
 *
 * Deadlines have a pool and a hash table of their own, and one binary heap.
 * When it is full, the farthest quarter is dropped, and each database's horizon
 * says from when on its deadlines are incomplete. When it is half empty, or
 * the horizon comes, a scheduler reads on from there.
 *
 * Ring: under the roster's mutex. All else: under the ready lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "base/ready.h"
#include "base/roster.h"
#include "base/shmem.h"

#define RING_SIZE 16384
#define POOL_SIZE 65536
#define HASH_SIZE 65536
#define CHUNK 32
#define AGEING (60 * USECS_PER_SEC) /* per point of priority */
#define NONE (-1)

/* Of both pools. hash_next links the free ones, too. */
typedef struct Node
{
	pg_uuid_t	id;
	Oid			dbid;
	Oid			owner;
	int32		priority;
	int			hash_next;
	TimestampTz at;
	/* ready only */
	int64		key;			/* smaller is better */
	uint64		seq;			/* order of arrival among equal keys */
	int			queue;
	int			child;
	int			sibling;
} Node;

typedef struct Pool
{
	int			used;			/* nodes that were ever in use */
	int			free;			/* first free one below that */
	int			count;			/* in use now */
	int			buckets[HASH_SIZE];
	Node		nodes[POOL_SIZE];
} Pool;

typedef struct Queue
{
	Oid			dbid;			/* invalid: the place is free */
	Oid			owner;
	int			root;
	int			count;
	TimestampTz waiting_since;
} Queue;

typedef struct Ready
{
	/* the ring: under the roster's mutex */
	int			ring_first;
	int			ring_count;
	RomReadyItem ring[RING_SIZE];

	/* under the ready lock */
	uint64		seq;
	int			nqueues;		/* places used so far */
	int			nheap;
	bool		horizons;		/* some database has one */
	bool		refill_asked;	/* and was told that there is room again */
	Queue		queues[ROM_READY_QUEUES];
	int			heap[POOL_SIZE];
	Pool		ready;
	Pool		deadlines;
} Ready;

static Ready *area = NULL;

/* Databases that lost an item, and executors to wake: gathered under the ready lock. */
typedef struct Outcome
{
	RomLatches	latches;
	Oid			dbid;			/* the last one that found nobody idle */
	Oid			owner;
} Outcome;

static void
pool_init(Pool *pool)
{
	int			i;

	pool->used = 0;
	pool->count = 0;
	pool->free = NONE;
	for (i = 0; i < HASH_SIZE; i++)
		pool->buckets[i] = NONE;
}

Size
rom_ready_shmem_size(void)
{
	return sizeof(Ready);
}

void
rom_ready_shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, offsetof(Ready, heap));
	pool_init(&area->ready);
	pool_init(&area->deadlines);
}

/* ---- pools ---- */

static int *
bucket_of(Pool *pool, const pg_uuid_t *id)
{
	uint32		hash = hash_bytes(id->data, UUID_LEN);

	return &pool->buckets[hash % HASH_SIZE];
}

/* Is the instance in the pool? Among deadlines: at the same time. */
static bool
pool_has(Pool *pool, const RomReadyItem *item, bool same_time)
{
	int			i;

	for (i = *bucket_of(pool, &item->id); i != NONE; i = pool->nodes[i].hash_next)
	{
		Node	   *node = &pool->nodes[i];

		if (node->dbid == item->dbid && node->owner == item->owner &&
			memcmp(node->id.data, item->id.data, UUID_LEN) == 0 &&
			(!same_time || node->at == item->at))
			return true;
	}
	return false;
}

/* A node for the item, in its hash chain. There must be a free one. */
static int
pool_add(Pool *pool, const RomReadyItem *item)
{
	int		   *bucket = bucket_of(pool, &item->id);
	int			i;
	Node	   *node;

	if (pool->free != NONE)
	{
		i = pool->free;
		pool->free = pool->nodes[i].hash_next;
	}
	else
		i = pool->used++;
	pool->count++;

	node = &pool->nodes[i];
	node->id = item->id;
	node->dbid = item->dbid;
	node->owner = item->owner;
	node->priority = item->priority;
	node->at = item->at;
	node->child = NONE;
	node->sibling = NONE;
	node->hash_next = *bucket;
	*bucket = i;
	return i;
}

static void
pool_remove(Pool *pool, int i)
{
	int		   *link = bucket_of(pool, &pool->nodes[i].id);

	while (*link != i)
		link = &pool->nodes[*link].hash_next;
	*link = pool->nodes[i].hash_next;

	pool->nodes[i].hash_next = pool->free;
	pool->free = i;
	pool->count--;
}

/* ---- ready queues ---- */

static bool
before(const Node *a, const Node *b)
{
	return a->key < b->key || (a->key == b->key && a->seq < b->seq);
}

/* Joins two heaps. */
static int
meld(int a, int b)
{
	Node	   *nodes = area->ready.nodes;

	if (a == NONE)
		return b;
	if (b == NONE)
		return a;
	if (before(&nodes[b], &nodes[a]))
	{
		int			t = a;

		a = b;
		b = t;
	}
	nodes[b].sibling = nodes[a].child;
	nodes[a].child = b;
	return a;
}

/* The heap without its root: children joined in pairs, then from the last pair on. */
static int
without_root(int root)
{
	Node	   *nodes = area->ready.nodes;
	int			next = nodes[root].child;
	int			pairs = NONE;
	int			rest = NONE;

	while (next != NONE)
	{
		int			a = next;
		int			b = nodes[a].sibling;

		next = NONE;
		nodes[a].sibling = NONE;
		if (b != NONE)
		{
			next = nodes[b].sibling;
			nodes[b].sibling = NONE;
		}
		a = meld(a, b);
		nodes[a].sibling = pairs;
		pairs = a;
	}
	while (pairs != NONE)
	{
		int			a = pairs;

		pairs = nodes[a].sibling;
		nodes[a].sibling = NONE;
		rest = meld(rest, a);
	}
	return rest;
}

static Queue *
find_queue(Oid dbid, Oid owner, bool create)
{
	Queue	   *place = NULL;
	int			i;

	for (i = 0; i < area->nqueues; i++)
	{
		Queue	   *queue = &area->queues[i];

		if (queue->dbid == dbid && queue->owner == owner)
			return queue;
		if (place == NULL && queue->count == 0)
			place = queue;
	}
	if (!create)
		return NULL;
	if (place == NULL)
	{
		if (area->nqueues == ROM_READY_QUEUES)
			return NULL;
		place = &area->queues[area->nqueues++];
	}
	place->dbid = dbid;
	place->owner = owner;
	place->root = NONE;
	place->count = 0;
	return place;
}

/* Marks a database for a scan, for something of it was dropped. */
static void
mark_scan(Oid dbid, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL && !database->scan)
	{
		database->scan = true;
		if (!rom_roster_wake_scheduler_locked(roster, dbid, &outcome->latches))
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE,
								   &outcome->latches);
	}
	SpinLockRelease(&roster->mutex);
}

/* Puts an item into its queue. False: it is there already, or there is no room. */
static bool
enqueue(const RomReadyItem *item, TimestampTz now, Outcome *outcome)
{
	Pool	   *pool = &area->ready;
	Queue	   *queue;
	Node	   *node;
	TimestampTz age_from = item->at;
	int			i;

	if (pool_has(pool, item, false))
		return false;
	queue = find_queue(item->dbid, item->owner, true);
	if (queue == NULL || queue->count >= POOL_SIZE / 2 ||
		pool->count == POOL_SIZE)
	{
		mark_scan(item->dbid, outcome);
		return false;
	}

	/* -infinity, or what slept while the server was down for years, is not worth more than a day */
	if (age_from < now - USECS_PER_DAY)
		age_from = now - USECS_PER_DAY;

	i = pool_add(pool, item);
	node = &pool->nodes[i];
	node->key = age_from - item->priority * AGEING;
	node->seq = area->seq++;
	node->queue = queue - area->queues;
	if (queue->count == 0)
		queue->waiting_since = now;
	queue->root = meld(queue->root, i);
	queue->count++;
	return true;
}

/* ---- deadlines ---- */

static void
sift_up(int pos)
{
	Node	   *nodes = area->deadlines.nodes;
	int		   *heap = area->heap;
	int			i = heap[pos];

	while (pos > 0 && nodes[i].at < nodes[heap[(pos - 1) / 2]].at)
	{
		heap[pos] = heap[(pos - 1) / 2];
		pos = (pos - 1) / 2;
	}
	heap[pos] = i;
}

static void
sift_down(int pos)
{
	Node	   *nodes = area->deadlines.nodes;
	int		   *heap = area->heap;
	int			i = heap[pos];

	for (;;)
	{
		int			child = 2 * pos + 1;

		if (child >= area->nheap)
			break;
		if (child + 1 < area->nheap &&
			nodes[heap[child + 1]].at < nodes[heap[child]].at)
			child++;
		if (nodes[i].at <= nodes[heap[child]].at)
			break;
		heap[pos] = heap[child];
		pos = child;
	}
	heap[pos] = i;
}

/* A deadline of the database is not in memory: its horizon comes nearer. */
static void
lower_horizon(Oid dbid, TimestampTz at)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL && at < database->horizon)
		database->horizon = at;
	SpinLockRelease(&roster->mutex);
	area->horizons = true;
	area->refill_asked = false;
}

/* There is room for the deadlines that were dropped: has them read again. */
static void
ask_refill(Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	bool		some = false;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];

		if (!OidIsValid(database->dbid) || database->horizon >= DT_NOEND)
			continue;
		some = true;
		database->refill = true;
		if (!rom_roster_wake_scheduler_locked(roster, database->dbid,
											  &outcome->latches))
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE,
								   &outcome->latches);
	}
	SpinLockRelease(&roster->mutex);
	area->horizons = some;
	area->refill_asked = some;
}

/* Is it past the database's horizon, so that it comes with what is there? */
static bool
past_horizon(const RomReadyItem *item)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	bool		past;

	if (!area->horizons)
		return false;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, item->dbid, false);
	past = database != NULL && item->at >= database->horizon;
	SpinLockRelease(&roster->mutex);
	return past;
}

static int
by_time(const void *a, const void *b)
{
	TimestampTz at_a = area->deadlines.nodes[*(const int *) a].at;
	TimestampTz at_b = area->deadlines.nodes[*(const int *) b].at;

	return at_a < at_b ? -1 : at_a > at_b;
}

/* Drops the farthest quarter of the deadlines: a sorted array is a heap. */
static void
drop_farthest(void)
{
	int			keep = area->nheap - area->nheap / 4;
	int			i;

	qsort(area->heap, area->nheap, sizeof(int), by_time);
	for (i = keep; i < area->nheap; i++)
	{
		Node	   *node = &area->deadlines.nodes[area->heap[i]];

		lower_horizon(node->dbid, node->at);
		pool_remove(&area->deadlines, area->heap[i]);
	}
	area->nheap = keep;
}

static void
add_deadline(const RomReadyItem *item)
{
	if (item->at >= DT_NOEND || pool_has(&area->deadlines, item, true) ||
		past_horizon(item))
		return;
	if (area->nheap == POOL_SIZE)
	{
		drop_farthest();
		if (past_horizon(item))
			return;
	}
	area->heap[area->nheap] = pool_add(&area->deadlines, item);
	sift_up(area->nheap++);
}

/* ---- moving on ---- */

/* Wakes an executor for an item, unless the last one of the same owner found nobody idle. */
static void
wake_for(const RomReadyItem *item, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();

	if (item->dbid == outcome->dbid && item->owner == outcome->owner)
		return;
	SpinLockAcquire(&roster->mutex);
	if (!rom_roster_wake_locked(roster, item->dbid, item->owner,
								&outcome->latches))
	{
		outcome->dbid = item->dbid;
		outcome->owner = item->owner;
	}
	SpinLockRelease(&roster->mutex);
}

/* Empties the ring. Who is to run what was ready when it was put there has been woken then. */
static void
pump_ring(TimestampTz now, Outcome *outcome)
{
	RomRoster  *roster = rom_roster_get();
	RomReadyItem items[CHUNK];
	int			n;
	int			i;

	do
	{
		SpinLockAcquire(&roster->mutex);
		n = Min(area->ring_count, CHUNK);
		for (i = 0; i < n; i++)
		{
			items[i] = area->ring[area->ring_first];
			area->ring_first = (area->ring_first + 1) % RING_SIZE;
		}
		area->ring_count -= n;
		SpinLockRelease(&roster->mutex);

		for (i = 0; i < n; i++)
		{
			if (items[i].at > now)
				add_deadline(&items[i]);
			else
				enqueue(&items[i], now, outcome);
		}
	} while (n > 0);
}

/* Moves the deadlines that are over into the queues. dbid, owner: of the caller, who needs no waking. */
static void
expire(TimestampTz now, Oid dbid, Oid owner, Outcome *outcome)
{
	while (area->nheap > 0)
	{
		int			i = area->heap[0];
		Node	   *node = &area->deadlines.nodes[i];
		RomReadyItem item;

		if (node->at > now)
			break;
		item.id = node->id;
		item.dbid = node->dbid;
		item.owner = node->owner;
		item.priority = node->priority;
		item.at = node->at;

		area->heap[0] = area->heap[--area->nheap];
		if (area->nheap > 0)
			sift_down(0);
		pool_remove(&area->deadlines, i);

		if (enqueue(&item, now, outcome) &&
			(item.dbid != dbid || item.owner != owner))
			wake_for(&item, outcome);
	}
	if (area->horizons && !area->refill_asked && area->nheap < POOL_SIZE / 2)
		ask_refill(outcome);
}

static void
outcome_init(Outcome *outcome)
{
	outcome->latches.count = 0;
	outcome->dbid = InvalidOid;
	outcome->owner = InvalidOid;
}

/*
 * Items go in by chunks, so that the mutex is held for short. at in the past
 * or present means ready.
 */
void
rom_ready_put(const RomReadyItem *items, int n, TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();
	Oid			busy_db = InvalidOid;
	Oid			busy_owner = InvalidOid;
	int			done = 0;

	if (roster == NULL)
		return;

	while (done < n)
	{
		RomLatches	latches;
		int			last = Min(done + CHUNK, n);

		latches.count = 0;
		SpinLockAcquire(&roster->mutex);
		for (; done < last; done++)
		{
			const RomReadyItem *item = &items[done];

			if (area->ring_count == RING_SIZE)
			{
				RomDatabase *database =
					rom_roster_database_locked(roster, item->dbid, true);

				if (database != NULL && !database->scan)
				{
					database->scan = true;
					rom_roster_wake_scheduler_locked(roster, item->dbid,
													 &latches);
				}
				rom_roster_tell_locked(roster,
									   ROM_TELL_RING | ROM_TELL_DATABASE,
									   &latches);
				continue;
			}
			area->ring[(area->ring_first + area->ring_count++) % RING_SIZE] =
				*item;

			if (item->at > now)
			{
				if (item->at < roster->launcher_wakes_at)
				{
					roster->launcher_wakes_at = item->at;
					rom_roster_tell_locked(roster, ROM_TELL_RING, &latches);
				}
			}
			else if (item->dbid != busy_db || item->owner != busy_owner)
			{
				if (!rom_roster_wake_locked(roster, item->dbid, item->owner,
											&latches))
				{
					busy_db = item->dbid;
					busy_owner = item->owner;
				}
			}
		}
		if (area->ring_count > RING_SIZE / 2)
			rom_roster_tell_locked(roster, ROM_TELL_RING, &latches);
		SpinLockRelease(&roster->mutex);
		rom_latches_set(&latches);
	}
}

/* How many executors an owner has. */
static int
count_executors(Oid dbid, Oid owner)
{
	RomRoster  *roster = rom_roster_get();
	int			count = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];

		if (worker->kind == ROM_WORKER_EXECUTOR && worker->dbid == dbid &&
			worker->owner == owner && !worker->leave &&
			(worker->state == ROM_WORKER_IDLE ||
			 worker->state == ROM_WORKER_RUNNING))
			count++;
	}
	SpinLockRelease(&roster->mutex);
	return count;
}

int
rom_ready_take(Oid dbid, Oid owner, pg_uuid_t *ids, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	Outcome		outcome;
	Queue	   *queue;
	int			n = 0;

	outcome_init(&outcome);
	LWLockAcquire(rom_shmem_ready_lock(), LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, dbid, owner, &outcome);

	queue = find_queue(dbid, owner, false);
	if (queue != NULL && queue->count > 0)
	{
		if (queue->count < max)
		{
			int			executors = Max(count_executors(dbid, owner), 1);

			max = (queue->count + executors - 1) / executors;
		}
		while (n < max && queue->count > 0)
		{
			int			i = queue->root;

			ids[n++] = area->ready.nodes[i].id;
			queue->root = without_root(i);
			queue->count--;
			pool_remove(&area->ready, i);
		}
		queue->waiting_since = now;

		/* what came by its deadline has woken nobody yet */
		if (queue->count > 0)
		{
			RomReadyItem rest;

			rest.dbid = dbid;
			rest.owner = owner;
			wake_for(&rest, &outcome);
		}
	}
	LWLockRelease(rom_shmem_ready_lock());
	rom_latches_set(&outcome.latches);
	return n;
}

bool
rom_ready_rest(int worker, bool leave)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *me = &roster->workers[worker];
	TimestampTz now = GetCurrentTimestamp();
	Queue	   *queue;
	bool		rest = false;

	LWLockAcquire(rom_shmem_ready_lock(), LW_SHARED);
	queue = find_queue(me->dbid, me->owner, false);
	if (queue == NULL || queue->count == 0)
	{
		SpinLockAcquire(&roster->mutex);
		if (area->ring_count == 0)
		{
			me->state = leave ? ROM_WORKER_LEAVING : ROM_WORKER_IDLE;
			me->since = now;
			rest = true;
		}
		SpinLockRelease(&roster->mutex);
	}
	LWLockRelease(rom_shmem_ready_lock());
	return rest;
}

TimestampTz
rom_ready_pump(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	Outcome		outcome;

	outcome_init(&outcome);
	LWLockAcquire(rom_shmem_ready_lock(), LW_EXCLUSIVE);
	pump_ring(now, &outcome);
	expire(now, InvalidOid, InvalidOid, &outcome);
	next = area->nheap > 0 ?
		area->deadlines.nodes[area->heap[0]].at : DT_NOEND;
	LWLockRelease(rom_shmem_ready_lock());
	rom_latches_set(&outcome.latches);
	return next;
}

int
rom_ready_list(RomReadyQueue *queues)
{
	int			n = 0;
	int			i;

	LWLockAcquire(rom_shmem_ready_lock(), LW_SHARED);
	for (i = 0; i < area->nqueues; i++)
	{
		Queue	   *queue = &area->queues[i];

		if (queue->count == 0)
			continue;
		queues[n].dbid = queue->dbid;
		queues[n].owner = queue->owner;
		queues[n].count = queue->count;
		queues[n].waiting_since = queue->waiting_since;
		n++;
	}
	LWLockRelease(rom_shmem_ready_lock());
	return n;
}

bool
rom_ready_room(void)
{
	bool		room;

	LWLockAcquire(rom_shmem_ready_lock(), LW_SHARED);
	room = area->ready.count < POOL_SIZE / 4;
	LWLockRelease(rom_shmem_ready_lock());
	return room;
}

void
rom_ready_purge(Oid dbid)
{
	Outcome		outcome;
	int			kept = 0;
	int			i;

	outcome_init(&outcome);
	LWLockAcquire(rom_shmem_ready_lock(), LW_EXCLUSIVE);
	pump_ring(GetCurrentTimestamp(), &outcome);

	for (i = 0; i < area->nqueues; i++)
	{
		Queue	   *queue = &area->queues[i];

		if (queue->dbid != dbid)
			continue;
		while (queue->count > 0)
		{
			int			root = queue->root;

			queue->root = without_root(root);
			queue->count--;
			pool_remove(&area->ready, root);
		}
		queue->dbid = InvalidOid;
	}

	for (i = 0; i < area->nheap; i++)
	{
		int			node = area->heap[i];

		if (area->deadlines.nodes[node].dbid == dbid)
			pool_remove(&area->deadlines, node);
		else
			area->heap[kept++] = node;
	}
	area->nheap = kept;
	for (i = area->nheap / 2 - 1; i >= 0; i--)
		sift_down(i);
	LWLockRelease(rom_shmem_ready_lock());
}
