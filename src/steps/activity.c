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
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/session.h"
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
#include "turn/identity.h"
#include "turn/limit.h"
#include "turn/observe.h"
#include "turn/saga.h"

/* Microseconds: an activity that takes longer on average has a transaction of its own. */
#define QUICK_US		5000


/* The function that executes activities that have a queue. */
static RomQueuedActivity queued = NULL;

void
rom_activity_on_queued(RomQueuedActivity carry_out)
{
	queued = carry_out;
}

/* profile_key says what an activity's profile is kept under. Its handler has been resolved. */
static RomProfileKey
profile_key(const RomActivity *activity)
{
	RomProfileKey key;

	key.dbid = MyDatabaseId;
	key.namespace = activity->namespace;
	key.kind = ROM_PROFILE_ACTIVITY;
	key.object = activity->handler_oid;
	key.body = (uint64) activity->body_hash;
	return key;
}

bool
rom_activity_quick(const RomActivity *activity)
{
	RomProfileKey key = profile_key(activity);

	return activity->transactional && rom_profile_quick(&key, QUICK_US);
}

/* note_failure adds an attempt that failed to the activity's profile, unless the turn was cancelled meanwhile. */
static void
note_failure(const RomActivity *activity, const RomCostMark *begun, int sqlerrcode)
{
	RomProfileKey key = profile_key(activity);
	RomCost		cost = {0};

	if (rom_slot_cancelled())
		return;
	rom_cost_end(begun, &cost);
	rom_profile_note(&key, cost.us,
					 rom_limit_fired() == ROM_LIMIT_BATCH || rom_slot_interrupted() ||
					 (sqlerrcode == ERRCODE_QUERY_CANCELED && rom_limit_fired() == ROM_LIMIT_NONE) ||
					 sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
					 sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
					 sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ?
					 ROM_PROFILE_DISTURBED : ROM_PROFILE_FAILED);
}

/* add_interval adds a (non-negative) interval to an instant. */
static TimestampTz
add_interval(TimestampTz at, Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(at),
												   IntervalPGetDatum(interval)));
}

Jsonb *
rom_activity_call(RomTurn *turn, RomActivity *activity, RomActivityRun *run,
				  Jsonb *input, MemoryContext cxt)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo   *flinfo = rom_activity_definition_handler(activity, turn->owner);
	RomActivityRun *outer = rom_context_activity;
	RomLimit	limits[2];
	RomLimit	before;
	ErrorContextCallback cancels;
	RomIdentity identity;
	RomProfileKey profile;
	RomUserCode code;
	Datum		value;
	Jsonb	   *result;

	limits[0].kind = ROM_LIMIT_EXECUTION;
	limits[0].at = rom_clock_wall(turn->inst->deadline);
	limits[1].kind = activity->start_to_close_timeout ? ROM_LIMIT_ACTIVITY : ROM_LIMIT_NONE;
	limits[1].at = activity->start_to_close_timeout ?
		add_interval(GetCurrentTimestamp(), activity->start_to_close_timeout) : DT_NOEND;
	if (run->close_us > 0)
	{
		limits[1].kind = ROM_LIMIT_ACTIVITY;
		limits[1].at = GetCurrentTimestamp() + run->close_us;
	}

	rom_context_step(&turn->inst->id, turn->inst->workflow, run->step);
	rom_cost_begin(&run->begun);
	rom_identity_enter(&identity, turn->owner,
					   activity->search_path ? activity->search_path : turn->workflow->search_path,
					   turn->inst->settings, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	before = rom_limit_arm(limits, 2);
	PG_TRY();
	{
		rom_context_activity = run;
		rom_context_push(&code, &turn->inst->id, turn->inst->workflow, run->step);
		rom_limit_heed_cancel(&cancels, true);
		InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = PointerGetDatum(input);
		fcinfo->args[0].isnull = input == NULL;
		value = FunctionCallInvoke(fcinfo);
		rom_limit_unheed_cancel(&cancels);

		/* a limit or a cancel that the code caught counts all the same */
		if (rom_limit_fired() != ROM_LIMIT_NONE || rom_slot_cancelled() || rom_limit_is_outside(NULL))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling activity \"%s\"", run->name)));
		if (turn->how.careful || !rom_session_is(turn->owner))
		{
			/*
			 * let what is deferred to the commit fail here, where it is this
			 * activity's; in a session of another role's it must not run at
			 * the commit
			 */
			ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

			stmt->constraints = NIL;
			stmt->deferred = false;
			AfterTriggerSetState(stmt);
		}
		rom_context_pop(&code);
	}
	PG_CATCH();
	{
		rom_context_activity = outer;
		note_failure(activity, &run->begun, geterrcode());
		PG_RE_THROW();
	}
	PG_END_TRY();
	rom_context_activity = outer;
	rom_context_step(&turn->inst->id, turn->inst->workflow, NULL);
	rom_limit_restore(before);
	result = fcinfo->isnull ? NULL : DatumGetJsonbP(value);
	if (result != NULL && VARSIZE(result) > rom_guc_max_payload_size)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("result of activity \"%s\" has %d bytes, the limit is %d",
						run->name, (int) VARSIZE(result), rom_guc_max_payload_size),
				 errhint("Keep large data in a table and return a key, or raise romancy.max_payload_size.")));
	if (cxt != CurrentMemoryContext)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (result == NULL)
			result = rom_jb_null_document();
		else
		{
			Jsonb	   *copy = palloc(VARSIZE(result));

			memcpy(copy, result, VARSIZE(result));
			result = copy;
		}
		MemoryContextSwitchTo(old);
	}
	else if (result == NULL)
		result = rom_jb_null_document();
	PopActiveSnapshot();
	rom_identity_leave(&identity);
	memset(&run->cost, 0, sizeof(run->cost));
	rom_cost_end(&run->begun, &run->cost);
	profile = profile_key(activity);
	rom_profile_note(&profile, run->cost.us, ROM_PROFILE_OK);
	return result;
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
	RomProcedure *p;
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
	p = MemoryContextAllocZero(turn->cxt, sizeof(RomProcedure));
	p->running.id = turn->inst->id;
	p->running.workflow = rom_context_copy_text(turn, turn->inst->workflow);
	p->running.namespace = turn->inst->namespace;
	p->step = rom_context_copy_text(turn, call->step);
	p->name = rom_context_copy_text(turn, call->name);
	p->search_path = rom_context_copy_text(turn, activity->search_path ?
										   activity->search_path : turn->workflow->search_path);
	p->settings = turn->inst->settings;
	(void) rom_activity_definition_handler(activity, turn->owner);
	p->handler = activity->handler_oid;
	p->is_procedure = activity->is_procedure;
	p->input = call->input;
	p->attempt = a->attempt;
	p->limit = activity->start_to_close_timeout ?
		add_interval(rom_now(), activity->start_to_close_timeout) : DT_NOEND;
	turn->out.procedure = p;
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

/* attempt_in_subxact runs one attempt in a subtransaction; false with *edata when it failed. */
static bool
attempt_in_subxact(RomTurn *turn, RomCall *call, RomActivity *activity,
				   RomActivityRun *run, Jsonb **result, ErrorData **edata)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomActivityRun *outer = rom_context_activity;
	sigjmp_buf *outer_tear_out = rom_limit_tear_out;
	volatile bool ok = false;
	int			nest;

	BeginInternalSubTransaction(NULL);
	nest = GetCurrentTransactionNestLevel();
	PG_TRY();
	{
		rom_limit_tear_out = PG_exception_stack;
		*result = rom_activity_call(turn, activity, run, call->input, turn->cxt);
		if (TransactionIdIsValid(GetCurrentTransactionIdIfAny()))
			turn->spent.subxacts++;
		ReleaseCurrentSubTransaction();
		ok = true;
	}
	PG_CATCH();
	{
		rom_limit_tear_out = outer_tear_out;
		rom_context_activity = outer;
		rom_context_step(&turn->inst->id, turn->inst->workflow, NULL);
		turn->out.tainted |= rom_limit_torn();
		MemoryContextSwitchTo(turn->cxt);
		*edata = rom_error_take();
		/* torn out, the activity's own subtransactions are still there */
		while (GetCurrentTransactionNestLevel() >= nest)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	rom_limit_tear_out = outer_tear_out;
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return ok;
}

/* resolve finds the activity as the instance's owner: DONE; what is missing pauses the instance. */
static RomOutcome
resolve(RomTurn *turn, const char *name, RomActivity **result)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomActivity *volatile activity = NULL;
	volatile RomOutcome outcome = ROM_OUTCOME_DONE;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		RomIdentity identity;

		rom_identity_enter(&identity, turn->owner, turn->workflow->search_path, 0, true);
		PushActiveSnapshot(GetTransactionSnapshot());
		activity = rom_activity_definition_resolve(turn->inst->namespace, name, turn->workflow->search_path);
		if (activity->queue == NULL)
			(void) rom_activity_definition_handler(activity, turn->owner);
		PopActiveSnapshot();
		rom_identity_leave(&identity);
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
	return attempt_failed(turn, call, event, a, &policy,
						  rom_attempt_error(call->name, edata, limit),
						  rom_error_is_terminal(edata), cost);
}

/* others_share: could a wait for a lock in here hold up other members of the batch, or they it? Then their errors are no verdict. */
static bool
others_share(RomTurn *turn, int sqlerrcode)
{
	return !turn->how.solo && !turn->how.in_block &&
		(sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		 sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		 sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE);
}

static RomOutcome
activity_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomActivity *activity;
	RomActivityRun run = {0};
	RomWait    *before = rom_call_waited(turn, call);
	RomAttempts a;
	Jsonb	   *result = NULL;
	ErrorData  *edata = NULL;
	RomCost		cost = {0};
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
		run.name = call->name;
		run.step = call->step;
		run.attempt = a.attempt;
		result = rom_activity_call(turn, activity, &run, call->input, turn->cxt);
		return completed(turn, call, event, activity, &a, result, &run.cost);
	}

	if (before != NULL && strcmp(before->kind, "retry") == 0 && before->until > rom_now())
		return rom_call_wait(turn, call, before->status, before->kind, before->until, before->detail);

	outcome = resolve(turn, call->name, &activity);
	if (outcome != ROM_OUTCOME_DONE)
		return outcome;
	if (activity->queue != NULL)
	{
		outcome = queued(turn, call, event, activity);
		if (outcome == ROM_OUTCOME_DONE && event->type == ROM_EVENT_ACTIVITY_COMPLETED)
			rom_saga_note(turn, event, activity->compensation);
		return outcome;
	}

	if (turn->how.injected != NULL && strcmp(turn->how.injected->step, call->step) == 0)
	{
		RomInjected *injected = turn->how.injected;

		turn->how.injected = NULL;
		if (turn->how.careful)
			turn->out.commit_now = true;
		/* it has run, once: nothing that comes after may take that back */
		turn->out.commit_now |= turn->how.apart;
		if (!injected->failed)
			return completed(turn, call, event, activity, &a, injected->result,
							 injected->measured ? &injected->cost : NULL);
		return judge_failure(turn, call, event, &a, activity, injected->error, injected->limit,
							 injected->measured ? &injected->cost : NULL);
	}
	if (turn->how.apart && !rom_activity_quick(activity))
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
	run.name = call->name;
	run.step = call->step;
	run.attempt = a.attempt;
	rom_cost_begin(&run.begun); /* it may fail before it begins */
	ok = attempt_in_subxact(turn, call, activity, &run, &result, &edata);
	rom_cost_end(&run.begun, &cost);
	/* its slot is free when this transaction is over: at once */
	if (activity->limits.max_concurrency > 0 || turn->out.slow_ran)
		turn->out.commit_now = true;
	if (ok)
	{
		if (turn->how.careful)
			turn->out.commit_now = true;
		return completed(turn, call, event, activity, &a, result, &cost);
	}
	if (others_share(turn, edata->sqlerrcode))
		return ROM_OUTCOME_AGAIN;
	if (rom_limit_is_outside(edata))
	{
		/* no fault of the activity: drain fails, an executor tries it again */
		if (turn->how.in_session)
			turn->out.raise_error = rom_limit_outside_error(edata);
		return ROM_OUTCOME_AGAIN;
	}
	return judge_failure(turn, call, event, &a, activity, edata, rom_limit_fired(), &cost);
}

/* activity_inlineable: known, in the database, transactional, and no lock or slot that others wait for is held during the rest of the evaluation. */
static bool
activity_inlineable(RomTurn *turn, RomCall *call)
{
	RomActivity *activity;

	if (rom_call_waited(turn, call) != NULL)
		return false;
	activity = rom_activity_definition_resolve(turn->inst->namespace, call->name, turn->workflow->search_path);
	if (activity->queue != NULL || !activity->transactional ||
		activity->limits.max_concurrency > 0)
		return false;

	if (turn->how.eager)
	{
		rom_context_end(turn, ROM_EVAL_ABANDONED);	/* if it raises */
		(void) rom_activity_definition_handler(activity, turn->owner);
		turn->eval.end = ROM_EVAL_RETURNED;
		turn->eval.unwinding = false;
		if (!rom_handler_stateless(activity->handler_oid))
			return false;
	}

	/*
	 * an activity that this process has not called yet is resolved step by
	 * step
	 */
	return !turn->how.apart || (activity->flinfo != NULL && rom_activity_quick(activity));
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
	char	   *message = PG_ARGISNULL(0) ? pstrdup("") : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *detail = PG_ARGISNULL(1) ? NULL :
		JsonbToCString(NULL, &PG_GETARG_JSONB_P(1)->root, 0);
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
