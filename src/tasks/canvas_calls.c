/*-------------------------------------------------------------------------
 *
 * canvas_calls.c
 *		Canvas: the SQL calls that start signatures, and that show their tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "defs/definition.h"
#include "defs/namespace.h"
#include "instances/document.h"
#include "instances/start.h"
#include "instances/steer.h"
#include "steps/child.h"
#include "tasks/canvas_calls.h"
#include "tasks/signature.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_run_canvas);
PG_FUNCTION_INFO_V1(romancy_canvas);
PG_FUNCTION_INFO_V1(romancy_spawn_canvas);
PG_FUNCTION_INFO_V1(romancy_canvas_tasks);

/* A walk through a signature in which names are resolved. */
typedef struct Resolving
{
	const char *search_path;
	char		last[201];		/* the name before, which the next task has,
								 * too, as a rule */
} Resolving;

/* resolve_name is a RomSignatureVisit: the name of a task must mean something under the path in arg. */
static void
resolve_name(const char *task, const char *path, void *arg)
{
	Resolving  *resolving = arg;
	MemoryContext cxt = CurrentMemoryContext;

	if (strcmp(resolving->last, task) == 0)
		return;
	PG_TRY();
	{
		RomActivity *activity = rom_activity_definition_resolve_undoable(rom_namespace_current(), task, resolving->search_path);

		if (activity->queue == NULL)
			(void) rom_activity_definition_handler(activity, GetUserId());
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		if (edata->sqlerrcode != ERRCODE_ROM_UNDEFINED)
			PG_RE_THROW();
		FlushErrorState();
		/* (an error of its own would have the lines of its context twice) */
		edata->message = psprintf("invalid signature at \"%s\": %s", path, edata->message);
		ReThrowError(edata);
	}
	PG_END_TRY();
	strlcpy(resolving->last, task, sizeof(resolving->last));
}

/* The name that all tasks of a signature have. */
typedef struct CommonName
{
	char		name[201];
	char	   *path;			/* of the first task; NULL: there is none */
	bool		differs;		/* another one has another name */
	MemoryContext cxt;
} CommonName;

/* note_name is a RomSignatureVisit that fills a CommonName. */
static void
note_name(const char *task, const char *path, void *arg)
{
	CommonName *common = arg;

	if (common->path == NULL)
	{
		strlcpy(common->name, task, sizeof(common->name));
		common->path = MemoryContextStrdup(common->cxt, path);
	}
	else if (!common->differs)
		common->differs = strcmp(common->name, task) != 0;
}

/*
 * make_input checks a signature and, under search_path (NULL: not), its names, and makes the input of its instance. All of it is checked
 * before a name is looked up; where all tasks have one name it is not walked through again for that.
 */
static Jsonb *
make_input(Jsonb *signature, Jsonb *input, const char *search_path)
{
	CommonName	common = {.cxt = CurrentMemoryContext};
	Resolving	resolving = {.search_path = search_path};
	int64		total = rom_signature_walk(signature, note_name, &common);
	const char *keys[3];
	JsonbValue	values[3];
	int			n = 0;

	if (search_path != NULL && common.differs)
		(void) rom_signature_walk(signature, resolve_name, &resolving);
	else if (search_path != NULL && common.path != NULL)
		resolve_name(common.name, common.path, &resolving);
	rom_arg_check_payload(input, "input");
	if (input != NULL)
	{
		keys[n] = "input";
		rom_jb_value(input, &values[n++]);
	}
	keys[n] = "total";
	rom_jb_value(rom_jb_int_document(total), &values[n++]);
	keys[n] = "signature";
	rom_jb_value(signature, &values[n++]);
	return rom_jb_object(keys, values, n);
}

/*
 * romancy.run_canvas(signature jsonb, input jsonb, labels jsonb, result_expires interval, instance_id uuid,
 * idempotency_key text, start_at timestamptz, priority int, execution_timeout interval) -> uuid
 *
 * Starts a signature as an instance. input: what its first tasks get as the result before them. The others as for
 * start_workflow. Errors: RM012 with the path of the fault, RM001 with the path of a name that means nothing; RM004 in a handler;
 * those of start_workflow.
 */
Datum
romancy_run_canvas(PG_FUNCTION_ARGS)
{
	Jsonb	   *signature = rom_arg_jsonb(fcinfo, 0, "signature");
	pg_uuid_t  *id = palloc_object(pg_uuid_t);
	RomStart	request = {0};

	rom_context_refuse_handler("run_canvas");
	request.workflow = rom_definition_resolve(ROM_CANVAS_HANDLER, 0);
	request.name = "canvas";
	request.owner = GetUserId();
	request.input = make_input(signature, rom_arg_jsonb_opt(fcinfo, 1), request.workflow->search_path);
	request.labels = rom_arg_jsonb_opt(fcinfo, 2);
	request.result_expires = rom_arg_interval_opt(fcinfo, 3, "result_expires");
	request.has_id = !PG_ARGISNULL(4);
	if (request.has_id)
		request.id = *PG_GETARG_UUID_P(4);
	request.idempotency_key = rom_arg_key_opt(fcinfo, 5);
	request.has_start_at = rom_arg_timestamp_opt(fcinfo, 6, "start_at", &request.start_at);
	request.priority = rom_arg_int32_opt(fcinfo, 7, 0);
	request.execution_timeout = rom_arg_duration_opt(fcinfo, 8, "execution_timeout");
	request.flags = ROM_IS_CANVAS;
	rom_start_warn();
	(void) rom_start_instance(&request, id);
	PG_RETURN_UUID_P(id);
}

/* child_input is the input of a canvas as a step; a name that means nothing pauses the instance, as with activity(). */
static Jsonb *
child_input(RomTurn *turn, FunctionCallInfo fcinfo)
{
	Jsonb	   *signature = rom_arg_jsonb(fcinfo, 0, "signature");
	Jsonb	   *input = rom_arg_jsonb_opt(fcinfo, 1);
	Jsonb	   *result = NULL;

	/* on replay the names need not exist any more */
	if (rom_replay_peek(turn) != NULL)
		return make_input(signature, input, NULL);
	PG_TRY();
	{
		result = make_input(signature, input, turn->workflow->search_path);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_ROM_UNDEFINED)
			PG_RE_THROW();
		rom_call_pause(turn, ROM_CHILD_CANVAS, rom_arg_text_opt(fcinfo, 2));
	}
	PG_END_TRY();
	return result;
}

/* spawn starts a canvas as a child and returns its handle. */
static char *
spawn(FunctionCallInfo fcinfo, const char *function)
{
	RomTurn    *turn = rom_context_require(function);

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	return rom_child_canvas(turn, child_input(turn, fcinfo), rom_arg_text_opt(fcinfo, 2));
}

/*
 * romancy.canvas(signature jsonb, input jsonb, activity_id text) -> jsonb
 *
 * In a workflow: runs a signature as a child, waits for it and returns its result, or raises its error. Errors: RM004 outside a
 * handler, RM012 for a wrong signature; a name that means nothing pauses the instance (RM001).
 */
Datum
romancy_canvas(PG_FUNCTION_ARGS)
{
	char	   *handle = spawn(fcinfo, "canvas()");

	PG_RETURN_JSONB_P(rom_child_await(rom_context_require("canvas()"), handle));
}

/* romancy.spawn_canvas(signature jsonb, input jsonb, activity_id text) -> text: the same without waiting; its handle, for await(). */
Datum
romancy_spawn_canvas(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(spawn(fcinfo, "spawn_canvas()")));
}

/* ---------------------------------------------------------------- its tasks */

/* The tasks of a signature, as two arrays. */
typedef struct Members
{
	Datum	   *paths;
	Datum	   *names;
	int			count;
	int			size;
} Members;

/* add_member adds a task at path, as tasks are named by it. */
static void
add_member(Members *members, const char *path, const char *name)
{
	if (members->count == members->size)
	{
		members->size = members->size ? members->size * 2 : 64;
		members->paths = members->paths ? repalloc_huge(members->paths, members->size * sizeof(Datum)) :
			palloc_array(Datum, members->size);
		members->names = members->names ? repalloc_huge(members->names, members->size * sizeof(Datum)) :
			palloc_array(Datum, members->size);
	}
	members->paths[members->count] = CStringGetTextDatum(path[0] ? path : "0");
	members->names[members->count++] = CStringGetTextDatum(name);
}

/* list_members adds the tasks of a signature that was checked, as frames.c names them; callbacks, but no on_error and on_success. */
static void
list_members(Members *members, Jsonb *json, const char *path)
{
	RomSignature s;
	const char *dot = path[0] ? "." : "";
	int			n;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	rom_signature_read(json, &s);
	if (s.kind == ROM_SIGNATURE_TASK)
	{
		add_member(members, path, s.task);
		return;
	}
	n = JsonContainerSize(&s.members->root);
	for (int i = 0; i < n; i++)
		list_members(members, rom_signature_member(s.members, i), psprintf("%s%s%d", path, dot, i));
	if (s.body != NULL)
		list_members(members, s.body, psprintf("%s%sbody", path, dot));
}

/* text_array makes a text[]. */
static Datum
text_array(Datum *elements, int n)
{
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

uint64
rom_canvas_calls_tasks(const pg_uuid_t *id, Jsonb *signature, RomRowSet *set)
{
	static RomStatement select = {
		"WITH m AS (SELECT u.path, u.activity, u.n FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY u (path, activity, n)),"
		" t AS (SELECT pg_catalog.substr(t.step, pg_catalog.length(t.activity) + 2) AS path, t.activity,"
		"  CASE WHEN r.pid IS NOT NULL THEN 'running' ELSE CASE t.state WHEN 0 THEN 'ready' WHEN 1 THEN 'running' WHEN 6 THEN 'running'"
		"  WHEN 2 THEN 'waiting' WHEN 5 THEN 'paused' END END AS status,"
		"  CASE WHEN r.pid IS NOT NULL AND t.state IN (" ROM_SQL_TASK_READY ", " ROM_SQL_TASK_WAITING ") THEN t.attempt + 1 ELSE t.attempt END AS attempt, " ROM_SQL_VALUE("t.input", "t.document") " AS input, NULL::jsonb AS result,"
		"  t.errors OPERATOR(pg_catalog.->) -1 AS error, coalesce(r.since, t.started_at) AS started_at, NULL::timestamptz AS finished_at"
		"  FROM romancy.t_task t LEFT JOIN romancy.t_running() r ON r.id = t.task_id"
		"  WHERE t.instance_id = $1 AND t.kind = " ROM_SQL_TASK_CANVAS " AND t.state <> " ROM_SQL_TASK_DEAD
		" UNION ALL SELECT pg_catalog.substr(r.step, pg_catalog.length(r.activity) + 2), r.activity,"
		"  CASE WHEN r.error IS NULL THEN 'completed' ELSE 'failed' END, r.attempt, " ROM_SQL_VALUE("r.input", "r.input_document") ", " ROM_SQL_VALUE("r.value", "r.value_document") ", r.error, r.started_at, r.finished_at"
		"  FROM romancy.t_canvas_result r WHERE r.instance_id = $1 AND r.step IS NOT NULL)"
		" SELECT coalesce(t.path, m.path), coalesce(t.activity, m.activity), coalesce(t.status, (SELECT CASE WHEN i.wake_at IS NULL THEN 'skipped' ELSE 'pending' END FROM romancy.t_instance i WHERE i.instance_id = $1)), t.attempt, t.input, t.result,"
		" t.error, t.started_at, t.finished_at FROM m FULL JOIN t ON t.path = m.path ORDER BY m.n, t.started_at, t.path",
		3, {UUIDOID, TEXTARRAYOID, TEXTARRAYOID}
	};
	Members		members = {0};
	Datum		values[3];

	list_members(&members, signature, "");
	values[0] = UUIDPGetDatum(id);
	values[1] = text_array(members.paths, members.count);
	values[2] = text_array(members.names, members.count);
	return rom_execute_rows(set, &select, values, NULL, 0);
}

Jsonb *
rom_canvas_calls_signature(const pg_uuid_t *id, MemoryContext cxt)
{
	static RomStatement signature = {
		"SELECT input OPERATOR(pg_catalog.->) 'signature' FROM romancy.t_instance WHERE instance_id = $1",
		1, {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);
	bool		isnull;
	RomRowSet	set;

	if (rom_execute_rows(&set, &signature, &value, NULL, 1) != 1)
		return NULL;
	value = rom_value_copy(&set, 0, 1, &isnull, cxt);
	return isnull ? NULL : DatumGetJsonbP(value);
}

/*
 * romancy.canvas_tasks(instance_id uuid) -> setof (path, activity, status, attempt, input, result, error, started_at, finished_at)
 *
 * All tasks of a canvas in the order of its signature, then those of on_error and on_success that were started. status: pending (not
 * scheduled yet), ready, running, waiting, paused, completed, failed, skipped (the canvas ended before). Errors: RM002 unknown or not to be seen; RM010 no canvas.
 */
Datum
romancy_canvas_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	MemoryContext cxt = CurrentMemoryContext;
	RomInstanceHead head;
	RomEngine	engine;
	Jsonb	   *signature;
	uint64		rows;
	RomRowSet	set;

	rom_steer_head(id, false, &head);
	if (!(head.flags & ROM_IS_CANVAS))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("the workflow instance is no canvas"),
				 errhint("See romancy.activity_tasks for the tasks of other workflows.")));
	InitMaterializedSRF(fcinfo, 0);
	rom_engine_begin(&engine);
	signature = rom_canvas_calls_signature(id, cxt);
	MemoryContextSwitchTo(cxt);
	rows = signature == NULL ? 0 : rom_canvas_calls_tasks(id, signature, &set);
	for (uint64 i = 0; i < rows; i++)
	{
		Datum		row[9];
		bool		nulls[9];

		for (int c = 0; c < 9; c++)
			row[c] = rom_value(&set, i, c + 1, &nulls[c]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
	}
	rom_engine_end(&engine);
	return (Datum) 0;
}
