/*-------------------------------------------------------------------------
 *
 * executor.c
 *		The process that runs turns of one owner's instances in one database.
 *
 * Started by the launcher, when work is ready for an owner and there is a place
 * for one more. It serves that owner alone, for its life: state that one
 * owner's activities leave in a session never reaches another owner.
 *
 * It leaves by itself (exit code 0: no failure)
 *	- when it had nothing to do for romancy.worker_idle_timeout,
 *	- after the batch under way, when the launcher asks it to: another owner or
 *	  database needs the place, romancy.enabled is off, a DROP DATABASE waits,
 *	- when the extension was dropped, of another version than the library, or a copy
 *	  that was not adopted (the reason stands in the database's record),
 *	- when a turn has left it in a state that cannot be trusted.
 *
 * It may be ended at any time: SIGTERM (die) works in every wait; the work
 * under way is rolled back and found again by its row. SIGINT
 * (pg_cancel_backend, a cancel of an instance) interrupts the statement of a
 * turn, never the process.
 *
 * ERROR: rom_batch_run() catches all. An error outside of it ends the process,
 * and the launcher starts another one after a back-off. FATAL: likewise. Crash:
 * the postmaster restarts all of the server; the instances under way are then
 * known from the file of slot.c. DROP EXTENSION: takes its locks when our
 * transaction ends; the next batch finds that the extension was dropped. DROP
 * DATABASE: workers/utility.c asks us to leave. Standby, pg_upgrade: no
 * launcher, so no executor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/expect.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "run/batch.h"
#include "workers/bgw.h"
#include "workers/executor.h"
#include "workers/guc.h"

/* The items that were taken and are being run. */
static pg_uuid_t taken[ROM_BATCH_MAX];
static int	ntaken = 0;
static bool taken_slow = false; /* it is one from the slow lane */
static Oid	taken_owner = InvalidOid;

/*
 * The process ends in the middle of a batch: puts it back. Runs after the
 * place has been given up and the transaction rolled back, for it is
 * registered before both.
 */
static void
put_back(int code, Datum arg)
{
	RomReadyItem items[ROM_BATCH_MAX];
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	for (i = 0; i < ntaken; i++)
	{
		items[i].id = taken[i];
		items[i].dbid = MyDatabaseId;
		items[i].owner = taken_owner;
		items[i].priority = 0;
		items[i].slow = taken_slow;
		items[i].unknown = false;
		items[i].at = now;
	}
	rom_ready_put(items, ntaken, now);
}

/*
 * Sleeps until there is something to take. False: it is time to leave. idle_since: when we last had
 * something to do; that there may be some, which then was others', does not count.
 */
static bool
rest(int place, TimestampTz idle_since)
{
	TimestampTz until;

	if (!rom_ready_rest(place, false, &until))
		return true;

	rom_slot_rest();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		/* (each time: a reload may have changed it) */
		TimestampTz end = rom_guc_worker_idle_timeout > 0 ?
			idle_since + (int64) rom_guc_worker_idle_timeout * 1000 : DT_NOEND;
		long		ms = rom_bgw_milliseconds(Min(end, until));

		if (rom_bgw_asked_to_leave())
			return false;
		if (rom_bgw_me()->state != ROM_WORKER_IDLE) /* claimed */
			return true;
		if (until <= GetCurrentTimestamp())
			return true;
		if (ms == 0)
			return !rom_ready_rest(place, true, &until);
		rom_bgw_wait(ms);
	}
}

void
rom_executor_main(Datum arg)
{
	RomWorkerParams params;
	MemoryContext cycle;
	TimestampTz idle_since;
	bool		ready = false;

	before_shmem_exit(put_back, 0);
	rom_bgw_attach(&params);
	taken_owner = params.owner;
	rom_slot_adopt(params.place, params.owner);
	rom_ready_executor(params.place);
	rom_expect_executor(params.place);
	cycle = AllocSetContextCreate(TopMemoryContext, "romancy executor cycle",
								  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	idle_since = GetCurrentTimestamp();

	for (;;)
	{
		bool		tainted = false;
		int			turns;

		rom_bgw_poll();
		if (rom_bgw_asked_to_leave())
			break;
		ntaken = rom_ready_take(params.place, taken, ROM_BATCH_MAX, &taken_slow);
		if (ntaken == 0)
		{
			/* one that was started for what is to come is ready for it then */
			if (!ready && !rom_bgw_check_database())
				break;
			ready = true;
			if (!rest(params.place, idle_since))
				break;
			rom_bgw_set_state(ROM_WORKER_RUNNING);
			continue;
		}
		if (!rom_bgw_check_database())
		{
			ntaken = 0;			/* a scan finds it again, if ever */
			break;
		}
		ready = true;

		pgstat_report_activity(STATE_RUNNING, "romancy: running turns");
		turns = rom_batch_run(params.owner, taken, ntaken, taken_slow, &tainted);
		ntaken = 0;
		idle_since = GetCurrentTimestamp();
		rom_roster_busy(rom_bgw_me(), turns);
		if (turns > 0)
			rom_bgw_healthy();
		pgstat_report_stat(false);
		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		if (tainted)
			break;
	}

	rom_bgw_set_state(ROM_WORKER_LEAVING);
	proc_exit(0);
}
