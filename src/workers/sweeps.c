/*-------------------------------------------------------------------------
 *
 * sweeps.c
 *		Running the sweeps of sweep.h, one process's share of them.
 *
 * Each run is a transaction, a unit: it takes the sweep's lock, or is skipped,
 * and handles a batch of each entry of that name. The lock is an advisory one
 * of a kind that SQL functions cannot take (their fourth field is 1 or 2), so
 * that no session can stop the sweeps by holding it; and it belongs to the
 * transaction, for pg_advisory_unlock_all() would free a session's.
 *
 * The next run is drawn from the interval, give or take romancy.sweep_jitter;
 * after runs that found nothing, or the lock taken, or failed, from twice as much each
 * time up to romancy.retry_backoff_max. A full batch is followed by the next one soon.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/sweep.h"
#include "memory/waiter.h"
#include "workers/bgw.h"
#include "workers/sweeps.h"

#define LOCK_KEY 0x524F4D01
#define LOCK_KIND 3

/* After a full batch: sweeps that make instances ready would find the same ones again at once. */
#define FULL_BATCH_MS 50

/* This process's record of a sweep. */
typedef struct Mine
{
	TimestampTz next_run;
	int			idle_runs;		/* that found nothing, in a row */
	int			failures;		/* in a row */
	int			interval;		/* settings that next_run was drawn with */
	int			backoff_max;
	double		jitter;
} Mine;

/* A run, and what came of it. */
typedef struct Run
{
	int			sweep;
	RomSweepArgs args;
	bool		skipped;
	bool		full;
	int64		rows;
} Run;

static Mine mine[ROM_SWEEP_MAX];
static int	my_part = 0;
static int	my_nparts = 1;

/* Milliseconds to the next run, drawn anew. */
static double
draw(int sweep)
{
	Mine	   *m = &mine[sweep];
	double		interval = rom_sweep_interval(sweep);
	double		ms = rom_backoff(interval, 2, Min(m->idle_runs, 10) + 1, rom_guc_retry_backoff_max);

	m->interval = rom_sweep_interval(sweep);
	m->backoff_max = rom_guc_retry_backoff_max;
	m->jitter = rom_guc_sweep_jitter;
	ms = Max(ms, interval);
	return ms * (1.0 + rom_guc_sweep_jitter *
				 (2.0 * pg_prng_double(&pg_global_prng_state) - 1.0));
}

/* The record of a sweep in this database; NULL when there is no place for it. Under the mutex. */
static RomSweepStat *
stat_locked(RomRoster *roster, int sweep)
{
	RomDatabase *database =
		rom_roster_database_locked(roster, MyDatabaseId, true);

	return database == NULL ? NULL : &database->stats[sweep];
}

void
rom_sweeps_begin(int part, int nparts)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	my_part = part;
	my_nparts = nparts;
	for (i = 0; i < rom_sweep_count(); i++)
	{
		TimestampTz drawn = now + (int64) (draw(i) * 1000);
		RomSweepStat *stat;

		mine[i].next_run = drawn;
		SpinLockAcquire(&roster->mutex);
		stat = stat_locked(roster, i);
		if (stat != NULL && part == 0)
		{
			if (stat->next_due != 0)
				mine[i].next_run = Min(drawn, stat->next_due);
			stat->next_due = mine[i].next_run;
		}
		SpinLockRelease(&roster->mutex);
	}
}

/* The unit of a run. */
static void
run_batches(void *arg)
{
	Run		   *run = arg;
	LOCKTAG		tag;
	const RomSweep *entry;
	int			i;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_KEY,
						 (run->sweep << 8) | run->args.part, LOCK_KIND);
	run->skipped = LockAcquire(&tag, ExclusiveLock, false, true) ==
		LOCKACQUIRE_NOT_AVAIL;
	if (run->skipped)
		return;
	for (i = 0; (entry = rom_sweep_part(run->sweep, i)) != NULL; i++)
	{
		int64		rows = entry->batch(&run->args);

		run->rows += rows;
		if (rows >= run->args.limit)
			run->full = true;
		CHECK_FOR_INTERRUPTS();
	}
}

/* Writes down what came of a run. */
static void
record_run(const Run *run, bool ok, TimestampTz started)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomSweepStat *stat;

	SpinLockAcquire(&roster->mutex);
	stat = stat_locked(roster, run->sweep);
	if (stat != NULL)
	{
		if (!ok)
		{
			stat->errors++;
			stat->last_failed = started;
		}
		else if (run->skipped)
			stat->skipped++;
		else
		{
			stat->last_run = started;
			stat->duration = now - started;
			stat->rows = run->rows;
			stat->total_rows += run->rows;
			stat->runs++;
		}
		stat->next_due = mine[run->sweep].next_run;
	}
	SpinLockRelease(&roster->mutex);
	rom_waiter_notify(rom_waiter_key(ROM_SWEEP_KEY, &run->sweep, sizeof(run->sweep)));
}

/* Runs a sweep once. share: of our part alone. */
static bool
run_sweep(int sweep, bool share)
{
	TimestampTz started = GetCurrentTimestamp();
	Mine	   *m = &mine[sweep];
	Run			run;
	bool		ok;

	memset(&run, 0, sizeof(run));
	run.sweep = sweep;
	run.args.limit = rom_guc_sweep_batch_size;
	run.args.part = share ? my_part : 0;
	run.args.nparts = share ? my_nparts : 1;

	ok = rom_bgw_unit(run_batches, &run, m->failures > 0);
	if (!ok)
		m->failures++;
	else if (m->failures > 0)
	{
		if (m->failures > 1)
			ereport(LOG,
					(errmsg("sweep \"%s\" runs again, after %d failures",
							rom_sweep_name(sweep), m->failures)));
		m->failures = 0;
	}

	m->idle_runs = ok && run.rows > 0 ? 0 : m->idle_runs + 1;
	m->next_run = GetCurrentTimestamp() +
		(int64) ((ok && run.full ? FULL_BATCH_MS : draw(sweep)) * 1000);
	record_run(&run, ok, started);
	return ok && run.rows > 0;
}

/* Was the sweep asked for, by now? Takes the request. Otherwise, when it is asked for lowers *next. */
static bool
take_request(int sweep, TimestampTz *next)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomDatabase *database;
	bool		asked = false;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
	{
		asked = database->sweep_at[sweep] <= now;
		if (asked)
			database->sweep_at[sweep] = DT_NOEND;
		else
			*next = Min(*next, database->sweep_at[sweep]);
	}
	SpinLockRelease(&roster->mutex);
	return asked;
}

/* is_too_late: lies the next run further ahead than any interval that is drawn? Then the clock was set back. */
static bool
is_too_late(int sweep)
{
	double		longest = Max(rom_sweep_interval(sweep), rom_guc_retry_backoff_max) * (1.0 + rom_guc_sweep_jitter);

	return mine[sweep].next_run > GetCurrentTimestamp() + (int64) (longest * 1000) + USECS_PER_SEC;
}

/* After a reload that changed its settings, or a clock that was set back, a sweep does not wait for the end of the old interval. */
static void
heed_settings(int sweep)
{
	RomRoster  *roster = rom_roster_get();
	Mine	   *m = &mine[sweep];
	RomSweepStat *stat;

	if (m->interval == rom_sweep_interval(sweep) &&
		m->backoff_max == rom_guc_retry_backoff_max &&
		m->jitter == rom_guc_sweep_jitter && !is_too_late(sweep))
		return;
	m->idle_runs = 0;
	m->next_run = GetCurrentTimestamp() + (int64) (draw(sweep) * 1000);
	SpinLockAcquire(&roster->mutex);
	stat = stat_locked(roster, sweep);
	if (stat != NULL)
		stat->next_due = m->next_run;
	SpinLockRelease(&roster->mutex);
}

bool
rom_sweeps_run(TimestampTz *next)
{
	bool		worked = false;
	int			i;

	*next = DT_NOEND;
	for (i = 0; i < rom_sweep_count(); i++)
	{
		heed_settings(i);
		/* one that leaves says when another one is needed, for all of them */
		if (!rom_bgw_asked_to_leave())
		{
			if (my_part == 0 && take_request(i, next))
			{
				mine[i].idle_runs = 0;
				worked |= run_sweep(i, false);
			}
			else if (mine[i].next_run <= GetCurrentTimestamp())
				worked |= run_sweep(i, true);
			rom_bgw_poll();
		}
		*next = Min(*next, mine[i].next_run);
	}
	return worked;
}

/* A question for the unit below, and its answer. */
typedef struct Question
{
	int			sweep;
	TimestampTz due;
} Question;

/* The unit that asks the entries of a sweep when they have work. */
static void
ask_next_due(void *arg)
{
	Question   *question = arg;
	const RomSweep *entry;
	int			i;

	for (i = 0; (entry = rom_sweep_part(question->sweep, i)) != NULL; i++)
		if (entry->next_due != NULL)
			question->due = Min(question->due, entry->next_due());
}

/* Does a part of the sweep know when it is due next? */
static bool
has_next_due(int sweep)
{
	const RomSweep *entry;
	int			i;

	for (i = 0; (entry = rom_sweep_part(sweep, i)) != NULL; i++)
		if (entry->next_due != NULL)
			return true;
	return false;
}

void
rom_sweeps_ask(void)
{
	for (int i = 0; i < rom_sweep_count(); i++)
	{
		const RomSweep *entry;
		Question	question = {i, DT_NOEND};
		bool		exact = false;

		for (int part = 0; (entry = rom_sweep_part(i, part)) != NULL; part++)
			exact |= entry->exact;
		if (exact && rom_bgw_unit(ask_next_due, &question, false))
			rom_roster_sweep(MyDatabaseId, i, question.due);
		rom_bgw_poll();
	}
}

TimestampTz
rom_sweeps_next_work(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz first = DT_NOEND;
	int			i;

	for (i = 0; i < rom_sweep_count(); i++)
	{
		Question	question;
		RomSweepStat *stat;

		if (!has_next_due(i))
			continue;
		question.sweep = i;
		question.due = DT_NOEND;
		if (!rom_bgw_unit(ask_next_due, &question, false))
			question.due = GetCurrentTimestamp() +
				(int64) rom_guc_retry_backoff_max * 1000;
		if (question.due >= DT_NOEND)
			continue;

		SpinLockAcquire(&roster->mutex);
		stat = stat_locked(roster, i);
		if (stat != NULL)
		{
			/* never more often than its interval says */
			question.due = Max(question.due, stat->last_run +
							   (int64) rom_sweep_interval(i) * 1000);
			mine[i].next_run = Min(mine[i].next_run, question.due);
			stat->next_due = mine[i].next_run;
		}
		SpinLockRelease(&roster->mutex);
		first = Min(first, question.due);
		rom_bgw_poll();
	}
	return first;
}
