/*-------------------------------------------------------------------------
 *
 * canvas.c
 *		Canvas: the instance that runs a signature, and the ends of its groups.
 *
 * Only a turn of the instance ends a group: it holds the instance's row, finds
 * groups with a row for each member, and starts the group's successor in the
 * transaction in which it deletes the group. So a callback starts exactly once.
 * A transaction that ends a member cannot see whether others, that have not
 * committed yet, are the last; fanin.c counts the commits, as a hint when to
 * look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/delete.h"
#include "instances/event.h"
#include "instances/inbox.h"
#include "instances/start.h"
#include "memory/fanin.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "tasks/cancel.h"
#include "tasks/canvas.h"
#include "tasks/chain.h"
#include "tasks/frames.h"
#include "tasks/quota.h"
#include "tasks/revive.h"
#include "tasks/signature.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/hooks.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/turn.h"

/* An open group. */
typedef struct OpenJoin
{
	pg_uuid_t	id;
	int32		members;
	char	   *path;
	Jsonb	   *body;
	Jsonb	   *options;
	Jsonb	   *next;
	int64		ended;
} OpenJoin;

static Jsonb *
jsonb_column(const RomRowSet *set, uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, CurrentMemoryContext);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* open_joins reads an instance's groups and how many members of each have ended. */
static int
open_joins(const pg_uuid_t *id, OpenJoin **joins)
{
	static RomStatement list = {
		"SELECT join_id FROM romancy.t_canvas_join WHERE instance_id = $1 AND NOT failed",
		1, {UUIDOID}
	};
	static RomStatement select = {
		"SELECT j.join_id, j.members, j.path, j.body, j.options, j.next,"
		" (SELECT count(*) FROM romancy.t_canvas_result r WHERE r.instance_id = j.instance_id AND r.join_id = j.join_id)"
		" FROM romancy.t_canvas_join j WHERE j.instance_id = $1 AND NOT j.failed",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	/* forget first, then count: an end in between wakes the instance again */
	values[0] = UUIDPGetDatum(id);
	rows = rom_execute_rows(&set, &list, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_fanin_forget(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)));
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	*joins = palloc_array(OpenJoin, rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		OpenJoin   *join = &(*joins)[i];

		join->id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		join->members = DatumGetInt32(rom_value(&set, i, 2, &isnull));
		join->path = rom_value_text(&set, i, 3, cxt);
		join->body = jsonb_column(&set, i, 4);
		join->options = jsonb_column(&set, i, 5);
		join->next = jsonb_column(&set, i, 6);
		join->ended = DatumGetInt64(rom_value(&set, i, 7, &isnull));
	}
	return rows;
}

/* close_join gathers a group's results and starts its successor. */
static void
close_join(RomCanvas *canvas, OpenJoin *join)
{
	static RomStatement select = {
		"SELECT " ROM_SQL_VALUE("value", "value_document") ", error FROM romancy.t_canvas_result WHERE instance_id = $1 AND join_id = $2 ORDER BY member",
		2, {UUIDOID, UUIDOID}
	};
	static RomStatement delete = {
		"DELETE FROM romancy.t_canvas_join WHERE join_id = $1",
		1, {UUIDOID}
	};

	/* retry_workflow opens it again (revive.c) */
	static RomStatement fail = {
		"UPDATE romancy.t_canvas_join SET failed = true WHERE join_id = $1",
		1, {UUIDOID}
	};
	Datum		values[2];
	uint64		rows;
	Jsonb	  **results;
	Jsonb	   *error = NULL;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&canvas->id);
	values[1] = UUIDPGetDatum(&join->id);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	results = palloc_array(Jsonb *, rows + 1);
	for (uint64 i = 0; i < rows && error == NULL; i++)
	{
		error = jsonb_column(&set, i, 2);
		results[i] = jsonb_column(&set, i, 1);
	}
	values[0] = UUIDPGetDatum(&join->id);
	rom_execute(error ? &fail : &delete, values, NULL, 0);
	if (error != NULL)
		rom_frames_go_on(canvas, join->next, NULL, error, false);
	else if (join->body != NULL)
		rom_frames_callback(canvas, join->body, rom_jb_array(results, rows), join->next,
							join->options, join->path);
	else
		rom_frames_go_on(canvas, join->next, rom_jb_array(results, rows), NULL, false);
}

/* close_joins closes groups whose members have all ended, until there is none. */
static void
close_joins(RomCanvas *canvas)
{
	bool		again = true;

	while (again && !canvas->over)
	{
		OpenJoin   *joins;
		int			n = open_joins(&canvas->id, &joins);

		again = false;
		for (int i = 0; i < n && !canvas->over; i++)
		{
			if (joins[i].ended >= joins[i].members)
			{
				close_join(canvas, &joins[i]);
				again = true;
			}
			else
				rom_fanin_set(&joins[i].id, canvas->namespace, joins[i].members - joins[i].ended);
		}
	}
}

int
rom_canvas_find(const char *owner, pg_uuid_t *ids, int max)
{
	/*
	 * (a plan for the owner looks cheaper than it is: it was made anew for
	 * each look of a drain)
	 */
	static RomStatement select = {
		"SELECT DISTINCT i.instance_id, i.owner, i.priority FROM romancy.t_canvas_join j"
		" JOIN romancy.t_instance i ON i.instance_id = j.instance_id"
		" WHERE NOT j.failed AND i.wake_at IS NOT NULL AND i.status <> 'paused' AND ($1 IS NULL OR i.owner = $1)"
		" AND j.members <= (SELECT count(*) FROM romancy.t_canvas_result r"
		" WHERE r.instance_id = j.instance_id AND r.join_id = j.join_id) LIMIT $2",
		2, {TEXTOID, INT4OID},.generic = true
	};
	Datum		values[2];
	bool		nulls[2] = {owner == NULL, false};
	bool		isnull;
	uint64		rows;
	RomRowSet	set;

	values[0] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	values[1] = Int32GetDatum(max);
	rows = rom_execute_rows(&set, &select, values, nulls, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		Oid			role;

		if (owner != NULL)
		{
			ids[i] = *id;
			continue;
		}
		role = get_role_oid(rom_value_text(&set, i, 2, CurrentMemoryContext), true);
		rom_wake_ready(id, role, DatumGetInt32(rom_value(&set, i, 3, &isnull)));
	}
	return rows;
}

/* ---------------------------------------------------------------- the instance */

/* has_begun: has a turn before this one started the canvas? Or waited for tasks of the former run only? */
static bool
has_begun(RomTurn *turn, RomCall *call)
{
	RomWait    *waited = rom_call_waited(turn, call);

	return waited != NULL && (waited->detail == NULL || !rom_jb_get_bool(waited->detail, "revives", false));
}

/* wait_for_dead waits until tasks of the former run, one of which another transaction has, can be started again. */
static RomOutcome
wait_for_dead(RomTurn *turn, RomCall *call)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_bool(&jb, "revives", true);
	return rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "activity",
						 TimestampTzPlusMilliseconds(rom_now(), ROM_LOOK_AGAIN_MS), rom_jb_end(&jb));
}

/* canvas_execute starts the whole at first; later turns look for groups that have ended, and for the end. */
static RomOutcome
canvas_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomInboxItem *item = rom_replay_take(turn, call->step);
	bool		begun = has_begun(turn, call);
	RomRevival	revival = ROM_REVIVAL_NONE;
	RomCanvas	canvas = {0};
	RomEngine	engine;
	MemoryContext cxt = CurrentMemoryContext;

	canvas.id = turn->inst->id;
	canvas.def_id = turn->inst->def_id;
	canvas.namespace = turn->inst->namespace;
	canvas.priority = turn->inst->priority;
	canvas.owner = turn->owner;
	canvas.owner_name = turn->inst->owner_name;
	canvas.in_turn = true;
	if (item != NULL)
	{
		canvas.over = true;
		canvas.result = item->result;
		canvas.error = item->error;
	}
	else
	{
		rom_engine_begin(&engine);
		MemoryContextSwitchTo(cxt);
		if (!begun)
			turn->inst->flags |= ROM_HAS_TASKS;
		rom_cancel_apply(turn, !begun);
		if (!begun && turn->replay.history.count > 0)
			revival = rom_revive_canvas(&canvas);
		if (begun)
			close_joins(&canvas);
		else if (revival == ROM_REVIVAL_NONE)
			rom_frames_start(&canvas, rom_jb_get_json(turn->inst->input, "signature"),
							 rom_jb_get_json(turn->inst->input, "input"), rom_jb_array(NULL, 0), NULL, "");

		/*
		 * statements leave the current context in SPI's, which goes with the
		 * engine
		 */
		if (canvas.over)
		{
			canvas.result = rom_context_copy_jsonb(turn, canvas.result);
			canvas.error = rom_context_copy_jsonb(turn, canvas.error);
		}
		MemoryContextSwitchTo(cxt);
		rom_engine_end(&engine);
	}
	if (revival == ROM_REVIVAL_LATER)
		return wait_for_dead(turn, call);
	if (!canvas.over)
		return rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "activity", DT_NOEND, NULL);
	event->type = canvas.error ? ROM_EVENT_ACTIVITY_FAILED : ROM_EVENT_ACTIVITY_COMPLETED;
	event->result = rom_context_copy_jsonb(turn, canvas.error ? canvas.error :
										   canvas.result ? canvas.result : rom_jb_null_document());
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_canvas = {
	.name = "canvas",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
	.execute = canvas_execute,
	.ignore_input = true,
};

PG_FUNCTION_INFO_V1(romancy_t_canvas);

/* romancy.t_canvas(input jsonb) -> jsonb: the handler of canvas instances. RM004 elsewhere. */
Datum
romancy_t_canvas(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("t_canvas()");
	RomCall		call = {0};
	RomEvent   *event;

	if (!(turn->inst->flags & ROM_IS_CANVAS))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("a canvas is started by romancy.run_canvas()")));
	call.primitive = &primitive_canvas;
	call.step_base = call.name = "canvas";
	event = rom_call_step(&call);
	if (event->type == ROM_EVENT_ACTIVITY_FAILED)
		rom_error_raise(event->result);
	PG_RETURN_JSONB_P(event->result);
}

void
rom_canvas_count(const pg_uuid_t *id, RomCanvasCount *count)
{
	static RomStatement ended = {
		"SELECT count(*) FILTER (WHERE error IS NULL), count(*) FILTER (WHERE error IS NOT NULL)"
		" FROM romancy.t_canvas_result WHERE instance_id = $1 AND is_task",
		1, {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);
	bool		isnull;
	RomRowSet	set;

	rom_execute_rows(&set, &ended, &value, NULL, 0);
	count->completed = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	count->failed = DatumGetInt64(rom_value(&set, 0, 2, &isnull));
}

int64
rom_canvas_running(const pg_uuid_t *id)
{
	static RomStatement running = {
		"SELECT count(*) FROM romancy.t_task t WHERE t.instance_id = $1 AND (t.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT ")"
		" OR t.task_id = ANY (ARRAY(SELECT r.id FROM romancy.t_running() r)))",
		1, {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);
	bool		isnull;
	RomRowSet	set;

	rom_execute_rows(&set, &running, &value, NULL, 0);
	return DatumGetInt64(rom_value(&set, 0, 1, &isnull));
}

/*
 * canvas_end keeps the last count with the instance. The rows that retry_workflow needs of a failed canvas are kept,
 * too, and the ends of all tasks, for canvas_tasks.
 */
static void
canvas_end(RomTurn *turn, RomStatus status)
{
	static RomStatement delete_joins = {
		"DELETE FROM romancy.t_canvas_join WHERE instance_id = $1",
		1, {UUIDOID}
	};
	RomCanvasCount count;
	Datum		id = UUIDPGetDatum(&turn->inst->id);
	MemoryContext old;
	RomJb		jb;
	char	   *note = turn->inst->progress ? rom_jb_get_text(turn->inst->progress, "note") : NULL;

	rom_canvas_count(&turn->inst->id, &count);
	old = MemoryContextSwitchTo(turn->cxt);
	rom_jb_begin(&jb);
	rom_jb_int(&jb, "done", count.completed);
	rom_jb_int(&jb, "failed", count.failed);
	rom_jb_int(&jb, "total", rom_jb_get_int(turn->inst->input, "total", 0));
	rom_jb_text(&jb, "note", note);
	turn->inst->progress = rom_jb_end(&jb);
	MemoryContextSwitchTo(old);
	if (status != ROM_STATUS_FAILED)
	{
		rom_execute(&delete_joins, &id, NULL, 0);
		rom_chain_forget(PointerGetDatum(construct_array(&id, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
	}
}

/* canvas_close has each end of a task wake an instance that waits to be undone, or to end: the counts of groups do not matter any more. */
static void
canvas_close(RomTurn *turn, RomStatus status)
{
	static RomStatement select = {
		"SELECT join_id FROM romancy.t_canvas_join WHERE instance_id = $1", 1, {UUIDOID}
	};
	Datum		id = UUIDPGetDatum(&turn->inst->id);
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	if ((turn->inst->flags & ROM_IS_CANVAS) == 0)
		return;
	rows = rom_execute_rows(&set, &select, &id, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_fanin_forget(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)));
	rom_fanin_forget(&turn->inst->id);
}

/*
 * gather is rom_saga_on_gather()'s hook: tasks that have ended well and have a compensation are undone, last ended
 * first; so are those that were interrupted outside of a transaction, of which is not known how far they came (end_unknown() in frames.c).
 * Tasks in the database that run have been cancelled, but may commit.
 */
static bool
gather(RomTurn *turn)
{
	static RomStatement ended = {
		"SELECT r.step, a.compensation, " ROM_SQL_VALUE("r.input", "r.input_document") ", " ROM_SQL_VALUE("r.value", "r.value_document") " FROM romancy.t_canvas_result r"
		" JOIN romancy.t_instance i ON i.instance_id = r.instance_id"
		" JOIN romancy.t_activity a ON a.namespace = i.namespace AND a.name = r.activity"
		" WHERE r.instance_id = $1 AND r.step IS NOT NULL AND (r.error IS NULL OR r.error ? '" ROM_OUTCOME_UNKNOWN "') AND a.compensation IS NOT NULL"
		" ORDER BY r.finished_at, r.step",
		1, {UUIDOID}
	};
	static RomStatement running = {
		"SELECT 1 FROM romancy.t_task WHERE instance_id = $1 AND kind = " ROM_SQL_TASK_CANVAS " AND queue = '' AND state <> " ROM_SQL_TASK_DEAD,
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		id = UUIDPGetDatum(&turn->inst->id);
	bool		still = rom_execute(&running, &id, NULL, 1) > 0;
	RomRowSet	set;
	uint64		rows = rom_execute_rows(&set, &ended, &id, NULL, 0);

	MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *step = rom_value_text(&set, i, 1, cxt);
		Jsonb	   *input = jsonb_column(&set, i, 3);
		Jsonb	   *result = jsonb_column(&set, i, 4);
		RomEvent   *event;
		RomJb		jb;

		if (rom_saga_has(turn, step))
			continue;
		event = rom_replay_event(turn, ROM_EVENT_COMPENSATION_REGISTERED, step);
		rom_jb_begin(&jb);
		rom_jb_json(&jb, "input", input ? input : rom_jb_null_document());
		rom_jb_json(&jb, "result", result ? result : rom_jb_null_document());
		event->name = rom_value_text(&set, i, 2, turn->cxt);
		event->input = rom_context_copy_jsonb(turn, rom_jb_end(&jb));
		rom_replay_append(turn, event);
	}
	return still;
}

/* progress_end tells sessions that follow an instance's progress of its end. */
static void
progress_end(RomTurn *turn, RomStatus status)
{
	rom_wake_key(rom_waiter_key(ROM_INSTANCE_PROGRESS_KEY, &turn->inst->id, sizeof(pg_uuid_t)));
}

/* delete_instances is for instances that are deleted. */
static void
delete_instances(Datum ids)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_task WHERE instance_id = ANY ($1)"
		" RETURNING state, kind, queue, activity, limit_key",
		1, {UUIDARRAYOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	RomRowSet	set;

	values[0] = ids;
	rows = rom_execute_rows(&set, &delete, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		RomTask		task = {0};
		bool		isnull;

		task.state = DatumGetInt16(rom_value(&set, i, 1, &isnull));
		task.kind = DatumGetInt16(rom_value(&set, i, 2, &isnull));
		task.queue = rom_value_text(&set, i, 3, cxt);
		task.activity = rom_value_text(&set, i, 4, cxt);
		task.limit_key = rom_value_text(&set, i, 5, cxt);
		if (task.state == ROM_TASK_RUNNING)
			rom_task_ended(&task);
	}
	rom_revive_forget(ids);
}

void
rom_canvas_init(void)
{
	rom_task_on_canvas(rom_frames_deliver);
	rom_hooks_on_end(ROM_HAS_TASKS, canvas_close);
	rom_hooks_on_end(ROM_IS_CANVAS, canvas_end);
	rom_hooks_on_end(0, progress_end);
	rom_delete_on(delete_instances);
	rom_saga_on_gather(gather);
}
