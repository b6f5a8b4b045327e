/*-------------------------------------------------------------------------
 *
 * invoke.c
 *		One attempt at an activity in the database: its function, called as the
 *		owner's code, what it cost, and what is left when it fails.
 *
 * A turn and a task differ in what they make of the outcome (activity.c,
 * tasks/execute.c); the attempt itself is the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/session.h"
#include "base/spi.h"
#include "defs/handler.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "steps/invoke.h"
#include "steps/profile.h"
#include "turn/identity.h"
#include "turn/limit.h"
#include "turn/turn.h"

void
rom_invoke_check_result(const char *name, const Jsonb *result)
{
	if (result != NULL && VARSIZE(result) > rom_guc_max_payload_size)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("result of activity \"%s\" has %d bytes, the limit is %d",
						name, (int) VARSIZE(result), rom_guc_max_payload_size),
				 err_generic_string(PG_DIAG_DATATYPE_NAME, ROM_RESULT_MARK),
				 errhint("Keep large data in a table and return a key, or raise romancy.max_payload_size.")));
}

RomInvocation
rom_invoke_for(RomTurn *turn)
{
	RomInvocation of;

	of.running.id = turn->inst->id;
	of.running.workflow = turn->inst->workflow;
	of.running.namespace = turn->inst->namespace;
	of.owner = turn->owner;
	of.search_path = turn->workflow->search_path;
	of.settings = turn->inst->settings;
	of.deadline = turn->inst->deadline;
	of.careful = turn->how.careful;
	return of;
}

bool
rom_invoke_shared_trouble(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
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
rom_invoke_quick(const RomActivity *activity)
{
	RomProfileKey key = profile_key(activity);

	return activity->transactional && rom_profile_quick(&key, ROM_QUICK_US);
}

/* task_key says what the profile of an activity's name is kept under. */
static RomProfileKey
task_key(int32 namespace, const char *activity)
{
	RomProfileKey key;

	key.dbid = MyDatabaseId;
	key.namespace = namespace;
	key.kind = ROM_PROFILE_TASK;
	key.object = hash_bytes_extended((const unsigned char *) activity, strlen(activity), 0);
	key.body = 0;
	return key;
}

bool
rom_invoke_short_task(int32 namespace, const char *activity)
{
	RomProfileKey key = task_key(namespace, activity);

	return rom_profile_short(&key, ROM_QUICK_US);
}

void
rom_invoke_note_task(int32 namespace, const char *activity, int64 us)
{
	RomProfileKey key = task_key(namespace, activity);

	rom_profile_note(&key, us, ROM_PROFILE_OK);
}

/* note_failure adds an attempt that failed to the activity's profile, unless it was the end of the instance that interrupted it. */
static void
note_failure(const RomActivity *activity, const RomCostMark *begun, int sqlerrcode)
{
	RomProfileKey key = profile_key(activity);
	RomCost		cost = {0};

	if (rom_slot_cancelled() || rom_limit_fired() == ROM_LIMIT_EXECUTION)
		return;
	rom_cost_end(begun, &cost);
	rom_profile_note(&key, cost.us,
					 rom_limit_fired() == ROM_LIMIT_BATCH || rom_slot_interrupted() ||
					 (sqlerrcode == ERRCODE_QUERY_CANCELED && rom_limit_fired() == ROM_LIMIT_NONE) ||
					 rom_invoke_shared_trouble(sqlerrcode) ?
					 ROM_PROFILE_DISTURBED : ROM_PROFILE_FAILED);
}

/* limit_of says when an attempt that begins at this time has to be over: DT_NOEND when it may take as long as it likes. */
static TimestampTz
limit_of(const RomActivity *activity, const RomActivityRun *run, TimestampTz begins)
{
	if (run->close_us > 0)
		return begins + run->close_us;
	if (activity->start_to_close_timeout == NULL)
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(begins),
												   IntervalPGetDatum(activity->start_to_close_timeout)));
}

Jsonb *
rom_invoke(const RomInvocation *of, RomActivity *activity, RomActivityRun *run, Jsonb *input, MemoryContext cxt)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo   *flinfo = rom_activity_definition_handler(activity, of->owner);
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
	limits[0].at = rom_clock_wall(of->deadline);
	limits[1].at = limit_of(activity, run, GetCurrentTimestamp());
	limits[1].kind = limits[1].at < DT_NOEND ? ROM_LIMIT_ACTIVITY : ROM_LIMIT_NONE;

	rom_context_step(&of->running.id, of->running.workflow, run->step);
	rom_cost_begin(&run->begun);
	rom_identity_enter(&identity, of->owner,
					   activity->search_path ? activity->search_path : of->search_path,
					   of->settings, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	before = rom_limit_arm(limits, 2);
	PG_TRY();
	{
		rom_context_activity = run;
		rom_context_push(&code, &of->running.id, of->running.workflow, run->step);
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
		if (of->careful || !rom_session_is(of->owner))
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
	rom_context_step(&of->running.id, of->running.workflow, NULL);
	rom_limit_restore(before);
	result = fcinfo->isnull ? NULL : DatumGetJsonbP(value);
	rom_invoke_check_result(run->name, result);
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
	rom_ready_step_took(run->cost.us < ROM_QUICK_US);
	return result;
}

RomActivity *
rom_invoke_find(const RomInvocation *of, const char *name, bool undoable)
{
	RomIdentity identity;
	RomActivity *activity;

	rom_identity_enter(&identity, of->owner, of->search_path, 0, true);
	PushActiveSnapshot(GetTransactionSnapshot());
	activity = undoable ?
		rom_activity_definition_resolve_undoable(of->running.namespace, name, of->search_path) :
		rom_activity_definition_resolve(of->running.namespace, name, of->search_path);
	if (activity->queue == NULL)
		(void) rom_activity_definition_handler(activity, of->owner);
	PopActiveSnapshot();
	rom_identity_leave(&identity);
	return activity;
}

bool
rom_invoke_try(const RomInvocation *of, RomActivityRun *run, void (*attempt) (void *arg), void *arg,
			   MemoryContext cxt, RomTried *tried)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomActivityRun *outer = rom_context_activity;
	sigjmp_buf *outer_tear_out = rom_limit_tear_out;
	int			nest;

	memset(tried, 0, sizeof(*tried));
	rom_cost_begin(&run->begun);	/* it may fail before it begins */
	BeginInternalSubTransaction(NULL);
	nest = GetCurrentTransactionNestLevel();
	PG_TRY();
	{
		rom_limit_tear_out = PG_exception_stack;
		attempt(arg);
		tried->wrote = TransactionIdIsValid(GetCurrentTransactionIdIfAny());
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		rom_limit_tear_out = outer_tear_out;
		rom_context_activity = outer;
		if (of->running.workflow != NULL)
			rom_context_step(&of->running.id, of->running.workflow, NULL);
		tried->torn = rom_limit_torn();
		MemoryContextSwitchTo(cxt);
		tried->error = rom_error_take();
		rom_spi_torn_out();
		/* torn out, the activity's own subtransactions are still there */
		while (GetCurrentTransactionNestLevel() >= nest)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	rom_limit_tear_out = outer_tear_out;
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	memset(&run->cost, 0, sizeof(run->cost));
	rom_cost_end(&run->begun, &run->cost);
	return tried->error == NULL;
}

RomProcedure *
rom_invoke_later(const RomInvocation *of, const RomActivity *activity, const RomActivityRun *run,
				 Jsonb *input, MemoryContext cxt)
{
	RomProcedure *p = MemoryContextAllocZero(cxt, sizeof(RomProcedure));

	p->running = of->running;
	p->running.workflow = MemoryContextStrdup(cxt, of->running.workflow);
	p->step = MemoryContextStrdup(cxt, run->step);
	p->name = MemoryContextStrdup(cxt, run->name);
	p->search_path = MemoryContextStrdup(cxt, activity->search_path ? activity->search_path : of->search_path);
	p->settings = of->settings;
	p->handler = activity->handler_oid;
	p->is_procedure = activity->is_procedure;
	p->input = input;
	p->attempt = run->attempt;
	p->limit = limit_of(activity, run, rom_now());
	p->deadline = DT_NOEND;
	return p;
}
