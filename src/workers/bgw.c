/*-------------------------------------------------------------------------
 *
 * bgw.c
 *		Code that all worker processes share.
 *
 * A worker's place in the roster is filled by the launcher, taken by the
 * process that starts, and given up when it ends, in whatever way but a
 * crash, which empties shared memory altogether. The place's generation keeps
 * a process that comes too late from taking another one's.
 *
 * The callback that gives the place up is registered before the connection is
 * made, so that it runs after the connection's own, which end the transaction:
 * when the place is free, the worker's locks are released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "common/pg_prng.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/backoff.h"
#include "base/compat.h"
#include "base/session.h"
#include "base/spi.h"
#include "base/version.h"
#include "instances/control.h"
#include "memory/guc.h"
#include "memory/slot.h"
#include "workers/bgw.h"

StaticAssertDecl(sizeof(RomWorkerParams) <= BGW_EXTRALEN,
				 "parameters of a worker do not fit");

/* So long at the most a worker sleeps until a time that it knows. */
#define CLOCK_MS 10000

static RomWorker *me = NULL;
static bool in_unit = false;

/*
 * The configuration is as the postmaster had it when this process was made, which is after the launcher had asked for it. A reload from then
 * until SIGHUP is no longer ignored would be missed: the launcher, which has its own SIGHUP for it, tells of that in the roster.
 */
static uint32 reloads_known = 0;
static bool reloaded = false;	/* since then: SIGHUP has arrived, or need not */

/* The database as it was seen last. */
static bool checked = false;
static uint32 checked_epoch = 0;
static Oid	checked_extension = InvalidOid;

const char *
rom_bgw_kind(RomWorkerKind kind)
{
	static const char *const names[ROM_WORKER_KINDS] = {
		[ROM_WORKER_SCHEDULER] = "scheduler",
		[ROM_WORKER_EXECUTOR] = "executor",
		[ROM_WORKER_HTTP] = "http",
	};

	return names[kind];
}

BackgroundWorkerHandle *
rom_bgw_register(RomWorkerParams *params)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	const char *kind = rom_bgw_kind(params->kind);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 "romancy");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 params->kind == ROM_WORKER_HTTP ? "rom_%s_worker_main" : "rom_%s_main", kind);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 "romancy %s, database %u", kind, params->dbid);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "romancy %s", kind);
	worker.bgw_notify_pid = MyProcPid;
	params->reloads = rom_roster_get()->reloads;
	memcpy(worker.bgw_extra, params, sizeof(*params));

	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* The delay doubles with each failure, from a second to romancy.retry_backoff_max. jitter: 0.75 to 1.25. */
static int64
backoff_usecs(int failures, double jitter)
{
	return (int64) (rom_backoff(1000, 2, Min(failures, 13), rom_guc_retry_backoff_max) * jitter * 1000);
}

/* Gives the place up. A code other than 0 tells that the process did not mean to leave. */
static void
release_place(int code, Datum arg)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	double		jitter = 0.75 + 0.5 * pg_prng_double(&pg_global_prng_state);
	RomDatabase *database;
	RomLatches	latches;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, me->dbid, false);
	if (database != NULL && code != 0)
	{
		RomFailing *failing = rom_roster_failing_locked(roster, me->kind, me->dbid, me->owner, true);

		/*
		 * workers that were ended together (pg_terminate_backend of all) have
		 * failed once
		 */
		if (failing->count == 0 || me->started_at > failing->failed_at)
			failing->count++;
		failing->failed_at = now;
		failing->blocked_until = now + backoff_usecs(failing->count, jitter);
		if (me->kind == ROM_WORKER_SCHEDULER)
		{
			/* it may have died over one */
			database->scan = true;
			database->looked_ahead = false;
		}
		if (me->kind == ROM_WORKER_HTTP)
			database->http |= ROM_HTTP_CLAIM;	/* what it had in hand */
	}
	me->state = ROM_WORKER_FREE;
	me->pid = 0;
	rom_roster_tell_locked(roster, ROM_TELL_WORKER, &latches);
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

/* SIGINT in a scheduler: cancels the unit, and nothing between units. */
static void
cancel_unit(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!proc_exit_inprogress && in_unit)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

static emit_log_hook_type outer_log_hook = NULL;

/*
 * leave_silently keeps it out of the log that this worker was told to leave: the server tells that it is shut down,
 * and its log tells of a worker's end.
 */
static void
leave_silently(ErrorData *edata)
{
	if (edata->elevel == FATAL && edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		edata->output_to_server = false;
	else if (outer_log_hook)
		outer_log_hook(edata);
}

void
rom_bgw_pin_session(bool owners)
{
	static const struct
	{
		const char *name;
		const char *value;
		bool		not_owners; /* an owner's session keeps its own */
	}			pins[] = {
		{"search_path", "pg_catalog, pg_temp", true},
		{"row_security", "off", true},
		{"jit", "off", true},
		{"exit_on_error", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* from 17 on */
	};
	int			i;

	for (i = 0; i < lengthof(pins); i++)
		if (!(owners && pins[i].not_owners) &&
			GetConfigOption(pins[i].name, true, false) != NULL)
			SetConfigOption(pins[i].name, pins[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	outer_log_hook = emit_log_hook;
	emit_log_hook = leave_silently;
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type,
					PGC_USERSET, PGC_S_OVERRIDE);

	/*
	 * JIT does not pay in the statements that executors run; an explicit
	 * setting is kept
	 */
	if (owners)
		SetConfigOption("jit", "off", PGC_USERSET, PGC_S_DYNAMIC_DEFAULT);
}

void
rom_bgw_attach(RomWorkerParams *params)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	bool		ours;

	memcpy(params, MyBgworkerEntry->bgw_extra, sizeof(*params));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, rom_slot_sigterm);
	pqsignal(SIGQUIT, rom_slot_sigquit);
	pqsignal(SIGINT, params->kind == ROM_WORKER_EXECUTOR ?
			 rom_slot_sigint : cancel_unit);

	if (roster == NULL || params->place >= roster->nworkers)
		proc_exit(0);
	reloads_known = params->reloads;
	me = &roster->workers[params->place];
	SpinLockAcquire(&roster->mutex);
	ours = me->state == ROM_WORKER_STARTING &&
		me->generation == params->generation;
	if (ours)
	{
		me->pid = MyProcPid;
		me->procno = ROM_PROC_NUMBER();
		me->state = ROM_WORKER_RUNNING;
		me->started_at = me->since = now;
		me->turns = 0;
	}
	SpinLockRelease(&roster->mutex);
	if (!ours)
		proc_exit(0);			/* the launcher gave this worker up */
	before_shmem_exit(release_place, 0);

	BackgroundWorkerUnblockSignals();
	if (rom_bgw_asked_to_leave())
		proc_exit(0);			/* before we get in the way of a DROP DATABASE */

	/*
	 * before the role's settings and the database's are read: these do not
	 * override it
	 */
	rom_bgw_pin_session(OidIsValid(params->owner));
	rom_session_connect(params->dbid, params->owner);

	SpinLockAcquire(&roster->mutex);
	me->serves_since = GetCurrentTimestamp();
	SpinLockRelease(&roster->mutex);
}

RomWorker *
rom_bgw_me(void)
{
	return me;
}

bool
rom_bgw_in_unit(void)
{
	return in_unit;
}

static void check_unit(void *arg);

bool
rom_bgw_unit(RomUnit unit, void *arg, bool quiet)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = false;

	in_unit = true;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "romancy: looking for work");
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());

		/*
		 * With the extension gone there is nothing to do, but to notice it;
		 * the launcher has no database that it could be in.
		 */
		if (!OidIsValid(MyDatabaseId) || unit == check_unit ||
			rom_extension_lock())
			unit(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
		ok = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		if (!quiet)
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	in_unit = false;
	QueryCancelPending = false; /* was meant for the unit */

	MemoryContextSwitchTo(context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return ok;
}

/* tell_reload, of the launcher, has those look whom SIGHUP may have missed. */
static void
tell_reload(void)
{
	RomRoster  *roster = rom_roster_get();

	SpinLockAcquire(&roster->mutex);
	roster->reloads++;
	SpinLockRelease(&roster->mutex);
	for (int i = 0; i < roster->nworkers; i++)
	{
		RomLatches	latches = {0};

		SpinLockAcquire(&roster->mutex);
		if (roster->workers[i].state != ROM_WORKER_FREE && roster->workers[i].pid != 0)
			latches.procnos[latches.count++] = roster->workers[i].procno;
		SpinLockRelease(&roster->mutex);
		rom_roster_set_latches(&latches);
	}
}

void
rom_bgw_poll(void)
{
	RomRoster  *roster = rom_roster_get();
	uint32		reloads = *(volatile uint32 *) &roster->reloads;

	CHECK_FOR_INTERRUPTS();
	if (!ConfigReloadPending && (me == NULL || reloaded || reloads == reloads_known))
		return;
	ConfigReloadPending = false;
	reloaded = true;
	ProcessConfigFile(PGC_SIGHUP);
	if (me == NULL)
		tell_reload();
}

void
rom_bgw_wait(long ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = ROM_WAIT_EVENT("RomancyWorkerMain");

	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
					 (ms >= 0 ? WL_TIMEOUT : 0), ms, wait_event);
	ResetLatch(MyLatch);
	rom_bgw_poll();
}

long
rom_bgw_milliseconds(TimestampTz t)
{
	if (t >= DT_NOEND)
		return -1;

	/*
	 * The caller looks at the clock again then: it may have been set ahead
	 * meanwhile, or the machine was suspended. A latch would not notice.
	 */
	return Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), t), CLOCK_MS);
}

void
rom_bgw_set_state(RomWorkerState state)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&roster->mutex);
	if (me->state != state)
		me->since = now;
	me->state = state;
	SpinLockRelease(&roster->mutex);
}

bool
rom_bgw_asked_to_leave(void)
{
	return *(volatile bool *) &me->leave || !rom_guc_enabled;
}

void
rom_bgw_healthy(void)
{
	rom_roster_healthy(me);
}

/* The result of check_unit(). */
typedef struct Check
{
	Oid			extension;
	RomRefusal	refusal;
	char		version[64];
	bool		full;			/* look at version and control row, too */
} Check;

static void
check_unit(void *arg)
{
	Check	   *check = arg;
	char	   *version;

	check->refusal = ROM_REFUSAL_NONE;
	if (!rom_extension_lock())
	{
		check->refusal = ROM_REFUSAL_NO_EXTENSION;
		return;
	}
	check->extension = rom_extension_oid();
	if (check->full || check->extension != checked_extension)
	{
		check->full = true;
		if (!rom_control_version_matches(&version))
		{
			check->refusal = ROM_REFUSAL_VERSION;
			snprintf(check->version, sizeof(check->version), "%s", version);
		}
		else if (!rom_control_matches() && !rom_control_adopt_empty())
			check->refusal = ROM_REFUSAL_COPY;
	}
}

/* Says why nothing runs in this database. Once, for the launcher starts nothing here until something changes. */
static void
log_refusal(const Check *check)
{
	char	   *name;

	StartTransactionCommand();
	name = get_database_name(MyDatabaseId);
	switch (check->refusal)
	{
		case ROM_REFUSAL_VERSION:
			ereport(LOG,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("romancy's workers do not run in database \"%s\"", name),
					 errdetail("The library's version is %s, that of the extension's objects is %s.",
							   ROM_VERSION, check->version),
					 errhint("Run ALTER EXTENSION romancy UPDATE.")));
			break;
		case ROM_REFUSAL_COPY:
			ereport(LOG,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("romancy's workers do not run in database \"%s\"", name),
					 errdetail("Its workflows belong to another cluster or database, of which this is a copy."),
					 errhint("If they are to run here, run SELECT romancy.adopt_database().")));
			break;
		default:
			break;
	}
	CommitTransactionCommand();
}

bool
rom_bgw_check_database(void)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	Check		check;
	uint32		epoch = 0;
	bool		news = false;
	bool		ok;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, true);
	if (database != NULL)
		epoch = database->epoch;
	SpinLockRelease(&roster->mutex);

	memset(&check, 0, sizeof(check));

	/*
	 * a restore fills the tables behind our back: so a scheduler looks each
	 * time
	 */
	check.full = !checked || epoch != checked_epoch ||
		me->kind == ROM_WORKER_SCHEDULER;
	ok = rom_bgw_unit(check_unit, &check, false);
	if (!ok)
		proc_exit(1);			/* start again, later */
	checked = true;
	checked_epoch = epoch;
	checked_extension = check.extension;
	if (check.refusal == ROM_REFUSAL_NONE)
		return true;

	/* not if something was announced while we looked */
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, true);
	if (database != NULL && database->epoch == epoch)
	{
		news = database->refusal != check.refusal;
		database->refusal = check.refusal;
	}
	SpinLockRelease(&roster->mutex);
	if (news)
		log_refusal(&check);
	return false;
}
