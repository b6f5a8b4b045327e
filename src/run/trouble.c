/*-------------------------------------------------------------------------
 *
 * trouble.c
 *		Errors of the engine itself in a turn: recorded with the instance, which
 *		is tried again with growing delays and paused in the end.
 *
 * The error stands in t_instance.error, with a member "tries", until a turn is
 * saved, which writes its own. So it is seen in the views, and the delay
 * survives the process. After TRIES_MAX the instance is paused with the error,
 * which has no "tries" any more: after resume_workflow() the count begins anew.
 * Errors that time mends (no room on the disk, out of memory, a deadlock) are
 * tried for ever.
 *
 * Where the error cannot be written, this process remembers how often it failed, and shared memory has it for waiting and health().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "memory/guc.h"
#include "memory/unwritten.h"
#include "run/run.h"
#include "run/transaction.h"
#include "run/trouble.h"

/* Turns that fail in a row before the instance is paused. */
#define TRIES_MAX		10

/* The delay after the first; doubled each time, up to romancy.retry_backoff_max. */
#define FIRST_DELAY_MS	1000

/* An instance that another process runs is paused a little later: so often, after so many microseconds. */
#define PAUSE_TRIES		5
#define PAUSE_AGAIN_US	100000L

/* Turns that failed in a row in this process, of what has no row to keep that. */
typedef struct FailureEntry
{
	pg_uuid_t	id;
	int			failures;
} FailureEntry;

#define FAILURES_KEPT 1000

static HTAB *failures = NULL;

bool
rom_trouble_is_cancel(const ErrorData *error)
{
	return error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/* delay_after returns the delay after this many failures. */
static int
delay_after(int tries)
{
	return (int) rom_backoff(FIRST_DELAY_MS, 2, Min(tries, 21), Max(rom_guc_retry_backoff_max, 1));
}

/* note_here counts a failure in this process. */
static int
note_here(const pg_uuid_t *id)
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
	return ++entry->failures;
}

void
rom_trouble_over(const pg_uuid_t *id)
{
	if (failures != NULL)
		(void) hash_search(failures, id, HASH_REMOVE, NULL);
}

/*
 * write_down writes the error into the instance's row. wait: a task of it failed, and it continues
 * to wait. Returns how often it has failed, 0 when the row cannot be locked.
 */
static int
write_down(const pg_uuid_t *instance, bool wait, const ErrorData *error)
{
	static RomStatement lock = {
		"SELECT (error ->> 'tries')::int FROM romancy.t_instance"
		" WHERE instance_id = $1 AND wake_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED",
		1, {UUIDOID}
	};
	static RomStatement write = {
		"UPDATE romancy.t_instance SET error = $2, wake_at = coalesce($3, wake_at) WHERE instance_id = $1",
		3, {UUIDOID, JSONBOID, TIMESTAMPTZOID}
	};
	RomEngine	engine;
	Datum		values[3];
	bool		nulls[3] = {false, false, wait};
	bool		isnull;
	int			tries = 0;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(instance);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &lock, values, NULL, 1) == 1)
	{
		int			before = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
		RomJb		jb;

		tries = isnull ? 1 : before + 1;
		rom_jb_begin(&jb);
		rom_jb_int(&jb, "tries", tries);
		values[1] = PointerGetDatum(rom_jb_with(rom_error_to_jsonb(error), "tries",
												rom_jb_get_json(rom_jb_end(&jb), "tries")));
		values[2] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_after(tries)));
		rom_execute(&write, values, nulls, 0);
	}
	rom_engine_end(&engine);
	return tries;
}

/* keep does that in a transaction of its own. *why: the SQLSTATE of what kept it from that, or 0. */
static int
keep(const pg_uuid_t *id, pg_uuid_t *instance, const ErrorData *error, int *why)
{
	volatile int tries = 0;

	PG_TRY();
	{
		bool		is_task;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(rom_transaction_context());
		*instance = *id;
		is_task = rom_run_hook() != NULL && rom_run_hook()->instance(id, instance);
		tries = write_down(instance, is_task, error);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(rom_transaction_context());
		EmitErrorReport();
		*why = geterrcode();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		tries = 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(rom_transaction_context());
	return tries;
}

/* pause_instance pauses the instance with the error; false when that failed, too. */
static bool
pause_instance(const pg_uuid_t *instance, Oid owner, const ErrorData *error)
{
	RomRun		run;
	ErrorData  *again;

	memset(&run, 0, sizeof(run));
	run.solo = true;
	run.pause_error = error;
	return rom_transaction_run(&run, owner, instance, 1, &again) == ROM_TRANSACTION_COMMITTED &&
		run.nsaved == 1;
}

/* note_unwritten has the views show the error, though the instance's row does not have it. */
static void
note_unwritten(const pg_uuid_t *instance, const ErrorData *error, int why, int tries, int delay_ms)
{
	RomUnwritten u = {.instance = *instance,.tries = tries,.code = error->sqlerrcode,.why = why};

	u.until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);
	strlcpy(u.message, error->message, sizeof(u.message));
	u.message[pg_mbcliplen(u.message, strlen(u.message), sizeof(u.message) - 1)] = '\0';
	rom_unwritten_note(&u);
}

/* report logs the error, and when it is tried again. */
static void
report(const ErrorData *error, const pg_uuid_t *id, int delay_ms)
{
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("turn of workflow instance %s failed: %s", rom_uuid_text(id), error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("It is tried again in %d ms.", delay_ms)));
}

void
rom_trouble_handle(const pg_uuid_t *id, Oid owner, const ErrorData *error)
{
	pg_uuid_t	instance = *id;
	int			tries = 0;
	int			why = 0;
	int			delay;
	int			here = note_here(id);

	if (error != NULL && !(rom_trouble_is_cancel(error) && here == 1))
	{
		tries = keep(id, &instance, error, &why);
		if (tries >= TRIES_MAX && !rom_error_is_passing(error->sqlerrcode) && pause_instance(&instance, owner, error))
		{
			rom_trouble_over(id);
			return;				/* failures.c tells of it */
		}
	}
	else if (error != NULL)
		here = 0;
	delay = here == 0 ? 0 : delay_after(Max(tries, here));
	if (why != 0)
		note_unwritten(&instance, error, why, here, delay);
	if (error != NULL && here > 0)
		report(error, id, delay);
	rom_transaction_wake(id, owner, delay);
}

/* unrecorded_text is the message of the two below. */
static char *
unrecorded_text(const char *step, const ErrorData *error)
{
	return psprintf("outcome of step \"%s\" could not be recorded: %s", step, error->message);
}

int
rom_trouble_unrecorded(const pg_uuid_t *instance, const char *step, const ErrorData *error, int failures)
{
	int			delay = failures == 1 ? 0 : delay_after(failures - 1);
	ErrorData	shown = *error;

	shown.message = unrecorded_text(step, error);
	shown.detail = NULL;
	if (delay > 0)
	{
		note_unwritten(instance, &shown, error->sqlerrcode, failures, delay);
		report(&shown, instance, delay);
	}
	return delay;
}

bool
rom_trouble_unknown(const pg_uuid_t *id, const pg_uuid_t *instance, Oid owner, const char *step, const ErrorData *error)
{
	ErrorData	paused = *error;

	paused.message = unrecorded_text(step, error);
	paused.detail = pstrdup("It has run outside of transactions, and what came of it is not known.");
	paused.hint = pstrdup("Mend the cause. Then romancy.resume_workflow() runs the step again, as the same attempt, and romancy.cancel_workflow() has it undone.");

	/* (an instance whose task it was may be running its turn) */
	for (int i = 0; i < PAUSE_TRIES; i++)
	{
		if (pause_instance(instance, owner, &paused))
		{
			rom_trouble_over(id);
			return true;
		}
		pg_usleep(PAUSE_AGAIN_US);
	}
	return false;
}
