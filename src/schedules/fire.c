/*-------------------------------------------------------------------------
 *
 * fire.c
 *		Starting the runs of schedules whose time has come.
 *
 * A batch of the sweep is a transaction: it locks the schedules that are due, starts
 * their runs, and writes when they are due next. The next deadline is asked for with the
 * commit, so that a scheduler is there in time (memory/wake.h); the sweep's interval is a
 * safety net. What dies in between has done nothing, and is done again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/spi.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/drain.h"
#include "schedules/fire.h"
#include "schedules/guc.h"
#include "schedules/runs.h"

/* Times that are caught up with, where all are to run. */
#define CATCH_UP_MAX 100

/* A time that is seen so late was not missed: it is run whatever catch_up says. */
#define GRACE (10 * USECS_PER_SEC)

/* Schedules that a drain, or a look after the start of the server, handles at a time. */
#define PAGE 100

/* When a row that somebody holds is looked at again. */
#define HELD_MS 20

static RomStatement select_started = {
	"SELECT 1 FROM romancy.t_schedule_zones WHERE started_at = $1", 1, {TIMESTAMPTZOID}
};

static RomStatement delete_started = {
	"DELETE FROM romancy.t_schedule_zones", 0, {InvalidOid}
};

static RomStatement insert_started = {
	"INSERT INTO romancy.t_schedule_zones (started_at) VALUES ($1)", 1, {TIMESTAMPTZOID}
};

static RomStatement select_names = {
	"SELECT s.name, s.next_at FROM romancy.t_schedule s WHERE s.name > $1 ORDER BY s.name LIMIT $2",
	2, {TEXTOID, INT4OID}
};

/* Is a time too old to be caught up with? */
static bool
too_old(const RomPlan *plan, TimestampTz time, TimestampTz now)
{
	int64		limit;

	if (plan->catch_up == NULL || !rom_arg_interval_usec(plan->catch_up, &limit))
		return false;
	return now - time > Max(limit, GRACE);
}

void
rom_fire_plan(RomPlan *plan, TimestampTz now)
{
	TimestampTz times[CATCH_UP_MAX];
	int			max = plan->overlap == ROM_OVERLAP_SKIP || plan->overlap == ROM_OVERLAP_QUEUE ? 1 : CATCH_UP_MAX;
	int64		n = 0;			/* of times to be run; the last max of them
								 * are in times[] */
	TimestampTz time;
	TimestampTz due;

	if (plan->zone == NULL && !plan->paused)
		plan->pause_note = psprintf("timezone \"%s\" is not known any more", plan->zone_name);
	time = rom_plan_next(plan, plan->after_at);
	while ((due = rom_plan_due_at(plan, time)) <= now)
	{
		if (too_old(plan, due, now))
			plan->new_missed[ROM_MISSED_TOO_OLD]++;
		else
			times[n++ % max] = time;
		plan->after_at = time;
		time = rom_plan_next(plan, time);
		CHECK_FOR_INTERRUPTS();
	}
	if (n > max)
		plan->new_missed[max == 1 ? ROM_MISSED_MERGED : ROM_MISSED_CATCH_UP_LIMIT] += n - max;
	rom_runs_start_waiting(plan);
	for (int64 i = Max(n - max, 0); i < n && plan->pause_note == NULL; i++)
		(void) rom_runs_offer(plan, times[i % max], plan->overlap);
	rom_plan_save(plan, false);
}

/* Has every schedule's next time been computed since the server started? */
static bool
zones_are_new(void)
{
	static TimestampTz checked = 0;
	Datum		values[1] = {TimestampTzGetDatum(PgStartTime)};

	if (checked == PgStartTime)
		return false;
	if (rom_execute(&select_started, values, NULL, 1) == 0)
		return true;
	checked = PgStartTime;
	return false;
}

/*
 * Computes all next times anew, once after each start of the server, which may have brought other
 * zone data: a time that moved ahead would be seen too late otherwise. (One that moved back is
 * found when it is due: the times are computed from after_at then.)
 */
static void
compute_anew(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2] = {CStringGetTextDatum(""), Int32GetDatum(PAGE)};
	uint64		n;
	RomRowSet	set;

	do
	{
		char	  **names;
		TimestampTz *nexts;

		n = rom_execute_rows(&set, &select_names, values, NULL, 0);
		names = palloc_array(char *, Max(n, 1));
		nexts = palloc_array(TimestampTz, Max(n, 1));
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			names[i] = rom_value_text(&set, i, 1, cxt);
			nexts[i] = DatumGetTimestampTz(rom_value(&set, i, 2, &isnull));
			if (isnull)
				nexts[i] = DT_NOEND;
		}
		rom_execute_free(&set);
		for (uint64 i = 0; i < n; i++)
		{
			RomPlan    *plan = rom_plan_lock(names[i], GetUserId());

			if (plan != NULL && !plan->paused && rom_plan_next(plan, plan->after_at) != nexts[i])
				rom_plan_save(plan, rom_runs_waiting(plan) > 0);
			CHECK_FOR_INTERRUPTS();
		}
		if (n > 0)
			values[0] = CStringGetTextDatum(names[n - 1]);
	} while (n >= PAGE);
	rom_execute(&delete_started, NULL, NULL, 0);
	values[0] = TimestampTzGetDatum(PgStartTime);
	rom_execute(&insert_started, values, NULL, 0);
}

/* sweep_schedules is a batch of the sweep. */
static int64
sweep_schedules(const RomSweepArgs *args)
{
	TimestampTz now = rom_now();
	RomPlan   **plans;
	RomEngine	engine;
	TimestampTz next;
	int			n;

	if (args->part != 0)
		return 0;				/* not shared: skip locked does that */
	rom_engine_begin(&engine);
	if (zones_are_new())
		compute_anew();
	plans = palloc_array(RomPlan *, args->limit);
	n = rom_plan_due(now, NULL, (Datum) 0, args->limit, plans);
	for (int i = 0; i < n; i++)
	{
		rom_fire_plan(plans[i], now);
		CHECK_FOR_INTERRUPTS();
	}
	next = rom_plan_next_due(NULL, (Datum) 0, DT_NOBEGIN);
	if (n == 0 && next <= now)
		next = now + HELD_MS * 1000;	/* others hold it */
	if (next < DT_NOEND)
		rom_wake_sweep(rom_plan_sweep(), Max(next, 0));
	rom_engine_end(&engine);
	return n;
}

static TimestampTz
next_due(void)
{
	RomEngine	engine;
	TimestampTz due;

	rom_engine_begin(&engine);
	due = zones_are_new() ? rom_now() : rom_plan_next_due(NULL, (Datum) 0, DT_NOBEGIN);
	rom_engine_end(&engine);
	return due < 0 ? 0 : due;
}

/* ---------------------------------------------------------------- drain */

/* Names of the schedules that fired in this drain, where each may fire once. */
static List *fired = NIL;
static MemoryContext fired_cxt = NULL;

static void
drain_begin(void)
{
	fired = NIL;
	if (fired_cxt == NULL)
		fired_cxt = AllocSetContextCreate(TopMemoryContext, "romancy drained schedules", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(fired_cxt);
}

/* The names as text[]. */
static Datum
fired_names(void)
{
	Datum	   *elements = palloc_array(Datum, Max(list_length(fired), 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, fired)
		elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static int
drain_fire(const char *owner, bool once)
{
	TimestampTz now = rom_now();
	RomPlan    *plans[PAGE];
	RomEngine	engine;
	int			n;

	rom_engine_begin(&engine);
	n = rom_plan_due(now, owner, fired_names(), PAGE, plans);
	for (int i = 0; i < n; i++)
	{
		rom_fire_plan(plans[i], now);
		if (once && plans[i]->new_runs > 0)
		{
			MemoryContext old = MemoryContextSwitchTo(fired_cxt);

			fired = lappend(fired, pstrdup(plans[i]->name));
			MemoryContextSwitchTo(old);
		}
	}
	rom_engine_end(&engine);
	return n;
}

static TimestampTz
drain_next_due(const char *owner, TimestampTz after)
{
	return rom_plan_next_due(owner, fired_names(), after);
}

void
rom_fire_init(void)
{
	static const RomSweep schedules = {
		.name = "schedules",
		.interval = &rom_guc_schedule_interval,
		.batch = sweep_schedules,
		.next_due = next_due,
		.exact = true
	};
	static const RomDrainSource source = {
		.begin = drain_begin,
		.fire = drain_fire,
		.next_due = drain_next_due
	};

	rom_sweep_register(&schedules);
	rom_drain_register(&source);
}
