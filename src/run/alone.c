/*-------------------------------------------------------------------------
 *
 * alone.c
 *		Running an instance alone: an instance that could not be run beside others,
 *		or whose batch failed at COMMIT.
 *
 * A turn that fails at COMMIT is run again with a commit after each activity,
 * so that the error is known to be that activity's. A procedure runs after its
 * turn's commit, and its outcome is recorded by another turn, which is tried
 * again while this process lives, up to a bound. After an error of
 * the engine itself the instance is tried again later (trouble.c); after
 * pg_cancel_backend() it is run again. An instance whose turn ended with its
 * process counts that before it is tried again: run.c pauses it when the count
 * reaches CRASHES_MAX.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/spi.h"
#include "base/uuid.h"
#include "memory/guc.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/suspect.h"
#include "run/alone.h"
#include "run/run.h"
#include "run/transaction.h"
#include "run/trouble.h"
#include "steps/activity.h"
#include "steps/throttle.h"

/* Attempts at running one instance alone before it is put back for later. */
#define SOLO_TRIES			4

/*
 * Attempts to record the outcome of a step that has run outside of transactions. This process waits between them, and looks
 * after so many milliseconds whether it is to leave.
 */
#define RECORD_TRIES		10
#define LOOK_MS				100

/* The pause of an instance, too, could not be written: the next try comes no sooner than after so many milliseconds. */
#define LEAST_MS			1000

/*
 * mark_suspect counts, in a transaction of its own, that this instance's turn has died with its
 * process and is about to be tried again. It is looked at by the turn.
 */
static void
mark_suspect(const pg_uuid_t *id)
{
	static RomStatement mark = {
		"UPDATE romancy.t_instance SET crashes = crashes + 1 WHERE instance_id ="
		" (SELECT instance_id FROM romancy.t_instance WHERE instance_id = $1"
		" AND wake_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED)",
		1, {UUIDOID}
	};

	PG_TRY();
	{
		RomEngine	engine;
		Datum		values[1];

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		values[0] = UUIDPGetDatum(id);
		rom_engine_begin(&engine);
		rom_execute(&mark, values, NULL, 0);
		rom_engine_end(&engine);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(rom_transaction_context());
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(rom_transaction_context());
}

/* wait_to_record sleeps for so long; less, where the instance is cancelled. False: this process is to leave. */
static bool
wait_to_record(int ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		QueryCancelPending = false; /* there is no statement */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!rom_guc_enabled)
			return false;
		if (left <= 0 || rom_slot_kept_cancelled())
			return true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, LOOK_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * record_again is called when the transaction that was to record the outcome of a step that has run outside of transactions has failed, for the
 * *failures-th time: the step is not to run again for that. True: it is time for another try. False: there were enough of them, or this process
 * has to leave, and the instance is paused. No lock and no snapshot is held meanwhile, and no memory of the turn that failed. That the place of this
 * process is wanted does not end it, as it does not end a long step.
 */
static bool
record_again(Oid owner, const pg_uuid_t *id, const pg_uuid_t *instance, const RomInjected *outcome, ErrorData *error, int *failures)
{
	int			least = 0;
	int			delay;

	if (error == NULL)
	{
		error = palloc0_object(ErrorData);
		error->elevel = ERROR;
		error->sqlerrcode = ERRCODE_QUERY_CANCELED;
		error->message = pstrdup("it was interrupted");
	}
	if (++*failures >= RECORD_TRIES)
	{
		if (rom_trouble_unknown(id, instance, owner, outcome->step, error))
			return false;
		if (*failures > RECORD_TRIES)
		{
			rom_trouble_handle(id, owner, error);	/* as if it had died */
			return false;
		}

		/*
		 * what keeps the outcome from being written keeps the pause, too (the
		 * disk is full): the outcome stays here for as long as this process.
		 * To record it is tried several times before the next pause is.
		 */
		*failures = RECORD_TRIES / 2;
		least = LEAST_MS;
	}
	/* before it leaves, once more */
	delay = rom_trouble_unrecorded(instance, outcome->step, error, *failures);
	if (!wait_to_record(Max(delay, least)))
		*failures = RECORD_TRIES;
	SetLatch(MyLatch);			/* what came meanwhile is looked at */

	/* the history, the values and the error of the turn that failed */
	MemoryContextReset(rom_transaction_context());
	MemoryContextSwitchTo(rom_transaction_context());
	return true;
}

/* outcome_context is where the outcome of a step outside of transactions stays until it is recorded, or the next one has run. */
static MemoryContext
outcome_context(void)
{
	static MemoryContext cxt = NULL;

	if (cxt == NULL)
		cxt = AllocSetContextCreate(TopMemoryContext, "romancy outcome", ALLOCSET_DEFAULT_SIZES);
	return cxt;
}

/*
 * scrub_after removes what a step outside of transactions has left in the session. Its outcome is in this process alone by now, which an error does
 * not end: it leaves when the outcome is recorded.
 */
static void
scrub_after(bool *tainted)
{
	volatile bool failed = false;

	PG_TRY();
	{
		rom_transaction_scrub(true);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(rom_transaction_context());
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(rom_transaction_context());
	*tainted |= failed;
}

/* try_alone runs a turn of one instance in a transaction of its own, and again as far as it takes. */
static int
try_alone(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	RomRun		run;
	ErrorData  *error = NULL;
	RomInjected *injected = NULL;
	RomInjected *given;
	bool		careful = false;
	bool		slow_done = false;
	int			turns = 0;
	int			failures = 0;
	pg_uuid_t	instance = *id;

	if (rom_suspect_is(id))
		mark_suspect(id);
	for (int try = 0; try < SOLO_TRIES; try++)
	{
		RomTransactionResult result;

		memset(&run, 0, sizeof(run));
		run.solo = true;
		run.careful = careful;
		run.injected = given = injected;
		run.slow_done = slow_done;
		injected = NULL;
		result = rom_transaction_run(&run, owner, id, 1, &error);
		*tainted |= run.tainted;
		if (result == ROM_TRANSACTION_COMMITTED)
		{
			turns += run.nsaved;
			if (run.nalone == 0)
				failures = 0;
			rom_trouble_over(id);
			if (run.nalone == 0 || !*tainted)
				rom_suspect_clear(id);
			if (run.procedure != NULL && run.nsaved > 0)
			{
				rom_slot_begin(id, 1);
				rom_slot_member_begin(0);
				instance = run.procedure->running.id;
				MemoryContextReset(outcome_context());
				injected = rom_procedure_run(run.procedure, owner, false, outcome_context());
				injected->step = MemoryContextStrdup(outcome_context(), injected->step);
				MemoryContextSwitchTo(rom_transaction_context());
				injected->cancelled = injected->failed && (rom_slot_cancelled() || injected->limit == ROM_LIMIT_EXECUTION);
				if (injected->cancelled && !run.procedure->of_task)
					injected = NULL;	/* no failure of its own: the cancel
										 * is in the inbox */
				rom_slot_member_end();
				rom_slot_end();
				scrub_after(tainted);
				slow_done = true;
				try = -1;		/* the procedure's outcome must be recorded */
				continue;
			}
			if (run.more && !*tainted)
			{
				/*
				 * what is quick after the step that is not, or that step
				 * itself
				 */
				slow_done |= run.slow_ran;
				try = -1;
				continue;
			}
			if (run.more)
				rom_transaction_wake(id, owner, 0); /* in another process */
			if (!slow_done && !run.slow_ran && run.nsaved > run.nslow)
				rom_ready_quick_done();
			if (run.nalone > 0 && *tainted && (given == NULL || !given->outside))
				rom_transaction_wake(id, owner, 0); /* in another process */
			if (run.nalone == 0 || (*tainted && (given == NULL || !given->outside)))
				return turns;
			injected = given;
			if (given == NULL || !given->outside)
				continue;		/* interrupted: look at the inbox again */
			if (*tainted)
				failures = RECORD_TRIES;	/* no turn in this session any
											 * more */
		}
		if (given != NULL && given->outside)
		{
			if (!record_again(owner, id, &instance, given, error, &failures))
				return turns;
			injected = given;
			try = -1;
			continue;
		}
		if (rom_trouble_is_cancel(error))
		{
			injected = given;
			continue;
		}
		if (result == ROM_TRANSACTION_COMMIT_FAILED)
		{
			if (careful && run.last_step != NULL)
			{
				/* the activity that ran last is the one whose commit failed */
				injected = palloc0(sizeof(RomInjected));
				injected->step = run.last_step;
				injected->failed = true;
				injected->error = error;
			}
			else
				injected = given;
			careful = true;
			continue;
		}
		break;
	}
	rom_trouble_handle(id, owner, error);
	return turns;
}

int
rom_alone_run(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	int			turns = try_alone(owner, id, tainted);

	rom_slot_unkeep();
	rom_throttle_release();		/* if it did not run */
	return turns;
}
