/*-------------------------------------------------------------------------
 *
 * alone.c
 *		Running an instance alone: one that could not be run beside others, or whose
 *		commit failed with them.
 *
 * A turn that fails at COMMIT is run again with a commit after each activity, so
 * that the error is known to be that activity's. A procedure runs after its turn's commit,
 * and its outcome is recorded by another turn. What fails in the engine itself is logged and
 * put back for later, with growing delays. An instance whose turn died with its process
 * counts that before it is tried again: run.c pauses it when that has come to
 * CRASHES_MAX.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/spi.h"
#include "base/uuid.h"
#include "memory/slot.h"
#include "run/alone.h"
#include "run/run.h"
#include "run/transaction.h"
#include "steps/activity.h"
#include "steps/throttle.h"

/* Attempts at running one instance alone before it is put back for later. */
#define SOLO_TRIES			4

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

/* Turns of an instance that failed in the engine itself, in a row, in this process. */
typedef struct FailureEntry
{
	pg_uuid_t	id;
	int			failures;
} FailureEntry;

#define FAILURES_KEPT 1000

static HTAB *failures = NULL;

/* next_delay is how long to wait before the next try: 1 s, doubled each time up to a minute. */
static int
next_delay(const pg_uuid_t *id)
{
	FailureEntry *entry;
	bool		found;

	if (failures == NULL || hash_get_num_entries(failures) >= FAILURES_KEPT)
	{
		HASHCTL		ctl;

		if (failures)
			hash_destroy(failures);
		ctl.keysize = sizeof(pg_uuid_t);
		ctl.entrysize = sizeof(FailureEntry);
		ctl.hcxt = TopMemoryContext;
		failures = hash_create("romancy failed turns", 64, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(failures, id, HASH_ENTER, &found);
	if (!found)
		entry->failures = 0;
	if (entry->failures >= 6)
		return 60000;
	return 1000 << entry->failures++;
}

/* forget_failures: its turn was committed. */
static void
forget_failures(const pg_uuid_t *id)
{
	if (failures != NULL)
		(void) hash_search(failures, id, HASH_REMOVE, NULL);
}

/* report logs an error of the engine itself, once per instance and try. */
static void
report(ErrorData *error, const pg_uuid_t *id, int delay_ms)
{
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("turn of workflow instance %s failed: %s",
					rom_uuid_text(id),
					error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("It is tried again in %d ms.", delay_ms)));
}

/* try_alone runs a turn of one instance in a transaction of its own, and again as far as it takes. */
static int
try_alone(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	RomRun		run;
	ErrorData  *error = NULL;
	RomInjected *injected = NULL;
	bool		careful = false;
	int			turns = 0;

	if (rom_slot_suspect(id))
		mark_suspect(id);
	for (int try = 0; try < SOLO_TRIES; try++)
	{
		RomTransactionResult result;

		memset(&run, 0, sizeof(run));
		run.solo = true;
		run.careful = careful;
		run.injected = injected;
		injected = NULL;
		result = rom_transaction_run(&run, owner, id, 1, &error);
		*tainted |= run.tainted;
		if (result == ROM_TRANSACTION_COMMITTED)
		{
			turns += run.nsaved;
			forget_failures(id);
			if (run.nalone == 0 || !*tainted)
				rom_slot_clear_suspect(id);
			if (run.procedure != NULL && run.nsaved > 0)
			{
				rom_slot_begin(id, 1);
				rom_slot_member_begin(0);
				injected = rom_procedure_run(run.procedure, owner, false, rom_transaction_context());
				if (injected->failed && rom_slot_cancelled())
					injected = NULL;	/* no failure of its own: the cancel
										 * is in the inbox */
				rom_slot_member_end();
				rom_slot_end();
				rom_transaction_scrub(true);
				try = -1;		/* the procedure's outcome must be recorded */
				continue;
			}
			if (run.nalone > 0 && *tainted)
				rom_transaction_wake(id, owner, 0); /* in another process */
			if (run.nalone == 0 || *tainted)
				return turns;
			continue;			/* interrupted: look at the inbox again */
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
			careful = true;
			continue;
		}
		break;
	}
	{
		int			delay = next_delay(id);

		if (error != NULL)
			report(error, id, delay);
		rom_transaction_wake(id, owner, delay);
	}
	return turns;
}

int
rom_alone_run(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	int			turns = try_alone(owner, id, tainted);

	rom_slot_unkeep();
	rom_throttle_release();		/* if it did not come to run */
	return turns;
}
