/*-------------------------------------------------------------------------
 *
 * child.c
 *		Child workflows: call_workflow and spawn_workflow.
 *
 * A child is an instance whose row names its parent and the parent's step. It is
 * started in the turn of the parent that records ChildWorkflowScheduled, and
 * tells its parent of its end by a row in the parent's inbox, in the transaction of
 * its last turn. A child that recurs hands its parent on to its successor, so
 * that the last generation tells. When the parent ends, or begins to
 * compensate, its live children are asked to cancel, but for those that are
 * abandoned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/event.h"
#include "instances/history.h"
#include "instances/start.h"
#include "memory/wake.h"
#include "steps/child.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/hooks.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/schedule.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_call_workflow);
PG_FUNCTION_INFO_V1(romancy_spawn_workflow);

/* The arguments of a handler's call; they outlive the unwind. */
typedef struct ChildOptions
{
	char	   *name;
	int32		version;
	const char *close;
	bool		has_priority;
	int32		priority;
	Jsonb	   *labels;
	Interval   *execution_timeout;
	bool		canvas;			/* it runs a signature */
} ChildOptions;

static RomStatement select_live = {
	"SELECT owner, priority FROM romancy.t_instance"
	" WHERE instance_id = $1 AND wake_at IS NOT NULL",
	1, {UUIDOID}
};

static RomStatement select_children = {
	"SELECT instance_id, owner, priority FROM romancy.t_instance"
	" WHERE parent_id = $1 AND wake_at IS NOT NULL"
	" AND parent_close IS DISTINCT FROM 'abandon'",
	1, {UUIDOID}
};

/* The last generation of the last child of a step; a turn of it that is under way ends first (is_free()), and tells or sees a live parent. */
#define FORMER " FROM romancy.t_instance i WHERE parent_id = $1 AND parent_step = $2 ORDER BY created_at DESC, instance_id DESC LIMIT 1"

static RomStatement select_former = {
	"SELECT instance_id, status, " ROM_SQL_OUTPUT ", priority, labels, deadline - created_at" FORMER " FOR SHARE",
	2, {UUIDOID, TEXTOID}
};

static RomStatement select_former_id = {"SELECT instance_id" FORMER, 2, {UUIDOID, TEXTOID}};

static RomStatement lock_former = {
	"SELECT 1 FROM romancy.t_instance WHERE instance_id = $1 FOR SHARE SKIP LOCKED", 1, {UUIDOID}
};

static RomStatement select_newer = {
	"SELECT 1 FROM romancy.t_instance"
	" WHERE parent_id = $1 AND parent_step = $2 AND wake_at IS NOT NULL AND instance_id <> $3",
	3, {UUIDOID, TEXTOID, UUIDOID}
};

/* ------------------------------------------------------------ starting one */

/* start_child starts it as the instance's owner, under the workflow's recorded path. */
static void
start_child(RomTurn *turn, RomCall *call, pg_uuid_t *id)
{
	ChildOptions *options = call->options;
	RomStart	start = {0};
	Oid			before;
	int			sec_context;

	GetUserIdAndSecContext(&before, &sec_context);
	SetUserIdAndSecContext(turn->owner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	start.workflow = rom_definition_resolve_in(turn->inst->namespace, options->canvas ? ROM_CANVAS_HANDLER : options->name,
											   options->version, turn->workflow->search_path);
	if (options->canvas)
		start.flags = ROM_IS_CANVAS;
	start.name = options->name;
	start.owner = turn->owner;
	start.input = call->input;
	start.priority = options->has_priority ? options->priority : turn->inst->priority;
	start.labels = options->labels;
	start.execution_timeout = options->execution_timeout;
	start.has_parent = true;
	start.parent_id = turn->inst->id;
	start.parent_step = call->step;
	start.parent_close = options->close;
	start.depth = turn->inst->depth + 1;
	rom_start_instance(&start, id);
	SetUserIdAndSecContext(before, sec_context);
}

/* base_name is a step's id without its number: the name, where none is recorded. */
static char *
base_name(const char *step)
{
	const char *colon = strrchr(step, ':');

	return colon ? pnstrdup(step, colon - step) : pstrdup(step);
}

/* child_detail is what is recorded of a child besides its input. */
static Jsonb *
child_detail(const ChildOptions *options, const pg_uuid_t *id)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "instance_id", rom_uuid_text(id));
	if (strcmp(options->close, "cancel") != 0)
		rom_jb_text(&jb, "on_parent_close", options->close);
	if (options->version != 0)
		rom_jb_int(&jb, "version", options->version);
	if (options->canvas)
		rom_jb_bool(&jb, "canvas", true);
	return rom_jb_end(&jb);
}

static RomOutcome
spawn_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	ChildOptions *options = call->options;
	MemoryContext old;
	pg_uuid_t	id;

	if (turn->inst->depth >= ROM_DEPTH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("child workflow \"%s\" would be more than %d levels deep",
						options->name, ROM_DEPTH_MAX),
				 errhint("Start it with romancy.start_workflow(), which makes no child of it.")));
	start_child(turn, call, &id);
	old = MemoryContextSwitchTo(turn->cxt);
	event->type = ROM_EVENT_CHILD_SCHEDULED;
	event->detail = child_detail(options, &id);
	MemoryContextSwitchTo(old);
	turn->inst->flags |= ROM_HAS_CHILDREN;
	return ROM_OUTCOME_DONE;
}

const RomPrimitive rom_primitive_spawn_workflow = {
	.name = "child workflow",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_CHILD_SCHEDULED},
	.execute = spawn_execute,
};

/* close_arg reads on_parent_close. */
static const char *
close_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *close = rom_arg_text_opt(fcinfo, n);

	if (close == NULL || strcmp(close, "cancel") == 0)
		return "cancel";
	if (strcmp(close, "abandon") == 0)
		return "abandon";
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid on_parent_close \"%s\"", close),
			 errhint("It is \"cancel\" or \"abandon\".")));
}

/* spawn asks for the child, and returns the handle: the step's id. */
static char *
spawn(FunctionCallInfo fcinfo, const char *function)
{
	RomTurn    *turn = rom_context_require(function);
	ChildOptions *options = MemoryContextAllocZero(turn->cxt, sizeof(ChildOptions));
	Interval   *timeout = rom_arg_duration_opt(fcinfo, 7, "execution_timeout");
	RomCall		call = {0};

	options->name = rom_context_copy_text(turn, rom_arg_text(fcinfo, 0, "name"));
	rom_call_check_name(options->name);
	options->close = close_arg(fcinfo, 3);
	options->version = rom_definition_version_arg(fcinfo, 4, options->name);
	options->has_priority = !PG_ARGISNULL(5);
	options->priority = rom_arg_int32_opt(fcinfo, 5, 0);
	options->labels = rom_context_copy_jsonb(turn, rom_arg_jsonb_opt(fcinfo, 6));
	if (timeout != NULL)
	{
		options->execution_timeout = MemoryContextAlloc(turn->cxt, sizeof(Interval));
		*options->execution_timeout = *timeout;
	}
	call.primitive = &rom_primitive_spawn_workflow;
	call.step_base = call.name = options->name;
	call.input = rom_arg_jsonb_opt(fcinfo, 1);
	call.step = rom_arg_text_opt(fcinfo, 2);
	call.options = options;
	return rom_call_step(&call)->step;
}

char *
rom_child_canvas(RomTurn *turn, Jsonb *input, char *step)
{
	ChildOptions *options = MemoryContextAllocZero(turn->cxt, sizeof(ChildOptions));
	RomCall		call = {0};

	options->name = ROM_CHILD_CANVAS;
	options->close = "cancel";
	options->canvas = true;
	call.primitive = &rom_primitive_spawn_workflow;
	call.step_base = call.name = options->name;
	call.input = input;
	call.step = step;
	call.options = options;
	return rom_call_step(&call)->step;
}

/* ------------------------------------------------------------ its end */

/* tell puts the end of a child into its parent's inbox. Engine scope needed. */
static void
tell(const pg_uuid_t *parent, const char *step, const pg_uuid_t *child, RomStatus status,
	 Jsonb *result, Jsonb *error)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "instance_id", rom_uuid_text(child));
	rom_jb_text(&jb, "status", rom_instance_status_name(status));
	rom_inbox_insert(parent, ROM_INBOX_CHILD, step, result, error, rom_jb_end(&jb));
}

/* is_replaced: is this the late end of a child that retry_workflow has replaced by another? */
static bool
is_replaced(RomTurn *turn, RomEvent *scheduled, RomInboxItem *item)
{
	char	   *child = rom_jb_get_text(scheduled->detail, "instance_id");
	char	   *ended = item->detail ? rom_jb_get_text(item->detail, "instance_id") : NULL;
	Datum		values[3];
	pg_uuid_t	id;
	RomEngine	engine;
	bool		replaced;

	if (child == NULL || ended == NULL || strcmp(child, ended) == 0)
		return false;
	id = rom_uuid_from_text(ended);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(item->step);
	values[2] = UUIDPGetDatum(&id);
	rom_engine_begin(&engine);
	replaced = rom_execute(&select_newer, values, NULL, 1) == 1;
	rom_engine_end(&engine);
	return replaced;
}

/* arrived makes the outcome of what the child has put into the inbox. */
static RomEvent *
arrived(RomTurn *turn, RomEvent *scheduled, RomInboxItem *item)
{
	RomEvent   *event;

	if (is_replaced(turn, scheduled, item))
		return NULL;
	event = rom_replay_event(turn, item->error ? ROM_EVENT_CHILD_FAILED :
							 ROM_EVENT_CHILD_COMPLETED, item->step);
	event->name = scheduled->name;
	event->result = item->error ? item->error : item->result;
	if (event->result == NULL)
		event->result = rom_context_copy_jsonb(turn, rom_jb_null_document());
	event->detail = item->detail;
	return event;
}

static Jsonb *
value(RomTurn *turn, RomEvent *outcome)
{
	if (outcome->type == ROM_EVENT_CHILD_FAILED)
		rom_error_raise(outcome->result);
	return outcome->result;
}

/* is_free locks the step's former child; false where a turn of it, or another transaction, has it. */
static bool
is_free(RomTurn *turn, RomEvent *scheduled)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2];
	RomEngine	engine;
	RomRowSet	set;
	bool		isnull;
	bool		locked = true;

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(scheduled->step);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_former_id, values, NULL, 1) == 1)
	{
		pg_uuid_t	id = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));

		values[0] = UUIDPGetDatum(&id);
		locked = rom_execute(&lock_former, values, NULL, 1) == 1;
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return locked;
}

/*
 * take_former reads what the step's former child was given, and says whether it is not to be
 * started anew: it lives on, abandoned, or completed when its parent was over, so that its result is
 * put into the inbox now.
 */
static bool
take_former(RomTurn *turn, const char *step, ChildOptions *options)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2];
	RomEngine	engine;
	bool		kept = false;
	bool		isnull;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(step);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_former, values, NULL, 1) == 1)
	{
		pg_uuid_t	id = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
		RomStatus	status = rom_instance_status_from_datum(rom_value(&set, 0, 2, &isnull));
		Datum		output = rom_value_copy(&set, 0, 3, &isnull, cxt);
		Jsonb	   *result = isnull ? NULL : (Jsonb *) DatumGetPointer(output);
		Datum		value;

		options->has_priority = true;
		options->priority = DatumGetInt32(rom_value(&set, 0, 4, &isnull));
		value = rom_value_copy(&set, 0, 5, &isnull, cxt);
		options->labels = isnull ? NULL : (Jsonb *) DatumGetPointer(value);
		value = rom_value_copy(&set, 0, 6, &isnull, cxt);
		options->execution_timeout = isnull ? NULL : DatumGetIntervalP(value);
		if (status == ROM_STATUS_COMPLETED)
		{
			tell(&turn->inst->id, step, &id, status, result, NULL);
			rom_wake_ready(&turn->inst->id, turn->owner, turn->inst->priority);
		}
		kept = status == ROM_STATUS_COMPLETED ||
			(!ROM_STATUS_IS_FINAL(status) && strcmp(options->close, "abandon") == 0);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return kept;
}

/* again starts the child of a retried step anew, unless the former one will do. */
static void
again(RomTurn *turn, RomEvent *scheduled, RomEvent *event)
{
	ChildOptions options = {0};
	RomCall		call = {0};
	char	   *close = rom_jb_get_text(event->detail, "on_parent_close");
	pg_uuid_t	id;

	options.name = event->name ? event->name : base_name(event->step);
	options.close = close ? close : "cancel";
	options.version = rom_jb_get_int(event->detail, "version", 0);
	options.canvas = rom_jb_get_bool(event->detail, "canvas", false);
	if (take_former(turn, event->step, &options))
		return;
	call.step = event->step;
	call.input = event->input;
	call.options = &options;
	start_child(turn, &call, &id);
	event->detail = child_detail(&options, &id);
}

static const RomScheduleKind child_kind = {
	.scheduled = ROM_EVENT_CHILD_SCHEDULED,
	.waiting = ROM_STATUS_WAITING_WORKFLOW,
	.wait_kind = "workflow",
	.arrived = arrived,
	.is_free = is_free,
	.again = again,
	.value = value,
};

/* parents_error is the child's error as its parent gets it. */
static Jsonb *
parents_error(RomTurn *turn)
{
	return rom_error_catchable(turn->out.error,
							   psprintf("child workflow \"%s\" was interrupted",
										turn->inst->workflow));
}

/* tell_parent puts the end of a child into its parent's inbox, if that is live. */
static void
tell_parent(RomTurn *turn, RomStatus status)
{
	RomInstance *inst = turn->inst;
	Datum		values[1];
	char	   *owner;
	int32		priority;
	bool		isnull;
	RomRowSet	set;

	if (!inst->has_parent || !ROM_STATUS_IS_FINAL(status) ||
		status == ROM_STATUS_RECURRED)
		return;
	values[0] = UUIDPGetDatum(&inst->parent_id);
	if (rom_execute_rows(&set, &select_live, values, NULL, 1) == 0)
		return;
	owner = rom_value_text(&set, 0, 1, CurrentMemoryContext);
	priority = DatumGetInt32(rom_value(&set, 0, 2, &isnull));
	tell(&inst->parent_id, inst->parent_step, &inst->id, status,
		 status == ROM_STATUS_COMPLETED ? turn->out.output : NULL,
		 status == ROM_STATUS_COMPLETED ? NULL : parents_error(turn));
	rom_wake_ready(&inst->parent_id, get_role_oid(owner, true), priority);
}

/* cancel_children asks the live children of an instance that ends to cancel. */
static void
cancel_children(RomTurn *turn, RomStatus status)
{
	Datum		values[1] = {UUIDPGetDatum(&turn->inst->id)};
	MemoryContext cxt = CurrentMemoryContext;
	RomRowSet	set;
	uint64		n = rom_execute_rows(&set, &select_children, values, NULL, 0);
	RomJb		jb;
	Jsonb	   *detail;

	if (n == 0)
		return;
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "reason", psprintf("the parent workflow \"%s\" ended", turn->inst->workflow));
	rom_jb_text(&jb, "by", turn->inst->owner_name);
	rom_jb_time(&jb, "at", rom_now());
	detail = rom_jb_end(&jb);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		pg_uuid_t	id;
		char	   *owner;
		int32		priority;

		id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		owner = rom_value_text(&set, i, 2, cxt);
		priority = DatumGetInt32(rom_value(&set, i, 3, &isnull));
		rom_inbox_insert(&id, ROM_INBOX_CANCEL, NULL, NULL, NULL, detail);
		rom_wake_ready(&id, get_role_oid(owner, true), priority);
		rom_wake_cancel(&id);
	}
}

Jsonb *
rom_child_await(RomTurn *turn, char *handle)
{
	char	   *label = psprintf("await_%s", handle);

	if (rom_replay_completion(turn, handle) == NULL)
		rom_schedule_wait(turn, label, &handle, 1, false);	/* unwinds */
	rom_call_wait_over(turn, label);
	return rom_schedule_value(turn, handle);
}

void
rom_child_init(void)
{
	rom_kinds_register(&child_kind);
	rom_hooks_on_end(0, tell_parent);
	rom_hooks_on_end(ROM_HAS_CHILDREN, cancel_children);
}

/*
 * romancy.spawn_workflow(name text, input jsonb, activity_id text,
 * on_parent_close text, version int, priority int, labels jsonb,
 * execution_timeout interval) -> text
 *
 * In a workflow: starts a child and returns its handle, for await(). All but the
 * name may be null. on_parent_close: cancel (default) or abandon. priority: null for
 * the parent's. Errors: RM004 outside a handler, RM011 too deep or the input too
 * large, RM012 a wrong option. A name that does not exist pauses the instance (RM001).
 */
Datum
romancy_spawn_workflow(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(spawn(fcinfo, "spawn_workflow()")));
}

/*
 * romancy.call_workflow(name text, input jsonb, activity_id text,
 * on_parent_close text, version int, priority int, labels jsonb,
 * execution_timeout interval) -> jsonb
 *
 * In a workflow: starts a child, waits for it and returns its result, or raises
 * its error: RM008 if it was cancelled. Arguments and errors as for spawn_workflow.
 */
Datum
romancy_call_workflow(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("call_workflow()");
	char	   *handle = spawn(fcinfo, "call_workflow()");

	PG_RETURN_JSONB_P(rom_child_await(turn, handle));
}
