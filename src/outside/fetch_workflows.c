/*-------------------------------------------------------------------------
 *
 * fetch_workflows.c
 *		fetch_workflows and poll_workflows: a program claims instances.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "outside/program.h"
#include "tasks/fetch.h"
#include "tasks/notify.h"

/* The columns of a workflow task that are not in its row. */
typedef struct WorkflowOf
{
	char	   *name;
	int32		version;
	char	   *status;
	Jsonb	   *input;
	char	   *namespace;
	TimestampTz scheduled_at;	/* of a schedule's run */
	bool		has_scheduled_at;
} WorkflowOf;

/* workflow_of reads the instance of a workflow task, in the current context. */
static void
workflow_of(RomTask *task, WorkflowOf *w)
{
	static RomStatement select = {
		"SELECT i.workflow, d.version, i.status::text, i.input, n.name, i.scheduled_at FROM romancy.t_instance i"
		" JOIN romancy.t_workflow d ON d.def_id = i.def_id"
		" JOIN romancy.t_namespace n ON n.namespace_id = i.namespace WHERE i.instance_id = $1",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[1];
	Datum		value;
	bool		isnull;
	RomRowSet	set;

	memset(w, 0, sizeof(WorkflowOf));
	values[0] = UUIDPGetDatum(&task->instance_id);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
	{
		w->name = rom_value_text(&set, 0, 1, cxt);
		w->version = DatumGetInt32(rom_value(&set, 0, 2, &isnull));
		w->status = rom_value_text(&set, 0, 3, cxt);
		value = rom_value_copy(&set, 0, 4, &isnull, cxt);
		w->input = isnull ? NULL : DatumGetJsonbP(value);
		w->namespace = rom_value_text(&set, 0, 5, cxt);
		value = rom_value(&set, 0, 6, &isnull);
		w->has_scheduled_at = !isnull;
		if (!isnull)
			w->scheduled_at = DatumGetTimestampTz(value);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/* fill_workflow makes a row of type workflow_task. */
static void
fill_workflow(RomClaimed *claimed, Datum *values, bool *nulls)
{
	RomTask    *task = claimed->task;
	WorkflowOf	w;

	workflow_of(task, &w);
	values[0] = CStringGetTextDatum(claimed->token);
	values[1] = UUIDPGetDatum(&task->instance_id);
	values[2] = CStringGetTextDatum(w.name);
	values[3] = Int32GetDatum(w.version);
	values[4] = CStringGetTextDatum(w.status);
	values[5] = PointerGetDatum(w.input);
	nulls[5] = w.input == NULL;
	values[6] = Int32GetDatum(task->attempt);
	values[7] = TimestampTzGetDatum(claimed->deadline);
	values[8] = PointerGetDatum(rom_program_history(task));
	values[9] = CStringGetTextDatum(w.namespace);
	values[10] = TimestampTzGetDatum(w.scheduled_at);
	nulls[10] = !w.has_scheduled_at;
}

PG_FUNCTION_INFO_V1(romancy_fetch_workflows);

/*
 * romancy.fetch_workflows(queue text, worker_id text, max_tasks int, lease interval)
 * -> setof workflow_task
 *
 * Claims instances whose workflow code, of a workflow with this queue, can
 * continue.
 */
Datum
romancy_fetch_workflows(PG_FUNCTION_ARGS)
{
	rom_fetch_rows(fcinfo, "fetch_workflows", ROM_QUEUE_WORKFLOWS, fill_workflow);
	return (Datum) 0;
}

/* workflow_json is the same as an object. */
static Jsonb *
workflow_json(RomClaimed *claimed)
{
	RomTask    *task = claimed->task;
	WorkflowOf	w;
	RomJb		jb;

	workflow_of(task, &w);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "token", claimed->token);
	rom_jb_text(&jb, "instance_id",
				rom_uuid_text(&task->instance_id));
	rom_jb_text(&jb, "workflow", w.name);
	rom_jb_int(&jb, "version", w.version);
	rom_jb_text(&jb, "status", w.status);
	rom_jb_text(&jb, "namespace", w.namespace);
	rom_jb_json(&jb, "history", rom_program_history(task));
	if (w.input)
		rom_jb_json(&jb, "input", w.input);
	else
		rom_jb_null(&jb, "input");
	rom_jb_int(&jb, "attempt", task->attempt);
	rom_jb_time(&jb, "deadline", claimed->deadline);
	if (w.has_scheduled_at)
		rom_jb_time(&jb, "scheduled_at", w.scheduled_at);
	else
		rom_jb_null(&jb, "scheduled_at");
	return rom_jb_end(&jb);
}

PG_FUNCTION_INFO_V1(romancy_poll_workflows);

/*
 * call romancy.poll_workflows(queue text, worker_id text, max_tasks int, lease interval,
 * wait interval, inout tasks jsonb [, unknown text[]])
 *
 * The same, waiting up to wait for work. unknown: names of workflows that the caller does not have.
 */
Datum
romancy_poll_workflows(PG_FUNCTION_ARGS)
{
	return rom_fetch_poll(fcinfo, "poll_workflows", ROM_QUEUE_WORKFLOWS, workflow_json);
}
