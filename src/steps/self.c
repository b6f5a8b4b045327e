/*-------------------------------------------------------------------------
 *
 * self.c
 *		Facts that a handler or an activity may ask about itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/uuid.h"
#include "instances/event.h"
#include "turn/context.h"
#include "turn/replay.h"

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
	RomTurn    *turn = rom_context_require("is_replaying()");

	PG_RETURN_BOOL(rom_replay_peek(turn) != NULL);
}

PG_FUNCTION_INFO_V1(romancy_attempt);

/* romancy.attempt() -> int: of the running activity, from 1; in a handler, 1 + the number of retry_workflow() */
Datum
romancy_attempt(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_turn;
	int			attempt = 1;

	(void) rom_context_get("attempt()");
	if (rom_context_activity != NULL)
		PG_RETURN_INT32(rom_context_activity->attempt);
	for (int i = 0; i < turn->replay.history.count; i++)
		if (turn->replay.history.events[i]->type == ROM_EVENT_WORKFLOW_RETRIED)
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
	char	   *id = rom_uuid_text(&running->id);

	if (rom_context_activity != NULL)
		id = psprintf("%s/%s", id, rom_context_activity->step);
	PG_RETURN_TEXT_P(cstring_to_text(id));
}
