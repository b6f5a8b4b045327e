/*-------------------------------------------------------------------------
 *
 * lease.c
 *		Leases: the program that holds a task, until when, and the token that
 *		proves it.
 *
 * A token names the task, the attempt and a random number that the claim
 * wrote. Each call of its holder finds the row by all three, so after the
 * lease was given to another, or ended, the old holder changes nothing.
 *
 * due_at of a running task is the nearest of the lease's end, the end of
 * start_to_close_timeout and of heartbeat_timeout. The sweep lock_cleanup is
 * told of it and comes just then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/instance.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/guc.h"
#include "tasks/guc.h"
#include "tasks/lease.h"
#include "tasks/task.h"
#include "turn/context.h"
#include "turn/turn.h"

/* Longest lease. */
#define LEASE_MAX_US (INT64CONST(7) * 24 * 3600 * 1000000)

int64
rom_lease_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval   *lease = rom_arg_duration_opt(fcinfo, n, name);
	int64		us = (int64) rom_guc_lock_timeout * 1000;

	if (lease == NULL)
		return us;
	if (!rom_arg_interval_usec(lease, &us) || us > LEASE_MAX_US)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not exceed 7 days", name),
				 errhint("Take a short lease and renew it by heartbeats.")));
	return us;
}

bool
rom_lease_holds(RomRows *rows, const RomToken *token)
{
	bool		isnull;

	return rom_task_leased(DatumGetInt16(rom_rows_column(rows, ROM_TASK_STATE, &isnull))) &&
		DatumGetInt32(rom_rows_column(rows, ROM_TASK_ATTEMPT, &isnull)) == token->attempt &&
		DatumGetInt64(rom_rows_column(rows, ROM_TASK_FENCE, &isnull)) == token->fence && !isnull &&
		DatumGetTimestampTz(rom_rows_column(rows, ROM_TASK_DUE, &isnull)) > rom_now() && !isnull;
}

/* lock_row locks the row that was found; false when it is gone. */
static bool
lock_row(RomRows *rows, const RomToken *token)
{
	if (!token->nowait)
		return rom_rows_lock(rows);
	if (rom_rows_try_lock(rows))
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not obtain lock on a task: another transaction has it")));
}

RomTask *
rom_lease_lock(const RomToken *token, Oid caller)
{
	RomRows		rows;
	RomTask    *task = NULL;
	RomStatus	status;

	rom_rows_open(&rows, &rom_task_table, "t_task_pkey", true);
	if (rom_rows_find(&rows, &token->task_id) && rom_lease_holds(&rows, token) &&
		lock_row(&rows, token) && rom_lease_holds(&rows, token))
	{
		task = rom_task_of(rows.slot);
		task->locked = rows.slot->tts_tid;
	}
	rom_rows_close(&rows);
	if (task == NULL || !rom_instance_may_access(task->owner, caller, true))
		return NULL;
	task->live = rom_task_live(&task->instance_id, &status);
	task->unwanted = !task->live ||
		(status == ROM_STATUS_COMPENSATING && task->kind != ROM_TASK_COMPENSATION);
	return task;
}

/* owner_oid is the oid of the task's owner; InvalidOid when the role was dropped. */
static Oid
owner_oid(RomTask *task)
{
	return get_role_oid(task->owner, true);
}

void
rom_lease_refuse(FunctionCallInfo fcinfo)
{
	if (rom_context_in_handler())
		rom_context_refuse_handler(get_func_name(fcinfo->flinfo->fn_oid));
}

PG_FUNCTION_INFO_V1(romancy_release_activity);

/*
 * romancy.release_activity(token text) -> boolean
 *
 * Gives a claimed task back untouched, of an activity or a workflow: it can be fetched again at once, and the attempt does not
 * count. False as for complete_activity.
 */
Datum
romancy_release_activity(PG_FUNCTION_ARGS)
{
	RomToken	token;
	Oid			caller = GetUserId();
	RomEngine	engine;
	RomTask    *task;
	bool		done;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_engine_begin(&engine);
	task = rom_lease_lock(&token, caller);
	done = task != NULL && task->live;
	if (done)
	{
		if (task->state == ROM_TASK_RUNNING)
			rom_task_ended(task);
		task->state = rom_task_is_paused(&task->instance_id) ? ROM_TASK_PARKED : ROM_TASK_READY;
		rom_state_release(task);
		if (task->state == ROM_TASK_READY)
			rom_task_wake(task, owner_oid(task));
	}
	else if (task != NULL && !task->live)
		rom_task_delete(task);
	rom_engine_end(&engine);
	PG_RETURN_BOOL(done);
}

Jsonb *
rom_lease_failure(const char *message, const char *code, Jsonb *detail)
{
	int			sqlstate = ERRCODE_ROM_EXHAUSTED;
	bool		is_state = rom_error_parse_sqlstate(code, &sqlstate);
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", unpack_sql_state(sqlstate));
	rom_jb_text(&jb, "message", message);
	if (detail != NULL)
		rom_jb_text(&jb, "detail", JsonbToCString(NULL, &detail->root, 0));
	if (code != NULL && !is_state)
		rom_jb_text(&jb, "code", code);
	return rom_jb_end(&jb);
}

bool
rom_lease_fail(const RomToken *token, Oid caller, Jsonb *error, RomTaskRetry retry, const TimestampTz *retry_at, bool at_least)
{
	RomRetryPolicy policy;
	RomEngine	engine;
	RomTask    *task;
	bool		done;

	rom_engine_begin(&engine);
	task = rom_lease_lock(token, caller);
	done = task != NULL && task->live && task->kind != ROM_TASK_WORKFLOW;
	if (done)
	{
		policy = rom_task_policy(task);
		task->has_retry_at = retry_at != NULL;
		task->retry_at_least = at_least;
		if (retry_at != NULL)
			task->retry_at = *retry_at;
		error = rom_error_catchable(error, psprintf("activity \"%s\" was interrupted", task->activity));
		rom_task_fail(task, owner_oid(task), &policy, error, retry);
	}
	else if (task != NULL && !task->live)
		rom_task_delete(task);
	rom_engine_end(&engine);
	return done;
}

PG_FUNCTION_INFO_V1(romancy_fail_activity);

/*
 * romancy.fail_activity(token text, message text, error_code text, detail jsonb,
 * non_retryable boolean, retry_after interval) -> boolean
 *
 * The attempt failed; the retry policy decides about another, and when, unless retry_after says it. False as for complete_activity.
 */
Datum
romancy_fail_activity(PG_FUNCTION_ARGS)
{
	RomToken	token;
	Oid			caller = GetUserId();
	Jsonb	   *detail = rom_arg_jsonb_opt(fcinfo, 3);
	Jsonb	   *error;
	Interval   *retry_after = rom_arg_interval_opt(fcinfo, 5, "retry_after");
	TimestampTz retry_at = 0;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_arg_check_payload(detail, "detail");
	error = rom_lease_failure(rom_arg_text(fcinfo, 1, "message"), rom_arg_text_opt(fcinfo, 2), detail);
	rom_arg_check_payload(error, "message");
	if (retry_after != NULL)
		retry_at = rom_arg_timestamp_plus(rom_now(), retry_after);
	PG_RETURN_BOOL(rom_lease_fail(&token, caller, error,
								  rom_arg_bool_opt(fcinfo, 4, false) ? ROM_TASK_RETRY_NEVER : ROM_TASK_RETRY_POLICY,
								  retry_after != NULL ? &retry_at : NULL, false));
}

void
rom_lease_extend(RomTask *task, int64 lease_us, Jsonb *details)
{
	static RomStatement update = {
		"UPDATE romancy.t_task t SET beat_at = $2, lease_us = $3, details = coalesce($4, t.details),"
		" due_at = least(CASE WHEN t.callback THEN 'infinity' ELSE $2 + $3 * interval '1 microsecond' END,"
		" t.claimed_at + t.close_us * interval '1 microsecond', $2 + t.beat_us * interval '1 microsecond')"
		" WHERE t.task_id = $1 RETURNING t.due_at",
		4, {UUIDOID, TIMESTAMPTZOID, INT8OID, JSONBOID}
	};
	Datum		values[4];
	bool		nulls[4] = {false, false, false, details == NULL};
	bool		isnull;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = TimestampTzGetDatum(rom_now());
	values[2] = Int64GetDatum(lease_us);
	values[3] = PointerGetDatum(details);
	rom_execute_rows(&set, &update, values, nulls, 0);
	ItemPointerSetInvalid(&task->locked);
	rom_wake_sweep(rom_sweep_find("lock_cleanup"),
				   DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull)));
}

bool
rom_lease_hand_over(const RomToken *token, Oid caller)
{
	static RomStatement update = {
		"UPDATE romancy.t_task t SET callback = true, beat_at = $2, due_at = least('infinity', t.claimed_at + t.close_us * interval '1 microsecond',"
		" $2 + t.beat_us * interval '1 microsecond') WHERE t.task_id = $1 RETURNING t.due_at",
		2, {UUIDOID, TIMESTAMPTZOID}
	};
	RomEngine	engine;
	RomTask    *task;
	RomRowSet	set;
	Datum		values[2];
	bool		isnull;
	bool		done;

	rom_engine_begin(&engine);
	task = rom_lease_lock(token, caller);
	done = task != NULL && task->live && !task->unwanted;
	if (done)
	{
		values[0] = UUIDPGetDatum(&task->id);
		values[1] = TimestampTzGetDatum(rom_now());
		rom_execute_rows(&set, &update, values, NULL, 0);
		rom_wake_sweep(rom_sweep_find("lock_cleanup"), DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull)));
	}
	else if (task != NULL && !task->live)
		rom_task_delete(task);
	rom_engine_end(&engine);
	return done;
}

void
rom_lease_abandon(const RomToken *token, Oid caller)
{
	static RomStatement over = {
		"UPDATE romancy.t_task SET due_at = '-infinity' WHERE task_id = $1",
		1, {UUIDOID}
	};
	RomEngine	engine;
	RomTask    *task;
	Datum		values[1];

	rom_engine_begin(&engine);
	task = rom_lease_lock(token, caller);
	if (task != NULL && !task->live)
		rom_task_delete(task);
	else if (task != NULL && task->unwanted)
	{
		values[0] = UUIDPGetDatum(&task->id);
		rom_execute(&over, values, NULL, 0);
		rom_wake_ready(&task->instance_id, owner_oid(task), task->priority);
	}
	rom_engine_end(&engine);
}

PG_FUNCTION_INFO_V1(romancy_heartbeat_activity);

/*
 * romancy.heartbeat_activity(token text, details jsonb, extend interval) -> text
 *
 * Renews the lease, by its own length or by extend. 'ok'; 'cancel_requested' when the instance
 * is over; 'lost' when the lease is.
 */
Datum
romancy_heartbeat_activity(PG_FUNCTION_ARGS)
{
	RomToken	token;
	Oid			caller = GetUserId();
	Jsonb	   *details = rom_arg_jsonb_opt(fcinfo, 1);
	int64		lease_us = PG_ARGISNULL(2) ? 0 : rom_lease_arg(fcinfo, 2, "extend");
	const char *answer = "lost";
	RomEngine	engine;
	RomTask    *task;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_arg_check_payload(details, "details");
	rom_engine_begin(&engine);
	task = rom_lease_lock(&token, caller);
	if (task != NULL)
	{
		rom_lease_extend(task, lease_us > 0 ? lease_us : task->lease_us, details);
		answer = task->unwanted ? "cancel_requested" : "ok";
	}
	rom_engine_end(&engine);
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/* ---------------------------------------------------------------- sweeps */

/* expire deals with one running task whose time is over. */
static void
expire(RomTask *task, TimestampTz claimed_at, TimestampTz beat_at, TimestampTz now)
{
	RomRetryPolicy policy = rom_task_policy(task);
	Oid			owner = owner_oid(task);

	if (!task->live)
		rom_task_delete(task);
	else if (task->kind == ROM_TASK_WORKFLOW)
	{
		/*
		 * a turn of code outside is no attempt: it is given to another, as
		 * often as it takes
		 */
		policy.max_attempts = 0;
		policy.max_duration = 0;
		rom_task_fail(task, owner, &policy,
					  rom_error_make(ERRCODE_ROM_LEASE_LOST, "lease lost", NULL, NULL, NULL),
					  ROM_TASK_RETRY_AT_ONCE);
	}
	else if (task->close_us > 0 && claimed_at + task->close_us <= now)
		rom_task_fail(task, owner, &policy,
					  rom_error_make(ERRCODE_ROM_TIMEOUT,
									 psprintf("activity \"%s\" exceeded its start_to_close_timeout", task->activity),
									 NULL, NULL, NULL),
					  ROM_TASK_RETRY_POLICY);
	else if (task->beat_us > 0 && beat_at + task->beat_us <= now)
		rom_task_fail(task, owner, &policy,
					  rom_error_make(ERRCODE_ROM_TIMEOUT,
									 psprintf("activity \"%s\" exceeded its heartbeat_timeout", task->activity),
									 NULL, NULL, NULL),
					  ROM_TASK_RETRY_POLICY);
	else
		rom_task_fail(task, owner, &policy,
					  rom_error_make(ERRCODE_ROM_LEASE_LOST,
									 psprintf("the worker of activity \"%s\" lost its lease", task->activity),
									 NULL, NULL, NULL),
					  ROM_TASK_RETRY_AT_ONCE);
}

/* sweep handles tasks of a state whose due_at is over by now. */
static int64
sweep(const RomSweepArgs *args, RomTaskState state, TimestampTz now)
{
	static RomStatement select = {
		"SELECT " ROM_TASK_COLUMNS ", t.claimed_at, t.beat_at,"
		" EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = t.instance_id AND i.wake_at IS NOT NULL)"
		" FROM romancy.t_task t WHERE t.due_at <= $1 AND t.state = $2"
		" AND ($4 = 1 OR (pg_catalog.uuid_hash(t.instance_id) & 2147483647) % $4 = $5)"
		" ORDER BY t.due_at LIMIT $3 FOR UPDATE OF t SKIP LOCKED",
		5, {TIMESTAMPTZOID, INT2OID, INT4OID, INT4OID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[5];
	uint64		rows;
	RomTask   **tasks;
	TimestampTz *times;
	RomRowSet	set;

	values[0] = TimestampTzGetDatum(now);
	values[1] = Int16GetDatum(state);
	values[2] = Int32GetDatum(args->limit);
	values[3] = Int32GetDatum(args->nparts);
	values[4] = Int32GetDatum(args->part);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	tasks = palloc_array(RomTask *, rows + 1);
	times = palloc_array(TimestampTz, 2 * rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		tasks[i] = rom_task_read(&set, i);
		times[2 * i] = DatumGetTimestampTz(rom_value(&set, i, ROM_TASK_NCOLUMNS + 1, &isnull));
		times[2 * i + 1] = DatumGetTimestampTz(rom_value(&set, i, ROM_TASK_NCOLUMNS + 2, &isnull));
		tasks[i]->live = DatumGetBool(rom_value(&set, i, ROM_TASK_NCOLUMNS + 3, &isnull));
	}
	for (uint64 i = 0; i < rows; i++)
	{
		RomTask    *task = tasks[i];

		if (rom_task_leased(state))
			expire(task, times[2 * i], times[2 * i + 1], now);
		else if (state == ROM_TASK_READY)
		{
			RomRetryPolicy policy = rom_task_policy(task);

			rom_task_fail(task, owner_oid(task), &policy,
						  rom_error_make(ERRCODE_ROM_TIMEOUT,
										 psprintf("activity \"%s\" exceeded its schedule_to_start_timeout",
												  task->activity),
										 NULL, NULL, NULL),
						  ROM_TASK_RETRY_NEVER);
		}
		else
			rom_wake_ready(&task->id, owner_oid(task), task->priority);
	}
	rom_engine_end(&engine);
	return rows;
}

/* next_due_of is the nearest due_at from that time on, of tasks in the given states. */
static TimestampTz
next_due_of(RomTaskState first, RomTaskState second, TimestampTz from)
{
	static RomStatement select = {
		"SELECT least((SELECT due_at FROM romancy.t_task WHERE due_at >= $3 AND state = $1 ORDER BY due_at LIMIT 1),"
		" (SELECT due_at FROM romancy.t_task WHERE due_at >= $3 AND state = $2 ORDER BY due_at LIMIT 1))",
		3, {INT2OID, INT2OID, TIMESTAMPTZOID}
	};
	RomEngine	engine;
	Datum		values[3];
	bool		isnull;
	RomRowSet	set;

	values[0] = Int16GetDatum(first);
	values[1] = Int16GetDatum(second);
	values[2] = TimestampTzGetDatum(from);
	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, values, NULL, 1);
	values[0] = rom_value(&set, 0, 1, &isnull);
	rom_engine_end(&engine);
	return isnull ? DT_NOEND : DatumGetTimestampTz(values[0]);
}

static TimestampTz
next_lease(void)
{
	return next_due_of(ROM_TASK_RUNNING, ROM_TASK_LEFT, DT_NOBEGIN);
}

static TimestampTz
next_timeout(void)
{
	return next_due_of(ROM_TASK_READY, ROM_TASK_WAITING, DT_NOBEGIN);
}

/*
 * again has the sweep come at the next end that is known now: of the ends that were noted while an earlier one was, only that earlier one was
 * kept. left: one that was due, and is left by a run that has ended done tasks. If it has ended none, other transactions hold what is left, for
 * as long as they like: it looks more and more seldom (ms), as *held counts.
 */
static void
again(const char *name, TimestampTz next, TimestampTz left, int64 done, TimestampTz now, int *held)
{
	*held = left > now || done > 0 ? 0 : Min(*held + 1, 20);
	if (*held > 0)
		left = now + (int64) rom_backoff(20, 2, *held, 1000) * 1000;
	if (Min(next, left) < DT_NOEND)
		rom_wake_sweep(rom_sweep_find(name), Min(next, left));
}

static int64
sweep_leases(const RomSweepArgs *args)
{
	static int	held = 0;
	TimestampTz now = rom_now();
	int64		rows = sweep(args, ROM_TASK_RUNNING, now) + sweep(args, ROM_TASK_LEFT, now);

	again("lock_cleanup", next_due_of(ROM_TASK_RUNNING, ROM_TASK_LEFT, now + 1), next_lease(), rows, now, &held);
	return rows;
}

/* (Tasks that wait for their next attempt are handed to executors, which may be long in coming: those that are due are not left.) */
static int64
sweep_timeouts(const RomSweepArgs *args)
{
	static int	held = 0;
	TimestampTz now = rom_now();
	int64		rows = sweep(args, ROM_TASK_READY, now);

	again("activity_timeouts", next_due_of(ROM_TASK_READY, ROM_TASK_WAITING, now + 1), next_due_of(ROM_TASK_READY, ROM_TASK_READY, DT_NOBEGIN), rows, now, &held);
	return rows + sweep(args, ROM_TASK_WAITING, now);
}

static const RomSweep lock_cleanup = {
	.name = "lock_cleanup",
	.interval = &rom_guc_lock_cleanup_interval,
	.batch = sweep_leases,
	.next_due = next_lease,
	.exact = true,
};

static const RomSweep activity_timeouts = {
	.name = "activity_timeouts",
	.interval = &rom_guc_activity_timeout_interval,
	.batch = sweep_timeouts,
	.next_due = next_timeout,
	.exact = true,
};

void
rom_lease_init(void)
{
	rom_sweep_register(&lock_cleanup);
	rom_sweep_register(&activity_timeouts);
}
