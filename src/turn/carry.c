/*-------------------------------------------------------------------------
 *
 * carry.c
 *		Carrying a call out: inside the evaluation, in its place, or after it.
 *
 * Inside the evaluation: the inline path (rom_carry_inline()). In its place: calls
 * that are known beforehand (ahead.c), the same way. After it: rom_carry_out().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "instances/event.h"
#include "memory/slot.h"
#include "turn/carry.h"
#include "turn/context.h"
#include "turn/quiet.h"
#include "turn/replay.h"

int
rom_carry_base_length(const char *step)
{
	const char *colon = strrchr(step, ':');

	return colon ? colon - step : (int) strlen(step);
}

bool
rom_carry_same_jsonb(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return rom_jb_is_null(a) && rom_jb_is_null(b);
	if (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0)
		return true;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

RomEvent *
rom_carry_new_event(RomTurn *turn, RomCall *call)
{
	RomEvent   *event = rom_replay_event(turn, 0, call->step);
	const char *name = call->name ? call->name : call->step_base;
	int			len = rom_carry_base_length(call->step);

	if (name != NULL && !(strlen(name) == len && strncmp(call->step, name, len) == 0))
		event->name = rom_context_copy_text(turn, name);
	event->input = rom_context_copy_jsonb(turn, call->input);
	event->detail = rom_context_copy_jsonb(turn, call->detail);
	return event;
}

RomEvent *
rom_carry_answered(RomTurn *turn, RomCall *call, RomEvent *event)
{
	rom_replay_append(turn, event);
	if (call->primitive->deferred)
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);
		RomDeferred *d = palloc_object(RomDeferred);

		d->primitive = call->primitive;
		d->event = event;
		turn->out.pure_events = lappend(turn->out.pure_events, d);
		MemoryContextSwitchTo(old);
	}
	return event;
}

bool
rom_carry_can_inline(RomTurn *turn, RomCall *call)
{
	const RomPrimitive *primitive = call->primitive;
	int			level = GetCurrentTransactionNestLevel();

	if (!turn->eval.inlined || turn->how.careful)
		return false;
	/* a step in an exception block of the handler has an xid of its own */
	if (level > turn->eval.nest && turn->spent.subxacts + level - turn->eval.nest > ROM_SUBXACTS_MAX)
		return false;
	if (primitive->inlineable)
		return primitive->inlineable(turn, call);
	return primitive->kind == ROM_PRIMITIVE_EFFECT;
}

void
rom_carry_inline(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomOutcome	outcome;
	int			level = GetCurrentTransactionNestLevel();

	rom_quiet_aloud(turn);
	PG_TRY();
	{
		outcome = call->primitive->execute(turn, call, event);
	}
	PG_CATCH();
	{
		/* whether the handler catches it or not: go step by step */
		rom_context_end(turn, ROM_EVAL_ABANDONED);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (outcome != ROM_OUTCOME_DONE || event->type == ROM_EVENT_ACTIVITY_FAILED)
	{
		rom_context_end(turn, ROM_EVAL_ABANDONED);
		rom_context_unwind(turn);
	}
	turn->eval.inline_steps++;
	if (level > turn->eval.nest)
		turn->spent.subxacts += level - turn->eval.nest;
	CommandCounterIncrement();
}

/* operator_has_to_mend: errors of carrying a call out that pause the instance. */
static bool
operator_has_to_mend(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_ROM_UNDEFINED || sqlerrcode == ERRCODE_ROM_REPLAY;
}

bool
rom_carry_left_out(RomEvent *event)
{
	return event->type == ROM_EVENT_CALL_FAILED && event->input == NULL;
}

/* refuse_large makes the event of a call whose input is larger than is kept, with the error that it raises. */
static void
refuse_large(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_CALL_FAILED;
	event->input = NULL;
	event->result = rom_error_make(ERRCODE_ROM_LIMIT,
								   psprintf("input of \"%s\" has %d bytes, the limit is %d",
											call->name ? call->name : call->step_base,
											(int) VARSIZE(call->input), rom_guc_max_payload_size),
								   NULL,
								   "Keep large data in a table and pass a key, or raise romancy.max_payload_size.",
								   NULL);
}

RomOutcome
rom_carry_out(RomTurn *turn, RomCall *call)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomEvent   *event = rom_carry_new_event(turn, call);
	volatile RomOutcome outcome = ROM_OUTCOME_DONE;

	if (call->too_large)
	{
		MemoryContextSwitchTo(turn->cxt);
		refuse_large(turn, call, event);
		MemoryContextSwitchTo(old);
		goto done;
	}
	if (call->primitive->own_subxact)
	{
		MemoryContextSwitchTo(turn->cxt);
		outcome = call->primitive->execute(turn, call, event);
		MemoryContextSwitchTo(old);
		goto done;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(turn->cxt);
	PG_TRY();
	{
		outcome = call->primitive->execute(turn, call, event);
		MemoryContextSwitchTo(turn->cxt);
		if (TransactionIdIsValid(GetCurrentTransactionIdIfAny()))
			turn->spent.subxacts++;
		if (outcome == ROM_OUTCOME_SOLO || outcome == ROM_OUTCOME_PAUSE || outcome == ROM_OUTCOME_AGAIN)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(turn->cxt);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(turn->cxt);
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			outcome = ROM_OUTCOME_AGAIN;
		else if (operator_has_to_mend(edata->sqlerrcode))
		{
			rom_context_tell_step(turn, call->step, edata);
			turn->out.pause_error = rom_error_to_jsonb(edata);
			outcome = ROM_OUTCOME_PAUSE;
		}
		else
		{
			event->type = ROM_EVENT_CALL_FAILED;
			event->result = rom_error_to_jsonb(edata);
			outcome = ROM_OUTCOME_DONE;
		}
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);

done:
	if (rom_slot_cancelled())
		return ROM_OUTCOME_AGAIN;
	if (outcome == ROM_OUTCOME_DONE || (outcome == ROM_OUTCOME_FAIL && event->type != 0))
	{
		rom_carry_answered(turn, call, event);
		if (turn->wait.before && turn->wait.before->step &&
			turn->wait.before->await == call->primitive->awaits &&
			strcmp(turn->wait.before->step, call->step) == 0)
			turn->wait.before = NULL;
	}
	return outcome;
}
