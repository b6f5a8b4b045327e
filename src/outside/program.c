/*-------------------------------------------------------------------------
 *
 * program.c
 *		The calls of a program that runs workflow code: read_history, record_...,
 *		suspend_..., complete_workflow, fail_workflow, extend_lease, scheduled_at(token).
 *
 * Each is fenced by the token of the instance's task (outside.c). Steps are
 * recorded in history here; a command is stored in the task, for the executor
 * to carry out.
 *
 * Locks are taken in the executor's order: the instance's row, then the task's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/history.h"
#include "instances/inbox.h"
#include "instances/instance.h"
#include "instances/pack.h"
#include "memory/wake.h"
#include "outside/command.h"
#include "outside/program.h"
#include "outside/seen.h"
#include "steps/report.h"
#include "tasks/lease.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/guc.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/turn.h"

/* Events that a claim brings along: the first page of read_history(). */
#define HISTORY_PAGE 1000

/* lost raises RM009. */
static void
lost(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_LEASE_LOST),
			 errmsg("the lease of the workflow instance was lost"),
			 errhint("Forget this instance: another worker has it, or it is over.")));
}

void
rom_program_enter(FunctionCallInfo fcinfo, RomProgram *c, bool with_instance)
{
	static RomStatement lock = {
		"SELECT i.last_seq, i.namespace FROM romancy.t_instance i WHERE i.instance_id ="
		" (SELECT t.instance_id FROM romancy.t_task t WHERE t.task_id = $1 AND t.kind = " ROM_SQL_TASK_WORKFLOW ")"
		" AND i.wake_at IS NOT NULL FOR NO KEY UPDATE",
		1, {UUIDOID}
	};
	RomToken	token;
	Oid			caller = GetUserId();
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	bool		isnull;
	RomRowSet	set;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_engine_begin(&c->engine);
	c->last_seq = 0;
	c->namespace = 0;
	if (with_instance)
	{
		values[0] = UUIDPGetDatum(&token.task_id);
		if (rom_execute_rows(&set, &lock, values, NULL, 1) == 0)
			lost();
		c->last_seq = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
		c->namespace = DatumGetInt32(rom_value(&set, 0, 2, &isnull));
	}
	c->task = rom_lease_lock(&token, caller);
	if (c->task == NULL || !c->task->live || c->task->kind != ROM_TASK_WORKFLOW)
		lost();
	MemoryContextSwitchTo(cxt);
}

void
rom_program_note_compensation(RomProgram *c, RomEvent *event)
{
	char	   *compensation = rom_saga_compensation(c->namespace, event->name);
	RomJb		jb;

	if (compensation == NULL)
		return;
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "compensation", compensation);
	event->detail = rom_jb_end(&jb);
}

void
rom_program_command(RomProgram *c, Jsonb *command)
{
	rom_state_command(c->task, command);
	/* durable: a wake-up that is lost is found by it */
	rom_inbox_insert(&c->task->instance_id, ROM_INBOX_SIGNAL, NULL, NULL, NULL, NULL);
	rom_wake_ready(&c->task->instance_id, get_role_oid(c->task->owner, true), c->task->priority);
	rom_engine_end(&c->engine);
}

/* command is the same for a command under construction. */
static Datum
command(RomProgram *c, RomJb *jb)
{
	rom_program_command(c, rom_jb_end(jb));
	PG_RETURN_VOID();
}

void
rom_program_pause(RomProgram *c, Jsonb *error)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "do", "pause");
	rom_jb_json(&jb, "error", error);
	rom_program_command(c, rom_jb_end(&jb));
}

/* step_arg reads an activity_id. */
static char *
step_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *step = rom_arg_text(fcinfo, n, "activity_id");

	if (step[0] == '\0' || strlen(step) > 200)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("activity_id must have between 1 and 200 bytes")));
	if (step[0] == ROM_STEP_ENGINE || strcmp(step, ROM_OUTSIDE_STEP) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("activity_id \"%s\" is reserved", step)));
	return step;
}

/* name_arg reads an activity's name. */
static char *
name_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *name = rom_arg_text(fcinfo, n, "name");

	rom_call_check_name(name);
	return name;
}

/* check_unused: RM003 for an activity id that history holds. */
static void
check_unused(RomProgram *c, const char *step)
{
	RomSeen		look;

	rom_seen_begin(&look, c->task, c->last_seq);
	if (rom_seen_find(&look, step) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_REPLAY),
				 errmsg("activity_id \"%s\" is used twice in workflow \"%s\"", step, c->task->activity),
				 errhint("Read the history first: it holds this step.")));
}

void
rom_program_append(RomProgram *c, RomEventList *list, bool compensations)
{
	static RomStatement update = {
		"UPDATE romancy.t_instance SET last_seq = $2, updated_at = $3, flags = flags | $4 WHERE instance_id = $1",
		4, {UUIDOID, INT8OID, TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[4];

	if (c->last_seq + list->count > rom_guc_max_history_events)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("history of workflow \"%s\" would exceed %d events",
						c->task->activity, rom_guc_max_history_events),
				 errhint("Divide the work among several instances, or raise romancy.max_history_events.")));
	values[0] = UUIDPGetDatum(&c->task->instance_id);
	values[1] = Int64GetDatum(rom_history_append(&c->task->instance_id, list, 0, c->last_seq));
	values[2] = TimestampTzGetDatum(list->events[0]->at);
	values[3] = Int32GetDatum(compensations ? ROM_HAS_COMPENSATIONS : 0);
	rom_execute(&update, values, NULL, 0);
}

/* record appends one event. */
static Datum
record(RomProgram *c, RomEvent *event)
{
	RomEventList list = {0};

	check_unused(c, event->step);
	event->at = rom_now();
	rom_event_list_add(&list, event, CurrentMemoryContext);
	/* only a compensation is a detail of what a worker records */
	rom_program_append(c, &list, event->detail != NULL);
	rom_engine_end(&c->engine);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_record_activity);

/*
 * romancy.record_activity(token text, activity_id text, name text, input jsonb, result jsonb)
 *
 * It is registered to be undone, if its definition says how. Errors: RM009 lease lost, RM012 no
 * token, RM003 a step that history holds, RM011 too large.
 */
Datum
romancy_record_activity(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomEvent	event = {0};

	event.type = ROM_EVENT_ACTIVITY_COMPLETED;
	event.step = step_arg(fcinfo, 1);
	event.name = name_arg(fcinfo, 2);
	event.input = rom_arg_jsonb_opt(fcinfo, 3);
	event.result = rom_arg_jsonb_opt(fcinfo, 4);
	if (event.result == NULL)
		event.result = rom_jb_null_document();
	rom_arg_check_payload(event.input, "input");
	rom_arg_check_payload(event.result, "result");
	rom_program_enter(fcinfo, &c, true);
	rom_program_note_compensation(&c, &event);
	return record(&c, &event);
}

PG_FUNCTION_INFO_V1(romancy_record_failure);

/* romancy.record_failure(token text, activity_id text, name text, message text, error_code text, detail jsonb) */
Datum
romancy_record_failure(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomEvent	event = {0};

	event.type = ROM_EVENT_ACTIVITY_FAILED;
	event.step = step_arg(fcinfo, 1);
	event.name = name_arg(fcinfo, 2);
	event.result = rom_lease_failure(rom_arg_text(fcinfo, 3, "message"),
									 rom_arg_text_opt(fcinfo, 4), rom_arg_jsonb_opt(fcinfo, 5));
	event.result = rom_error_catchable(event.result,
									   psprintf("activity \"%s\" was interrupted", event.name));
	rom_arg_check_payload(event.result, "message");
	rom_program_enter(fcinfo, &c, true);
	return record(&c, &event);
}

/* begin_command starts a command for the step in argument 1 (none: no step). */
static void
begin_command(RomJb *jb, const char *what, const char *step)
{
	rom_jb_begin(jb);
	rom_jb_text(jb, "do", what);
	rom_jb_text(jb, "step", step);
}

PG_FUNCTION_INFO_V1(romancy_suspend_timer);

/* romancy.suspend_timer(token text, activity_id text, until timestamptz): history gets TimerExpired */
Datum
romancy_suspend_timer(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomJb		jb;
	char	   *step = step_arg(fcinfo, 1);
	TimestampTz until;

	if (!rom_arg_timestamp_opt(fcinfo, 2, "until", &until))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"until\" must not be null")));
	rom_program_enter(fcinfo, &c, false);
	check_unused(&c, step);
	begin_command(&jb, "timer", step);
	rom_jb_time(&jb, "until", until);
	return command(&c, &jb);
}

PG_FUNCTION_INFO_V1(romancy_suspend_receive);

/* romancy.suspend_receive(token text, activity_id text, channel text, timeout interval): history gets ChannelMessageReceived or MessageTimeout */
Datum
romancy_suspend_receive(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomJb		jb;
	char	   *step = step_arg(fcinfo, 1);
	char	   *channel = rom_arg_text(fcinfo, 2, "channel");
	Interval   *timeout = rom_arg_interval_opt(fcinfo, 3, "timeout");
	int64		us;

	rom_arg_check_short_name(channel, "channel");
	rom_program_enter(fcinfo, &c, false);
	check_unused(&c, step);
	begin_command(&jb, "receive", step);
	rom_jb_text(&jb, "name", channel);
	if (timeout != NULL && rom_arg_interval_usec(timeout, &us))
		rom_jb_int(&jb, "timeout_us", us);
	return command(&c, &jb);
}

PG_FUNCTION_INFO_V1(romancy_suspend_activity);

/* romancy.suspend_activity(token text, activity_id text, name text, input jsonb): history gets ActivityCompleted or ActivityFailed */
Datum
romancy_suspend_activity(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomJb		jb;
	char	   *step = step_arg(fcinfo, 1);
	char	   *name = name_arg(fcinfo, 2);
	Jsonb	   *input = rom_arg_jsonb_opt(fcinfo, 3);

	rom_arg_check_payload(input, "input");
	rom_program_enter(fcinfo, &c, false);
	check_unused(&c, step);
	begin_command(&jb, "activity", step);
	rom_jb_text(&jb, "name", name);
	rom_jb_json(&jb, "input", input);
	return command(&c, &jb);
}

PG_FUNCTION_INFO_V1(romancy_complete_workflow);

/* romancy.complete_workflow(token text, output jsonb) */
Datum
romancy_complete_workflow(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomJb		jb;
	Jsonb	   *output = rom_arg_jsonb_opt(fcinfo, 1);

	rom_arg_check_payload(output, "output");
	rom_program_enter(fcinfo, &c, false);
	begin_command(&jb, "complete", NULL);
	rom_jb_json(&jb, "output", output);
	return command(&c, &jb);
}

PG_FUNCTION_INFO_V1(romancy_fail_workflow);

/* romancy.fail_workflow(token text, message text, error_code text, detail jsonb); error_code RM003 pauses the instance */
Datum
romancy_fail_workflow(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	RomJb		jb;
	Jsonb	   *error = rom_lease_failure(rom_arg_text(fcinfo, 1, "message"),
										  rom_arg_text_opt(fcinfo, 2), rom_arg_jsonb_opt(fcinfo, 3));

	rom_arg_check_payload(error, "message");
	rom_program_enter(fcinfo, &c, false);
	/* a program whose replay differs is for a human, as a handler is */
	if (strcmp(rom_jb_get_text(error, "sqlstate"), unpack_sql_state(ERRCODE_ROM_REPLAY)) == 0)
	{
		rom_program_pause(&c, error);
		PG_RETURN_VOID();
	}
	begin_command(&jb, "fail", NULL);
	rom_jb_json(&jb, "error", error);
	return command(&c, &jb);
}

PG_FUNCTION_INFO_V1(romancy_extend_lease);

/* romancy.extend_lease(token text, extend interval): RM009 when it was lost */
Datum
romancy_extend_lease(PG_FUNCTION_ARGS)
{
	RomProgram	c;
	int64		lease_us = rom_lease_arg(fcinfo, 1, "extend");

	rom_program_enter(fcinfo, &c, false);
	rom_lease_extend(c.task, lease_us, NULL);
	rom_engine_end(&c.engine);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_report_progress);

/*
 * romancy.report_progress(token text, done bigint, total bigint, note text): set_progress() for a program that holds a task of the instance,
 * an activity's or its workflow's. RM009 when the lease was lost
 */
Datum
romancy_report_progress(PG_FUNCTION_ARGS)
{
	static RomStatement select = {
		"SELECT namespace FROM romancy.t_instance WHERE instance_id = $1",
		1, {UUIDOID}
	};
	Oid			caller = GetUserId();
	RomProgress progress = {0};
	char	   *note = rom_arg_text_opt(fcinfo, 3);
	RomToken	token;
	RomTask    *task;
	Datum		values[1];
	bool		isnull;
	RomEngine	engine;
	RomRowSet	set;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_report_read(fcinfo, 1, &progress);
	rom_engine_begin(&engine);
	task = rom_lease_lock(&token, caller);
	if (task == NULL)
	{
		lost();
		PG_RETURN_VOID();
	}
	values[0] = UUIDPGetDatum(&task->instance_id);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
		rom_report_put(&task->instance_id, DatumGetInt32(rom_value(&set, 0, 1, &isnull)), &progress, note);
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_scheduled_at_of);

/*
 * romancy.scheduled_at(token text) -> timestamptz: the time that the schedule's run is for of which the token holds a task, an activity's
 * or its workflow's; null in instances that are no schedule's. RM009 when the lease was lost
 */
Datum
romancy_scheduled_at_of(PG_FUNCTION_ARGS)
{
	static RomStatement select = {
		"SELECT scheduled_at FROM romancy.t_instance WHERE instance_id = $1",
		1, {UUIDOID}
	};
	Oid			caller = GetUserId();
	RomToken	token;
	RomTask    *task;
	Datum		values[1];
	Datum		result = (Datum) 0;
	bool		isnull = true;
	RomEngine	engine;
	RomRowSet	set;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	rom_engine_begin(&engine);
	task = rom_lease_lock(&token, caller);
	if (task == NULL)
	{
		lost();
		PG_RETURN_NULL();
	}
	values[0] = UUIDPGetDatum(&task->instance_id);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
		result = rom_value(&set, 0, 1, &isnull);
	rom_engine_end(&engine);
	if (isnull)
		PG_RETURN_NULL();
	return result;
}

/*
 * read_page reads up to size events of a task's instance after number after, in order and without what
 * retry_workflow has taken back, into page, whose memory is in cxt. Engine scope needed.
 */
static void
read_page(RomTask *task, int64 after, int size, RomEventList *page, MemoryContext cxt)
{
	static RomStatement select = {
		"SELECT last_seq, events FROM romancy.t_history WHERE instance_id = $1 AND last_seq > $2"
		" ORDER BY last_seq LIMIT $3",
		3, {UUIDOID, INT8OID, INT8OID}
	};
	Jsonb	   *without = rom_seen_superseded(task);

	/* a page is full though some are left out */
	int64		nread = size + (without ? JsonContainerSize(&without->root) : 0);
	RomEventList list = {0};
	Datum		values[3];
	uint64		rows;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&task->instance_id);
	values[1] = Int64GetDatum(after);
	values[2] = Int64GetDatum(nread);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows && list.count < nread + 1000; i++)
	{
		bool		isnull;

		rom_pack_read(rom_value(&set, i, 2, &isnull),
					  DatumGetInt64(rom_value(&set, i, 1, &isnull)), &list, cxt);
	}
	for (int i = 0; i < list.count && page->count < size; i++)
		if (list.events[i]->seq > after && !rom_seen_is_superseded(without, list.events[i]->seq))
			rom_event_list_add(page, list.events[i], cxt);
}

Jsonb *
rom_program_history(RomTask *task)
{
	MemoryContext cxt = CurrentMemoryContext;
	RomEventList page = {0};
	RomEngine	engine;
	Jsonb	  **elements;

	rom_engine_begin(&engine);
	read_page(task, 0, HISTORY_PAGE, &page, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	elements = palloc_array(Jsonb *, page.count + 1);
	for (int i = 0; i < page.count; i++)
	{
		RomEvent   *event = page.events[i];
		RomJb		jb;

		rom_jb_begin(&jb);
		rom_jb_int(&jb, "seq", event->seq);
		rom_jb_text(&jb, "event_type", rom_event_name(event->type));
		rom_jb_text(&jb, "activity_id", event->step);
		rom_jb_json(&jb, "data", rom_event_data(event));
		rom_jb_time(&jb, "created_at", event->at);
		elements[i] = rom_jb_end(&jb);
	}
	return rom_jb_array(elements, page.count);
}

PG_FUNCTION_INFO_V1(romancy_read_history);

/*
 * romancy.read_history(token text, after bigint, page_size int)
 * -> setof (seq, event_type, activity_id, data, created_at)
 *
 * As get_history, for the instance that the token holds, without what retry_workflow has taken back.
 */
Datum
romancy_read_history(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		after = rom_arg_int64_opt(fcinfo, 1, 0);
	int			size = rom_arg_int32_opt(fcinfo, 2, HISTORY_PAGE);
	MemoryContext cxt;
	RomEventList page = {0};
	RomProgram	c;
	Datum		values[5];

	if (size < 1 || size > 10000)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("page_size must be between 1 and 10000")));
	InitMaterializedSRF(fcinfo, 0);
	cxt = CurrentMemoryContext;
	rom_program_enter(fcinfo, &c, false);
	read_page(c.task, after, size, &page, cxt);
	for (int i = 0; i < page.count; i++)
	{
		RomEvent   *event = page.events[i];
		bool		nulls[5] = {0};
		Jsonb	   *data = rom_event_data(event);

		values[0] = Int64GetDatum(event->seq);
		values[1] = CStringGetTextDatum(rom_event_name(event->type));
		nulls[2] = event->step == NULL;
		values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(event->step);
		nulls[3] = data == NULL;
		values[3] = PointerGetDatum(data);
		values[4] = TimestampTzGetDatum(event->at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	rom_engine_end(&c.engine);
	MemoryContextSwitchTo(cxt);
	return (Datum) 0;
}
