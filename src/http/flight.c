/*-------------------------------------------------------------------------
 *
 * flight.c
 *		Requests under way: from the claim of their tasks to their answers.
 *
 * A claim commits, and is on disk, before its requests are sent. landing.c records outcomes. A request has memory of
 * its own, which lives until its outcome is recorded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "http/flight.h"
#include "http/guc.h"
#include "http/landing.h"
#include "http/push.h"
#include "http/request.h"
#include "http/share.h"
#include "http/source.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "tasks/fetch.h"
#include "tasks/notify.h"
#include "tasks/queue.h"
#include "workers/bgw.h"

/* Claimed in one transaction. */
#define CLAIM_MAX 256

/* Tasks that are read at a time, and bytes of bodies after which a claim ends: more are claimed when these are sent. */
#define CLAIM_CHUNK 32
#define CLAIM_BYTES (16 * 1024 * 1024)

/* Chunks of one transaction, each of which is a subtransaction. */
#define CHUNKS_MAX 30

/* Queues of a namespace whose tasks cannot be claimed, after which one claim looks at no more of it. */
#define FAULTY_MAX 10

/* A lease outlasts the longest request; it ends with the process. */
#define LEASE_US (INT64CONST(70) * 60 * USECS_PER_SEC)

static const RomTransport *transport = NULL;
static dlist_head flying = DLIST_STATIC_INIT(flying);

void
rom_flight_init(const RomTransport *with)
{
	transport = with;
	rom_landing_init(with);
}

int
rom_flight_count(void)
{
	return rom_landing_count();
}

/* ---------------------------------------------------------------- claims */

typedef struct Claim
{
	dlist_head	fresh;			/* flights that were made */
	size_t		bytes;			/* of their bodies */
	bool		more;
	TimestampTz retry_at;
	int32		faulty;			/* namespace of the last queue whose tasks
								 * could not be claimed */
	int			faults;			/* so many of that namespace */
} Claim;

/* keep copies what lasts of a request that was made in the current context: to the flight, or to its cargo. */
static void
keep(RomFlight *f, const RomHttpRequest *made, const Jsonb *error)
{
	MemoryContextSwitchTo(f->cxt);
	if (error != NULL)
	{
		f->request.label = "";
		f->error = (Jsonb *) datumCopy(PointerGetDatum(error), false, -1);
		return;
	}
	f->cargo = AllocSetContextCreate(f->cxt, "romancy HTTP request's body", ALLOCSET_SMALL_SIZES);
	rom_request_copy(&f->request, made, f->cargo);
}

/*
 * make makes the request of a task; an error that is raised is the task's, not the claim's, unless it is one that passes. The memory of the making, some
 * times the body, is freed at once.
 */
static void
make(RomFlight *f, const RomSource *source, const RomTask *task)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext making = AllocSetContextCreate(old, "romancy HTTP request's making", ALLOCSET_DEFAULT_SIZES);
	RomHttpRequest made = {0};
	Jsonb	   *error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(making);
		if (source->url != NULL ? rom_push_make(source, task, &made, &error) : rom_request_make(task, &made, &error))
			error = NULL;
		keep(f, &made, error);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(f->cxt);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(f->cxt);
		if (rom_error_is_passing(edata->sqlerrcode))
			ReThrowError(edata);
		f->error = rom_error_to_jsonb(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	MemoryContextDelete(making);
}

/* board makes a flight of a claimed task. */
static void
board(Claim *claim, const RomSource *source, const RomClaimed *claimed)
{
	RomFlight  *f = rom_landing_new(source->namespace);

	dlist_push_tail(&claim->fresh, &f->late.node);
	rom_token_read(claimed->token, &f->token);
	f->token.nowait = true;		/* others' outcomes do not wait for it */
	make(f, source, claimed->task);
	claim->bytes += f->request.send.body_length;
}

/* claim_chunk claims up to max tasks of a queue, and makes their requests; how many. */
static int
claim_chunk(Claim *claim, const RomSource *source, int max)
{
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "romancy HTTP claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(chunk);
	RomClaimed *claimed = palloc_array(RomClaimed, max);
	RomClaim	from = {0};
	int			got;

	from.queue = source->queue;
	from.worker_id = "romancy http";
	from.max = max;
	from.lease_us = LEASE_US;
	from.caller = source->owner;
	from.sends = true;
	got = rom_queue_claim(&from, claimed);
	for (int i = 0; i < got; i++)
		board(claim, source, &claimed[i]);
	claim->more |= got == max;
	claim->retry_at = Min(claim->retry_at, from.retry_at);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(chunk);
	return got;
}

/* claim_apart does the same in a subtransaction: an error of one queue, which its role can bring about, is not to keep the others' tasks. */
static int
claim_apart(Claim *claim, const RomSource *source, int max)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	size_t		bytes = claim->bytes;
	int			before = rom_landing_count();
	volatile int got = 0;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(old);
		got = claim_chunk(claim, source, max);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(old);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		if (rom_error_is_passing(edata->sqlerrcode))
			ReThrowError(edata);
		while (rom_landing_count() > before)
		{
			RomFlight  *f = dlist_container(RomFlight, late.node, dlist_tail_node(&claim->fresh));

			dlist_delete(&f->late.node);
			rom_landing_discard(f);
		}
		claim->bytes = bytes;
		claim->faults = claim->faulty == source->namespace ? claim->faults + 1 : 1;
		claim->faulty = source->namespace;
		claim->retry_at = Min(claim->retry_at, rom_source_faulty(source, edata));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return got;
}

/* claim_unit claims from each queue its share of the room. */
static void
claim_unit(void *arg)
{
	static int	turn = 0;		/* queues take turns */
	Claim	   *claim = arg;
	RomSource  *sources = NULL;
	int			room = Min(rom_share_room(), CLAIM_MAX);
	int			all = room;
	int			n = room > 0 ? rom_source_find(&sources) : 0;
	int			chunks = 0;

	rom_share_look();
	for (int i = 0; i < n && room > 0; i++)
	{
		const RomSource *source = &sources[(turn + i) % n];
		int			left = Min(Max(all / source->sharers, 1), Min(room, rom_share_room_of(source->namespace)));
		int			want;
		int			got = 0;

		if (left <= 0 || (claim->faulty == source->namespace && claim->faults >= FAULTY_MAX))
			continue;
		do
		{
			if (claim->bytes > CLAIM_BYTES || chunks == CHUNKS_MAX)
			{
				claim->more = true;
				break;
			}
			want = Min(left, CLAIM_CHUNK);
			got = claim_apart(claim, source, want);
			left -= got;
			room -= got;
			chunks += got > 0;
		} while (got == want && left > 0);
	}
	turn = n > 0 ? (turn + 1) % n : 0;
	if (chunks > 0)
		rom_guc_outlast();
}

/* supersede gives up the request of an earlier attempt of the same task, whose time was over. */
static void
supersede(const RomFlight *by)
{
	RomFlight  *after;

	if (by->token.attempt == 1)
		return;
	for (RomFlight *f = rom_landing_first(&flying); f != NULL; f = after)
	{
		after = rom_landing_next(&flying, f);
		if (memcmp(&f->token.task_id, &by->token.task_id, sizeof(pg_uuid_t)) != 0)
			continue;
		transport->cancel(f->handle);
		dlist_delete(&f->late.node);
		rom_landing_discard(f);
	}
}

static void land(RomTransportAnswer *answer);

/* take_off sends a request. */
static void
take_off(RomFlight *f)
{
	if (f->error == NULL)
	{
		supersede(f);
		f->tag.land = land;
		f->request.send.tag = f;
		f->handle = transport->send(&f->request.send);
		MemoryContextDelete(f->cargo);
		memset(&f->request.send, 0, sizeof(f->request.send));
		if (f->handle == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(f->cxt);

			f->error = rom_error_make(ERRCODE_OUT_OF_MEMORY, "out of memory", NULL, NULL, NULL);
			f->again = true;
			MemoryContextSwitchTo(old);
		}
	}
	if (f->error == NULL)
		dlist_push_tail(&flying, &f->late.node);
	else
		rom_landing_take(f);
}

bool
rom_flight_claim(bool *more, TimestampTz *retry_at)
{
	Claim		claim = {.retry_at = DT_NOEND};
	bool		ok;

	*more = false;
	*retry_at = DT_NOEND;
	if (rom_share_room() <= 0)
		return true;
	dlist_init(&claim.fresh);
	ok = rom_bgw_unit(claim_unit, &claim, false);
	while (!dlist_is_empty(&claim.fresh))
	{
		RomFlight  *f = dlist_container(RomFlight, late.node, dlist_pop_head_node(&claim.fresh));

		if (ok)
			take_off(f);
		else
			rom_landing_discard(f);
	}
	*more = claim.more;
	*retry_at = claim.retry_at;
	return ok;
}

/* ---------------------------------------------------------------- leases of a worker before */

/* Leases of a worker before that could not be ended yet, as another transaction has their tasks. Claims of this worker have other fences. */
typedef struct Left
{
	bool		all;			/* of any task; else of these: */
	int			n;
	pg_uuid_t  *ids;
	int64	   *fences;
} Left;

static Left left = {.all = true};

/* The tasks under a lease of a worker before; $1, $2: of these alone, or null. */
#define BEFORE_SQL \
	" FROM romancy.t_task t WHERE t.due_at > '-infinity' AND NOT t.callback AND t.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT ")" \
	" AND ($1 IS NULL OR (t.task_id = ANY ($1) AND t.fence = ANY ($2)))"

/* inherit_unit ends leases, but for those of tasks that another transaction has: it lists them. */
static void
inherit_unit(void *arg)
{
	static RomStatement over = {
		"UPDATE romancy.t_task SET due_at = '-infinity' WHERE task_id IN (SELECT t.task_id" BEFORE_SQL " ORDER BY t.task_id FOR UPDATE SKIP LOCKED)",
		2, {UUIDARRAYOID, INT8ARRAYOID}
	};
	static RomStatement held = {
		"SELECT t.task_id, t.fence" BEFORE_SQL, 2, {UUIDARRAYOID, INT8ARRAYOID}
	};
	Left	   *found = arg;
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2] = {0};
	bool		nulls[2] = {left.all, left.all};
	RomEngine	engine;
	RomRowSet	set;
	bool		isnull;

	if (!left.all)
	{
		Datum	   *fences = palloc_array(Datum, left.n);

		for (int i = 0; i < left.n; i++)
			fences[i] = Int64GetDatum(left.fences[i]);
		values[0] = rom_uuid_array(left.ids, left.n);
		values[1] = PointerGetDatum(construct_array(fences, left.n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	}
	rom_engine_begin(&engine);
	if (rom_execute(&over, values, nulls, 0) > 0)
		rom_wake_sweep(rom_sweep_find("lock_cleanup"), rom_now());
	found->n = (int) rom_execute_rows(&set, &held, values, nulls, 0);
	found->ids = MemoryContextAlloc(TopMemoryContext, sizeof(pg_uuid_t) * (found->n + 1));
	found->fences = MemoryContextAlloc(TopMemoryContext, sizeof(int64) * (found->n + 1));
	for (int i = 0; i < found->n; i++)
	{
		found->ids[i] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		found->fences[i] = DatumGetInt64(rom_value(&set, i, 2, &isnull));
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/* free_left frees the lists of leases. */
static void
free_left(Left *list)
{
	if (list->ids != NULL)
		pfree(list->ids);
	if (list->fences != NULL)
		pfree(list->fences);
}

bool
rom_flight_inherit(bool *held)
{
	Left		found = {0};

	*held = false;
	if (!left.all && left.n == 0)
		return true;
	if (!rom_bgw_unit(inherit_unit, &found, false))
	{
		free_left(&found);
		return false;
	}
	free_left(&left);
	left = found;
	*held = left.n > 0;
	return true;
}

/* ---------------------------------------------------------------- cancels */

typedef struct Unwanted
{
	pg_uuid_t  *ids;			/* of tasks of requests under way; then of
								 * those that are not wanted */
	int			n;
} Unwanted;

static void
unwanted_unit(void *arg)
{
	static RomStatement select = {
		"SELECT u.id FROM pg_catalog.unnest($1) u (id) LEFT JOIN romancy.t_task t ON t.task_id = u.id"
		" LEFT JOIN romancy.t_instance i ON i.instance_id = t.instance_id"
		" WHERE t.task_id IS NULL OR t.state <> " ROM_SQL_TASK_RUNNING
		" OR (i.status = 'compensating' AND t.kind <> " ROM_SQL_TASK_COMPENSATION ")",
		1, {UUIDARRAYOID}
	};
	Unwanted   *unwanted = arg;
	Datum		values[1] = {rom_uuid_array(unwanted->ids, unwanted->n)};
	RomEngine	engine;
	RomRowSet	set;
	bool		isnull;

	rom_engine_begin(&engine);
	unwanted->n = (int) rom_execute_rows(&set, &select, values, NULL, 0);
	for (int i = 0; i < unwanted->n; i++)
		unwanted->ids[i] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
	rom_engine_end(&engine);
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

bool
rom_flight_cancel(void)
{
	Unwanted	unwanted = {0};
	RomFlight  *after;

	if (dlist_is_empty(&flying))
		return true;
	unwanted.ids = palloc_array(pg_uuid_t, rom_landing_count());
	for (RomFlight *f = rom_landing_first(&flying); f != NULL; f = rom_landing_next(&flying, f))
		unwanted.ids[unwanted.n++] = f->token.task_id;
	if (!rom_bgw_unit(unwanted_unit, &unwanted, false))
		return false;
	qsort(unwanted.ids, unwanted.n, sizeof(pg_uuid_t), compare_ids);
	for (RomFlight *f = rom_landing_first(&flying); f != NULL; f = after)
	{
		after = rom_landing_next(&flying, f);
		if (unwanted.n == 0 ||
			bsearch(&f->token.task_id, unwanted.ids, unwanted.n, sizeof(pg_uuid_t), compare_ids) == NULL)
			continue;
		transport->cancel(f->handle);
		f->handle = NULL;
		dlist_delete(&f->late.node);
		f->given_up = true;
		rom_landing_take(f);
	}
	return true;
}

/* ---------------------------------------------------------------- answers */

/* land takes the answer of a flight. */
static void
land(RomTransportAnswer *answer)
{
	RomFlight  *f = answer->tag;

	f->answer = answer;
	f->handle = NULL;
	dlist_delete(&f->late.node);
	rom_landing_take(f);
}

void
rom_flight_collect(void)
{
	RomTransportAnswer *answer;

	while ((answer = transport->next()) != NULL)
		((RomFlightTag *) answer->tag)->land(answer);
}
