/*-------------------------------------------------------------------------
 *
 * turn.c
 *		A turn of one instance: load, apply what arrived, evaluate, carry out,
 *		save.
 *
 * replay.c sorts history, call.c answers calls from it, evaluate.c runs the handler, verdict.c ends the
 * turn; here is the order of it all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "instances/event.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "turn/ahead.h"
#include "turn/carry.h"
#include "turn/context.h"
#include "turn/evaluate.h"
#include "turn/failure.h"
#include "turn/hooks.h"
#include "turn/recur.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/schedule.h"
#include "turn/settings.h"
#include "turn/turn.h"
#include "turn/verdict.h"


/*
 * A part that runs elsewhere makes the waiting instance ready when it ends; if that wake-up is lost, the instance
 * looks after this many milliseconds.
 */
#define BUSY_LOOK_MS	1000

/* A turn that works step by step yields after this many milliseconds. */
#define TURN_BUDGET_MS	200

RomTurn *
rom_turn_create(RomInstance *inst, Oid owner, MemoryContext cxt)
{
	MemoryContext turn_cxt = AllocSetContextCreate(cxt, "romancy turn",
												   ALLOCSET_DEFAULT_SIZES);
	RomTurn    *turn = MemoryContextAllocZero(turn_cxt, sizeof(RomTurn));

	turn->cxt = turn_cxt;
	turn->inst = inst;
	turn->owner = owner;
	turn->out.status = inst->status;
	turn->wait.was_paused = inst->status == ROM_STATUS_PAUSED;
	turn->out.wake_at = inst->wake_at;
	return turn;
}

/* take_looks has rom_save_turn() look again at what turns before this one could not have. */
static void
take_looks(RomTurn *turn)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
		if (turn->wait.inbox[i].kind == ROM_INBOX_LOOK_AGAIN)
			turn->wait.inbox[i].taken = true;
}

/*
 * apply_inbox applies requests in the order they arrived. True when the turn
 * is decided by them and the handler need not be evaluated.
 */
static bool
apply_inbox(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	RomInboxItem *cancel = NULL;
	RomInboxItem *pause = NULL;
	bool		paused = inst->status == ROM_STATUS_PAUSED;
	bool		was_paused = paused;
	bool		steered = false;

	/*
	 * a pause, and what came after it, is applied by the turn after the one
	 * that records what ran outside of transactions
	 */
	bool		outcome_first = turn->how.injected != NULL && turn->saga == NULL && !paused;

	if (turn->saga != NULL)
		inst->deadline = DT_NOEND;
	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		RomInboxItem *item = &turn->wait.inbox[i];

		switch (item->kind)
		{
			case ROM_INBOX_CANCEL:
			case ROM_INBOX_TERMINATE:
				if (cancel == NULL || item->kind == ROM_INBOX_TERMINATE)
					cancel = item;
				item->taken = true;
				break;
			case ROM_INBOX_PAUSE:
				if (outcome_first)
				{
					rom_wake_ready(&inst->id, turn->owner, inst->priority);
					break;
				}
				paused = steered = item->taken = true;
				if (pause == NULL || pause->error == NULL)
					pause = item;
				break;
			case ROM_INBOX_RESUME:
				if (outcome_first)
					break;

				/*
				 * the fault that an operator has to mend was not known when
				 * the step was called
				 */
				paused = pause != NULL && pause->error != NULL && !was_paused;
				steered = item->taken = true;
				break;
			default:
				break;
		}
	}
	if (cancel != NULL)
	{
		/* steps that have ended by now have to be undone as well */
		rom_schedule_absorb(turn);
		rom_verdict_cancelled(turn, cancel);
		return true;
	}
	if (turn->saga != NULL &&
		(inst->status == ROM_STATUS_COMPENSATING || turn->saga->status == ROM_STATUS_COMPLETED))
		paused = was_paused;	/* a pause that came too late */
	if (steered && paused != was_paused)
	{
		if (paused && pause->error != NULL)
			rom_verdict_paused(turn, rom_context_copy_jsonb(turn, pause->error));
		else if (paused)
		{
			RomEvent   *event = rom_replay_event(turn, ROM_EVENT_WORKFLOW_PAUSED, NULL);

			event->detail = rom_context_copy_jsonb(turn, pause->detail);
			rom_replay_append(turn, event);
			rom_verdict_paused(turn, NULL);
		}
		else
		{
			/* the evaluation establishes the wait again */
			rom_replay_append(turn, rom_replay_event(turn, ROM_EVENT_WORKFLOW_RESUMED, NULL));
			inst->status = inst->resume_status;
			turn->out.status = inst->status;
			inst->crashes = 0;
		}
	}
	if (paused)
	{
		if (!turn->out.changed)
		{
			/* it was before: what it waits for, and why it is paused, stay */
			turn->wait.now = turn->wait.before;
			turn->out.error = inst->error;
		}
		return true;
	}
	take_looks(turn);
	if (inst->deadline <= rom_now())
	{
		rom_schedule_absorb(turn);
		rom_verdict_failed(turn,
						   rom_context_copy_jsonb(turn,
												  rom_error_make(ERRCODE_ROM_TIMEOUT,
																 psprintf("workflow \"%s\" exceeded its execution_timeout",
																		  inst->workflow),
																 NULL, NULL, NULL)));
		return true;
	}
	return false;
}

/* find_handler resolves the function to run: DONE; a missing one, or a lost right, pauses the instance. */
static RomOutcome
find_handler(RomTurn *turn, FmgrInfo **result)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	FmgrInfo   *volatile flinfo = NULL;
	volatile RomOutcome outcome = ROM_OUTCOME_DONE;

	if (turn->how.eager)
	{
		/* an error leaves all to an executor */
		turn->workflow = rom_definition_by_id(turn->inst->def_id);
		*result = rom_definition_handler(turn->workflow, turn->owner);
		return ROM_OUTCOME_DONE;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		turn->workflow = rom_definition_by_id(turn->inst->def_id);
		flinfo = rom_definition_handler(turn->workflow, turn->owner);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(turn->cxt);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			outcome = ROM_OUTCOME_AGAIN;
		else
		{
			turn->out.pause_error = rom_error_to_jsonb(edata);
			outcome = ROM_OUTCOME_PAUSE;
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	*result = flinfo;
	return outcome;
}

/* find_version reads the version that the instance runs, for its search_path: its handler may be missing. */
static void
find_version(RomTurn *turn)
{
	if (turn->workflow == NULL)
		turn->workflow = rom_definition_by_id(turn->inst->def_id);
}

/* yields: has the turn to end here, and the rest to be done by the next one? */
static bool
yields(RomTurn *turn, TimestampTz start)
{
	return turn->out.commit_now || turn->out.tainted || turn->spent.subxacts >= ROM_SUBXACTS_MAX ||
		(!turn->how.in_block &&
		 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TURN_BUDGET_MS));
}

/* save_ending saves an instance on its way to its end, which continues at "until" or when something arrives. */
static RomTurnEnd
save_ending(RomTurn *turn, TimestampTz until)
{
	rom_verdict_waiting(turn, rom_saga_shown(turn->saga), until);
	turn->out.error = turn->saga->error;
	return ROM_TURN_SAVE;
}

/*
 * quiet says whether no part of the instance runs elsewhere any more, and the outcomes of all parts
 * are in history. A spawned activity may be done but not committed, so that its effects are not
 * visible; the instance waits for its end, and a turn that begins after that reads its outcome.
 */
static bool
quiet(RomTurn *turn, TimestampTz *until)
{
	if (turn->saga->quiet || !rom_saga_unsettled(turn))
		return true;
	turn->wait.now = NULL;
	turn->saga->quiet = !rom_hooks_busy(turn);
	*until = turn->saga->quiet ? rom_now() :
		TimestampTzPlusMilliseconds(rom_now(), BUSY_LOOK_MS);
	return false;
}

/* finish applies the verdict that a saga has reached. */
static void
finish(RomTurn *turn)
{
	if (turn->saga->status == ROM_STATUS_COMPLETED)
	{
		Jsonb	   *output = turn->saga->output;

		turn->saga = NULL;
		rom_verdict_completed(turn, output);
	}
	else
		rom_verdict_final(turn, turn->saga->status, rom_verdict_saga_error(turn));
}

/*
 * compensate runs the compensations that are registered, last in first out,
 * until one has to wait, the budget is spent, or the instance ends.
 */
static RomTurnEnd
compensate(RomTurn *turn)
{
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz until;

	find_version(turn);
	rom_hooks_close_work(turn);
	if (!quiet(turn, &until))
		return save_ending(turn, until);
	if (turn->saga->bare)
	{
		finish(turn);
		return ROM_TURN_SAVE;
	}
	if (rom_saga_settle(turn, &until))
	{
		turn->wait.now = NULL;
		return save_ending(turn, until);
	}
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		switch (rom_saga_step(turn))
		{
			case ROM_OUTCOME_DONE:
			case ROM_OUTCOME_LOOK:
			case ROM_OUTCOME_FAIL:	/* no deadline counts any more */
				break;
			case ROM_OUTCOME_WAIT:
				return save_ending(turn, turn->wait.now->until);
			case ROM_OUTCOME_APART:
				return save_ending(turn, rom_now());
			case ROM_OUTCOME_END:
				finish(turn);
				return ROM_TURN_SAVE;
			case ROM_OUTCOME_SOLO:
			case ROM_OUTCOME_AGAIN:
				return ROM_TURN_AGAIN;
			case ROM_OUTCOME_PAUSE:
				rom_verdict_paused(turn, turn->out.pause_error);
				return ROM_TURN_SAVE;
		}
		if (yields(turn, start))
		{
			turn->wait.now = NULL;
			return save_ending(turn, rom_now());
		}
	}
}

/*
 * ended continues after a verdict that ends the instance. Compensations wait for the next turn, so
 * that other sessions see the status while they run.
 */
static RomTurnEnd
ended(RomTurn *turn)
{
	if (turn->saga == NULL ||
		(turn->saga->begun && !turn->saga->bare && rom_saga_pending(turn)))
		return ROM_TURN_SAVE;
	return compensate(turn);
}

/* returned is the verdict on an instance whose handler has returned. */
static RomTurnEnd
returned(RomTurn *turn, Jsonb *output)
{
	if (VARSIZE(output) <= rom_guc_max_payload_size &&
		rom_saga_close(turn, ROM_STATUS_COMPLETED, output, NULL))
		return ended(turn);
	if (rom_verdict_fits(turn, output))
	{
		rom_verdict_completed(turn, output);
		return ROM_TURN_SAVE;
	}
	rom_verdict_failed(turn, turn->out.fail_error);
	/* steps that ran inline are in no subtransaction of their own */
	return turn->eval.inlined ? ROM_TURN_SAVE : ended(turn);
}

/* took: has it used something of its inbox? */
static bool
took(RomTurn *turn)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
		if (turn->wait.inbox[i].taken)
			return true;
	return false;
}

/* still_waits: was it woken for nothing, so that there is nothing to save? */
static bool
still_waits(RomTurn *turn)
{
	RomWait    *before = turn->wait.before;
	RomWait    *wait = turn->wait.now;

	return before != NULL && !turn->wait.set_right && !took(turn) && !turn->out.changed && turn->out.procedure == NULL &&
		turn->inst->status == wait->status &&
		strcmp(before->kind, wait->kind) == 0 &&
		strcmp(before->step, wait->step) == 0 && before->until == wait->until &&
		(before->detail == NULL) == (wait->detail == NULL) &&
		(wait->detail == NULL ||
		 compareJsonbContainers(&before->detail->root, &wait->detail->root) == 0) &&
		turn->inst->wake_at == Min(wait->until, turn->inst->deadline);
}

/* run_ahead carries out, from turn->eval.call on, the known calls of the handler. False: the turn has to run again. */
static bool
run_ahead(RomTurn *turn)
{
	Jsonb	   *output;
	ErrorData  *edata;
	RomEvaluation result = rom_evaluate(turn, NULL, true, &output, &edata);

	if (result == ROM_EVAL_AGAIN)
		return false;
	if (result == ROM_EVAL_RETURNED)
		turn->spent.subxacts++;
	else
	{
		/* whatever it was: step by step it comes again, and is dealt with */
		rom_ahead_begin(turn);
		turn->out.pause_error = turn->out.fail_error = NULL;
		rom_evaluate_note(turn, ROM_BET_WAIT, false);
		return true;
	}
	if (!rom_ahead_done(turn))
		rom_evaluate_note(turn, ROM_BET_WAIT, false);
	return true;
}

/* by_steps evaluates and carries out in turn until the handler waits or ends, or the budget is spent. */
static RomTurnEnd
by_steps(RomTurn *turn, FmgrInfo *flinfo)
{
	TimestampTz start = GetCurrentTimestamp();

	if (turn->saga != NULL)
		return ended(turn);
	for (;;)
	{
		Jsonb	   *output;
		ErrorData  *edata;
		RomEvaluation result;

		CHECK_FOR_INTERRUPTS();
		result = rom_evaluate(turn, flinfo, false, &output, &edata);
		switch (result)
		{
			case ROM_EVAL_RETURNED:
				return returned(turn, output);
			case ROM_EVAL_ERROR:
				{
					Jsonb	   *error = rom_context_copy_jsonb(turn, rom_error_to_jsonb(edata));

					turn->out.failed_step = rom_failure_find(turn, error);
					rom_verdict_failed(turn, error);
					return ended(turn);
				}
			case ROM_EVAL_FAIL:
				rom_verdict_failed(turn, turn->out.fail_error);
				return ended(turn);
			case ROM_EVAL_PAUSE:
				rom_verdict_paused(turn, turn->out.pause_error);
				return ROM_TURN_SAVE;
			case ROM_EVAL_ABANDONED:
			case ROM_EVAL_AGAIN:
				return ROM_TURN_AGAIN;
			case ROM_EVAL_CALL:
				break;
		}

		if (rom_saga_take_before(turn, turn->eval.call->step))
			continue;
		if (rom_ahead_matches(turn))
		{
			if (!run_ahead(turn))
				return ROM_TURN_AGAIN;

			/*
			 * all at once takes no longer than the first time; then the
			 * handler is asked where it is now
			 */
			if (rom_ahead_done(turn) || !yields(turn, start))
				continue;
			turn->wait.now = NULL;
			rom_verdict_waiting(turn, ROM_STATUS_RUNNING, rom_now());
			return ROM_TURN_SAVE;
		}
		switch (rom_carry_out(turn, turn->eval.call))
		{
			case ROM_OUTCOME_DONE:
				break;
			case ROM_OUTCOME_LOOK:
				continue;
			case ROM_OUTCOME_WAIT:
				if (still_waits(turn))
					return ROM_TURN_NOTHING;
				rom_verdict_waiting(turn, turn->wait.now->status, turn->wait.now->until);
				return ROM_TURN_SAVE;
			case ROM_OUTCOME_APART:
				rom_verdict_waiting(turn, turn->wait.now ? turn->wait.now->status : ROM_STATUS_RUNNING,
									rom_now());
				return ROM_TURN_SAVE;
			case ROM_OUTCOME_END:
				return ROM_TURN_SAVE;
			case ROM_OUTCOME_SOLO:
			case ROM_OUTCOME_AGAIN:
				return ROM_TURN_AGAIN;
			case ROM_OUTCOME_PAUSE:
				rom_verdict_paused(turn, turn->out.pause_error);
				return ROM_TURN_SAVE;
			case ROM_OUTCOME_FAIL:
				rom_verdict_failed(turn, turn->out.fail_error);
				return ended(turn);
		}
		if (yields(turn, start))
		{
			turn->wait.now = NULL;
			rom_verdict_waiting(turn, ROM_STATUS_RUNNING, rom_now());
			return ROM_TURN_SAVE;
		}
	}
}

/* step_by_step is by_steps() in a subtransaction of its own where others share the transaction. */
static RomTurnEnd
step_by_step(RomTurn *turn, FmgrInfo *flinfo, bool wrap)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile RomTurnEnd end = ROM_TURN_AGAIN;
	int			nest;

	/*
	 * also alone: steps of a turn that has to begin again must not be
	 * committed without their history
	 */
	BeginInternalSubTransaction(NULL);
	nest = GetCurrentTransactionNestLevel();
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		end = by_steps(turn, flinfo);
		if (end == ROM_TURN_AGAIN)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(old);
		edata = CopyErrorData();
		FlushErrorState();
		while (GetCurrentTransactionNestLevel() >= nest)
			RollbackAndReleaseCurrentSubTransaction();

		/*
		 * run again alone, where the error is dealt with. (A drain's session
		 * may get it, and must not be left with the subtransaction: without a
		 * transaction block it could not end it.)
		 */
		if (!wrap)
			ReThrowError(edata);
		FreeErrorData(edata);
		end = ROM_TURN_AGAIN;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return end;
}

/* has_failures: did a step fail in this turn? */
static bool
has_failures(const RomTurn *turn)
{
	for (int i = turn->replay.stored; i < turn->replay.history.count; i++)
		if (turn->replay.history.events[i]->type == ROM_EVENT_ACTIVITY_FAILED ||
			turn->replay.history.events[i]->type == ROM_EVENT_CALL_FAILED)
			return true;
	return false;
}

RomTurnEnd
rom_turn_run(RomTurn *turn, bool wrap)
{
	RomInstance *inst = turn->inst;
	FmgrInfo   *flinfo;
	RomTurnEnd	end;

	if (ROM_STATUS_IS_FINAL(inst->status))
	{
		/* only its inbox is emptied */
		if (inst->status == ROM_STATUS_RECURRED)
			rom_recur_forward(turn);
		return ROM_TURN_SAVE;
	}
	if (apply_inbox(turn) && turn->out.status != ROM_STATUS_COMPENSATING)
		return turn->out.changed || took(turn) ? ROM_TURN_SAVE : ROM_TURN_NOTHING;
	if (turn->saga != NULL)
	{
		rom_schedule_absorb(turn);
		for (int i = 0; i < turn->wait.ninbox; i++)
			if (turn->wait.inbox[i].kind == ROM_INBOX_SIGNAL || turn->wait.inbox[i].kind == ROM_INBOX_CHILD)
				turn->wait.inbox[i].taken = true;	/* no step waits for them
													 * any more */
		return step_by_step(turn, NULL, wrap);
	}
	switch (find_handler(turn, &flinfo))
	{
		case ROM_OUTCOME_AGAIN:
			return ROM_TURN_AGAIN;
		case ROM_OUTCOME_PAUSE:
			rom_verdict_paused(turn, turn->out.pause_error);
			return ROM_TURN_SAVE;
		default:
			break;
	}
	if (inst->body_hash == 0)
		inst->body_hash = turn->workflow->body_hash;
	turn->out.pause_error = rom_settings_fix(turn);
	if (turn->out.pause_error != NULL)
	{
		rom_verdict_paused(turn, turn->out.pause_error);
		return ROM_TURN_SAVE;
	}

	if (!rom_failure_is_free(turn))
	{
		/* nothing was done: another turn, later */
		inst->wake_at = TimestampTzPlusMilliseconds(rom_now(), ROM_LOOK_AGAIN_MS);
		return ROM_TURN_NOTHING;
	}

	/* it has a history, and has not begun: a fork or a retry */
	if (inst->status == ROM_STATUS_PENDING && turn->replay.stored > 0)
		rom_hooks_renew(turn);
	rom_failure_schedule_again(turn);
	rom_schedule_absorb(turn);

	if (!rom_evaluate_through(turn))
	{
		if (turn->how.eager)
			return ROM_TURN_AGAIN;
	}
	else
	{
		Jsonb	   *output;
		ErrorData  *edata;
		RomEvaluation result = rom_evaluate(turn, flinfo, true, &output, &edata);

		switch (result)
		{
			case ROM_EVAL_RETURNED:
				rom_evaluate_note(turn, ROM_BET_THROUGH, false);
				return returned(turn, output);
			case ROM_EVAL_PAUSE:
				rom_verdict_paused(turn, turn->out.pause_error);
				return ROM_TURN_SAVE;
			case ROM_EVAL_AGAIN:
				return ROM_TURN_AGAIN;
			case ROM_EVAL_ABANDONED:
			case ROM_EVAL_CALL:
				if (turn->eval.call != NULL)
					rom_evaluate_note(turn, ROM_BET_WAIT, true);
				else
					rom_evaluate_note(turn, ROM_BET_FAILURE, false);
				break;
			case ROM_EVAL_FAIL:
				if (turn->eval.inline_steps == 0 || turn->out.tainted)
				{
					/*
					 * nothing went with the evaluation that has to be done
					 * again; or it cannot be, in an interpreter that the
					 * handler was torn out of: then its steps were not
					 */
					rom_verdict_failed(turn, turn->out.fail_error);
					return ended(turn);
				}
				break;
			case ROM_EVAL_ERROR:

				/*
				 * the error is the handler's own, but the steps that ran
				 * inline were rolled back: do them again
				 */
				rom_evaluate_note(turn, ROM_BET_FAILURE, false);
				break;
		}
		turn->out.fail_error = NULL;
		return turn->how.eager ? ROM_TURN_AGAIN : step_by_step(turn, flinfo, wrap);
	}
	end = step_by_step(turn, flinfo, wrap);
	if (end == ROM_TURN_SAVE && turn->out.status == ROM_STATUS_COMPLETED && !has_failures(turn))
		rom_evaluate_note(turn, ROM_BET_THROUGH, false);
	else if (end == ROM_TURN_SAVE && turn->wait.now != NULL)
		rom_evaluate_note(turn, ROM_BET_WAIT, false);
	return end;
}
