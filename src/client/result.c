/*-------------------------------------------------------------------------
 *
 * result.c
 *		get_result, await_result, run_workflow.
 *
 * The two procedures wait without a snapshot, so that they hold back no
 * VACUUM: they commit what the caller did before, register for the instance's
 * end, look with a snapshot of their own, commit again, and sleep. Register comes
 * before look, so an end between the two still wakes. All that they keep over
 * the commits is allocated in the context they were entered with.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "client/obstacles.h"
#include "instances/history.h"
#include "instances/instance.h"
#include "instances/start.h"
#include "instances/steer.h"
#include "memory/shmem.h"
#include "memory/waiter.h"
#include "run/eager.h"
#include "turn/context.h"
#include "turn/primitive.h"

PG_FUNCTION_INFO_V1(romancy_get_result);
PG_FUNCTION_INFO_V1(romancy_await_result);
PG_FUNCTION_INFO_V1(romancy_run_workflow);

/* After this many milliseconds of waiting, the call looks for reasons why workflows do not run. */
#define WARN_MS 1000

/* How an instance stands; the documents are copies. */
typedef struct Outcome
{
	pg_uuid_t	id;				/* the generation that it was read of */
	RomStatus	status;
	Jsonb	   *output;			/* NULL: none, or expired */
	Jsonb	   *error;
	bool		own;			/* started by the current transaction */
	bool		steered;		/* a request has arrived that its next turn
								 * applies: it does not stay paused */
} Outcome;

/* A request to resume or to end it lies in its inbox (kinds: inbox.h). */
#define STEERED \
	"EXISTS (SELECT FROM romancy.t_inbox b WHERE b.instance_id = i.instance_id AND b.kind IN (" ROM_SQL_INBOX_CANCEL ", " ROM_SQL_INBOX_TERMINATE ", " ROM_SQL_INBOX_RESUME "))"

static RomStatement select_outcome = {
	"SELECT instance_id, status, " ROM_SQL_OUTPUT ", error, xmin, owner, " STEERED
	" FROM romancy.t_instance i WHERE instance_id = $1",
	1, {UUIDOID}
};

static RomStatement select_successor = {
	"SELECT instance_id, status, " ROM_SQL_OUTPUT ", error, xmin, owner, " STEERED
	" FROM romancy.t_instance i WHERE continued_from = $1",
	1, {UUIDOID}
};

static Jsonb *
copy_jsonb(const RomRowSet *set, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, 0, col, &isnull, cxt);

	return isnull ? NULL : (Jsonb *) DatumGetPointer(value);
}

/* read_outcome reads the row that was found into outcome and returns its owner's name. Engine scope needed. */
static char *
read_outcome(const RomRowSet *set, Outcome *outcome, MemoryContext cxt)
{
	bool		isnull;
	TransactionId xmin;

	outcome->id = *DatumGetUUIDP(rom_value(set, 0, 1, &isnull));
	outcome->status = rom_instance_status_from_datum(rom_value(set, 0, 2, &isnull));
	outcome->output = copy_jsonb(set, 3, cxt);
	outcome->error = copy_jsonb(set, 4, cxt);
	xmin = DatumGetTransactionId(rom_value(set, 0, 5, &isnull));
	outcome->own = TransactionIdIsCurrentTransactionId(xmin);
	outcome->steered = DatumGetBool(rom_value(set, 0, 7, &isnull));
	return rom_value_text(set, 0, 6, cxt);
}

/*
 * look reads the state of an instance, or of the last generation of one that
 * recurred. RM002 when there is none, or the current user may not see it.
 */
static void
look(const pg_uuid_t *id, Outcome *outcome, MemoryContext cxt)
{
	RomEngine	engine;
	Datum		value = UUIDPGetDatum(id);
	char	   *owner = NULL;
	bool		found;
	RomRowSet	set;

	rom_engine_begin(&engine);
	found = rom_execute_rows(&set, &select_outcome, &value, NULL, 1) == 1;
	if (found)
		owner = read_outcome(&set, outcome, cxt);
	while (found && outcome->status == ROM_STATUS_RECURRED)
	{
		CHECK_FOR_INTERRUPTS();
		rom_execute_free(&set);
		value = UUIDPGetDatum(&outcome->id);
		if (rom_execute_rows(&set, &select_successor, &value, NULL, 1) == 0)
			break;
		read_outcome(&set, outcome, cxt);
	}
	rom_engine_end(&engine);
	if (!found || !rom_instance_may_read(owner))
		rom_steer_missing(id);
}

/* result_of gives the output of an instance that ended, or raises how it ended. */
static Jsonb *
result_of(const Outcome *outcome)
{
	char	   *id = rom_uuid_text(&outcome->id);
	char	   *reason;

	switch (outcome->status)
	{
		case ROM_STATUS_COMPLETED:
			if (outcome->output != NULL)
				return outcome->output;
			ereport(ERROR,
					(errcode(ERRCODE_ROM_STATE),
					 errmsg("output of workflow instance \"%s\" has expired",
							id),
					 errhint("Outputs are kept for romancy.result_expires.")));
			break;
		case ROM_STATUS_FAILED:
			if (outcome->error != NULL)
				rom_error_raise(outcome->error);
			break;
		case ROM_STATUS_CANCELLED:
			reason = rom_error_field(outcome->error, "message");
			ereport(ERROR,
					(errcode(ERRCODE_ROM_CANCELLED),
					 errmsg("workflow instance \"%s\" was cancelled", id),
					 reason ? errdetail_internal("%s", reason) : 0));
			break;
		case ROM_STATUS_RECURRED:
			ereport(ERROR,
					(errcode(ERRCODE_ROM_STATE),
					 errmsg("what workflow instance \"%s\" continued in is no longer there",
							id)));
			break;
		default:
			break;
	}
	elog(ERROR, "workflow instance \"%s\" has no result", id);
	return NULL;
}

/*
 * romancy.get_result(instance_id uuid) -> jsonb
 *
 * The output of an instance (of the last generation, where it recurred); null
 * while it runs. Errors: its own if it failed, RM008 if it was cancelled, RM010 if
 * its output has expired, RM002 unknown or not to be seen, RM004 in a workflow.
 */
Datum
romancy_get_result(PG_FUNCTION_ARGS)
{
	Outcome		outcome;

	rom_context_refuse_handler("get_result");
	look(rom_arg_uuid(fcinfo, 0, "instance_id"), &outcome,
		 CurrentMemoryContext);
	if (!ROM_STATUS_IS_FINAL(outcome.status))
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result_of(&outcome));
}

/* check_can_commit raises 25001 where a procedure was called in a place that cannot commit. */
static void
check_can_commit(FunctionCallInfo fcinfo, const char *procedure)
{
	/* not in an activity either, which runs in a transaction */
	if (rom_context_in_handler())
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s cannot be called in a workflow", procedure),
				 errhint("Use romancy.call_workflow, which starts a child and waits for its result.")));
	if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("call romancy.%s(...) cannot be executed inside a transaction block",
					procedure),
			 errdetail("It waits, and commits before that."),
			 errhint("Commit first, or use romancy.get_result to look without waiting.")));
}

/* is_stuck: has the engine paused it, so that an operator has to mend something? */
static bool
is_stuck(const Outcome *outcome)
{
	return outcome->status == ROM_STATUS_PAUSED && outcome->error != NULL && !outcome->steered;
}

/* raise_stuck raises the error that an instance is paused with; its hint says how the instance continues. */
static void
raise_stuck(const Outcome *outcome)
{
	char	   *hint = rom_error_field(outcome->error, "hint");
	char	   *how = psprintf("%s%sThe instance is paused: when the cause is mended, romancy.resume_workflow('%s') goes on.",
							   hint ? hint : "", hint ? " " : "",
							   rom_uuid_text(&outcome->id));

	rom_error_raise(rom_jb_with(outcome->error, "hint", rom_jb_string_document(how)));
}

/*
 * how_it_stands describes, for a DETAIL, what an instance waits for or runs, its last error, and what keeps
 * workflows from running here. Looks in a snapshot of its own.
 */
static char *
how_it_stands(const pg_uuid_t *id, MemoryContext cxt)
{
	static RomStatement select = {
		"SELECT pg_catalog.concat('It is ', w.status,"
		" CASE WHEN w.kind = 'running' THEN ', and runs ' || coalesce('step \"' || w.step || '\"', 'its handler')"
		" WHEN w.kind = 'paused' THEN ', by ' || w.paused_by"
		" WHEN w.kind = 'worker' OR w.kind = 'paused_queue' AND w.step IS NULL THEN ', for programs of queue \"' || w.queue || '\"'"
		" WHEN w.step IS NOT NULL THEN pg_catalog.concat(', at step \"', w.step, '\" (', w.kind, ', queue \"' || w.queue || '\"', ')') END,"
		" ' since ' || pg_catalog.to_char(w.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',"
		" CASE WHEN w.attempt > 0 THEN ', attempts: ' || w.attempt END, '.',"
		" CASE WHEN w.error IS NOT NULL THEN ' Its last error is ' || (w.error OPERATOR(pg_catalog.->>) 'sqlstate') || ': '"
		" || (w.error OPERATOR(pg_catalog.->>) 'message') || '.' END,"
		" (SELECT CASE WHEN q.paused THEN ' Queue \"' || q.name || '\" is paused: romancy.resume_queue.' END"
		" FROM romancy.queues q WHERE q.name = w.queue AND q.namespace = w.namespace),"
		" (SELECT ' Queue \"' || q.name || '\" is limited to ' || pg_catalog.concat_ws(' and ', 'max_concurrency ' || q.max_concurrency, 'rate_limit ' || q.rate_limit)"
		" || coalesce(' for each ' || q.per_key, '') || '.'"
		" FROM romancy.queues q WHERE q.name = w.queue AND q.namespace = w.namespace AND w.worker_id IS NULL AND (q.max_concurrency IS NOT NULL OR q.rate_limit IS NOT NULL)),"
		" (SELECT ' No program ' || CASE WHEN q.last_poll > pg_catalog.now() - '1 minute'::interval"
		" OR EXISTS (SELECT FROM romancy.pollers p WHERE p.queue = q.name AND p.namespace = q.namespace AND p.waiting) THEN 'that polls queue \"' || q.name || '\" has its next task.'"
		" ELSE 'polls queue \"' || q.name || '\".' END"
		" FROM romancy.queues q WHERE q.name = w.queue AND q.namespace = w.namespace AND q.pollers = 0 AND NOT q.pushed AND NOT q.paused))"
		" FROM romancy.waiting w WHERE w.instance_id = $1",
		1, {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);
	RomObstacles obstacles;
	RomEngine	engine;
	char	   *text = NULL;
	MemoryContext old;
	RomRowSet	set;

	PushActiveSnapshot(GetTransactionSnapshot());
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, &value, NULL, 1) == 1)
		text = rom_value_text(&set, 0, 1, cxt);

	rom_engine_end(&engine);
	old = MemoryContextSwitchTo(cxt);
	rom_obstacles_find(&obstacles);
	if (text == NULL)
		text = "It has just ended.";

	if (obstacles.count > 0)
		text = psprintf("%s %s", text, rom_obstacles_text(&obstacles));

	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	return text;
}

/* warn_of_obstacles warns a caller that begins to wait that no result will arrive in the present state. */
static void
warn_of_obstacles(void)
{
	RomObstacles obstacles;

	PushActiveSnapshot(GetTransactionSnapshot());
	rom_obstacles_find(&obstacles);
	PopActiveSnapshot();
	if (obstacles.count > 0)
		ereport(WARNING,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflows do not run in this database as things are"),
				 errdetail_internal("%s", rom_obstacles_text(&obstacles))));
	SPI_commit();
}

/* look_between looks in a transaction of its own, which holds nothing afterwards. */
static void
look_between(const pg_uuid_t *id, Outcome *outcome, MemoryContext cxt)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	look(id, outcome, cxt);
	PopActiveSnapshot();
	SPI_commit();
}

/* register_for has this session woken by the instance's end. */
static void
register_for(const pg_uuid_t *id)
{
	rom_waiter_register(rom_waiter_key(ROM_INSTANCE_END_KEY, id, sizeof(pg_uuid_t)));
}

/* was_told takes the outcome from the wake-up that the end of the instance has sent; false: it has to be looked up. */
static bool
was_told(const pg_uuid_t *id, Outcome *outcome, MemoryContext cxt)
{
	RomTold		told;
	Jsonb	   *document;

	if (!rom_waiter_told(id, &told))
		return false;
	document = MemoryContextAlloc(cxt, told.len);
	memcpy(document, told.data, told.len);
	outcome->id = *id;
	outcome->status = told.what;
	if (outcome->status == ROM_STATUS_COMPLETED)
		outcome->output = document;
	else
		outcome->error = document;
	return true;
}

/*
 * wait_for_end waits until the instance has ended, and gives how; RM006 after
 * until. One that the engine has paused does not end by itself: its error is raised.
 * own: the caller has started it, and has registered for its end before that was
 * committed. Called connected to SPI in non-atomic mode, and commits.
 */
static void
wait_for_end(const pg_uuid_t *id, TimestampTz until, bool own, Outcome *outcome,
			 MemoryContext cxt)
{
	TimestampTz warn_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WARN_MS);
	bool		warned = false;

	memset(outcome, 0, sizeof(*outcome));
	outcome->id = *id;
	if (own && rom_waiter_sleep(Min(until, warn_at)) && was_told(id, outcome, cxt))
		return;
	for (;;)
	{
		pg_uuid_t	waiting_for = outcome->id;

		register_for(&waiting_for);
		look_between(&waiting_for, outcome, cxt);
		if (ROM_STATUS_IS_FINAL(outcome->status))
			return;
		if (is_stuck(outcome))
			raise_stuck(outcome);
		/* it continued in another: wait for that one */
		if (memcmp(&waiting_for, &outcome->id, sizeof(pg_uuid_t)) != 0)
			continue;
		if (rom_waiter_sleep(warned ? until : Min(until, warn_at)))
			continue;
		if (!warned && warn_at < until)
		{
			/* most have ended by then, and need not look for it */
			warn_of_obstacles();
			warned = true;
		}
		else
			ereport(ERROR,
					(errcode(ERRCODE_ROM_TIMEOUT),
					 errmsg("timeout while waiting for workflow instance \"%s\"",
							rom_uuid_text(id)),
					 errdetail_internal("%s", how_it_stands(&outcome->id, cxt))));
	}
}

/* await waits for an instance, commits included, and gives its result or raises how it ended. */
static Jsonb *
await(const pg_uuid_t *id, TimestampTz until, bool own, MemoryContext cxt)
{
	Outcome		outcome;

	PG_TRY();
	{
		wait_for_end(id, until, own, &outcome, cxt);
	}
	PG_CATCH();
	{
		rom_waiter_unregister();
		PG_RE_THROW();
	}
	PG_END_TRY();
	rom_waiter_unregister();
	return result_of(&outcome);
}

/* timeout_arg reads a timeout as the instant when it is over. */
static TimestampTz
timeout_arg(FunctionCallInfo fcinfo, int n)
{
	Interval   *timeout = rom_arg_interval_opt(fcinfo, n, "timeout");

	return timeout ? rom_arg_timestamp_plus(GetCurrentTimestamp(), timeout) :
		DT_NOEND;
}

/* result_descriptor is the row type of the procedure's INOUT argument, in the current context. */
static TupleDesc
result_descriptor(FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(tupdesc);
}

/* result_row is what the procedure returns. */
static Datum
result_row(TupleDesc tupdesc, Jsonb *result)
{
	Datum		value = PointerGetDatum(result);
	bool		isnull = false;

	return HeapTupleGetDatum(heap_form_tuple(tupdesc, &value, &isnull));
}

/*
 * call romancy.await_result(instance_id uuid, timeout interval, inout result
 * jsonb)
 *
 * Waits until an instance has ended, and gives its output as get_result does.
 * timeout null: for ever. Errors: as get_result, RM006 at the timeout, the error that the
 * engine has paused it with, 25001 in a transaction block, RM010 for an instance that the same transaction started.
 */
Datum
romancy_await_result(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	pg_uuid_t	id;
	TimestampTz until;
	TupleDesc	tupdesc;
	Outcome		outcome;
	Jsonb	   *result;

	check_can_commit(fcinfo, "await_result");
	id = *rom_arg_uuid(fcinfo, 0, "instance_id");
	until = timeout_arg(fcinfo, 1);
	tupdesc = result_descriptor(fcinfo);

	PushActiveSnapshot(GetTransactionSnapshot());
	look(&id, &outcome, cxt);
	PopActiveSnapshot();
	if (outcome.own && !ROM_STATUS_IS_FINAL(outcome.status))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow instance \"%s\" was started by the same transaction",
						rom_uuid_text(&id)),
				 errdetail("It does not run before the transaction has committed."),
				 errhint("Commit between the two, or use call romancy.run_workflow(...).")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	result = await(&id, until, false, cxt);
	SPI_finish();
	MemoryContextSwitchTo(cxt);
	PG_RETURN_DATUM(result_row(tupdesc, result));
}

/* Run is an instance that run_workflow starts. */
typedef struct Run
{
	RomStartRequest request;
	pg_uuid_t	id;
	bool		own;			/* new, and this session registered for its
								 * end */
	Jsonb	   *result;			/* it has run to its end here; else NULL */
} Run;

/*
 * start starts the instance, and commits. eager: it may run in this transaction.
 * Called connected to SPI in non-atomic mode.
 */
static void
start(Run *run, bool eager, MemoryContext cxt)
{
	RomStart	new;
	RomEager	turn = {0};
	volatile bool failed = false;
	bool		is_new;

	PushActiveSnapshot(GetTransactionSnapshot());
	rom_start_warn();
	rom_start_resolve(&run->request, NULL, &new);
	if (eager && rom_eager_possible(new.workflow))
		new.here = MemoryContextAllocZero(cxt, sizeof(RomInstance));
	is_new = rom_start_instance(&new, &run->id);
	eager = is_new && new.here != NULL;
	if (eager)
		rom_eager_run(new.here, &turn, cxt);
	PopActiveSnapshot();
	run->own = is_new && turn.output == NULL && rom_shmem_available();
	if (!eager)
	{
		if (run->own)
			register_for(&run->id);
		SPI_commit();
		return;
	}
	PG_TRY();
	{
		if (run->own)
			register_for(&run->id);
		SPI_commit();
	}
	PG_CATCH();
	{
		/* SPI_commit() has rolled back and begun anew */
		ErrorData  *interrupt;

		MemoryContextSwitchTo(cxt);
		interrupt = rom_eager_interrupt();
		if (turn.interrupt == NULL)
			turn.interrupt = interrupt;
		failed = true;
	}
	PG_END_TRY();
	rom_eager_end();
	if (failed)
		start(run, false, cxt);
	else
		run->result = turn.output;
	if (turn.interrupt != NULL)
		ThrowErrorData(turn.interrupt);
}

/*
 * call romancy.run_workflow(name text, input jsonb, idempotency_key text, timeout
 * interval, inout result jsonb)
 *
 * Starts an instance, commits, and waits for its end as await_result does; a quick one runs here (run/eager.c). At the
 * timeout (null: never) the instance continues. Errors: those of start_workflow and of await_result.
 */
Datum
romancy_run_workflow(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	Run			run = {0};
	TimestampTz until;
	TupleDesc	tupdesc;
	bool		eager = !SPI_inside_nonatomic_context();

	check_can_commit(fcinfo, "run_workflow");
	run.request.name = rom_arg_text(fcinfo, 0, "name");
	run.request.input = rom_arg_jsonb_opt(fcinfo, 1);
	run.request.idempotency_key = rom_arg_key_opt(fcinfo, 2);
	until = timeout_arg(fcinfo, 3);
	tupdesc = result_descriptor(fcinfo);

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		start(&run, eager, cxt);
		if (run.result == NULL)
			run.result = await(&run.id, until, run.own, cxt);
	}
	PG_CATCH();
	{
		rom_waiter_unregister();
		PG_RE_THROW();
	}
	PG_END_TRY();
	SPI_finish();
	MemoryContextSwitchTo(cxt);
	PG_RETURN_DATUM(result_row(tupdesc, run.result));
}
