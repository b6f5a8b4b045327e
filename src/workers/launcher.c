/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The process that starts the other workers.
 *
 * Started by the postmaster, as a static worker, when recovery is over: a
 * standby runs nothing, and begins when it is promoted. Registered only where
 * the library is preloaded, and not in the servers of pg_upgrade. It is connected to no
 * database (DROP DATABASE does not mind it) and reads pg_database.
 *
 * It sleeps until the nearest deadline, or until it is told that something
 * changed. It then moves deadlines that are over into the ready queues, and
 * starts what is needed and has a place:
 *
 *	- an executor for each owner with ready work that has none, and one more where the owner's executors have no time
 *	  for its waiting work, or for steps that a turn under way has spawned;
 *	- the scheduler of a database that has to be scanned (at the start: of each
 *	  database, once), whose sweep is due, or whose deadlines are no longer all in memory.
 *
 * Where places are short, owners and databases are served in the order in which
 * they began to wait: an idle worker, or else one that has had its time, is
 * asked to leave.
 *
 * It may be ended at any time: it is started again after five seconds, and the places
 * in the roster tell it what is running. ERROR, FATAL: the same. Crash: the postmaster
 * restarts all, and shared memory begins empty. A worker that ends badly makes the
 * next start wait, longer each time; these delays are in shared memory, so they
 * outlive the launcher. A worker that was registered but never came is given up after
 * a minute, by the generation of its place.
 *
 * Known gap: with more than ROM_MAX_DATABASES databases, those that find no
 * place in the roster are not served.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "memory/guc.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "workers/bgw.h"
#include "workers/databases.h"
#include "workers/guc.h"
#include "workers/launcher.h"
#include "workers/places.h"
#include "workers/rebuild.h"
#include "workers/setback.h"
#include "workers/staffing.h"

void
rom_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 "romancy");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "rom_launcher_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "romancy launcher");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "romancy launcher");
	RegisterBackgroundWorker(&worker);
}

static void
sign_off(int code, Datum arg)
{
	RomRoster  *roster = rom_roster_get();

	SpinLockAcquire(&roster->mutex);
	roster->launcher_pid = 0;
	roster->launcher_procno = -1;
	SpinLockRelease(&roster->mutex);
}

static void
sign_on(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	SpinLockAcquire(&roster->mutex);
	/* requests that the previous launcher took and did not serve */
	for (i = 0; i < roster->ndatabases; i++)
		roster->databases[i].scheduler_at =
			Min(roster->databases[i].scheduler_at, now);
	roster->launcher_pid = MyProcPid;
	roster->launcher_seen = true;
	roster->reloads++;
	roster->launcher_procno = ROM_PROC_NUMBER();
	roster->launcher_started_at = roster->launcher_since = now;
	roster->launcher_wakes_at = DT_NOEND;
	roster->told = ROM_TELL_LIST;
	roster->npending = 0;
	roster->cannot_grow = false;
	roster->room_wanted = false;
	SpinLockRelease(&roster->mutex);
}

/*
 * Sleeps until next, unless told otherwise meanwhile. deadline: the first one that is known; an earlier one has to be told, also
 * where next is before both, since nothing is planned anew then.
 */
static void
sleep_until(TimestampTz next, TimestampTz deadline)
{
	RomRoster  *roster = rom_roster_get();
	bool		told;

	SpinLockAcquire(&roster->mutex);
	told = (roster->told & ~ROM_TELL_GROW) != 0;
	if (!told)
		roster->launcher_wakes_at = deadline;
	SpinLockRelease(&roster->mutex);

	if (!told)
		rom_bgw_wait(rom_bgw_milliseconds(next));
	else
		rom_bgw_poll();

	/* awake: every deadline has to be told */
	SpinLockAcquire(&roster->mutex);
	roster->launcher_wakes_at = DT_NOEND;
	SpinLockRelease(&roster->mutex);
}

/*
 * romancy.schedulers has changed: where a scheduler is, those that lack are
 * needed now. (One that saw the change before the launcher did was replaced by
 * as many as there were before.)
 */
static void
schedulers_changed(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		int			there = 0;
		int			j;

		for (j = 0; OidIsValid(database->dbid) && j < roster->nworkers; j++)
		{
			RomWorker  *worker = &roster->workers[j];

			/* one that is leaving has seen another setting, perhaps */
			if (worker->state != ROM_WORKER_FREE &&
				worker->state != ROM_WORKER_LEAVING &&
				worker->kind == ROM_WORKER_SCHEDULER &&
				worker->dbid == database->dbid &&
				worker->part < rom_guc_schedulers)
				there++;
		}
		if (there > 0 && there < rom_guc_schedulers)
			database->scheduler_at = Min(database->scheduler_at, now);
	}
	SpinLockRelease(&roster->mutex);
}

void
rom_launcher_main(Datum arg)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz grow_at = DT_NOEND;
	TimestampTz plan_at = DT_NOBEGIN;
	bool		enabled = true;
	int			schedulers = rom_guc_schedulers;
	int			executors = rom_guc_executors;
	char	   *databases;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	before_shmem_exit(sign_off, 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	rom_bgw_pin_session(false);
	pgstat_report_activity(STATE_IDLE, NULL);

	MemoryContextSwitchTo(TopMemoryContext);
	rom_staffing_init();
	databases = pstrdup(rom_guc_databases);
	sign_on();

	for (;;)
	{
		TimestampTz now;
		TimestampTz next;
		TimestampTz deadline;
		uint32		told;

		if (strcmp(databases, rom_guc_databases) != 0)
		{
			pfree(databases);
			databases = pstrdup(rom_guc_databases);
			rom_roster_tell(ROM_TELL_LIST);
		}
		if (enabled != rom_guc_enabled)
		{
			enabled = rom_guc_enabled;
			if (enabled)
				rom_databases_scan();
			plan_at = DT_NOBEGIN;
		}

		if (!rom_guc_enabled || !rom_guc_reindex_bloated)
			(void) rom_rebuild_stop(InvalidOid, false);

		if (schedulers != rom_guc_schedulers)
		{
			schedulers = rom_guc_schedulers;
			schedulers_changed();
			plan_at = DT_NOBEGIN;
		}

		if (executors != rom_guc_executors)
		{
			if (rom_guc_executors < executors)
				rom_staffing_executors_lowered();
			executors = rom_guc_executors;
			plan_at = DT_NOBEGIN;
		}

		rom_setback_look();

		/* before: a plan made now sees the work for which it was set */
		SpinLockAcquire(&roster->mutex);
		plan_at = Min(plan_at, roster->look_at);
		roster->look_at = DT_NOEND;
		SpinLockRelease(&roster->mutex);
		next = rom_ready_pump();

		SpinLockAcquire(&roster->mutex);
		told = roster->told;
		roster->told &= ROM_TELL_GROW;
		SpinLockRelease(&roster->mutex);

		now = GetCurrentTimestamp();
		if (told & ROM_TELL_LIST)
			rom_databases_list();
		if (told & ROM_TELL_WORKER)
			rom_places_worker_left(now);
		if ((told & ROM_TELL_GROW) && grow_at == DT_NOEND)
			grow_at = now + ROM_GROW_AFTER;
		if (grow_at <= now)
		{
			/* from here on a commit that finds all busy tells us anew */
			SpinLockAcquire(&roster->mutex);
			roster->told &= ~ROM_TELL_GROW;
			SpinLockRelease(&roster->mutex);
			grow_at = DT_NOEND;
			plan_at = DT_NOBEGIN;
		}
		if ((told & ~(ROM_TELL_GROW | ROM_TELL_RING | ROM_TELL_LOOK)) != 0 || plan_at <= now)
			plan_at = rom_staffing_plan();

		next = deadline = Min(next, Min(plan_at, grow_at));
		if (next < DT_NOEND)
			next = Min(next, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROM_SETBACK_LOOK_MS));
		sleep_until(next, deadline);
	}
}
