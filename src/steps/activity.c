/*-------------------------------------------------------------------------
 *
 * activity.c
 *		Activities that run in the database: attempts, failures, retries.
 *
 * A transactional activity runs in the turn's transaction, so that its effects
 * and its history row commit together: step by step in a subtransaction of its
 * own, inline within the evaluation. A failure is an event, or a wait for the
 * next attempt: a row's timer, no worker and no transaction is held.
 *
 * A non-transactional one (a procedure that commits) is only announced in the
 * turn: the batch runs it after the commit and brings the outcome to the next
 * turn as turn->how.injected. If the process dies in between, it runs again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "defs/handler.h"
#include "instances/event.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "steps/activity.h"
#include "steps/attempt.h"
#include "steps/profile.h"
#include "steps/throttle.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/limit.h"
#include "turn/observe.h"
#include "turn/saga.h"


/* The function that executes activities that have a queue. */
static RomQueuedActivity queued = NULL;

void
rom_activity_on_queued(RomQueuedActivity carry_out)
{
	queued = carry_out;
}

/* ---------------------------------------------------------------- attempts */

/*
 * admit asks the activity's limits whether an attempt may begin now; if not, the instance waits
 * (or, inside an evaluation, the evaluation is abandoned). keep: until the procedure is over.
 */
static bool
admit(RomTurn *turn, RomCall *call, RomActivity *activity, RomAttempts *a, bool keep,
	  RomOutcome *outcome)
{
	RomWait    *before = rom_call_waited(turn, call);
	RomAsker	asker = {0};
	RomAdmission admission;
	Jsonb	   *detail;
	RomJb		jb;

	if (!ROM_LIMITED(&activity->limits))
		return true;
	asker.id = turn->inst->id;
	asker.owner = turn->owner;
	asker.priority = turn->inst->priority;
	asker.level = GetCurrentTransactionNestLevel();
	asker.waits = !turn->eval.active;
	asker.keep = keep;
	if (before != NULL && before->detail != NULL &&
		(strcmp(before->kind, ROM_WAIT_SLOT) == 0 || strcmp(before->kind, ROM_WAIT_TOKEN) == 0))
	{
		asker.held_at = rom_jb_get_time(before->detail, "held_at");
		asker.held_until = before->until;
	}
	admission = rom_throttle_admit(activity->namespace, activity->name, &activity->limits, &asker);
	if (admission == ROM_ADMITTED)
	{
		if (a->attempt == 1)
			a->started = rom_now(); /* not when it began to wait */
		return true;
	}
	*outcome = ROM_OUTCOME_WAIT;
	if (!asker.waits)
		return false;
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "held_at", asker.held_at);
	detail = rom_jb_with(rom_attempts_detail(a), "held_at",
						 rom_jb_get_json(rom_jb_end(&jb), "held_at"));
	*outcome = rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY,
							 admission == ROM_HELD_SLOT ? ROM_WAIT_SLOT : ROM_WAIT_TOKEN,
							 asker.held_until, detail);
	return false;
}

/* attempt_failed decides what a failed attempt leads to: another, later, or the step's failure. */
static RomOutcome
attempt_failed(RomTurn *turn, RomCall *call, RomEvent *event, RomAttempts *a,
			   const RomRetryPolicy *policy, Jsonb *error, bool terminal,
			   const RomCost *cost)
{
	TimestampTz next;

	rom_observe_note(turn, call->name, true, a->attempt, cost);
	if (rom_attempts_fail(a, policy, error, terminal, &next))
		return rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "retry",
							 next, rom_attempts_detail(a));
	if (policy->pause && !terminal)
	{
		/* the wait tells where it is, and goes with the pause */
		(void) rom_call_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, ROM_WAIT_EXHAUSTED,
							 DT_NOEND, rom_attempts_detail(a));
		turn->wait.before = turn->wait.now;
		turn->out.pause_error = rom_context_copy_jsonb(turn, error);
		return ROM_OUTCOME_PAUSE;
	}
	event->type = ROM_EVENT_ACTIVITY_FAILED;
	event->result = error;
	if (!terminal)
		event->detail = rom_attempts_summary(a);
	return ROM_OUTCOME_DONE;
}

/* completed fills the event of an attempt that succeeded. */
static RomOutcome
completed(RomTurn *turn, RomCall *call, RomEvent *event, RomActivity *activity,
		  RomAttempts *a, Jsonb *result, const RomCost *cost)
{
	rom_observe_note(turn, call->name, false, a->attempt, cost);
	event->type = ROM_EVENT_ACTIVITY_COMPLETED;
	event->result = result;
	event->at = rom_now();
	if (a->attempt > 1)
		event->detail = rom_attempts_summary(a);
	rom_saga_note(turn, event, activity->compensation);
	return ROM_OUTCOME_DONE;
}

/* announce has the batch run a non-transactional activity after the commit. */
static RomOutcome
announce(RomTurn *turn, RomCall *call, RomActivity *activity, RomAttempts *a)
{
	RomInvocation of = rom_invoke_for(turn);
	RomActivityRun run = {.name = call->name,.step = call->step,.attempt = a->attempt};
	RomOutcome	outcome;
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);

	turn->out.raise_error = rom_procedure_refusal(call->name, turn->how.in_block, turn->owner);
	MemoryContextSwitchTo(old);
	if (turn->out.raise_error != NULL)
		return ROM_OUTCOME_SOLO;
	if (!turn->how.solo)
		return ROM_OUTCOME_SOLO;
	if (!admit(turn, call, activity, a, true, &outcome))
		return outcome;
	(void) rom_activity_definition_handler(activity, turn->owner);
	turn->out.procedure = rom_invoke_later(&of, activity, &run, call->input, turn->cxt);
	return rom_call_wait(turn, call, ROM_STATUS_RUNNING, "procedure", rom_now(),
						 rom_jb_with(rom_attempts_detail(a), "input",
									 call->input ? call->input : rom_jb_null_document()));
}

/* effective_policy is the activity's policy overlaid by the call's own. */
static RomRetryPolicy
effective_policy(RomActivity *activity, RomCall *call)
{
	RomRetryPolicy policy = activity->retry;

	if (call->options != NULL)
		rom_retry_overlay(&policy, (Jsonb *) call->options, "retry");
	return policy;
}

/* An attempt of a turn's. */
typedef struct Attempt
{
	RomInvocation of;
	RomActivity *activity;
	RomActivityRun run;
	Jsonb	   *input;
	Jsonb	   *result;
	MemoryContext cxt;
} Attempt;

/* prepare fills it for this call. */
static void
prepare(Attempt *t, RomTurn *turn, RomCall *call, RomActivity *activity, int attempt)
{
	t->of = rom_invoke_for(turn);
	t->activity = activity;
	t->run.name = call->name;
	t->run.step = call->step;
	t->run.attempt = attempt;
	t->input = call->input;
	t->cxt = turn->cxt;
}

/* try_call is rom_invoke_try()'s attempt(). */
static void
try_call(void *arg)
{
	Attempt    *t = arg;

	t->result = rom_invoke(&t->of, t->activity, &t->run, t->input, t->cxt);
}

/* resolve finds the activity as the instance's owner, and before the first attempt what undoes it: DONE; what is missing pauses the instance. */
static RomOutcome
resolve(RomTurn *turn, RomCall *call, bool first, RomActivity **result)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomInvocation of = rom_invoke_for(turn);
	RomActivity *volatile activity = NULL;
	volatile RomOutcome outcome = ROM_OUTCOME_DONE;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		activity = rom_invoke_find(&of, call->name, first && call->undoes == NULL);
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
			rom_context_tell_step(turn, call->step, edata);
			turn->out.pause_error = rom_error_to_jsonb(edata);
			outcome = ROM_OUTCOME_PAUSE;
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	*result = activity;
	return outcome;
}

/* judge_failure turns the error of an attempt into an outcome. limit: that ended it. The caller has seen to interruptions from outside. */
static RomOutcome
judge_failure(RomTurn *turn, RomCall *call, RomEvent *event, RomAttempts *a,
			  RomActivity *activity, ErrorData *edata, RomLimitKind limit, const RomCost *cost)
{
	RomRetryPolicy policy = effective_policy(activity, call);

	if (rom_slot_cancelled() || limit == ROM_LIMIT_BATCH)
		return ROM_OUTCOME_AGAIN;
	rom_limit_reset();
	if (limit == ROM_LIMIT_EXECUTION)
	{
		turn->out.fail_error = rom_error_make(ERRCODE_ROM_TIMEOUT,
											  psprintf("workflow \"%s\" exceeded its execution_timeout",
													   turn->inst->workflow),
											  psprintf("It was running activity \"%s\".", call->name),
											  NULL, NULL);
		event->type = ROM_EVENT_ACTIVITY_FAILED;
		event->result = turn->out.fail_error;
		rom_observe_note(turn, call->name, true, a->attempt, cost);
		return ROM_OUTCOME_FAIL;
	}
	a->of_result = rom_error_is_of_result(edata);
	return attempt_failed(turn, call, event, a, &policy,
						  rom_attempt_error(call->name, rom_error_to_jsonb(edata), limit),
						  rom_error_is_terminal(edata), cost);
}

/* judge_kept does that for an attempt that failed outside of transactions before its instance was paused (rom_saga_take_injected()). */
static RomOutcome
judge_kept(RomTurn *turn, RomCall *call, RomEvent *event, RomAttempts *a, RomActivity *activity, Jsonb *detail)
{
	RomRetryPolicy policy = effective_policy(activity, call);
	Jsonb	   *failure = rom_jb_get_json(detail, ROM_WAIT_FAILED);

	if (rom_slot_cancelled())
		return ROM_OUTCOME_AGAIN;
	a->failed_at = rom_jb_get_time(failure, "at");
	a->of_result = rom_jb_get_bool(failure, "of_result", false);
	return attempt_failed(turn, call, event, a, &policy,
						  rom_attempt_error(call->name, rom_jb_get_json(failure, "error"),
											rom_jb_get_bool(failure, "timeout", false) ? ROM_LIMIT_ACTIVITY : ROM_LIMIT_NONE),
						  rom_jb_get_bool(failure, "terminal", false), NULL);
}

/* others_share: could a wait for a lock in here hold up other members of the batch, or they it? Then their errors are no verdict. */
static bool
others_share(RomTurn *turn, int sqlerrcode)
{
	return !turn->how.solo && !turn->how.in_block && rom_invoke_shared_trouble(sqlerrcode);
}

static RomOutcome
activity_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	Attempt		t = {0};
	RomTried	tried;
	RomActivity *activity;
	RomWait    *before = rom_call_waited(turn, call);
	RomAttempts a;
	RomOutcome	outcome;
	bool		ok;

	rom_attempts_load(&a, before ? before->kind : NULL, before ? before->detail : NULL);
	if (turn->eval.active)
	{
		/*
		 * inline; an error is caught, and the evaluation abandoned, by the
		 * caller
		 */
		activity = rom_activity_definition_resolve(turn->inst->namespace, call->name, turn->workflow->search_path);
		if (!admit(turn, call, activity, &a, false, &outcome))
			return outcome;
		prepare(&t, turn, call, activity, a.attempt);
		try_call(&t);
		return completed(turn, call, event, activity, &a, t.result, &t.run.cost);
	}

	if (before != NULL && strcmp(before->kind, "retry") == 0 && before->until > rom_now())
		return rom_call_wait(turn, call, before->status, before->kind, before->until, before->detail);

	outcome = resolve(turn, call, before == NULL, &activity);
	if (outcome != ROM_OUTCOME_DONE)
		return outcome;

	/*
	 * (what has run is judged also where the activity was given a queue
	 * meanwhile)
	 */
	if (turn->how.injected != NULL && strcmp(turn->how.injected->step, call->step) == 0)
	{
		RomInjected *injected = turn->how.injected;

		turn->how.injected = NULL;
		if (turn->how.careful)
			turn->out.commit_now = true;
		/* it has run, once: nothing that comes after may take that back */
		turn->out.commit_now |= turn->how.apart;
		/* an executor hands the rest on, a session runs it */
		turn->out.slow_ran |= turn->how.apart && turn->how.in_session;
		if (!injected->failed)
			return completed(turn, call, event, activity, &a, injected->result,
							 injected->measured ? &injected->cost : NULL);
		return judge_failure(turn, call, event, &a, activity, injected->error, injected->limit,
							 injected->measured ? &injected->cost : NULL);
	}
	if (before != NULL && strcmp(before->kind, ROM_WAIT_FAILED) == 0)
		return judge_kept(turn, call, event, &a, activity, before->detail);
	if (activity->queue != NULL)
	{
		outcome = queued(turn, call, event, activity);
		if (outcome == ROM_OUTCOME_DONE && event->type == ROM_EVENT_ACTIVITY_COMPLETED)
			rom_saga_note(turn, event, activity->compensation);
		return outcome;
	}

	if (turn->how.apart && !rom_invoke_quick(activity))
	{
		if (turn->replay.history.count > turn->replay.stored || turn->out.changed)
		{
			/* what is known of earlier attempts stays */
			turn->wait.now = before;
			turn->out.slow_next = true;
			return ROM_OUTCOME_APART;
		}
		if (!turn->how.solo || turn->how.slow_done || !rom_ready_enter_slow())
		{
			turn->out.slow_next = true;
			return ROM_OUTCOME_SOLO;
		}
		turn->out.slow_ran = true;
	}
	if (!activity->transactional)
		return announce(turn, call, activity, &a);

	if (!admit(turn, call, activity, &a, false, &outcome))
		return outcome;
	prepare(&t, turn, call, activity, a.attempt);
	ok = rom_invoke_try(&t.of, &t.run, try_call, &t, turn->cxt, &tried);
	turn->out.tainted |= tried.torn;
	turn->spent.subxacts += tried.wrote;
	/* its slot is free when this transaction is over: at once */
	if (activity->limits.max_concurrency > 0 || turn->out.slow_ran)
		turn->out.commit_now = true;
	if (ok)
	{
		if (turn->how.careful)
			turn->out.commit_now = true;
		return completed(turn, call, event, activity, &a, t.result, &t.run.cost);
	}
	if (others_share(turn, tried.error->sqlerrcode))
		return ROM_OUTCOME_AGAIN;
	if (rom_limit_is_outside(tried.error))
	{
		/* no fault of the activity: drain fails, an executor tries it again */
		if (turn->how.in_session)
			turn->out.raise_error = rom_limit_outside_error(tried.error);
		return ROM_OUTCOME_AGAIN;
	}
	return judge_failure(turn, call, event, &a, activity, tried.error, rom_limit_fired(), &t.run.cost);
}

/* activity_inlineable: known, in the database, transactional, and no lock or slot that others wait for is held during the rest of the evaluation. */
static bool
activity_inlineable(RomTurn *turn, RomCall *call)
{
	RomActivity *activity;

	if (rom_call_waited(turn, call) != NULL)
		return false;
	activity = rom_activity_definition_resolve_undoable(turn->inst->namespace, call->name, turn->workflow->search_path);
	if (activity->queue != NULL || !activity->transactional ||
		activity->limits.max_concurrency > 0)
		return false;

	/* (a function that was replaced has another profile) */
	if (turn->how.eager || (activity->flinfo != NULL && !rom_activity_definition_is_current(activity)))
	{
		rom_context_end(turn, ROM_EVAL_ABANDONED);	/* if it raises */
		(void) rom_activity_definition_handler(activity, turn->owner);
		turn->eval.end = ROM_EVAL_RETURNED;
		turn->eval.unwinding = false;
	}
	if (turn->how.eager && !rom_handler_stateless(activity->handler_oid))
		return false;

	/*
	 * an activity that this process has not called yet is resolved step by
	 * step
	 */
	return !turn->how.apart || (activity->flinfo != NULL && rom_invoke_quick(activity));
}

const RomPrimitive rom_primitive_activity = {
	.name = "activity",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
	.execute = activity_execute,
	.inlineable = activity_inlineable,
	.own_subxact = true,
};

PG_FUNCTION_INFO_V1(romancy_activity);

/*
 * romancy.activity(name text, input jsonb, activity_id text, retry jsonb) -> jsonb
 *
 * Runs an activity once and returns its result; raises its error after its retries.
 */
Datum
romancy_activity(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("activity()");
	RomCall		call = {0};
	RomEvent   *event;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"name\" of romancy.activity() must not be null")));
	call.primitive = &rom_primitive_activity;
	call.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	rom_call_check_name(call.name);
	call.step_base = call.name;
	call.input = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	call.step = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
	{
		RomRetryPolicy check;

		rom_retry_defaults(&check);
		rom_retry_overlay(&check, PG_GETARG_JSONB_P(3), "retry");
		call.options = rom_context_copy_jsonb(turn, PG_GETARG_JSONB_P(3));
	}
	event = rom_call_step(&call);
	if (event->type == ROM_EVENT_ACTIVITY_FAILED)
		rom_error_raise(event->result);
	PG_RETURN_JSONB_P(event->result);
}

PG_FUNCTION_INFO_V1(romancy_raise_terminal);

/*
 * romancy.raise_terminal(message text, detail jsonb, error_code text) -> never returns
 *
 * Ends an activity with an error that is never retried. error_code: a SQLSTATE, or any
 * other name, which is kept as error.code with SQLSTATE RM007.
 */
Datum
romancy_raise_terminal(PG_FUNCTION_ARGS)
{
	/* bounded one after the other, before ereport copies each of them */
	char	   *message = PG_ARGISNULL(0) ? pstrdup("") : rom_error_bound(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	char	   *detail = PG_ARGISNULL(1) ? NULL :
		rom_error_bound(JsonbToCString(NULL, &PG_GETARG_JSONB_P(1)->root, 0));
	char	   *code = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	int			sqlstate = ERRCODE_ROM_EXHAUSTED;
	bool		is_state = rom_error_parse_sqlstate(code, &sqlstate);

	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 err_generic_string(PG_DIAG_DATATYPE_NAME, ROM_TERMINAL_MARK),
			 code && !is_state ? err_generic_string(PG_DIAG_CONSTRAINT_NAME, code) : 0));
	PG_RETURN_NULL();
}
