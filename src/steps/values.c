/*-------------------------------------------------------------------------
 *
 * values.c
 *		Recorded values: workflow_now, workflow_random, workflow_uuid, patched,
 *		set_value, set_labels.
 *
 * They are computed within the evaluation and written with the turn; nothing
 * has to be unwound for them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/event.h"
#include "steps/values.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/turn.h"

/* plain_call asks for a step that has no input. */
static RomEvent *
plain_call(const RomPrimitive *primitive)
{
	RomCall		call = {0};

	call.primitive = primitive;
	call.step_base = primitive->name;
	return rom_call_step(&call);
}

/* keep stores result (in the current context) in the event. */
static RomOutcome
keep(RomTurn *turn, RomEvent *event, RomEventType type, Jsonb *result)
{
	event->type = type;
	event->result = rom_context_copy_jsonb(turn, result);
	return ROM_OUTCOME_DONE;
}

/* number_document is a jsonb number. */
static Jsonb *
number_document(Datum numeric)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = DatumGetNumeric(numeric);
	return JsonbValueToJsonb(&v);
}

static RomOutcome
now_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_time(&jb, "now", rom_now());
	return keep(turn, event, ROM_EVENT_VALUE_RECORDED,
				rom_jb_get_json(rom_jb_end(&jb), "now"));
}

static const RomPrimitive primitive_workflow_now = {
	.name = "workflow_now",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_VALUE_RECORDED},
	.execute = now_execute,
};

PG_FUNCTION_INFO_V1(romancy_workflow_now);

/* romancy.workflow_now() -> timestamptz: the time, recorded */
Datum
romancy_workflow_now(PG_FUNCTION_ARGS)
{
	RomEvent   *event = plain_call(&primitive_workflow_now);
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_json(&jb, "now", event->result);
	PG_RETURN_TIMESTAMPTZ(rom_jb_get_time(rom_jb_end(&jb), "now"));
}

static RomOutcome
random_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	double		value = pg_prng_double(&pg_global_prng_state);

	return keep(turn, event, ROM_EVENT_VALUE_RECORDED,
				number_document(DirectFunctionCall1(float8_numeric, Float8GetDatum(value))));
}

static const RomPrimitive primitive_workflow_random = {
	.name = "workflow_random",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_VALUE_RECORDED},
	.execute = random_execute,
};

PG_FUNCTION_INFO_V1(romancy_workflow_random);

/* romancy.workflow_random() -> double precision: a number in [0, 1), recorded. The first call gives what replay gives: the number as stored. */
Datum
romancy_workflow_random(PG_FUNCTION_ARGS)
{
	RomEvent   *event = plain_call(&primitive_workflow_random);
	JsonbValue	v;

	if (!JsonbExtractScalar(&event->result->root, &v) || v.type != jbvNumeric)
		elog(ERROR, "history holds no number for workflow_random()");
	PG_RETURN_DATUM(DirectFunctionCall1(numeric_float8, NumericGetDatum(v.val.numeric)));
}

static RomOutcome
uuid_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	pg_uuid_t	uuid;

	rom_uuid_v7(&uuid);
	return keep(turn, event, ROM_EVENT_VALUE_RECORDED,
				rom_jb_string_document(rom_uuid_text(&uuid)));
}

static const RomPrimitive primitive_workflow_uuid = {
	.name = "workflow_uuid",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_VALUE_RECORDED},
	.execute = uuid_execute,
};

PG_FUNCTION_INFO_V1(romancy_workflow_uuid);

/* romancy.workflow_uuid() -> uuid: a version 7 UUID, recorded */
Datum
romancy_workflow_uuid(PG_FUNCTION_ARGS)
{
	RomEvent   *event = plain_call(&primitive_workflow_uuid);
	JsonbValue	v;

	if (!JsonbExtractScalar(&event->result->root, &v) || v.type != jbvString)
		elog(ERROR, "history holds no uuid for workflow_uuid()");
	PG_RETURN_DATUM(DirectFunctionCall1(uuid_in,
										CStringGetDatum(pnstrdup(v.val.string.val, v.val.string.len))));
}

static RomOutcome
patched_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_PATCHED;
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_patched = {
	.name = "patched",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_PATCHED},
	.execute = patched_execute,
};

PG_FUNCTION_INFO_V1(romancy_patched);

/*
 * romancy.patched(change text) -> boolean
 *
 * True, and recorded, where history ends: this instance reaches the point first under the new code.
 * False, and nothing recorded, where history continues without the mark, or the instance waits for
 * the next step: it passed here under the old code.
 */
Datum
romancy_patched(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("patched()");
	char	   *change = rom_arg_text(fcinfo, 0, "change");
	RomEvent   *next = turn->eval.unwinding ? NULL : rom_replay_peek(turn);
	bool		passed;
	RomCall		call = {0};

	call.primitive = &primitive_patched;
	call.step_base = psprintf("patched_%s", change);
	call.name = change;

	/* the wait that comes next was reached under the old code */
	passed = next == NULL && turn->wait.before != NULL && !turn->wait.over && !turn->eval.unwinding;
	if (next != NULL)
		passed = (next->type != ROM_EVENT_PATCHED || next->name == NULL ||
				  strcmp(next->name, change) != 0);
	if (passed)
	{
		rom_call_skip(turn, call.step_base);
		PG_RETURN_BOOL(false);
	}
	(void) rom_call_step(&call);
	PG_RETURN_BOOL(true);
}

/* ---------------------------------------------------------------- set_value */

static RomOutcome
set_value_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_VALUE_SET;
	/* also where the key is "set_value", as the step's id begins */
	event->name = rom_context_copy_text(turn, call->name);
	return ROM_OUTCOME_DONE;
}

/* set_value_deferred writes the value where get_value() reads it. */
static void
set_value_deferred(RomTurn *turn, RomEvent *event)
{
	rom_document_set_value(&turn->inst->id, event->name, event->input);
}

static const RomPrimitive primitive_set_value = {
	.name = "set_value",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_VALUE_SET},
	.execute = set_value_execute,
	.deferred = set_value_deferred,
};

PG_FUNCTION_INFO_V1(romancy_set_value);

/* romancy.set_value(key text, value jsonb): recorded; others read it with get_value() */
Datum
romancy_set_value(PG_FUNCTION_ARGS)
{
	RomCall		call = {0};
	char	   *key;

	(void) rom_context_require("set_value()");
	key = rom_arg_text(fcinfo, 0, "key");
	if (strlen(key) > ROM_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"key\" must not exceed %d bytes", ROM_KEY_MAX),
				 errhint("Use a hash of it, such as md5().")));
	call.primitive = &primitive_set_value;
	call.step_base = "set_value";
	call.name = key;
	call.input = rom_arg_jsonb_opt(fcinfo, 1);
	if (call.input == NULL)
		call.input = rom_jb_null_document();
	(void) rom_call_step(&call);
	PG_RETURN_VOID();
}

bool
rom_values_own(const pg_uuid_t *id, const char *key, Jsonb **value)
{
	RomTurn    *turn = rom_context_turn;

	if (memcmp(id->data, turn->inst->id.data, UUID_LEN) != 0)
		return false;
	*value = NULL;
	for (int i = 0; i < turn->replay.cursor; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];

		if (event->type == ROM_EVENT_VALUE_SET && strcmp(event->name, key) == 0)
			*value = event->input;
	}
	return true;
}

static RomOutcome
set_labels_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_LABELS_SET;
	return ROM_OUTCOME_DONE;
}

/* set_labels_deferred has the save write them to the instance's row. */
static void
set_labels_deferred(RomTurn *turn, RomEvent *event)
{
	turn->out.labels = event->input;
}

static const RomPrimitive primitive_set_labels = {
	.name = "set_labels",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_LABELS_SET},
	.execute = set_labels_execute,
	.deferred = set_labels_deferred,
};

PG_FUNCTION_INFO_V1(romancy_set_labels);

/* romancy.set_labels(labels jsonb): replaces the instance's labels; recorded */
Datum
romancy_set_labels(PG_FUNCTION_ARGS)
{
	RomCall		call = {0};
	Jsonb	   *labels;

	(void) rom_context_require("set_labels()");
	labels = rom_arg_jsonb(fcinfo, 0, "labels");
	if (!JB_ROOT_IS_OBJECT(labels))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"labels\" must be a JSON object")));
	call.primitive = &primitive_set_labels;
	call.step_base = "set_labels";
	call.input = labels;
	(void) rom_call_step(&call);
	PG_RETURN_VOID();
}
