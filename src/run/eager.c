/*-------------------------------------------------------------------------
 *
 * eager.c
 *		The first turn of an instance in the session, and the transaction, that
 *		starts it.
 *
 * A workflow that takes less time than the hand-over to an executor, the wait for
 * it and a second commit is run by "call run_workflow" itself, where it comes to
 * the same end as in an executor: the session is its owner's and in the state of
 * an executor's (clean.c), executors would run it, and first turns of its version
 * are known to be quick and to complete their instances.
 *
 * The instance's row is written once, by the turn that has completed it, as the last thing: it is neither inserted
 * as pending nor updated. Code of the turn that would have seen the row has at least read the table, and a lock on it says so to
 * the end of the transaction (or of the subtransaction, whose abort is watched): then all is rolled back and run
 * once more, with the row written before. So it is from the start where the version has been seen to do that.
 *
 * It is a bet. The turn runs in a subtransaction, all of it inside the evaluation.
 * If it does not complete the instance, in ROM_BATCH_LIMIT_MS and without an error,
 * the subtransaction is rolled back, and the instance is woken as after any start:
 * an executor begins with it as if nothing had been. Failures, waits, retries,
 * pauses and compensations are thus never decided here. If the commit fails, the
 * caller starts the instance once more, without the bet.
 *
 * A cancel of the statement (pg_cancel_backend, statement_timeout) rolls the turn
 * back as well, and is raised when the start is committed: as for a client that
 * waits, the instance goes on. A process that is terminated has started nothing.
 * No other session can steer the instance before the commit, for it does not see
 * it; nor does a crash leave anything of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "port/atomics.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/spi.h"
#include "defs/handler.h"
#include "instances/control.h"
#include "instances/start.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/wake.h"
#include "memory/xact.h"
#include "run/clean.h"
#include "run/eager.h"
#include "run/guc.h"
#include "run/run.h"
#include "steps/profile.h"
#include "turn/context.h"
#include "turn/limit.h"

/*
 * For each processor so many sessions are in an eager run, or its commit, at the same time: what comes beyond them is left to
 * the executors, where one commit serves many instances. (bench A, two processors: with 8 clients twice as many calls
 * per second as by executors, with 64 half as many.)
 */
#define PER_PROCESSOR 4

static pg_atomic_uint32 *under_way = NULL;	/* in shared memory */
static bool counted = false;	/* is this session among them? */
static bool row_missing = false;	/* code runs, and its instance has no row
									 * yet */
static bool row_missed = false; /* it has looked at the rows of instances */
static bool row_decided = false;	/* and that is why the turn was not kept */
static volatile sig_atomic_t cancelled = false; /* by a signal, since the run
												 * began */

static Size
shmem_size(void)
{
	return sizeof(pg_atomic_uint32);
}

static void
shmem_attach(void *place, bool found)
{
	under_way = place;
	if (!found)
		pg_atomic_init_u32(under_way, 0);
}

/* uncount takes this session off the count at the end of its transaction, whatever has ended it. */
static void
uncount(bool commit)
{
	if (!counted)
		return;
	counted = false;
	pg_atomic_fetch_sub_u32(under_way, 1);
}

/* count_in counts this session among those that are in a run; false: there are as many as may be. */
static bool
count_in(void)
{
	static uint32 most = 0;

	if (most == 0)
		most = Max(sysconf(_SC_NPROCESSORS_ONLN), 1) * PER_PROCESSOR;
	if (counted)
		return true;
	if (pg_atomic_fetch_add_u32(under_way, 1) >= most)
	{
		pg_atomic_fetch_sub_u32(under_way, 1);
		return false;
	}
	counted = true;
	return true;
}

/* note_missed notes whether something that has run has missed the instance's row. */
static void
note_missed(void)
{
	if (row_missing && !row_missed)
		row_missed = rom_start_rows_used();
}

/* sub_aborted looks while the locks of what is rolled back, an exception block of the code's, are still held. */
static void
sub_aborted(int level)
{
	note_missed();
}

void
rom_eager_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy eager runs",
		.size = shmem_size,
		.attach = shmem_attach,
	};
	static const RomXactPart end = {
		.name = "eager runs under way",
		.order = ROM_XACT_GIVE_BACK,
		.after_locks = uncount,
		.sub_aborted = sub_aborted,
	};

	rom_shmem_register(&part);
	rom_xact_register(&end);
}

/*
 * is_served: do executors run in this database? The version of the extension and the adoption are looked at when there
 * is news of either, as executors do (workers/bgw.c).
 */
static bool
is_served(void)
{
	static bool checked = false;
	static bool matches = false;
	static uint32 checked_epoch = 0;
	static Oid	checked_extension = InvalidOid;
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	uint32		epoch = 0;
	bool		served;

	if (roster == NULL || !rom_guc_enabled || RecoveryInProgress())
		return false;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	served = database != NULL && roster->launcher_pid != 0 && database->listed && database->served &&
		database->refusal == ROM_REFUSAL_NONE && !database->dropped && database->barred == 0;
	if (served)
	{
		RomFailing *failing = rom_roster_failing_locked(roster, ROM_WORKER_EXECUTOR, MyDatabaseId, GetUserId(), false);

		served = failing == NULL || failing->count == 0;
		epoch = database->epoch;
	}
	SpinLockRelease(&roster->mutex);
	if (!served)
		return false;
	if (!checked || epoch != checked_epoch || rom_extension_oid() != checked_extension)
	{
		char	   *version;

		matches = rom_control_version_matches(&version) && rom_control_matches();
		checked = true;
		checked_epoch = epoch;
		checked_extension = rom_extension_oid();
	}
	return matches;
}

bool
rom_eager_possible(const RomWorkflow *workflow)
{
	return rom_guc_eager_runs && workflow->queue == NULL && rom_context_turn == NULL &&
		rom_run_ends_at_once(workflow, ROM_QUICK_US) && is_served() && rom_clean_possible();
}

/* fire_deferred runs what is deferred to the commit, while the session is clean. */
static void
fire_deferred(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}

/* can_save says, when the turn has completed its instance, whether it may be saved. */
static bool
can_save(void)
{
	note_missed();
	row_missing = false;		/* it is to be written now */
	row_decided = row_missed;
	return !row_missed;
}

/* settle says, when the turn is saved and what it deferred has run, whether it stays. */
static bool
settle(void)
{
	fire_deferred();
	return !rom_clean_broken() && (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) == 0;
}

/* run_turn runs the turn; NULL: it has not completed the instance. */
static Jsonb *
run_turn(RomInstance *inst, RomEager *eager)
{
	RomRun		run;
	Oid			owner = GetUserId();
	Jsonb	   *output = NULL;

	/* its language keeps nothing in the session */
	if (!rom_handler_stateless(rom_definition_handler(rom_definition_by_id(inst->def_id), owner)->fn_oid))
		return NULL;
	memset(&run, 0, sizeof(run));
	run.solo = run.in_session = run.eager = true;
	if (!rom_run_eager(&run, inst, owner, can_save, settle, &output))
		output = NULL;
	eager->interrupt = run.interrupt;
	return output;
}

/* note_cancel is the handler of SIGINT meanwhile: a limit of the turn's, which is forgotten when it is over, does not take the cancel with it. */
static void
note_cancel(SIGNAL_ARGS)
{
	cancelled = true;
	StatementCancelHandler(postgres_signal_arg);
}

ErrorData *
rom_eager_interrupt(void)
{
	ErrorData  *edata = CopyErrorData();

	FlushErrorState();
	return rom_limit_is_interrupt(edata) ? edata : NULL;
}

/*
 * bet runs the turn in a subtransaction, which is rolled back where that has not completed the instance: NULL. Results are in cxt.
 * *begun: what went wrong was the instance's, not the session's.
 */
static Jsonb *
bet(const RomInstance *inst, RomEager *eager, volatile bool *begun, MemoryContext cxt)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner resowner = CurrentResourceOwner;
	Jsonb	   *volatile output = NULL;
	RomInstance mine = *inst;
	int			nest;

	*begun = false;
	row_decided = false;
	CommandCounterIncrement();
	BeginInternalSubTransaction(NULL);
	nest = GetCurrentTransactionNestLevel();
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		rom_clean_enter();
		*begun = true;
		row_missing = mine.unwritten != NULL;
		output = run_turn(&mine, eager);
		row_missing = false;
		rom_clean_leave(false);
		PopActiveSnapshot();
		if (output != NULL)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		rom_clean_leave(true);
		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		while (GetCurrentTransactionNestLevel() >= nest)
			RollbackAndReleaseCurrentSubTransaction();
		rom_clean_rolled_back();
		row_missing = false;
		row_decided = row_missed && rom_limit_fired() == ROM_LIMIT_NONE && !rom_clean_broken();
		elog(DEBUG1, "an instance is left to an executor: %s", edata->message);
		if (rom_limit_is_interrupt(edata) && rom_limit_fired() == ROM_LIMIT_NONE)
			eager->interrupt = edata;
		rom_limit_reset();
		output = NULL;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = resowner;
	return output;
}

/*
 * write_row writes the row of an instance after a bet. A cancel that came meanwhile is raised when the start is committed; but where the table
 * is locked, at once: then nothing is started.
 */
static void
write_row(RomInstance *inst, const RomEager *eager)
{
	if (!rom_start_lock(false))
	{
		if (eager->interrupt != NULL)
			ThrowErrorData(eager->interrupt);
		if (cancelled)
			InterruptPending = QueryCancelPending = true;
		CHECK_FOR_INTERRUPTS();
		(void) rom_start_lock(true);
	}
	HOLD_CANCEL_INTERRUPTS();
	rom_start_write(inst);
	RESUME_CANCEL_INTERRUPTS();
}

/* run_it is rom_eager_run(), while signals are noted. */
static void
run_it(RomInstance *inst, RomEager *eager, MemoryContext cxt)
{
	TimestampTz start = GetCurrentTimestamp();
	volatile bool begun = false;	/* else what goes wrong is the session's */

	row_missed = false;
	if (rom_run_looks(inst) || rom_start_rows_used())
		rom_start_write(inst);
	eager->output = bet(inst, eager, &begun, cxt);
	if (row_missed)
		rom_run_note_looks(inst);
	if (row_decided && eager->interrupt == NULL && !cancelled)
	{
		/* once more, with its row */
		write_row(inst, eager);
		row_missed = false;
		start = GetCurrentTimestamp();
		eager->output = bet(inst, eager, &begun, cxt);
	}
	if (eager->output == NULL && inst->unwritten != NULL)
		write_row(inst, eager);
	if (eager->interrupt == NULL && begun)
		rom_run_note_first(inst, GetCurrentTimestamp() - start, eager->output != NULL);
}

void
rom_eager_run(RomInstance *inst, RomEager *eager, MemoryContext cxt)
{
	memset(eager, 0, sizeof(*eager));
	if (!count_in())
	{
		rom_start_write(inst);
		rom_wake_ready(&inst->id, GetUserId(), inst->priority);
		return;
	}
	cancelled = false;
	pqsignal(SIGINT, note_cancel);
	PG_TRY();
	{
		run_it(inst, eager, cxt);
	}
	PG_CATCH();
	{
		pqsignal(SIGINT, StatementCancelHandler);
		rom_clean_scrub();
		PG_RE_THROW();
	}
	PG_END_TRY();
	pqsignal(SIGINT, StatementCancelHandler);

	/* a limit of the turn's may have come in the same moment */
	if (eager->interrupt == NULL && (cancelled || get_timeout_indicator(STATEMENT_TIMEOUT, false)))
		InterruptPending = QueryCancelPending = true;
	if (eager->output == NULL)
		rom_wake_ready(&inst->id, GetUserId(), inst->priority);
}

void
rom_eager_end(void)
{
	rom_clean_scrub();
}
