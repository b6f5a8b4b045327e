/*-------------------------------------------------------------------------
 *
 * spawn.c
 *		Activities that a handler schedules: spawn, map, and activity() on one
 *		with a queue.
 *
 * spawn() records ActivityScheduled, whose detail holds what the task needs
 * to know of the definition; the task's row is written when the turn is
 * saved. map() is made of spawns: it waits until all have ended, also when one
 * has failed, so that replay does not depend on which ended when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/activity_definition.h"
#include "instances/document.h"
#include "instances/event.h"
#include "memory/roster.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "steps/activity.h"
#include "steps/invoke.h"
#include "tasks/cancel.h"
#include "tasks/notify.h"
#include "tasks/quota.h"
#include "tasks/spawn.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/hooks.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/schedule.h"
#include "turn/turn.h"

/* base_name is what a scheduled event's activity is called. */
static char *
base_name(RomEvent *event)
{
	char	   *name;
	char	   *colon;

	if (event->name != NULL)
		return event->name;
	name = pstrdup(event->step);
	colon = strrchr(name, ':');
	if (colon != NULL)
		*colon = '\0';
	return name;
}

/* new_task makes a task of the turn's instance. */
static RomTask *
new_task(RomTurn *turn, const char *activity, const char *step, Jsonb *input)
{
	RomTask    *task = palloc0_object(RomTask);

	task->kind = ROM_TASK_ACTIVITY;
	task->instance_id = turn->inst->id;
	task->def_id = turn->inst->def_id;
	task->priority = turn->inst->priority;
	task->owner = turn->inst->owner_name;
	task->activity = pstrdup(activity);
	task->step = pstrdup(step);
	task->input = input;
	return task;
}

static RomOutcome
spawn_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_ACTIVITY_SCHEDULED;
	return ROM_OUTCOME_DONE;
}

/* spawn_deferred writes the task's row. */
static void
spawn_deferred(RomTurn *turn, RomEvent *event)
{
	char	   *queue = rom_jb_get_text(event->detail, "queue");
	bool		request = queue != NULL && strcmp(queue, ROM_QUEUE_HTTP_CALL) == 0;
	RomTask    *task = new_task(turn, request ? ROM_ACTIVITY_HTTP_CALL : base_name(event), event->step, event->input);

	task->queue = queue ? rom_notify_queue_stored(turn->inst->namespace, queue) : "";
	task->close_us = rom_jb_get_int(event->detail, "start_to_close_us", 0);
	task->beat_us = rom_jb_get_int(event->detail, "heartbeat_us", 0);
	task->retry = rom_jb_get_json(event->detail, "retry");
	task->limit_key = rom_quota_key_of(task->queue, task->input);
	task->is_short = rom_invoke_short_task(turn->inst->namespace, task->activity);
	turn->inst->flags |= ROM_HAS_TASKS;
	rom_task_insert(task, turn->owner, rom_jb_get_time(event->detail, "start_by"));
}

static const RomPrimitive primitive_spawn = {
	.name = "spawn",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_ACTIVITY_SCHEDULED},
	.execute = spawn_execute,
	.deferred = spawn_deferred,
};

/*
 * resolve finds the activity; what is missing pauses the instance, as with activity(). NULL on
 * replay, which needs none: its function may be gone by then.
 */
static RomActivity *
resolve(RomTurn *turn, const char *name, char *activity_id)
{
	RomActivity *activity = NULL;

	if (rom_replay_peek(turn) != NULL)
		return NULL;
	PG_TRY();
	{
		activity = rom_activity_definition_resolve_undoable(turn->inst->namespace, name, turn->workflow->search_path);
	}
	PG_CATCH();
	{
		rom_call_pause(turn, name, activity_id);
	}
	PG_END_TRY();
	return activity;
}

/* spawn_detail is what the scheduled event keeps of the definition and the call. */
static Jsonb *
spawn_detail(RomActivity *activity, Jsonb *retry)
{
	RomTask		task = {0};
	TimestampTz start_by;
	RomJb		jb;

	rom_task_define(&task, activity, &start_by);
	if (activity->queue == NULL && task.close_us == 0 && start_by == DT_NOEND &&
		retry == NULL)
		return NULL;
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "queue", activity->queue);
	if (task.close_us > 0)
		rom_jb_int(&jb, "start_to_close_us", task.close_us);
	if (task.beat_us > 0)
		rom_jb_int(&jb, "heartbeat_us", task.beat_us);
	rom_jb_time(&jb, "start_by", start_by);
	rom_jb_json(&jb, "retry", retry);
	return rom_jb_end(&jb);
}

char *
rom_spawn_step(RomTurn *turn, RomActivity *activity, const char *name, Jsonb *input,
			   const char *step, Jsonb *retry)
{
	RomCall		call = {0};

	call.primitive = &primitive_spawn;
	call.name = call.step_base = name;
	call.step = step;
	call.input = input;
	if (rom_replay_peek(turn) == NULL)
		call.detail = spawn_detail(activity, retry);
	return rom_call_step(&call)->step;
}

PG_FUNCTION_INFO_V1(romancy_spawn);

/*
 * romancy.spawn(name text, input jsonb, activity_id text, retry jsonb) -> text
 *
 * Schedules an activity in parallel; the handle is its activity id. Errors: RM004 outside a
 * handler, RM012 for a wrong retry.
 */
Datum
romancy_spawn(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("spawn()");
	char	   *name = rom_arg_text(fcinfo, 0, "name");
	char	   *activity_id = rom_arg_text_opt(fcinfo, 2);
	Jsonb	   *retry = rom_arg_jsonb_opt(fcinfo, 3);
	RomActivity *activity;
	char	   *step;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	rom_call_check_name(name);
	if (retry != NULL)
	{
		RomRetryPolicy check;

		rom_retry_defaults(&check);
		rom_retry_overlay(&check, retry, "retry");
	}
	activity = resolve(turn, name, activity_id);
	step = rom_spawn_step(turn, activity, name, rom_arg_jsonb_opt(fcinfo, 1), activity_id, retry);
	rom_task_expect(turn, activity, name, 1);
	PG_RETURN_TEXT_P(cstring_to_text(step));
}

/* An activity's outcome as an event, of an inbox item. */
static void
fill_outcome(RomTurn *turn, RomEvent *event, RomInboxItem *item)
{
	event->type = item->error ? ROM_EVENT_ACTIVITY_FAILED : ROM_EVENT_ACTIVITY_COMPLETED;
	event->result = item->error ? item->error : item->result;
	if (event->result == NULL)
		event->result = rom_jb_null_document();
	event->result = rom_context_copy_jsonb(turn, event->result);
	event->detail = rom_context_copy_jsonb(turn, item->detail);
	event->at = item->created_at;
}

/* activity_arrived is RomScheduleKind's arrived(). */
static RomEvent *
activity_arrived(RomTurn *turn, RomEvent *scheduled, RomInboxItem *item)
{
	RomEvent   *event = rom_replay_event(turn, ROM_EVENT_ACTIVITY_COMPLETED, scheduled->step);

	event->name = scheduled->name;
	event->input = scheduled->input;
	fill_outcome(turn, event, item);
	return event;
}

/* activity_value is RomScheduleKind's value(). */
static Jsonb *
activity_value(RomTurn *turn, RomEvent *outcome)
{
	if (outcome->type == ROM_EVENT_ACTIVITY_FAILED)
		rom_error_raise(outcome->result);
	return outcome->result;
}

/* The task of a step, $2, of an instance, $1. */
#define TASK_OF_STEP \
	"SELECT 1 FROM romancy.t_task WHERE instance_id = $1 AND step = $2 AND kind = " ROM_SQL_TASK_ACTIVITY " AND state <> " ROM_SQL_TASK_DEAD

/*
 * make_task writes the task of a retried step anew, unless the former one is still there: held by a program outside. One that another
 * transaction has may be about to be taken away; that is looked at later.
 */
static void
make_task(RomTurn *turn, RomEvent *event)
{
	static RomStatement left = {TASK_OF_STEP " FOR UPDATE SKIP LOCKED", 2, {UUIDOID, TEXTOID}};
	static RomStatement held = {TASK_OF_STEP, 2, {UUIDOID, TEXTOID}};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(event->step);
	if (rom_execute(&left, values, NULL, 1) > 0)
		return;
	if (rom_execute(&held, values, NULL, 1) > 0)
		rom_hooks_look_later(turn, event->step);
	else
		spawn_deferred(turn, event);
}

/* activity_again makes the task of a retried step. The time in which it has to begin counts from now. */
static void
activity_again(RomTurn *turn, RomEvent *scheduled, RomEvent *event)
{
	TimestampTz start_by = event->detail ? rom_jb_get_time(event->detail, "start_by") : DT_NOEND;
	RomEngine	engine;

	if (start_by != DT_NOEND)
	{
		RomJb		jb;

		rom_jb_begin(&jb);
		rom_jb_time(&jb, "start_by", event->at + (start_by - scheduled->at));
		event->detail = rom_jb_with(event->detail, "start_by",
									rom_jb_get_json(rom_jb_end(&jb), "start_by"));
	}
	rom_engine_begin(&engine);
	make_task(turn, event);
	rom_engine_end(&engine);
}

/* make_later is make_task() for a step whose former task another transaction had. It may have left an outcome, which is the step's then. */
static void
make_later(RomTurn *turn, const char *step)
{
	static RomStatement outcome = {
		"SELECT 1 FROM romancy.t_inbox WHERE instance_id = $1 AND step = $2 AND kind = " ROM_SQL_INBOX_RESULT,
		2, {UUIDOID, TEXTOID}
	};
	RomEvent   *event = rom_replay_scheduled(turn, step);
	Datum		values[2];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(step);
	if (event != NULL && turn->saga == NULL && rom_replay_completion(turn, step) == NULL &&
		rom_execute(&outcome, values, NULL, 1) == 0)
		make_task(turn, event);
}

/*
 * in_flight lists what programs outside hold a lease on, for an instance that
 * compensates, and deletes the tasks whose lease is over.
 */
static List *
in_flight(RomTurn *turn)
{
	static RomStatement select = {
		"SELECT t.step, t.activity, a.compensation, " ROM_SQL_VALUE("t.input", "t.document") ", t.due_at, t.state, t.task_id, t.queue, t.limit_key, t.callback"
		" FROM romancy.t_task t JOIN romancy.t_activity a ON a.namespace = $2 AND a.name = t.activity"
		" WHERE t.instance_id = $1 AND t.kind IN (" ROM_SQL_TASK_ACTIVITY ", " ROM_SQL_TASK_CANVAS ") AND t.state <> " ROM_SQL_TASK_DEAD " AND t.queue <> ''"
		" AND a.compensation IS NOT NULL"
		" FOR UPDATE OF t SKIP LOCKED",
		2, {UUIDOID, INT4OID}
	};
	static RomStatement delete = {
		"DELETE FROM romancy.t_task WHERE task_id = $1",
		1, {UUIDOID}
	};
	Datum		values[2] = {UUIDPGetDatum(&turn->inst->id), Int32GetDatum(turn->inst->namespace)};
	MemoryContext cxt = turn->cxt;
	RomRowSet	set;
	uint64		n = rom_execute_rows(&set, &select, values, NULL, 0);
	List	   *list = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		RomInFlight *f = palloc0_object(RomInFlight);
		Datum		value;
		bool		callback;
		bool		isnull;

		f->step = rom_value_text(&set, i, 1, cxt);
		f->activity = rom_value_text(&set, i, 2, cxt);
		f->compensation = rom_value_text(&set, i, 3, cxt);
		value = rom_value_copy(&set, i, 4, &isnull, cxt);
		f->input = isnull ? NULL : (Jsonb *) DatumGetPointer(value);
		value = rom_value(&set, i, 5, &isnull);
		f->until = isnull ? DT_NOEND : DatumGetTimestampTz(value);
		f->over = !rom_task_leased(DatumGetInt16(rom_value(&set, i, 6, &isnull))) || f->until <= rom_now();
		/* a server that completes it by a call is not waited for */
		callback = DatumGetBool(rom_value(&set, i, 10, &isnull));
		f->over |= !isnull && callback;
		list = lappend(list, f);
		if (!f->over && !isnull)
			rom_notify_http(ROM_HTTP_CANCEL);
		if (f->over)
		{
			RomTask		task = {.kind = ROM_TASK_ACTIVITY,.activity = f->activity};

			values[0] = rom_value_copy(&set, i, 7, &isnull, cxt);
			task.state = DatumGetInt16(rom_value(&set, i, 6, &isnull));
			task.queue = rom_value_text(&set, i, 8, cxt);
			task.limit_key = rom_value_text(&set, i, 9, cxt);
			rom_execute(&delete, values, NULL, 0);
			if (task.state == ROM_TASK_RUNNING)
				rom_task_ended(&task);
		}
		MemoryContextSwitchTo(old);
	}
	return list;
}

static const RomScheduleKind schedule_activity = {
	.scheduled = ROM_EVENT_ACTIVITY_SCHEDULED,
	.waiting = ROM_STATUS_WAITING_ACTIVITY,
	.wait_kind = "activity",
	.arrived = activity_arrived,
	.again = activity_again,
	.value = activity_value,
};

/* pending_handles lists those that have no outcome yet. */
static int
pending_handles(RomTurn *turn, char **handles, int n, char **pending)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
		if (rom_replay_completion(turn, handles[i]) == NULL)
			pending[count++] = handles[i];
	return count;
}

PG_FUNCTION_INFO_V1(romancy_map);

/*
 * romancy.map(name text, inputs jsonb, max_parallel int) -> jsonb
 *
 * Runs the activity for each element of inputs, at most max_parallel at a time, and returns
 * their results in order. When some fail the others run on; then the first error in order is raised.
 */
Datum
romancy_map(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("map()");
	char	   *name = rom_arg_text(fcinfo, 0, "name");
	Jsonb	   *inputs = rom_arg_jsonb(fcinfo, 1, "inputs");
	int			max = rom_arg_int32_opt(fcinfo, 2, 0);
	RomActivity *activity;
	char	  **handles;
	char	  **pending;
	Jsonb	  **results;
	char	   *label;
	int			n;
	int			npending;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	if (!JB_ROOT_IS_ARRAY(inputs) || JB_ROOT_IS_SCALAR(inputs))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"inputs\" of romancy.map() must be a JSON array")));
	if (!PG_ARGISNULL(2) && max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"max_parallel\" must be greater than zero")));
	rom_call_check_name(name);
	activity = resolve(turn, name, NULL);
	n = JB_ROOT_COUNT(inputs);
	handles = palloc_array(char *, n + 1);
	pending = palloc_array(char *, n + 1);
	label = psprintf("map_%s", name);
	rom_task_expect(turn, activity, name, max > 0 ? Min(n, max) : n);
	for (int i = 0; i < n; i++)
	{
		/*
		 * how many run is looked at past the end of history only: replay
		 * schedules what was scheduled
		 */
		if (max > 0 && i >= max && rom_replay_peek(turn) == NULL)
		{
			npending = pending_handles(turn, handles, i, pending);
			if (npending >= max)
				rom_schedule_wait(turn, label, pending, npending, true);
		}
		if (activity == NULL)
			activity = resolve(turn, name, NULL);
		handles[i] = rom_spawn_step(turn, activity, name,
									JsonbValueToJsonb(getIthJsonbValueFromContainer(&inputs->root, i)),
									NULL, NULL);
	}
	npending = pending_handles(turn, handles, n, pending);
	if (npending > 0)
		rom_schedule_wait(turn, label, pending, npending, false);
	rom_call_wait_over(turn, label);
	results = palloc_array(Jsonb *, n + 1);
	for (int i = 0; i < n; i++)
		results[i] = rom_schedule_value(turn, handles[i]);
	PG_RETURN_JSONB_P(rom_jb_array(results, n));
}

RomOutcome
rom_spawn_queued(RomTurn *turn, RomCall *call, RomEvent *event, RomActivity *activity)
{
	RomWait    *before = rom_call_waited(turn, call);
	RomInboxItem *item;
	RomTask    *task;
	RomEngine	engine;
	TimestampTz start_by;

	if (before != NULL && strcmp(before->kind, "activity") == 0)
	{
		item = rom_replay_take(turn, call->step);
		if (item != NULL)
		{
			fill_outcome(turn, event, item);
			return ROM_OUTCOME_DONE;
		}
		return rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "activity",
							 DT_NOEND, before->detail);
	}
	task = new_task(turn, activity->name, call->step, call->input);
	if (call->undoes != NULL)
		task->kind = ROM_TASK_COMPENSATION;
	rom_task_define(task, activity, &start_by);
	task->retry = call->options;
	rom_engine_begin(&engine);
	task->limit_key = rom_quota_key_of(task->queue, task->input);
	rom_task_insert(task, turn->owner, start_by);
	rom_engine_end(&engine);
	turn->inst->flags |= ROM_HAS_TASKS;
	return rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "activity", DT_NOEND, NULL);
}

/* has_rows: are there rows of tasks of the instance? Most have none when they end, and statements for these are not planned then. */
static bool
has_rows(const pg_uuid_t *id)
{
	static RomTable table = {"t_task", 1, {"state"}, true};
	RomRows		rows;
	bool		found;

	rom_rows_open_select(&rows, &table, "t_task_instance", false);
	found = rom_rows_find(&rows, id);
	rom_rows_close(&rows);
	return found;
}

/*
 * free_tasks locks the tasks of an instance that no other transaction has locked and no program
 * outside holds a lease on, and returns their ids. *all is how many there are altogether, running
 * ones included. Before the instance ends, those whose process has died in an attempt that is not transactional are ended: it undoes them.
 */
static int
free_tasks(RomTurn *turn, pg_uuid_t **ids, int64 *all)
{
	static RomStatement lock = {
		"SELECT task_id, state, queue = '' AND fence IS NOT NULL FROM romancy.t_task WHERE instance_id = $1 AND state <> " ROM_SQL_TASK_DEAD " FOR UPDATE SKIP LOCKED",
		1, {UUIDOID}
	};
	static RomStatement count = {
		"SELECT count(*) FROM romancy.t_task WHERE instance_id = $1 AND state <> " ROM_SQL_TASK_DEAD,
		1, {UUIDOID}
	};
	Datum		values[1] = {UUIDPGetDatum(&turn->inst->id)};
	RomRowSet	set;
	uint64		rows = rom_execute_rows(&set, &lock, values, NULL, 0);
	int64		running = 0;
	bool		isnull;
	int			n = 0;
	List	   *unknown = NIL;
	ListCell   *lc;

	*ids = MemoryContextAlloc(turn->cxt, sizeof(pg_uuid_t) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(&set, i, 1, &isnull));

		/*
		 * a procedure, or a function that is not transactional, runs between
		 * transactions
		 */
		if (rom_task_leased(DatumGetInt16(rom_value(&set, i, 2, &isnull))))
			running++;
		else if (rom_slot_kept(id))
			continue;
		else if (!ROM_STATUS_IS_FINAL(turn->out.status) && DatumGetBool(rom_value(&set, i, 3, &isnull)))
			unknown = lappend(unknown, memcpy(palloc(UUID_LEN), id, UUID_LEN));
		else
			(*ids)[n++] = *id;
	}
	foreach(lc, unknown)
	{
		rom_cancel_unknown_of(lfirst(lc), turn->owner);
	}

	/*
	 * with a snapshot of its own: a task that was deleted in between has left
	 * its outcome
	 */
	rom_execute_rows(&set, &count, values, NULL, 1);
	*all = DatumGetInt64(rom_value(&set, 0, 1, &isnull)) - running;
	return n;
}

/*
 * leave takes the tasks of an instance that programs have a lease on off the accounts of their limits. The rows stay until the lease is
 * over, so that the programs hear of the end by their heartbeats.
 */
static void
leave(RomTurn *turn)
{
	int			n;
	RomTask    *tasks = rom_state_leave(&turn->inst->id, &n);

	for (int i = 0; i < n; i++)
	{
		rom_task_ended(&tasks[i]);
		rom_notify_unwanted(&tasks[i]);
	}
}

/* tasks_end takes the tasks of an instance that is about to end away: those not begun are deleted, running ones are cancelled. */
static void
tasks_end(RomTurn *turn, RomStatus status)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_task WHERE task_id = ANY ($1)",
		1, {UUIDARRAYOID}
	};
	static RomStatement left = {
		"SELECT task_id FROM romancy.t_task WHERE instance_id = $1 AND queue = '' AND state <> " ROM_SQL_TASK_DEAD,
		1, {UUIDOID}
	};
	pg_uuid_t  *ids;
	int64		all;
	int			n;
	Datum		values[1];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	if (!has_rows(&turn->inst->id))
		return;
	n = free_tasks(turn, &ids, &all);
	if (n > 0)
	{
		values[0] = rom_uuid_array(ids, n);
		rom_execute(&delete, values, NULL, 0);
	}
	leave(turn);
	if (all == n)
		return;

	/*
	 * (one that is ready, here still, is about to be fetched or runs in the
	 * database)
	 */
	if (ROM_STATUS_IS_FINAL(turn->out.status) &&
		(rom_state_has(&turn->inst->id, ROM_TASK_RUNNING) || rom_state_has(&turn->inst->id, ROM_TASK_READY)))
		rom_hooks_look_later(turn, NULL);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	rows = rom_execute_rows(&set, &left, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_wake_cancel(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)));

	/*
	 * programs outside hear of it by their heartbeats, which look at the
	 * instance
	 */
}

/* tasks_busy: is one of its tasks running? Those that are free meanwhile are deleted. */
static bool
tasks_busy(RomTurn *turn)
{
	pg_uuid_t  *ids;
	int64		all;

	if (!has_rows(&turn->inst->id))
		return false;
	if (free_tasks(turn, &ids, &all) == all)
	{
		tasks_end(turn, turn->out.status);
		return false;
	}
	return true;
}

/* look_again is for tasks that a turn before could not have: of an instance that has ended, or of a retried step. */
static void
look_again(RomTurn *turn, const char *step)
{
	if (ROM_STATUS_IS_FINAL(turn->out.status))
		tasks_end(turn, turn->out.status);
	else if (step != NULL)
		make_later(turn, step);
}

/* task_in_use: is there a task of this activity? */
static bool
task_in_use(int32 namespace, const char *name)
{
	static RomStatement find = {
		"SELECT 1 FROM romancy.t_task t JOIN romancy.t_workflow w USING (def_id)"
		" WHERE t.activity = $1 AND t.state <> " ROM_SQL_TASK_DEAD " AND w.namespace = $2 LIMIT 1",
		2, {TEXTOID, INT4OID}
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = Int32GetDatum(namespace);
	return rom_execute(&find, values, NULL, 1) > 0;
}

void
rom_spawn_init(void)
{
	rom_kinds_register(&schedule_activity);
	rom_activity_on_queued(rom_spawn_queued);
	rom_hooks_on_end(ROM_HAS_TASKS, tasks_end);
	rom_hooks_on_busy(ROM_HAS_TASKS, tasks_busy);
	rom_hooks_on_look_again(ROM_HAS_TASKS, look_again);
	rom_saga_on_in_flight(in_flight);
	rom_activity_definition_on_drop(task_in_use);
}
