/*-------------------------------------------------------------------------
 *
 * fetch.c
 *		fetch_activities and poll_activities, and what the same of workflows
 *		(outside/fetch_workflows.c) shares with them.
 *
 * The call form waits as await_result does: register, look in a transaction
 * of its own, sleep without a snapshot. While there is no work it runs no
 * transaction at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "memory/waiter.h"
#include "tasks/fetch.h"
#include "tasks/lease.h"
#include "tasks/notify.h"
#include "tasks/poller.h"
#include "tasks/queue.h"
#include "turn/context.h"

/* read_unknown reads the names that the claim passes over: argument n, an array that may be null. */
static void
read_unknown(FunctionCallInfo fcinfo, int n, RomClaim *claim)
{
	Datum	   *names;
	bool	   *nulls;

	if (PG_NARGS() <= n || PG_ARGISNULL(n))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &claim->nunknown);
	claim->unknown = palloc_array(text *, claim->nunknown);
	for (int i = 0; i < claim->nunknown; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"unknown\" must not have null elements")));
		claim->unknown[i] = DatumGetTextPP(names[i]);
	}
	rom_queue_sort(claim);
}

/* A claim that waits and has passed over more tasks than this, which are for others, rests LOOK_SHARE times as long as that took. */
#define PASSED_MAX 1000
#define LOOK_SHARE 20

/* read_claim reads the arguments queue, worker_id, max_tasks and lease. prefix: of the queue's name as stored. */
static void
read_claim(FunctionCallInfo fcinfo, const char *prefix, RomClaim *claim)
{
	char	   *queue = rom_arg_text(fcinfo, 0, "queue");

	/* "@" before a name is for the queues of workflow code outside */
	if (queue[0] == '\0' || queue[0] == '@' || strlen(queue) > ROM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"queue\" must have between 1 and %d bytes and not begin with \"@\"",
						ROM_NAME_MAX)));
	claim->queue = psprintf("%s%s", prefix, rom_notify_queue_stored(rom_namespace_current(), queue));
	claim->worker_id = rom_arg_text(fcinfo, 1, "worker_id");
	claim->max = rom_arg_int32_opt(fcinfo, 2, 1);
	claim->lease_us = rom_lease_arg(fcinfo, 3, "lease");
	claim->caller = InvalidOid;
	claim->sends = false;
	claim->until = claim->booked = 0;
	claim->booked_of = 0;
	claim->nunknown = 0;
	if (strlen(claim->worker_id) > ROM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"worker_id\" must have at most %d bytes", ROM_NAME_MAX)));
	if (claim->max < 1 || claim->max > ROM_CLAIM_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"max_tasks\" must be between 1 and %d", ROM_CLAIM_MAX)));
}

void
rom_fetch_rows(FunctionCallInfo fcinfo, const char *function, const char *prefix, RomFetchFill fill)
{
	RomClaim	claim;
	RomClaimed *claimed;
	int			n;

	rom_context_refuse_handler(function);
	read_claim(fcinfo, prefix, &claim);
	InitMaterializedSRF(fcinfo, 0);
	claimed = palloc_array(RomClaimed, claim.max);
	rom_poller_begin(&claim, false);
	n = rom_queue_claim(&claim, claimed);
	rom_poller_end(claim.queue, claim.worker_id, n);
	if (n > 0)
		rom_guc_outlast();
	for (int i = 0; i < n; i++)
	{
		Datum		values[ROM_FETCH_COLUMNS];
		bool		nulls[ROM_FETCH_COLUMNS] = {0};

		fill(&claimed[i], values, nulls);
		tuplestore_putvalues(((ReturnSetInfo *) fcinfo->resultinfo)->setResult,
							 ((ReturnSetInfo *) fcinfo->resultinfo)->setDesc, values, nulls);
	}
}

char *
rom_fetch_step_key(const RomTask *task)
{
	Size		length = strlen(task->step);
	char	   *key = palloc(ROM_UUID_TEXT + 1 + length + 1);
	char	   *p = rom_uuid_write(&task->instance_id, key);

	*p++ = '/';
	memcpy(p, task->step, length + 1);
	return key;
}

/* fill_activity makes a row of type activity_task. */
static void
fill_activity(RomClaimed *claimed, Datum *values, bool *nulls)
{
	RomTask    *task = claimed->task;

	values[0] = CStringGetTextDatum(claimed->token);
	values[1] = UUIDPGetDatum(&task->instance_id);
	values[2] = CStringGetTextDatum(task->step);
	values[3] = CStringGetTextDatum(task->activity);
	values[4] = PointerGetDatum(task->input);
	nulls[4] = task->input == NULL;
	values[5] = Int32GetDatum(task->attempt);
	values[6] = TimestampTzGetDatum(claimed->deadline);
	values[7] = PointerGetDatum(task->details);
	nulls[7] = task->details == NULL;
	values[8] = CStringGetTextDatum(rom_fetch_step_key(task));
}

PG_FUNCTION_INFO_V1(romancy_fetch_activities);

/*
 * romancy.fetch_activities(queue text, worker_id text, max_tasks int, lease interval)
 * -> setof activity_task
 *
 * Claims ready tasks, highest priority first, then oldest. Errors: RM012.
 */
Datum
romancy_fetch_activities(PG_FUNCTION_ARGS)
{
	rom_fetch_rows(fcinfo, "fetch_activities", "", fill_activity);
	return (Datum) 0;
}

Jsonb *
rom_fetch_activity(RomClaimed *claimed)
{
	RomTask    *task = claimed->task;
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "token", claimed->token);
	rom_jb_text(&jb, "instance_id",
				rom_uuid_text(&task->instance_id));
	rom_jb_text(&jb, "activity_id", task->step);
	rom_jb_text(&jb, "activity", task->activity);
	if (task->input)
		rom_jb_json(&jb, "input", task->input);
	else
		rom_jb_null(&jb, "input");
	rom_jb_int(&jb, "attempt", task->attempt);
	rom_jb_time(&jb, "deadline", claimed->deadline);
	if (task->details)
		rom_jb_json(&jb, "last_details", task->details);
	else
		rom_jb_null(&jb, "last_details");
	rom_jb_text(&jb, "step_key", rom_fetch_step_key(task));
	return rom_jb_end(&jb);
}

void
rom_fetch_wait_check(FunctionCallInfo fcinfo, const char *procedure)
{
	rom_context_refuse_handler(procedure);
	if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("call romancy.%s(...) cannot be executed inside a transaction block", procedure),
			 errdetail("It waits, and commits before that."),
			 errhint("Commit first.")));
}

Datum
rom_fetch_wait_result(TupleDesc tupdesc, Jsonb *result)
{
	Datum		value = PointerGetDatum(result);
	bool		isnull = result == NULL;

	return HeapTupleGetDatum(heap_form_tuple(tupdesc, &value, &isnull));
}

/* claim_between claims in a transaction of its own. */
static int
claim_between(RomClaim *claim, RomFetchJson json, Jsonb **elements, MemoryContext cxt)
{
	/* (what it passes over must not pile up while it waits) */
	MemoryContext look = AllocSetContextCreate(cxt, "romancy fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(look);
	RomClaimed *claimed = palloc_array(RomClaimed, claim->max);
	int			n;

	PushActiveSnapshot(GetTransactionSnapshot());
	n = rom_queue_claim(claim, claimed);
	for (int i = 0; i < n; i++)
		elements[i] = json(&claimed[i]);
	PopActiveSnapshot();
	if (n > 0)
		rom_guc_outlast();
	SPI_commit();
	MemoryContextSwitchTo(old);
	if (n == 0)
		MemoryContextDelete(look);
	return n;
}

/* rest waits, whatever happens meanwhile, so long that the look that took so long (microseconds) is a small share of the time. */
static void
rest(int64 took, TimestampTz until)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = Min(now + LOOK_SHARE * took, until);

	for (; now < end; now = GetCurrentTimestamp())
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) ((end - now) / 1000 + 1), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* poll claims, waiting for work until until. */
static int
poll(RomClaim *claim, TimestampTz until, RomFetchJson json, Jsonb **elements,
	 MemoryContext cxt)
{
	volatile int n = 0;
	TimestampTz begun;

	claim->until = until;
	rom_poller_begin(claim, true);
	PG_TRY();
	{
		for (;;)
		{
			/* what it passes over is for others: it must not use up a wake-up */
			if (claim->nunknown > 0)
				rom_waiter_register_beside(rom_notify_key(claim->queue));
			else
				rom_waiter_register(rom_notify_key(claim->queue));
			begun = GetCurrentTimestamp();
			n = claim_between(claim, json, elements, cxt);
			if (n > 0)
				break;
			/* each task of the queue wakes it, those of others, too */
			if (claim->passed > PASSED_MAX)
				rest(GetCurrentTimestamp() - begun, until);
			/* a rate limit lets a task through before a wake-up */
			if (!rom_waiter_sleep(Min(until, claim->retry_at)) && claim->retry_at >= until)
				break;
		}
	}
	PG_CATCH();
	{
		rom_waiter_unregister();
		rom_poller_end(claim->queue, claim->worker_id, 0);
		PG_RE_THROW();
	}
	PG_END_TRY();
	rom_waiter_unregister();
	rom_poller_end(claim->queue, claim->worker_id, n);
	return n;
}

Datum
rom_fetch_poll(FunctionCallInfo fcinfo, const char *procedure, const char *prefix,
			   RomFetchJson json)
{
	MemoryContext cxt = CurrentMemoryContext;
	RomClaim	claim;
	Jsonb	  **elements;
	Interval   *wait;
	TupleDesc	tupdesc;
	TimestampTz until = DT_NOEND;
	int			n;

	rom_fetch_wait_check(fcinfo, procedure);
	read_claim(fcinfo, prefix, &claim);
	read_unknown(fcinfo, 6, &claim);
	wait = rom_arg_interval_opt(fcinfo, 4, "wait");
	if (wait != NULL)
		until = rom_arg_timestamp_plus(GetCurrentTimestamp(), wait);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	elements = palloc_array(Jsonb *, claim.max);

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	n = poll(&claim, until, json, elements, cxt);
	SPI_finish();
	MemoryContextSwitchTo(cxt);
	return rom_fetch_wait_result(tupdesc, rom_jb_array(elements, n));
}

PG_FUNCTION_INFO_V1(romancy_poll_activities);

/*
 * call romancy.poll_activities(queue text, worker_id text, max_tasks int, lease interval,
 * wait interval, inout tasks jsonb [, unknown text[]])
 *
 * The same, waiting up to wait for work: an array of objects, empty without work. unknown: names of activities that
 * the caller does not have; their tasks are left to others.
 */
Datum
romancy_poll_activities(PG_FUNCTION_ARGS)
{
	return rom_fetch_poll(fcinfo, "poll_activities", "", rom_fetch_activity);
}
