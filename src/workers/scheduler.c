/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *		The process that scans a database for work and runs its sweeps.
 *
 * Started by the launcher: once after the start of the server for each database
 * (so it is what finds out whether the extension is there), when a scan is asked
 * for, when a sweep is due, and a second after an executor. It runs no user code.
 * With romancy.schedulers above one, several share the sweeps; the first of them
 * does the scans.
 *
 * It leaves by itself (exit code 0) when there was neither work nor an executor
 * for romancy.worker_idle_timeout, or when the launcher asks it to; it then tells in the
 * database's record when the tables will have work next. So nothing runs and nothing is
 * polled at rest.
 *
 * It may be ended at any time; SIGINT cancels the sweep or scan under way, which is run again
 * later. ERROR: a unit's is logged and counted, and its sweep backs off; any other ends the
 * process (code 1), and the launcher starts another one after a back-off, as after a FATAL.
 * Crash: everything is restarted, and every database scanned. DROP EXTENSION: waits for our
 * transaction; the next one finds that it was dropped. DROP DATABASE: workers/utility.c asks
 * us to leave. Standby, pg_upgrade: no launcher, so no scheduler.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "memory/guc.h"
#include "memory/ready.h"
#include "run/scan.h"
#include "turn/arrival.h"
#include "workers/bgw.h"
#include "workers/guc.h"
#include "workers/scheduler.h"
#include "workers/sweeps.h"

/* Rows of a scan in one transaction. */
#define SCAN_BATCH 1000

/* How long a scan waits for room in the queues before it looks again. */
#define ROOM_MS 50

/* An owner with so many instances in its queue needs no more of them while there is little room. */
#define MANY 4096

static int	nparts = 1;			/* that the sweeps are shared among */

/*
 * Takes the order to scan, cleared before the scan that it asks for. from: where to begin. ahead:
 * rows that were written by a clock that was ahead are looked for, too, which reads all sleeping
 * instances: once after a start of the server, and after each time that the clock is set back.
 * others: one for others than the owners with a backlog, who need the whole of it later. False: there is none, or not
 * before *next.
 */
static bool
take_scan(bool others, TimestampTz *from, bool *ahead, TimestampTz *next)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomDatabase *database;
	bool		asked = false;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, true);
	if (database != NULL)
	{
		asked = true;
		if (database->scan)
			*from = DT_NOBEGIN;
		else if (database->refill || database->horizon <= now)
			*from = database->horizon;
		else
			asked = false;
		if (asked && database->scan_after > now)
		{
			*next = Min(*next, database->scan_after);
			asked = false;
		}
		if (asked)
		{
			*ahead = !others && *from == DT_NOBEGIN && !database->looked_ahead;
			if (*ahead)
				database->looked_ahead = true;
			database->scan = others;
			database->refill = false;
			database->horizon = DT_NOEND;
		}
	}
	SpinLockRelease(&roster->mutex);
	return asked;
}

/* The scan is over. If it was incomplete, it is repeated; if it failed, later. */
static void
end_scan(bool done, bool failed)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, true);
	if (database != NULL)
	{
		if (!done)
		{
			database->scan = true;
			database->looked_ahead = false;
		}
		if (failed)
		{
			database->scan_failures = Min(database->scan_failures + 1, 20);
			database->scan_after = now +
				(int64) rom_backoff(1000, 2, database->scan_failures, rom_guc_retry_backoff_max) * 1000;
		}
		else if (done)
			database->scan_failures = 0;
	}
	SpinLockRelease(&roster->mutex);
}

static TimestampTz
horizon(void)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	TimestampTz at = DT_NOEND;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
		at = database->horizon;
	SpinLockRelease(&roster->mutex);
	return at;
}

/* Where a scan is. */
typedef struct ScanPass
{
	RomScanPos	pos;
	pg_uuid_t	after;
	RomScanPlace place;
	List	   *but;			/* owners whose instances are left out */
	int			rows;
} ScanPass;

static void
scan_wake(void *arg)
{
	ScanPass   *scan = arg;

	scan->rows = rom_scan_wake(&scan->pos, SCAN_BATCH, scan->but);
}

static void
scan_ahead(void *arg)
{
	ScanPass   *scan = arg;

	scan->rows = rom_scan_ahead(&scan->pos, SCAN_BATCH);
}

static void
scan_inbox(void *arg)
{
	ScanPass   *scan = arg;

	scan->rows = rom_scan_inbox(&scan->after, SCAN_BATCH);
}

static void
scan_other(void *arg)
{
	ScanPass   *scan = arg;

	scan->rows = rom_scan_hook() (&scan->place, SCAN_BATCH);
}

/* A batch of a scan: reads rows and hands out what they ask for. False: it failed, or we have to leave. */
static bool
scan_batch(RomUnit unit, ScanPass *scan)
{
	scan->rows = 0;
	if (rom_bgw_asked_to_leave() || !rom_bgw_unit(unit, scan, false))
		return false;
	rom_ready_pump();
	rom_bgw_poll();
	return true;
}

/* with_many lists the owners that have many instances in their queue. */
static List *
with_many(void)
{
	RomReadyQueue *queues = palloc_array(RomReadyQueue, ROM_READY_QUEUES);
	int			n = rom_ready_list(queues);
	List	   *owners = NIL;

	for (int i = 0; i < n; i++)
		if (queues[i].dbid == MyDatabaseId && queues[i].quick + queues[i].slow >= MANY)
			owners = lappend_oid(owners, queues[i].owner);
	pfree(queues);
	return owners;
}

/* goes_on: is there more behind the batch that was read last? */
static bool
goes_on(RomUnit unit, const ScanPass *scan)
{
	return scan->rows >= SCAN_BATCH && (unit != scan_wake || scan->pos.wake_at < horizon());
}

/* sweep_meanwhile runs the sweeps that are due, in the middle of something else; that is never a sweep. */
static void
sweep_meanwhile(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy sweeps meanwhile", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	TimestampTz next = DT_NOEND;

	(void) rom_sweeps_run(&next);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/*
 * scan_others scans on, whether there is room or not: owners that have many in their queue are left out, or find no room;
 * the others do. Sweeps go on.
 */
static bool
scan_others(RomUnit unit, ScanPass scan)
{
	bool		done;

	if (unit == scan_other && rom_scan_hook() == NULL)
		return true;
	scan.but = with_many();
	do
	{
		done = scan_batch(unit, &scan);
		sweep_meanwhile();
	} while (done && goes_on(unit, &scan));
	list_free(scan.but);
	return done;
}

/*
 * others_if_asked does, while the queues are full, as much of a scan that is asked for as others than the owners with a
 * backlog need; it is asked for again and again then, and takes at most a tenth of the time. False: nothing was to do, or it failed.
 */
static bool
others_if_asked(TimestampTz *next)
{
	static TimestampTz not_before = 0;
	static int64 pause = 0;
	TimestampTz now = GetCurrentTimestamp();
	ScanPass	instances = {0};
	ScanPass	scan = {0};
	bool		ahead;
	bool		done;

	if (not_before > now && not_before <= now + pause)
	{
		*next = Min(*next, not_before);
		return false;
	}
	if (!take_scan(true, &instances.pos.wake_at, &ahead, next))
		return false;
	done = scan_others(scan_wake, instances) && scan_others(scan_inbox, scan) && scan_others(scan_other, scan);
	pause = Max(USECS_PER_SEC, 10 * (GetCurrentTimestamp() - now));
	not_before = GetCurrentTimestamp() + pause;
	*next = Min(*next, not_before);
	if (!done)
		end_scan(false, !rom_bgw_asked_to_leave());
	return done;
}

/*
 * wait_for_room waits until the queues have room: as long as an owner's backlog takes. All else goes on, the sweeps and
 * what others need. Idle meanwhile: if there is no other place for the executors that make room, the launcher takes
 * ours. False: we have to leave.
 */
static bool
wait_for_room(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy scheduler wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	bool		room;

	/* when sweeps are shared anew, the main loop has to see to it */
	while (!(room = rom_ready_room()) && !rom_bgw_asked_to_leave() && rom_guc_schedulers == nparts)
	{
		TimestampTz next = DT_NOEND;

		(void) rom_sweeps_run(&next);
		(void) others_if_asked(&next);
		rom_bgw_set_state(ROM_WORKER_IDLE);
		rom_bgw_wait(ROOM_MS);
		rom_bgw_set_state(ROM_WORKER_RUNNING);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return room;
}

/*
 * scan_first scans as far as there is room, and then on for the others, so that no owner waits until one that has many has
 * room for them. *waits: the scan has to go on from where it is.
 */
static bool
scan_first(RomUnit unit, ScanPass *scan, bool *waits)
{
	*waits = false;
	if (unit == scan_other && rom_scan_hook() == NULL)
		return true;
	do
	{
		*waits = !rom_ready_room();
		if (*waits)
			return scan_others(unit, *scan);
		if (!scan_batch(unit, scan))
			return false;
	} while (goes_on(unit, scan));
	return true;
}

/* scan_rest scans what scan_first() has left, when there is room. */
static bool
scan_rest(RomUnit unit, ScanPass *scan)
{
	do
	{
		if (!wait_for_room() || !scan_batch(unit, scan))
			return false;
	} while (goes_on(unit, scan));
	return true;
}

/*
 * Finds work in the tables and puts it into the ready queues. Where there is no room for all of it, what can be begun
 * with comes first, and then the rest. False: it was incomplete.
 */
static bool
scan_database(TimestampTz from, bool ahead)
{
	static const RomUnit units[] = {scan_wake, scan_inbox, scan_other};
	ScanPass	scans[lengthof(units)] = {{{0}}};
	bool		waits[lengthof(units)];
	ScanPass	scan = {0};

	scans[0].pos.wake_at = from;
	for (int i = 0; i < lengthof(units); i++)
		if (!scan_first(units[i], &scans[i], &waits[i]))
			return false;
	if (from == DT_NOBEGIN && rom_arrival() != NULL)
		rom_arrival()->scan();
	if (from == DT_NOBEGIN)
		rom_sweeps_ask();
	for (int i = 0; i < lengthof(units); i++)
		if (waits[i] && !scan_rest(units[i], &scans[i]))
			return false;

	/* last, since it may take long */
	scan.pos.wake_at = DT_NOBEGIN;
	return !ahead || scan_rest(scan_ahead, &scan);
}

/* When executors were last busy in this database. */
static TimestampTz
executors_busy_at(void)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	TimestampTz at = 0;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
		at = database->busy_at;
	SpinLockRelease(&roster->mutex);
	return at;
}

/*
 * Leaves, unless something has been asked for meanwhile and we are not sent
 * away. at: when a scheduler is needed next in our place.
 */
static void
leave(int part, TimestampTz at, bool sent_away)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	bool		go = true;
	int			i;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL && part == 0)
	{
		for (i = 0; i < ROM_SWEEP_MAX; i++)
			at = Min(at, database->sweep_at[i]);
		go = sent_away || !(database->scan || database->refill);
		if (go)
			database->scheduler_at = at;	/* what was wanted before, we did */
	}
	else if (database != NULL)
	{
		/* the launcher decides whether there is such a part */
		database->scheduler_at = Min(database->scheduler_at, at);
	}
	if (go)
		rom_bgw_me()->state = ROM_WORKER_LEAVING;
	SpinLockRelease(&roster->mutex);
	if (go)
		proc_exit(0);
}

/* Sleeps until next, or until the latch is set. */
static void
rest(TimestampTz next)
{
	rom_bgw_set_state(ROM_WORKER_IDLE);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	rom_bgw_wait(rom_bgw_milliseconds(next));
	rom_bgw_set_state(ROM_WORKER_RUNNING);
}

/* Does a scan that is asked for. *next: when to try one again that failed. */
static bool
scan_if_asked(TimestampTz *next)
{
	TimestampTz from = DT_NOBEGIN;
	bool		ahead = false;
	bool		done;

	/*
	 * while much is queued, a scan would find the same again; the launcher
	 * wakes us
	 */
	if (!rom_ready_low())
		return others_if_asked(next);
	if (!take_scan(false, &from, &ahead, next))
		return false;
	done = scan_database(from, ahead);
	/* (when sweeps are shared anew, it was given up) */
	end_scan(done, !done && !rom_bgw_asked_to_leave() && rom_guc_schedulers == nparts);
	if (done)
		rom_bgw_healthy();
	else
		*next = GetCurrentTimestamp();	/* and see when */
	return done;
}

void
rom_scheduler_main(Datum arg)
{
	RomWorkerParams params;
	MemoryContext cycle;
	TimestampTz busy_at;

	rom_bgw_attach(&params);
	cycle = AllocSetContextCreate(TopMemoryContext, "romancy scheduler cycle",
								  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	busy_at = GetCurrentTimestamp();
	nparts = rom_guc_schedulers;
	rom_sweeps_begin(params.part, nparts);

	for (;;)
	{
		TimestampTz next = DT_NOEND;
		TimestampTz again = DT_NOEND;
		TimestampTz now;

		rom_bgw_poll();
		if (rom_guc_schedulers != nparts || params.part >= nparts)
			leave(params.part, GetCurrentTimestamp(), true);	/* other shares */
		if (!rom_bgw_check_database())
			leave(params.part, DT_NOEND, true);

		if (rom_sweeps_run(&next))
			busy_at = GetCurrentTimestamp();
		if (params.part == 0 && scan_if_asked(&again))
			busy_at = GetCurrentTimestamp();
		if (params.part == 0)
			/* (a horizon that has passed is looked at again then) */
			next = Min(next, again == DT_NOEND ? horizon() : again);
		busy_at = Max(busy_at, executors_busy_at());
		MemoryContextReset(cycle);

		if (rom_bgw_asked_to_leave())
			leave(params.part, next, true);
		now = GetCurrentTimestamp();
		if (rom_guc_worker_idle_timeout > 0)
		{
			TimestampTz end = busy_at +
				(int64) rom_guc_worker_idle_timeout * 1000;

			if (end <= now)
			{
				TimestampTz work = params.part == 0 ?
					rom_sweeps_next_work() : DT_NOEND;

				if (work > now)
					leave(params.part, work, false);
				busy_at = now;
				continue;
			}
			next = Min(next, end);
		}
		rest(next);
	}
}
