/*-------------------------------------------------------------------------
 *
 * ahead.c
 *		Running ahead: steps that an abandoned inline evaluation has shown.
 *
 * An inline evaluation that comes to a wait is rolled back, with all that its steps did,
 * because a handler cannot be suspended. Step by step the handler would then be evaluated
 * once for each of them, from the top: a quadratic number of replayed calls. But a
 * handler depends on nothing but its input and the results of its steps. So as long as a
 * step gives the result that it gave the first time, the next call is known without
 * asking the handler, and a run of steps is carried out in one subtransaction. The
 * evaluation that follows checks them all against the handler, as every replay does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "instances/event.h"
#include "turn/ahead.h"
#include "turn/carry.h"
#include "turn/context.h"

typedef struct KnownCall
{
	RomCall		call;
	RomEvent   *event;			/* of the last time; reused for the next */
	Jsonb	   *detail;			/* the event's, before it was carried out */
} KnownCall;

void
rom_ahead_begin(RomTurn *turn)
{
	turn->eval.ahead = NIL;
	turn->eval.ahead_next = 0;
}

void
rom_ahead_note(RomTurn *turn, const RomCall *call, RomEvent *event, Jsonb *detail)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	KnownCall  *known = palloc_object(KnownCall);

	known->call = *call;
	known->call.step = event->step;
	known->call.step_base = call->step_base ? pstrdup(call->step_base) : NULL;
	known->call.name = call->name == call->step_base ? known->call.step_base :
		rom_context_copy_text(turn, call->name);
	known->call.input = event->input;
	known->call.detail = detail;
	known->event = event;
	known->detail = detail;
	turn->eval.ahead = lappend(turn->eval.ahead, known);
	MemoryContextSwitchTo(old);
}

bool
rom_ahead_matches(RomTurn *turn)
{
	RomCall    *call = turn->eval.call;

	while (!rom_ahead_done(turn))
	{
		KnownCall  *known = list_nth(turn->eval.ahead, turn->eval.ahead_next);

		if (known->call.primitive == call->primitive && strcmp(known->call.step, call->step) == 0)
		{
			/*
			 * another input: this one is carried out as asked for, the next
			 * may be as known again
			 */
			if (known->call.primitive->ignore_input || rom_carry_same_jsonb(known->call.input, call->input))
				return true;
			turn->eval.ahead_next++;
			return false;
		}
		turn->eval.ahead_next++;
	}
	return false;
}

void
rom_ahead_run(RomTurn *turn)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy run ahead",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	bool		same = true;

	turn->replay.cursor = turn->replay.program.count;
	while (same && !rom_ahead_done(turn))
	{
		KnownCall  *known = list_nth(turn->eval.ahead, turn->eval.ahead_next);
		RomEvent   *event = known->event;

		CHECK_FOR_INTERRUPTS();
		/* a pure one wrote nothing: it stands as it is */
		if (known->call.primitive->kind != ROM_PRIMITIVE_PURE)
		{
			Jsonb	   *result = event->result;
			RomEventType type = event->type;

			if (!rom_carry_can_inline(turn, &known->call))
				break;
			event->result = NULL;
			event->detail = known->detail;
			rom_carry_inline(turn, &known->call, event);
			same = event->type == type && rom_carry_same_jsonb(result, event->result);
		}
		turn->eval.ahead_next++;
		turn->replay.cursor++;
		rom_carry_answered(turn, &known->call, event);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

bool
rom_ahead_done(RomTurn *turn)
{
	return turn->eval.ahead_next >= list_length(turn->eval.ahead);
}
