/*-------------------------------------------------------------------------
 *
 * compensation.c
 *		The calls of handlers about compensations: register_compensation() and
 *		compensate().
 *
 * The saga itself, which runs them when the instance does not complete, is saga.c's.
 * compensate() runs them in the same way, one step of the saga after another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "instances/event.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_register_compensation);
PG_FUNCTION_INFO_V1(romancy_compensate);

static RomOutcome
register_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_COMPENSATION_REGISTERED;
	event->name = rom_context_copy_text(turn, call->name);
	return ROM_OUTCOME_DONE;
}

const RomPrimitive rom_primitive_register_compensation = {
	.name = "register_compensation",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_COMPENSATION_REGISTERED},
	.execute = register_execute,
};

/*
 * require_activity has the instance paused (RM001) unless the activity exists.
 * The look-up's error is caught outside any subtransaction of its own: nothing but
 * the caches was touched, and the unwind that follows rolls the evaluation back.
 */
static void
require_activity(RomTurn *turn, RomCall *call)
{
	PG_TRY();
	{
		(void) rom_activity_definition_resolve(turn->inst->namespace, call->name, turn->workflow->search_path);
	}
	PG_CATCH();
	{
		rom_call_pause(turn, call->step_base, NULL);
	}
	PG_END_TRY();
}

/*
 * romancy.register_compensation(activity text, input jsonb) -> void
 *
 * In a workflow: has activity run with input if the instance does not complete.
 * Errors: 22004 no name, RM004 outside a handler, RM012 an empty or too long name. An activity that does not exist
 * pauses the instance (RM001), as in activity().
 */
Datum
romancy_register_compensation(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("register_compensation()");
	RomCall		call = {0};

	call.primitive = &rom_primitive_register_compensation;
	call.step_base = "register_compensation";
	call.name = rom_arg_text(fcinfo, 0, "activity");
	call.input = rom_arg_jsonb_opt(fcinfo, 1);
	if (call.input == NULL)
		call.input = rom_jb_null_document();
	rom_call_check_name(call.name);
	if (!turn->eval.unwinding && rom_replay_peek(turn) == NULL)
		require_activity(turn, &call);
	(void) rom_call_step(&call);
	PG_RETURN_VOID();
}

/* How many compensations a compensate() ran so far: those executed since its step began, kept in history. */
static int
executed_since(RomTurn *turn)
{
	int			n = 0;

	for (int i = turn->replay.history.count - 1; i >= 0; i--)
	{
		RomEventType type = turn->replay.history.events[i]->type;

		if (type == ROM_EVENT_COMPENSATION_EXECUTED)
			n++;
		else if (type == ROM_EVENT_COMPENSATED || rom_saga_registers(turn->replay.history.events[i]))
			break;
	}
	return n;
}

/*
 * compensate_execute runs what is registered, one after another. It yields like a
 * turn that works step by step does: the history rows tell the next turn where
 * it was.
 */
static RomOutcome
compensate_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	int			subxacts = turn->spent.subxacts;

	for (;;)
	{
		RomOutcome	outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = rom_saga_step(turn);
		switch (outcome)
		{
			case ROM_OUTCOME_END:
				event->type = ROM_EVENT_COMPENSATED;
				event->result = rom_jb_int_document(executed_since(turn));
				return ROM_OUTCOME_DONE;
			case ROM_OUTCOME_WAIT:
			case ROM_OUTCOME_LOOK:
			case ROM_OUTCOME_SOLO:
			case ROM_OUTCOME_APART:
			case ROM_OUTCOME_AGAIN:
			case ROM_OUTCOME_PAUSE:
			case ROM_OUTCOME_FAIL:
				return outcome;
			case ROM_OUTCOME_DONE:
				if (turn->out.commit_now || turn->out.tainted || turn->spent.subxacts - subxacts > 10)
					return rom_call_wait(turn, call, ROM_STATUS_RUNNING, "compensate",
										 rom_now(), NULL);
				break;
		}
	}
}

const RomPrimitive rom_primitive_compensate = {
	.name = "compensate",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_COMPENSATED},
	.execute = compensate_execute,
	.own_subxact = true,
};

/*
 * romancy.compensate() -> int
 *
 * In a workflow: runs the compensations that are registered now, last in first out,
 * and returns how many succeeded; a compensation that fails for good is recorded in
 * history. Errors: RM004 outside a handler.
 */
Datum
romancy_compensate(PG_FUNCTION_ARGS)
{
	RomCall		call = {0};
	RomEvent   *event;

	(void) rom_context_require("compensate()");
	call.primitive = &rom_primitive_compensate;
	call.step_base = "compensate";
	event = rom_call_step(&call);
	PG_RETURN_INT32(rom_jb_document_int(event->result));
}
