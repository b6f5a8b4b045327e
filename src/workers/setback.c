/*-------------------------------------------------------------------------
 *
 * setback.c
 *		A wall clock that was ahead and is set right.
 *
 * Deadlines are times of the wall clock. After it was set back, all that was
 * written meanwhile would wait for as long as the clock was ahead: retries,
 * sleeps, even what was to run at once and is found by a scan. The launcher
 * learns of the step from the monotonic clock, which is never set. Deadlines in
 * memory are moved by it; a deadline that was right before the step is too
 * early then, which costs one turn. Rows in the tables show it themselves
 * (rom_scan_ahead()): they were written at a time that lies ahead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/ready.h"
#include "memory/roster.h"
#include "workers/setback.h"

/* Steps below this are what clocks are disciplined by. */
#define STEP_MIN (1 * USECS_PER_SEC)

/* earlier moves an instant, unless it is none. */
static void
earlier(TimestampTz *at, int64 step)
{
	if (*at != 0 && !TIMESTAMP_NOT_FINITE(*at))
		*at -= step;
}

/* move_roster moves what the launcher and the schedulers wait for, and asks for scans. */
static void
move_roster(int64 step, TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();

	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];

		database->scan = true;
		database->looked_ahead = false;
		database->scheduler_at = Min(database->scheduler_at, now);
		earlier(&database->scan_after, step);
		earlier(&database->busy_at, step);
		earlier(&database->waiting_since, step);
		earlier(&database->short_logged, step);
		earlier(&database->horizon, step);
		for (int kind = 0; kind < ROM_WORKER_KINDS; kind++)
		{
			earlier(&database->failing[kind].failed_at, step);
			earlier(&database->failing[kind].blocked_until, step);
		}
		for (int sweep = 0; sweep < ROM_SWEEP_MAX; sweep++)
		{
			earlier(&database->sweep_at[sweep], step);
			earlier(&database->stats[sweep].next_due, step);
			earlier(&database->stats[sweep].last_run, step);
		}
	}
	for (int i = 0; i < ROM_FAILING_OWNERS; i++)
	{
		earlier(&roster->failing_owners[i].failing.failed_at, step);
		earlier(&roster->failing_owners[i].failing.blocked_until, step);
	}
	for (int i = 0; i < roster->nworkers; i++)
	{
		earlier(&roster->workers[i].started_at, step);
		earlier(&roster->workers[i].serves_since, step);
		earlier(&roster->workers[i].since, step);
		earlier(&roster->workers[i].slow_since, step);
	}
	roster->told |= ROM_TELL_DATABASE;
	SpinLockRelease(&roster->mutex);
}

void
rom_setback_look(void)
{
	static TimestampTz wall = 0;
	static instr_time monotonic;
	instr_time	passed;
	TimestampTz now = GetCurrentTimestamp();
	int64		step;

	INSTR_TIME_SET_CURRENT(passed);
	if (wall != 0)
	{
		instr_time	since = passed;

		INSTR_TIME_SUBTRACT(since, monotonic);
		step = wall + (int64) INSTR_TIME_GET_MICROSEC(since) - now;
		if (step >= STEP_MIN)
		{
			ereport(LOG,
					(errmsg("the clock was set back by %lld s; all databases are scanned for workflows that would wait that much longer",
							(long long) (step / USECS_PER_SEC))));
			rom_ready_earlier(step);
			move_roster(step, now);
		}
	}
	wall = now;
	monotonic = passed;
}
