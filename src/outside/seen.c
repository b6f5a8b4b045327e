/*-------------------------------------------------------------------------
 *
 * seen.c
 *		Which steps the history of a program's instance holds.
 *
 * record_..., suspend_... and record() ask for each step whether history has it. A history has no
 * index by step, for that would cost every event of every workflow an entry; so the session keeps,
 * for the instances that it was last asked about, hashes of the steps with the numbers of their events. A
 * call reads only what was added since. An event that is found by hash is compared with the step itself.
 *
 * An instance is known by its task's id: as long as it has that task its history only grows. (retry_workflow
 * and fork make another; recur, another instance.) What a transaction read may be its own, so an instance
 * that it looked at is forgotten when it, or a subtransaction, is rolled back or prepared.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/jb.h"
#include "base/spi.h"
#include "instances/history.h"
#include "instances/pack.h"
#include "memory/xact.h"
#include "outside/seen.h"

/* Instances that a session remembers, and steps of all of them (28 bytes each), unless one alone has more. */
#define INSTANCES_MAX 64
#define STEPS_MAX (512 * 1024)

/* Rows of history that are read at a time. */
#define PAGE 64

/* An event with a step. */
typedef struct Mark
{
	uint64		hash;			/* of the step */
	int64		seq;
	int32		next;			/* the next one of its bucket, or -1 */
} Mark;

typedef struct Entry
{
	pg_uuid_t	task_id;
	int64		upto;			/* the last event that was read */
	uint64		used;			/* when it was looked at last */
	bool		fresh;			/* the transaction under way has looked at it */
	bool		stale;			/* to be read anew */
	MemoryContext cxt;			/* of what follows; NULL: the entry is free */
	Mark	   *marks;
	int			count;
	int			room;
	int32	   *buckets;		/* as many as there is room for marks, a power
								 * of two */
} Entry;

static Entry entries[INSTANCES_MAX];
static uint64 clock_hand = 0;
static bool any_fresh = false;

/* forget_entry makes an entry free. */
static void
forget_entry(Entry *seen)
{
	MemoryContext cxt = seen->cxt;

	memset(seen, 0, sizeof(Entry));
	if (cxt != NULL)
		MemoryContextDelete(cxt);
}

/* make_room frees the entries that were used the longest time ago until the others, and one more, are not too many. */
static Entry *
make_room(const Entry *keep)
{
	for (;;)
	{
		Entry	   *free = NULL;
		Entry	   *oldest = NULL;
		int64		steps = 0;

		for (int i = 0; i < INSTANCES_MAX; i++)
		{
			Entry	   *seen = &entries[i];

			steps += seen->count;
			if (seen->cxt == NULL)
				free = seen;
			else if (seen != keep && (oldest == NULL || seen->used < oldest->used))
				oldest = seen;
		}
		if (oldest == NULL || (free != NULL && steps <= STEPS_MAX))
			return free;
		forget_entry(oldest);
	}
}

/* entry_of is the entry of a task, made where there is none. */
static Entry *
entry_of(const pg_uuid_t *task_id)
{
	Entry	   *seen;

	for (int i = 0; i < INSTANCES_MAX; i++)
		if (entries[i].cxt != NULL && memcmp(&entries[i].task_id, task_id, sizeof(pg_uuid_t)) == 0)
			return &entries[i];
	seen = make_room(NULL);
	seen->cxt = AllocSetContextCreate(TopMemoryContext, "romancy seen steps", ALLOCSET_SMALL_SIZES);
	seen->task_id = *task_id;
	return seen;
}

static uint64
hash_of(const char *step)
{
	return hash_bytes_extended((const unsigned char *) step, strlen(step), 0);
}

/* file_mark puts mark number i into its bucket. */
static void
file_mark(Entry *seen, int i)
{
	int32	   *bucket = &seen->buckets[seen->marks[i].hash & (seen->room - 1)];

	seen->marks[i].next = *bucket;
	*bucket = i;
}

/* grow doubles the room for marks. */
static void
grow(Entry *seen)
{
	int			room = Max(seen->room * 2, 64);
	Mark	   *marks = MemoryContextAllocHuge(seen->cxt, room * sizeof(Mark));
	int32	   *buckets = MemoryContextAllocHuge(seen->cxt, room * sizeof(int32));

	if (seen->room > 0)
	{
		memcpy(marks, seen->marks, seen->count * sizeof(Mark));
		pfree(seen->marks);
		pfree(seen->buckets);
	}
	seen->marks = marks;
	seen->buckets = buckets;
	seen->room = room;
	memset(buckets, -1, room * sizeof(int32));
	for (int i = 0; i < seen->count; i++)
		file_mark(seen, i);
}

/* add_mark notes an event. */
static void
add_mark(Entry *seen, const RomEvent *event)
{
	if (seen->count == seen->room)
		grow(seen);
	seen->marks[seen->count].hash = hash_of(event->step);
	seen->marks[seen->count].seq = event->seq;
	file_mark(seen, seen->count++);
}

/* read_rows reads the events of up to limit rows of history from number seq on into list. Returns how many rows there were. */
static uint64
read_rows(const RomTask *task, int64 seq, int limit, RomEventList *list, MemoryContext cxt)
{
	static RomStatement select = {
		"SELECT last_seq, events FROM romancy.t_history WHERE instance_id = $1 AND last_seq >= $2"
		" ORDER BY last_seq LIMIT $3",
		3, {UUIDOID, INT8OID, INT8OID}
	};
	Datum		values[3];
	uint64		rows;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&task->instance_id);
	values[1] = Int64GetDatum(seq);
	values[2] = Int64GetDatum(limit);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		rom_pack_read(rom_value(&set, i, 2, &isnull), DatumGetInt64(rom_value(&set, i, 1, &isnull)), list, cxt);
	}
	rom_execute_free(&set);
	return rows;
}

void
rom_seen_begin(RomSeen *look, RomTask *task, int64 last_seq)
{
	Entry	   *seen = entry_of(&task->id);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy new steps", ALLOCSET_DEFAULT_SIZES);
	uint64		rows;

	memset(look, 0, sizeof(RomSeen));
	look->task = task;
	look->without = rom_seen_superseded(task);
	/* (last_seq is known where the instance's row was read) */
	if (seen->stale || (last_seq > 0 && seen->upto > last_seq))
	{
		forget_entry(seen);
		seen = entry_of(&task->id);
	}
	seen->used = ++clock_hand;
	seen->fresh = true;
	any_fresh = true;
	/* an error on the way leaves it half read */
	seen->stale = true;
	do
	{
		RomEventList list = {0};

		rows = read_rows(task, seen->upto + 1, PAGE, &list, cxt);
		for (int i = 0; i < list.count; i++)
		{
			if (list.events[i]->seq <= seen->upto)
				continue;
			if (list.events[i]->step != NULL)
				add_mark(seen, list.events[i]);
			seen->upto = list.events[i]->seq;
		}
		MemoryContextReset(cxt);
	} while (rows == PAGE);
	seen->stale = false;
	MemoryContextDelete(cxt);
	(void) make_room(seen);
}

/* event_at reads the event of a number; NULL when it is not of the step. Many in a call are mostly of one row. */
static RomEvent *
event_at(RomSeen *look, int64 seq, const char *step)
{
	RomEventList *page = &look->page;

	if (page->count == 0 || page->events[0]->seq > seq || page->events[page->count - 1]->seq < seq)
	{
		memset(page, 0, sizeof(RomEventList));
		(void) read_rows(look->task, seq, 1, page, CurrentMemoryContext);
	}
	for (int i = 0; i < page->count; i++)
		if (page->events[i]->seq == seq)
			return page->events[i]->step != NULL && strcmp(page->events[i]->step, step) == 0 ? page->events[i] : NULL;
	return NULL;
}

RomEvent *
rom_seen_find(RomSeen *look, const char *step)
{
	Entry	   *seen = entry_of(&look->task->id);
	uint64		hash = hash_of(step);
	RomEvent   *first = NULL;

	if (seen->room == 0)
		return NULL;
	for (int32 i = seen->buckets[hash & (seen->room - 1)]; i >= 0; i = seen->marks[i].next)
	{
		Mark	   *mark = &seen->marks[i];
		RomEvent   *event;

		if (mark->hash != hash || (first != NULL && first->seq < mark->seq) || rom_seen_is_superseded(look->without, mark->seq))
			continue;
		event = event_at(look, mark->seq, step);
		if (event != NULL)
			first = event;
	}
	return first;
}

Jsonb *
rom_seen_superseded(RomTask *task)
{
	return task->next ? rom_jb_get_json(task->next, "superseded") : NULL;
}

bool
rom_seen_is_superseded(Jsonb *list, int64 seq)
{
	JsonbValue	v;

	if (list == NULL)
		return false;
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(seq);
	return findJsonbValueFromContainer(&list->root, JB_FARRAY, &v) != NULL;
}

/* distrust has what the transaction looked at read anew. */
static void
distrust(void)
{
	for (int i = 0; any_fresh && i < INSTANCES_MAX; i++)
	{
		if (entries[i].fresh)
			entries[i].stale = true;
		entries[i].fresh = false;
	}
	any_fresh = false;
}

static void
sub_aborted(int level)
{
	distrust();
}

/* committed: what the transaction looked at is so. */
static void
committed(void)
{
	for (int i = 0; any_fresh && i < INSTANCES_MAX; i++)
		entries[i].fresh = false;
	any_fresh = false;
}

void
rom_seen_init(void)
{
	static const RomXactPart part = {
		.name = "outside/seen.c",
		.order = ROM_XACT_GIVE_BACK,
		.committed = committed,
		.prepared = distrust,
		.aborted = distrust,
		.sub_aborted = sub_aborted,
	};

	rom_xact_register(&part);
}
