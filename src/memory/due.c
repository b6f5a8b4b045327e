/*-------------------------------------------------------------------------
 *
 * due.c
 *		Bounded heaps of instances in shared memory: a queue per database and
 *		owner, and the deadlines. For ready.c, which has the lock.
 *
 * Order in a queue: each point of priority is worth a minute of age. Items that
 * are queued together are therefore taken in strict order of priority, oldest
 * first, and no item starves behind later ones.
 *
 * The queues share a pool of nodes. A queue is a pairing heap, linked by
 * numbers of nodes; a hash table finds an instance that is queued already, so
 * that scans that find it again do not fill the pool. No queue gets more of it than it leaves free, so that however
 * many have filled theirs there is room for another.
 *
 * Deadlines have a pool and a hash table of their own, and one binary heap of
 * numbers of nodes. An instance has one deadline, the earliest that was asked for since it was woken last: where a
 * turn moves the time on, it is woken once in vain, and asks for the right one then. So one that waits with a time limit for
 * each of many messages fills neither the pool nor its chain of the hash table.
 *
 * Users may choose the ids of instances: the hash is a salted one, or they could choose ids that all have the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/timestamp.h"

#include "memory/due.h"
#include "memory/shmem.h"

#define POOL_SIZE 65536
#define HASH_SIZE 65536
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
	bool		slow;
	bool		unknown;
	bool		moved;			/* to the quick ones: not in the hash table,
								 * and skipped when it comes up */
	uint64		number;			/* of an unknown one: RomDueQueue's unknowns */
	int64		key;			/* smaller is better */
	uint64		seq;			/* order of arrival among equal keys */
	int			child;
	int			sibling;
	/* deadlines only */
	int			pos;			/* in the heap */
} Node;

typedef struct Pool
{
	int			used;			/* nodes that were ever in use */
	int			free;			/* first free one below that */
	int			count;			/* in use now */
	int			buckets[HASH_SIZE];
	Node		nodes[POOL_SIZE];
} Pool;

struct RomDue
{
	uint64		seq;
	int			nqueues;		/* places used so far */
	int			ndeadlines;
	RomDueQueue queues[ROM_READY_QUEUES];
	int			heap[POOL_SIZE];
	Pool		ready;
	Pool		deadlines;
};

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
rom_due_size(void)
{
	return sizeof(RomDue);
}

void
rom_due_init(RomDue *heaps)
{
	memset(heaps, 0, offsetof(RomDue, heap));
	pool_init(&heaps->ready);
	pool_init(&heaps->deadlines);
}

static int *
bucket_of(Pool *pool, const pg_uuid_t *id)
{
	uint64		hash = hash_bytes_extended(id->data, UUID_LEN, rom_shmem_salt());

	return &pool->buckets[hash % HASH_SIZE];
}

/* pool_find finds the instance's node in the pool, or NONE. */
static int
pool_find(Pool *pool, const RomReadyItem *item)
{
	int			i;

	for (i = *bucket_of(pool, &item->id); i != NONE; i = pool->nodes[i].hash_next)
	{
		Node	   *node = &pool->nodes[i];

		if (node->dbid == item->dbid && node->owner == item->owner &&
			memcmp(node->id.data, item->id.data, UUID_LEN) == 0)
			return i;
	}
	return NONE;
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
	node->slow = item->slow;
	node->unknown = item->unknown && !item->slow;
	node->moved = false;
	node->child = NONE;
	node->sibling = NONE;
	node->hash_next = *bucket;
	*bucket = i;
	return i;
}

/* pool_unhash takes a node out of its hash chain. */
static void
pool_unhash(Pool *pool, int i)
{
	int		   *link = bucket_of(pool, &pool->nodes[i].id);

	while (*link != i)
		link = &pool->nodes[*link].hash_next;
	*link = pool->nodes[i].hash_next;
}

/* pool_free frees a node that is in no hash chain. */
static void
pool_free(Pool *pool, int i)
{
	pool->nodes[i].hash_next = pool->free;
	pool->free = i;
	pool->count--;
}

static void
pool_remove(Pool *pool, int i)
{
	pool_unhash(pool, i);
	pool_free(pool, i);
}

/* ---- queues ---- */

static bool
before(const Node *a, const Node *b)
{
	return a->key < b->key || (a->key == b->key && a->seq < b->seq);
}

/* Joins two heaps. */
static int
meld(Node *nodes, int a, int b)
{
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
without_root(Node *nodes, int root)
{
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
		a = meld(nodes, a, b);
		nodes[a].sibling = pairs;
		pairs = a;
	}
	while (pairs != NONE)
	{
		int			a = pairs;

		pairs = nodes[a].sibling;
		nodes[a].sibling = NONE;
		rest = meld(nodes, rest, a);
	}
	return rest;
}

RomDueQueue *
rom_due_find(RomDue *heaps, Oid dbid, Oid owner)
{
	int			i;

	for (i = 0; i < heaps->nqueues; i++)
		if (heaps->queues[i].dbid == dbid && heaps->queues[i].owner == owner)
			return &heaps->queues[i];
	return NULL;
}

/* The owner's queue, made if need be in the place of an empty one. NULL: no place. */
static RomDueQueue *
make_queue(RomDue *heaps, Oid dbid, Oid owner)
{
	RomDueQueue *queue = rom_due_find(heaps, dbid, owner);
	int			i;

	if (queue != NULL)
		return queue;
	for (i = 0; i < heaps->nqueues; i++)
		if (heaps->queues[i].root[ROM_DUE_QUICK] == NONE &&
			heaps->queues[i].root[ROM_DUE_SLOW] == NONE && heaps->queues[i].tried == NONE &&
			heaps->queues[i].unknown_root == NONE)
			break;
	if (i == ROM_READY_QUEUES)
		return NULL;
	if (i == heaps->nqueues)
		heaps->nqueues++;
	queue = &heaps->queues[i];
	queue->dbid = dbid;
	queue->owner = owner;
	for (i = 0; i < 2; i++)
	{
		queue->root[i] = NONE;
		queue->count[i] = 0;
	}
	queue->tried = queue->unknown_root = NONE;
	queue->quick_at = queue->slow_since = queue->probed_at = 0;
	queue->probes = 0;
	queue->unknown = 0;
	/* beyond all that executors remember of those who had this place before */
	queue->unknowns = queue->learned = heaps->seq;
	queue->slow_wait = ROM_SLOW_WAITS_MAX;
	return queue;
}

RomDueQueue *
rom_due_queue(RomDue *heaps, int number)
{
	return &heaps->queues[number];
}

int
rom_due_queues(RomDue *heaps)
{
	return heaps->nqueues;
}

RomDueResult
rom_due_push(RomDue *heaps, const RomReadyItem *item, TimestampTz now)
{
	Pool	   *pool = &heaps->ready;
	RomDueQueue *queue;
	Node	   *node;
	int			lane = item->slow ? ROM_DUE_SLOW : ROM_DUE_QUICK;
	int		   *root;
	int			there;
	int			i;

	there = pool_find(pool, item);
	if (there != NONE && (item->slow || !pool->nodes[there].slow ||
						  item->at < pool->nodes[there].at))
		return ROM_DUE_THERE;
	queue = make_queue(heaps, item->dbid, item->owner);
	if (queue == NULL ||
		queue->count[ROM_DUE_QUICK] + queue->count[ROM_DUE_SLOW] >= POOL_SIZE - pool->count)
		return there != NONE ? ROM_DUE_THERE : ROM_DUE_FULL;
	if (there != NONE)
	{
		pool_unhash(pool, there);
		pool->nodes[there].moved = true;
		queue->count[ROM_DUE_SLOW]--;
	}

	i = pool_add(pool, item);
	node = &pool->nodes[i];

	/*
	 * -infinity, or what slept while the server was down, is not worth more
	 * than a day
	 */
	node->key = Max(item->at, now - USECS_PER_DAY) - item->priority * AGEING;
	node->seq = heaps->seq++;
	if (queue->count[ROM_DUE_QUICK] + queue->count[ROM_DUE_SLOW] == 0)
		queue->waiting_since = now;
	if (item->slow && queue->count[ROM_DUE_SLOW] == 0)
		queue->slow_since = now;
	if (node->unknown)
	{
		queue->unknown++;
		node->number = ++queue->unknowns;
		root = &queue->unknown_root;
	}
	else
		root = item->slow && item->tried ? &queue->tried : &queue->root[lane];
	*root = meld(pool->nodes, *root, i);
	queue->count[lane]++;
	return ROM_DUE_ADDED;
}

/* drop_moved removes those from the top of slow ones that have moved. */
static void
drop_moved(RomDue *heaps, int *root)
{
	Pool	   *pool = &heaps->ready;
	int			i;

	while ((i = *root) != NONE && pool->nodes[i].moved)
	{
		*root = without_root(pool->nodes, i);
		pool_free(pool, i);
	}
}

/* pop takes the best of the members of a lane that one of its roots holds. */
static void
pop(RomDue *heaps, RomDueQueue *queue, int lane, int *root, pg_uuid_t *id)
{
	int			i = *root;

	*id = heaps->ready.nodes[i].id;
	queue->unknown -= heaps->ready.nodes[i].unknown;
	*root = without_root(heaps->ready.nodes, i);
	queue->count[lane]--;
	pool_remove(&heaps->ready, i);
	drop_moved(heaps, &queue->root[ROM_DUE_SLOW]);
	drop_moved(heaps, &queue->tried);
}

int
rom_due_unknown(const RomDueQueue *queue)
{
	return Min((uint64) queue->unknown, queue->unknowns - queue->learned);
}

void
rom_due_learn(RomDueQueue *queue, uint64 number)
{
	queue->learned = Max(queue->learned, Min(number, queue->unknowns));
}

/* best_quick finds the root that holds the best of the quick members, of which there are some. */
static int *
best_quick(RomDue *heaps, RomDueQueue *queue)
{
	Node	   *nodes = heaps->ready.nodes;
	int		   *root = &queue->root[ROM_DUE_QUICK];

	return *root == NONE || (queue->unknown_root != NONE && before(&nodes[queue->unknown_root], &nodes[*root])) ?
		&queue->unknown_root : root;
}

bool
rom_due_is_unknown(RomDue *heaps, RomDueQueue *queue)
{
	const Node *node = &heaps->ready.nodes[*best_quick(heaps, queue)];

	return node->unknown && node->number > queue->learned;
}

int
rom_due_pop_quick(RomDue *heaps, RomDueQueue *queue, bool unknown, pg_uuid_t *ids, int max)
{
	int			n = 0;

	while (n < max && queue->count[ROM_DUE_QUICK] > 0)
	{
		int		   *root = !unknown && rom_due_is_unknown(heaps, queue) ? &queue->root[ROM_DUE_QUICK] : best_quick(heaps, queue);

		if (*root == NONE)
			break;
		pop(heaps, queue, ROM_DUE_QUICK, root, &ids[n++]);
	}
	return n;
}

void
rom_due_pop(RomDue *heaps, RomDueQueue *queue, int lane, pg_uuid_t *id)
{
	Node	   *nodes = heaps->ready.nodes;
	int		   *root = lane == ROM_DUE_QUICK ? best_quick(heaps, queue) : &queue->root[lane];

	if (lane == ROM_DUE_SLOW)
	{
		drop_moved(heaps, root);
		drop_moved(heaps, &queue->tried);
		if (*root == NONE || (queue->tried != NONE && before(&nodes[queue->tried], &nodes[*root])))
			root = &queue->tried;
	}
	pop(heaps, queue, lane, root, id);
}

void
rom_due_pop_untried(RomDue *heaps, RomDueQueue *queue, pg_uuid_t *id)
{
	drop_moved(heaps, &queue->root[ROM_DUE_SLOW]);
	if (queue->root[ROM_DUE_SLOW] == NONE)
	{
		drop_moved(heaps, &queue->tried);
		queue->root[ROM_DUE_SLOW] = queue->tried;
		queue->tried = NONE;
	}
	pop(heaps, queue, ROM_DUE_SLOW, &queue->root[ROM_DUE_SLOW], id);
}

bool
rom_due_filled(RomDue *heaps)
{
	return heaps->ready.count >= POOL_SIZE / 8 * 3;
}

bool
rom_due_low(RomDue *heaps)
{
	return heaps->ready.count < POOL_SIZE / 16;
}

/* ---- deadlines ---- */

/* place puts a node into a place of the heap. */
static void
place(RomDue *heaps, int pos, int node)
{
	heaps->heap[pos] = node;
	heaps->deadlines.nodes[node].pos = pos;
}

static void
sift_up(RomDue *heaps, int pos)
{
	Node	   *nodes = heaps->deadlines.nodes;
	int		   *heap = heaps->heap;
	int			i = heap[pos];

	while (pos > 0 && nodes[i].at < nodes[heap[(pos - 1) / 2]].at)
	{
		place(heaps, pos, heap[(pos - 1) / 2]);
		pos = (pos - 1) / 2;
	}
	place(heaps, pos, i);
}

static void
sift_down(RomDue *heaps, int pos)
{
	Node	   *nodes = heaps->deadlines.nodes;
	int		   *heap = heaps->heap;
	int			i = heap[pos];

	for (;;)
	{
		int			child = 2 * pos + 1;

		if (child >= heaps->ndeadlines)
			break;
		if (child + 1 < heaps->ndeadlines &&
			nodes[heap[child + 1]].at < nodes[heap[child]].at)
			child++;
		if (nodes[i].at <= nodes[heap[child]].at)
			break;
		place(heaps, pos, heap[child]);
		pos = child;
	}
	place(heaps, pos, i);
}

RomDueResult
rom_due_add_deadline(RomDue *heaps, const RomReadyItem *item)
{
	int			there = pool_find(&heaps->deadlines, item);

	if (there != NONE)
	{
		Node	   *node = &heaps->deadlines.nodes[there];

		node->priority = item->priority;
		if (item->at < node->at)
		{
			node->at = item->at;
			sift_up(heaps, node->pos);
		}
		return ROM_DUE_THERE;
	}
	if (heaps->ndeadlines == POOL_SIZE)
		return ROM_DUE_FULL;
	heaps->heap[heaps->ndeadlines] = pool_add(&heaps->deadlines, item);
	sift_up(heaps, heaps->ndeadlines++);
	return ROM_DUE_ADDED;
}

TimestampTz
rom_due_next_deadline(RomDue *heaps)
{
	return heaps->ndeadlines > 0 ?
		heaps->deadlines.nodes[heaps->heap[0]].at : DT_NOEND;
}

bool
rom_due_take_deadline(RomDue *heaps, TimestampTz now, RomReadyItem *item)
{
	int			i;
	Node	   *node;

	if (rom_due_next_deadline(heaps) > now)
		return false;
	i = heaps->heap[0];
	node = &heaps->deadlines.nodes[i];
	item->id = node->id;
	item->dbid = node->dbid;
	item->owner = node->owner;
	item->priority = node->priority;
	item->slow = item->unknown = false;
	item->at = node->at;

	heaps->heap[0] = heaps->heap[--heaps->ndeadlines];
	if (heaps->ndeadlines > 0)
		sift_down(heaps, 0);
	pool_remove(&heaps->deadlines, i);
	return true;
}

static int
by_time(const void *a, const void *b, void *nodes)
{
	TimestampTz at_a = ((Node *) nodes)[*(const int *) a].at;
	TimestampTz at_b = ((Node *) nodes)[*(const int *) b].at;

	return at_a < at_b ? -1 : at_a > at_b;
}

/* A sorted array is a heap, and its end is what is farthest. */
void
rom_due_drop_farthest(RomDue *heaps,
					  void (*dropped) (Oid dbid, TimestampTz at))
{
	int			keep = heaps->ndeadlines - heaps->ndeadlines / 4;
	int			i;

	qsort_arg(heaps->heap, heaps->ndeadlines, sizeof(int), by_time,
			  heaps->deadlines.nodes);
	for (i = keep; i < heaps->ndeadlines; i++)
	{
		Node	   *node = &heaps->deadlines.nodes[heaps->heap[i]];

		dropped(node->dbid, node->at);
		pool_remove(&heaps->deadlines, heaps->heap[i]);
	}
	heaps->ndeadlines = keep;
	for (i = 0; i < keep; i++)
		place(heaps, i, heaps->heap[i]);
}

void
rom_due_earlier(RomDue *heaps, int64 step, TimestampTz now)
{
	/* all by the same: the heap's order stays */
	for (int i = 0; i < heaps->ndeadlines; i++)
		heaps->deadlines.nodes[heaps->heap[i]].at -= step;
	for (int i = 0; i < heaps->nqueues; i++)
	{
		RomDueQueue *queue = &heaps->queues[i];

		queue->waiting_since = Min(queue->waiting_since, now);
		queue->slow_since = Min(queue->slow_since, now);
		queue->quick_at = Min(queue->quick_at, now);
		queue->probed_at = Min(queue->probed_at, now);
	}
}

bool
rom_due_half_empty(RomDue *heaps)
{
	return heaps->ndeadlines < POOL_SIZE / 2;
}

void
rom_due_purge(RomDue *heaps, Oid dbid)
{
	int			kept = 0;
	int			i;

	for (i = 0; i < heaps->nqueues; i++)
	{
		RomDueQueue *queue = &heaps->queues[i];
		pg_uuid_t	id;

		if (queue->dbid != dbid)
			continue;
		drop_moved(heaps, &queue->root[ROM_DUE_SLOW]);
		drop_moved(heaps, &queue->tried);
		for (int lane = 0; lane < 2; lane++)
			while (queue->count[lane] > 0)
				rom_due_pop(heaps, queue, lane, &id);
		queue->dbid = InvalidOid;
	}

	for (i = 0; i < heaps->ndeadlines; i++)
	{
		int			node = heaps->heap[i];

		if (heaps->deadlines.nodes[node].dbid == dbid)
			pool_remove(&heaps->deadlines, node);
		else
			place(heaps, kept++, node);
	}
	heaps->ndeadlines = kept;
	for (i = kept / 2 - 1; i >= 0; i--)
		sift_down(heaps, i);
}
