/*-------------------------------------------------------------------------
 *
 * context.c
 *		What a handler or an activity may ask about itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "memory/slot.h"
#include "steps/activity.h"
#include "turn/context.h"
#include "turn/turn.h"

/* The instance whose activity this backend runs outside a turn (a procedure, a task). */
static RomRunning running_outside;
static bool is_running_outside = false;

void
rom_context_set(const RomRunning *running)
{
	is_running_outside = running != NULL;
	if (running != NULL)
		running_outside = *running;
}

const RomRunning *
rom_context_find(void)
{
	static RomRunning current;
	RomTurn    *turn = rom_turn_current;

	if (turn != NULL)
	{
		current.id = turn->inst->id;
		current.workflow = turn->inst->workflow;
		return &current;
	}
	return is_running_outside ? &running_outside : NULL;
}

const RomRunning *
rom_context_get(const char *function)
{
	const RomRunning *running = rom_context_find();

	if (running == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s can only be called from a running workflow or activity", function)));
	return running;
}

PG_FUNCTION_INFO_V1(romancy_instance_id);

/* romancy.instance_id() -> uuid: the running instance; RM004 elsewhere */
Datum
romancy_instance_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = rom_context_get("instance_id()")->id;
	PG_RETURN_UUID_P(id);
}

PG_FUNCTION_INFO_V1(romancy_workflow_name);

/* romancy.workflow_name() -> text */
Datum
romancy_workflow_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rom_context_get("workflow_name()")->workflow));
}

PG_FUNCTION_INFO_V1(romancy_is_replaying);

/* romancy.is_replaying() -> boolean: will the next step be answered from history? RM004 outside a handler. */
Datum
romancy_is_replaying(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_turn_require("is_replaying()");

	PG_RETURN_BOOL(rom_turn_peek(turn) != NULL);
}

PG_FUNCTION_INFO_V1(romancy_attempt);

/* romancy.attempt() -> int: of the running activity, from 1; in a handler, 1 + the number of retry_workflow() */
Datum
romancy_attempt(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_turn_current;
	int			attempt = 1;

	(void) rom_context_get("attempt()");
	if (rom_activity_current != NULL)
		PG_RETURN_INT32(rom_activity_current->attempt);
	for (int i = 0; i < turn->history.count; i++)
		if (turn->history.events[i]->type == ROM_EVENT_WORKFLOW_RETRIED)
			attempt++;
	PG_RETURN_INT32(attempt);
}

PG_FUNCTION_INFO_V1(romancy_step_key);

/*
 * romancy.step_key() -> text
 *
 * instance id / activity id: the same on every attempt of the step, for others' idempotency
 * checks. In a handler, the instance id.
 */
Datum
romancy_step_key(PG_FUNCTION_ARGS)
{
	const RomRunning *running = rom_context_get("step_key()");
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&running->id)));

	if (rom_activity_current != NULL)
		id = psprintf("%s/%s", id, rom_activity_current->step);
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

void
rom_context_step(const pg_uuid_t *instance, const char *workflow, const char *step)
{
	char text[	ROM_SLOT_STEP * 2 + 64];

	rom_slot_step(instance, step);
	if (!IsBackgroundWorker || !pgstat_track_activities)
		return;
	if (step != NULL)
		snprintf(text, sizeof(text), "romancy: workflow \"%.*s\", step \"%.*s\"",
				 ROM_SLOT_STEP, workflow, ROM_SLOT_STEP, step);
	else
		snprintf(text, sizeof(text), "romancy: workflow \"%.*s\"", ROM_SLOT_STEP, workflow);
	pgstat_report_activity(STATE_RUNNING, text);
}

/* tell_context adds the line. */
static void
tell_context(void *arg)
{
	RomUserCode *code = arg;
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(code->instance)));

	if (code->step != NULL)
		errcontext(ROM_CONTEXT_MARK "\"%s\", instance %s, step \"%s\"", code->workflow, id, code->step);
	else
		errcontext(ROM_CONTEXT_MARK "\"%s\", instance %s", code->workflow, id);
}

void
rom_context_push(RomUserCode *code, const pg_uuid_t *instance, const char *workflow, const char *step)
{
	code->instance = instance;
	code->workflow = workflow;
	code->step = step;
	code->outer = error_context_stack;
	code->callback.callback = tell_context;
	code->callback.arg = code;
	code->callback.previous = NULL;
	error_context_stack = &code->callback;
}

void
rom_context_pop(RomUserCode *code)
{
	error_context_stack = code->outer;
}
