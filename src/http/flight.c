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
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/activity_definition.h"
#include "http/flight.h"
#include "http/guc.h"
#include "http/landing.h"
#include "http/request.h"
#include "http/share.h"
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

/* Queues of namespaces that one claim looks at. */
#define QUEUES_MAX 1000

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

/* first and next walk through a list of flights; NULL at its end. A flight may leave the list when next has been asked for. */
static RomFlight *
first(dlist_head *list)
{
	return dlist_is_empty(list) ? NULL : dlist_container(RomFlight, node, dlist_head_node(list));
}

static RomFlight *
next(dlist_head *list, RomFlight *f)
{
	return dlist_has_next(list, &f->node) ? dlist_container(RomFlight, node, dlist_next_node(list, &f->node)) : NULL;
}

/* ---------------------------------------------------------------- claims */

typedef struct Claim
{
	dlist_head	fresh;			/* flights that were made */
	size_t		bytes;			/* of their bodies */
	bool		more;
	TimestampTz retry_at;
} Claim;

/* find_queues finds the queues that have requests to send; their names, in the current context. Engine scope is entered. */
static int
find_queues(char **names)
{
	static RomStatement select = {
		"SELECT n.namespace_id || q.name FROM romancy.t_namespace n"
		" CROSS JOIN (VALUES ('/" ROM_QUEUE_HTTP "'), ('/" ROM_QUEUE_HTTP_CALL "')) q (name)"
		" WHERE EXISTS (SELECT FROM romancy.t_task t WHERE t.queue = n.namespace_id || q.name AND t.state = " ROM_SQL_TASK_READY ")"
		" LIMIT $1",
		1, {INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1] = {Int32GetDatum(QUEUES_MAX)};
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;

	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		names[i] = rom_value_text(&set, i, 1, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return (int) rows;
}

/* keep copies what lasts of a request that was made in the current context: to the flight, or to its cargo. */
static void
keep(RomFlight *f, const RomHttpRequest *made, const Jsonb *error)
{
	RomTransportRequest *send = &f->request.send;
	const char **headers;
	int			n = 0;
	ListCell   *lc;

	MemoryContextSwitchTo(f->cxt);
	if (error != NULL)
	{
		f->request.label = "";
		f->error = (Jsonb *) datumCopy(PointerGetDatum(error), false, -1);
		return;
	}
	f->request = *made;
	f->request.label = pstrdup(made->label);
	f->request.expect = pstrdup(made->expect);
	f->request.secrets = NIL;
	foreach(lc, made->secrets)
	{
		f->request.secrets = lappend(f->request.secrets, pstrdup(lfirst(lc)));
	}
	f->cargo = AllocSetContextCreate(f->cxt, "romancy HTTP request's body", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(f->cargo);
	send->method = pstrdup(send->method);
	send->url = pstrdup(send->url);
	while (send->headers[n] != NULL)
		n++;
	headers = palloc_array(const char *, n + 1);
	for (int i = 0; i < n; i++)
		headers[i] = pstrdup(send->headers[i]);
	headers[n] = NULL;
	send->headers = headers;
	if (send->body_length > 0)
		send->body = memcpy(palloc(send->body_length), send->body, send->body_length);
}

/*
 * make makes the request of a task; an error that is raised is the task's, not the claim's, unless it is one that passes. The memory of the making, some
 * times the body, is freed at once.
 */
static void
make(RomFlight *f, const RomTask *task)
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
		if (rom_request_make(task, &made, &error))
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
board(Claim *claim, int32 namespace, const RomClaimed *claimed)
{
	RomFlight  *f = rom_landing_new(namespace);

	dlist_push_tail(&claim->fresh, &f->node);
	rom_token_read(claimed->token, &f->token);
	f->token.nowait = true;		/* others' outcomes do not wait for it */
	make(f, claimed->task);
	claim->bytes += f->request.send.body_length;
}

/* claim_chunk claims up to max tasks of a queue, and makes their requests; how many. */
static int
claim_chunk(Claim *claim, char *queue, int32 namespace, int max)
{
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "romancy HTTP claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(chunk);
	RomClaimed *claimed = palloc_array(RomClaimed, max);
	RomClaim	from = {0};
	int			got;

	from.queue = queue;
	from.worker_id = "romancy http";
	from.max = max;
	from.lease_us = LEASE_US;
	got = rom_queue_claim(&from, claimed);
	for (int i = 0; i < got; i++)
		board(claim, namespace, &claimed[i]);
	claim->more |= got == max;
	claim->retry_at = Min(claim->retry_at, from.retry_at);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(chunk);
	return got;
}

/* claim_unit claims from each queue its share of the room. */
static void
claim_unit(void *arg)
{
	static int	turn = 0;		/* queues take turns */
	Claim	   *claim = arg;
	char	  **queues = palloc_array(char *, QUEUES_MAX);
	int			room = Min(rom_share_room(), CLAIM_MAX);
	int			n = room > 0 ? find_queues(queues) : 0;
	int			share = n > 0 ? Max(room / n, 1) : 0;
	bool		any = false;

	rom_share_look();
	for (int i = 0; i < n && room > 0; i++)
	{
		char	   *queue = queues[(turn + i) % n];
		int32		namespace;
		int			left;
		int			want;
		int			got;

		(void) rom_notify_queue_name(queue, &namespace);
		left = Min(share, Min(room, rom_share_room_of(namespace)));
		if (left <= 0)
			continue;

		do
		{
			if (claim->bytes > CLAIM_BYTES)
			{
				claim->more = true;
				break;
			}
			want = Min(left, CLAIM_CHUNK);
			got = claim_chunk(claim, queue, namespace, want);
			left -= got;
			room -= got;
			any |= got > 0;
		} while (got == want && left > 0);
	}
	turn = n > 0 ? (turn + 1) % n : 0;
	if (any)
		rom_fetch_outlast();
}

/* supersede gives up the request of an earlier attempt of the same task, whose time was over. */
static void
supersede(const RomFlight *by)
{
	RomFlight  *after;

	if (by->token.attempt == 1)
		return;
	for (RomFlight *f = first(&flying); f != NULL; f = after)
	{
		after = next(&flying, f);
		if (memcmp(&f->token.task_id, &by->token.task_id, sizeof(pg_uuid_t)) != 0)
			continue;
		transport->cancel(f->handle);
		dlist_delete(&f->node);
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
		dlist_push_tail(&flying, &f->node);
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
		RomFlight  *f = dlist_container(RomFlight, node, dlist_pop_head_node(&claim.fresh));

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

static void
inherit_unit(void *arg)
{
	static RomStatement over = {
		"UPDATE romancy.t_task SET due_at = '-infinity' WHERE task_id IN (SELECT t.task_id FROM romancy.t_task t"
		" WHERE t.due_at IS NOT NULL AND t.callback IS NOT TRUE AND t.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT ")"
		" AND pg_catalog.split_part(t.queue, '/', 2) IN ('" ROM_QUEUE_HTTP "', '" ROM_QUEUE_HTTP_CALL "')"
		" ORDER BY t.task_id FOR UPDATE)",
		0, {0}
	};
	RomEngine	engine;

	rom_engine_begin(&engine);
	if (rom_execute(&over, NULL, NULL, 0) > 0)
		rom_wake_sweep(rom_sweep_find("lock_cleanup"), rom_now());
	rom_engine_end(&engine);
}

bool
rom_flight_inherit(void)
{
	return rom_bgw_unit(inherit_unit, NULL, false);
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
	for (RomFlight *f = first(&flying); f != NULL; f = next(&flying, f))
		unwanted.ids[unwanted.n++] = f->token.task_id;
	if (!rom_bgw_unit(unwanted_unit, &unwanted, false))
		return false;
	qsort(unwanted.ids, unwanted.n, sizeof(pg_uuid_t), compare_ids);
	for (RomFlight *f = first(&flying); f != NULL; f = after)
	{
		after = next(&flying, f);
		if (unwanted.n == 0 ||
			bsearch(&f->token.task_id, unwanted.ids, unwanted.n, sizeof(pg_uuid_t), compare_ids) == NULL)
			continue;
		transport->cancel(f->handle);
		f->handle = NULL;
		dlist_delete(&f->node);
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
	dlist_delete(&f->node);
	rom_landing_take(f);
}

void
rom_flight_collect(void)
{
	RomTransportAnswer *answer;

	while ((answer = transport->next()) != NULL)
		((RomFlightTag *) answer->tag)->land(answer);
}
