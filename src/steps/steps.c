/*-------------------------------------------------------------------------
 *
 * steps.c
 *		start_workflow, start_workflows and cancel_workflow as recorded steps of
 *		a handler.
 *
 * Outside a handler they are plain calls (start.c, steer.c). In one they are
 * carried out once, as the instance's owner and under the workflow's recorded
 * search_path, and history answers with the same ids on every replay.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/jb.h"
#include "base/uuid.h"
#include "instances/event.h"
#include "instances/start.h"
#include "instances/steer.h"
#include "steps/steps.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/primitive.h"

typedef struct CancelRequest
{
	pg_uuid_t	id;
	char	   *reason;
} CancelRequest;

/* add_request adds to a step's input what a start was asked to do: replay compares it. */
static void
add_request(RomJb *jb, const RomStartRequest *request)
{
	int64		usec;

	rom_jb_text(jb, "workflow", request->name);
	if (request->version != 0)
		rom_jb_int(jb, "version", request->version);
	rom_jb_json(jb, "input", request->input);
	if (request->has_id)
		rom_jb_text(jb, "instance_id", rom_uuid_text(&request->id));
	rom_jb_text(jb, "idempotency_key", request->idempotency_key);
	if (request->has_start_at)
		rom_jb_time(jb, "start_at", request->start_at);
	if (request->priority != 0)
		rom_jb_int(jb, "priority", request->priority);
	rom_jb_json(jb, "labels", request->labels);
	if (request->execution_timeout != NULL &&
		rom_arg_interval_usec(request->execution_timeout, &usec))
		rom_jb_int(jb, "execution_timeout_us", usec);
}

/* copy_request copies a request to memory that survives the unwind. */
static void
copy_request(RomTurn *turn, RomStartRequest *to, const RomStartRequest *from)
{
	*to = *from;
	to->name = rom_context_copy_text(turn, from->name);
	to->input = rom_context_copy_jsonb(turn, from->input);
	to->idempotency_key = rom_context_copy_text(turn, from->idempotency_key);
	to->labels = rom_context_copy_jsonb(turn, from->labels);
	if (from->execution_timeout != NULL)
	{
		to->execution_timeout = MemoryContextAlloc(turn->cxt,
												   sizeof(Interval));
		*to->execution_timeout = *from->execution_timeout;
	}
}

/* become_owner switches to the instance's owner and returns the former user; an error's abort switches back as well. */
static Oid
become_owner(RomTurn *turn, int *sec_context)
{
	Oid			before;

	GetUserIdAndSecContext(&before, sec_context);
	SetUserIdAndSecContext(turn->owner,
						   *sec_context | SECURITY_LOCAL_USERID_CHANGE);
	return before;
}

static RomOutcome
execute_start(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomStartRequest *request = call->options;
	pg_uuid_t	id;
	int			sec_context;
	Oid			before = become_owner(turn, &sec_context);

	rom_start_request(request, turn->workflow->search_path, &id);
	SetUserIdAndSecContext(before, sec_context);
	event->type = ROM_EVENT_WORKFLOW_STARTED;
	event->result = rom_context_copy_jsonb(turn,
										   rom_jb_string_document(rom_uuid_text(&id)));
	return ROM_OUTCOME_DONE;
}

static RomOutcome
execute_start_many(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomStartMany *many = call->options;
	pg_uuid_t  *ids;
	Jsonb	  **elements = palloc_array(Jsonb *, Max(many->count, 1));
	int			sec_context;
	Oid			before = become_owner(turn, &sec_context);

	ids = rom_start_many(many, turn->workflow->search_path);
	SetUserIdAndSecContext(before, sec_context);
	for (int i = 0; i < many->count; i++)
		elements[i] = rom_jb_string_document(rom_uuid_text(&ids[i]));
	event->type = ROM_EVENT_WORKFLOW_STARTED;
	event->result = rom_context_copy_jsonb(turn,
										   rom_jb_array(elements, many->count));
	return ROM_OUTCOME_DONE;
}

/* is_self: does the instance cancel itself? */
static bool
is_self(RomTurn *turn, const CancelRequest *request)
{
	return memcmp(&request->id, &turn->inst->id, sizeof(pg_uuid_t)) == 0;
}

static RomOutcome
execute_cancel(RomTurn *turn, RomCall *call, RomEvent *event)
{
	CancelRequest *request = call->options;
	JsonbValue	live;
	int			sec_context;
	Oid			before = become_owner(turn, &sec_context);

	live.type = jbvBool;
	live.val.boolean = rom_steer_request(&request->id, ROM_INBOX_CANCEL,
										 request->reason);
	SetUserIdAndSecContext(before, sec_context);
	/* a call on its own instance is executed before the handler continues */
	if (is_self(turn, request))
		turn->out.commit_now = true;
	event->type = ROM_EVENT_CANCEL_REQUESTED;
	event->result = rom_context_copy_jsonb(turn, JsonbValueToJsonb(&live));
	return ROM_OUTCOME_DONE;
}

/* cancel_inlineable: its own cancel ends the turn, which an inline evaluation cannot. */
static bool
cancel_inlineable(RomTurn *turn, RomCall *call)
{
	return !is_self(turn, call->options);
}

const RomPrimitive rom_primitive_start = {
	.name = "start_workflow",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_WORKFLOW_STARTED},
	.execute = execute_start
};

const RomPrimitive rom_primitive_start_many = {
	.name = "start_workflows",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_WORKFLOW_STARTED},
	.execute = execute_start_many
};

const RomPrimitive rom_primitive_cancel = {
	.name = "cancel_workflow",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_CANCEL_REQUESTED},
	.execute = execute_cancel,
	.inlineable = cancel_inlineable
};

void
rom_step_start(const RomStartRequest *request, pg_uuid_t *id)
{
	RomTurn    *turn = rom_context_require("start_workflow");
	RomStartRequest *copy = MemoryContextAlloc(turn->cxt, sizeof(*copy));
	RomCall		call = {0};
	RomEvent   *event;
	JsonbValue	v;
	RomJb		jb;

	rom_jb_begin(&jb);
	add_request(&jb, request);
	copy_request(turn, copy, request);
	call.primitive = &rom_primitive_start;
	call.step_base = "start_workflow";
	call.input = rom_jb_end(&jb);
	call.options = copy;
	event = rom_call_step(&call);
	if (!JsonbExtractScalar(&event->result->root, &v) || v.type != jbvString)
		elog(ERROR, "recorded start_workflow has no id");
	*id = rom_uuid_from_text(pnstrdup(v.val.string.val, v.val.string.len));
}

/* many_input is the recorded input of start_workflows. */
static Jsonb *
many_input(const RomStartMany *many)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	add_request(&jb, &many->common);
	rom_jb_begin_array(&jb, "inputs");
	for (int i = 0; i < many->count; i++)
		rom_jb_element(&jb, many->input_nulls[i] ? rom_jb_null_document() :
					   (Jsonb *) DatumGetPointer(many->inputs[i]));
	rom_jb_end_array(&jb);
	if (many->keys != NULL)
	{
		rom_jb_begin_array(&jb, "idempotency_keys");
		for (int i = 0; i < many->count; i++)
			rom_jb_element(&jb, many->keys[i] == NULL ?
						   rom_jb_null_document() :
						   rom_jb_string_document(many->keys[i]));
		rom_jb_end_array(&jb);
	}
	return rom_jb_end(&jb);
}

/* copy_many copies the request to memory that survives the unwind. */
static RomStartMany *
copy_many(RomTurn *turn, const RomStartMany *many)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	RomStartMany *copy = palloc_object(RomStartMany);
	int			n = Max(many->count, 1);

	*copy = *many;
	copy_request(turn, &copy->common, &many->common);
	copy->inputs = palloc0_array(Datum, n);
	copy->input_nulls = palloc0_array(bool, n);
	copy->keys = many->keys ? palloc0_array(char *, n) : NULL;
	for (int i = 0; i < many->count; i++)
	{
		copy->input_nulls[i] = many->input_nulls[i];
		if (!many->input_nulls[i])
			copy->inputs[i] = PointerGetDatum(rom_context_copy_jsonb(turn,
																	 (Jsonb *) DatumGetPointer(many->inputs[i])));
		if (many->keys != NULL)
			copy->keys[i] = rom_context_copy_text(turn, many->keys[i]);
	}
	MemoryContextSwitchTo(old);
	return copy;
}

pg_uuid_t *
rom_step_start_many(const RomStartMany *many)
{
	RomTurn    *turn = rom_context_require("start_workflows");
	RomCall		call = {0};
	RomEvent   *event;
	pg_uuid_t  *ids = palloc_array(pg_uuid_t, Max(many->count, 1));
	JsonbIterator *it;
	JsonbValue	item;
	JsonbIteratorToken token;
	int			n = 0;

	call.primitive = &rom_primitive_start_many;
	call.step_base = "start_workflows";
	call.input = many_input(many);
	call.options = copy_many(turn, many);
	event = rom_call_step(&call);
	it = JsonbIteratorInit(&event->result->root);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && n < many->count)
			ids[n++] = rom_uuid_from_text(pnstrdup(item.val.string.val,
												   item.val.string.len));
	}
	if (n != many->count)
		elog(ERROR, "recorded start_workflows has %d ids instead of %d", n,
			 many->count);
	return ids;
}

bool
rom_step_cancel(const pg_uuid_t *id, const char *reason)
{
	RomTurn    *turn = rom_context_require("cancel_workflow");
	CancelRequest *copy = MemoryContextAlloc(turn->cxt, sizeof(*copy));
	RomCall		call = {0};
	JsonbValue	live;
	RomJb		jb;

	copy->id = *id;
	copy->reason = rom_context_copy_text(turn, reason);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "instance_id", rom_uuid_text(id));
	rom_jb_text(&jb, "reason", reason);
	call.primitive = &rom_primitive_cancel;
	call.step_base = "cancel_workflow";
	call.input = rom_jb_end(&jb);
	call.options = copy;
	return JsonbExtractScalar(&rom_call_step(&call)->result->root, &live) &&
		live.type == jbvBool && live.val.boolean;
}
