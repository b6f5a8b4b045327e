/*-------------------------------------------------------------------------
 *
 * fire.c
 *		Starts the runs of schedules whose time has come.
 *
 * A batch of the sweep is a transaction: it locks the schedules that are due, starts
 * their runs, and writes when they are due next. The next deadline is asked for with the
 * commit, so that a scheduler is there in time (memory/wake.h); the sweep's interval is a
 * safety net. A batch that dies in between has done nothing, and is repeated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/spi.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/drain.h"
#include "schedules/ends.h"
#include "schedules/fire.h"
#include "schedules/guc.h"
#include "schedules/runs.h"

/* Times that are caught up with, where all are to run. */
#define CATCH_UP_MAX 100

/* Times of a schedule that one batch looks at: counting a million takes seconds, and others wait for the batch. */
#define TIMES_AT_ONCE 20000

/* A time that is seen so late was not missed: it is run whatever catch_up says. */
#define GRACE (10 * USECS_PER_SEC)

/* Schedules that a drain, or a look after the start of the server, handles at a time. */
#define PAGE 100

/* So many roles whose schedules fill a batch are passed over, so that those of the others are in it as well; so often. */
#define HOGS_MAX 8
#define BESIDES_US (USECS_PER_SEC / 2)

/* Delay until a row that another transaction holds is looked at again; it grows with each look, up to a second. */
#define HELD_MS 20
#define HELD_MAX_MS 1000

/* How often in a row this process found such rows alone. */
static int	held = 0;

static RomStatement select_started = {
	"SELECT 1 FROM romancy.t_schedule_zones WHERE started_at = $1", 1, {TIMESTAMPTZOID}
};

static RomStatement delete_started = {
	"DELETE FROM romancy.t_schedule_zones", 0, {InvalidOid}
};

static RomStatement insert_started = {
	"INSERT INTO romancy.t_schedule_zones (started_at) VALUES ($1) ON CONFLICT DO NOTHING", 1, {TIMESTAMPTZOID}
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

/* fire_plan settles the times of a schedule that are due; its row is to be saved then. */
static void
fire_plan(RomPlan *plan, TimestampTz now)
{
	TimestampTz times[CATCH_UP_MAX];
	int			max = plan->overlap == ROM_OVERLAP_SKIP || plan->overlap == ROM_OVERLAP_QUEUE ? 1 : CATCH_UP_MAX;
	int64		n = 0;			/* of times to be run; the last max of them
								 * are in times[] */
	int			looked_at = 0;
	bool		more = false;	/* not all of them were looked at */
	TimestampTz time;
	TimestampTz due;

	rom_runs_start_waiting(plan);
	time = rom_plan_next(plan, plan->after_at);
	while ((due = rom_plan_due_at(plan, time)) <= now)
	{
		if (too_old(plan, due, now))
			plan->new_missed[ROM_MISSED_TOO_OLD]++;
		else
			times[n++ % max] = time;
		plan->after_at = time;
		time = rom_plan_next(plan, time);
		more = ++looked_at == TIMES_AT_ONCE;
		if (more)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	if (n > max)
		plan->new_missed[max == 1 ? ROM_MISSED_MERGED : ROM_MISSED_CATCH_UP_LIMIT] += n - max;
	if (more)
	{
		/* those that may be run are looked at again, by the next batch */
		if (n > 0)
			plan->after_at = times[Max(n - max, 0) % max] - 1;
		n = 0;
	}
	for (int64 i = Max(n - max, 0); i < n && plan->pause_note == NULL; i++)
		if (rom_runs_offer(plan, times[i % max], plan->overlap) == ROM_OFFER_HELD)
		{
			plan->after_at = times[i % max] - 1;
			break;
		}
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

/* Handles a schedule; *again: that was not possible, and has to be tried later. */
typedef void (*Handler) (RomPlan *plan, TimestampTz now, bool *again);

static void
fire(RomPlan *plan, TimestampTz now, bool *again)
{
	rom_plan_understand(plan);
	fire_plan(plan, now);
}

/*
 * try_all handles n schedules in a subtransaction, which it rolls back on an error: false then. An error that may
 * be over at the next try is thrown on.
 */
static bool
try_all(Handler handle, RomPlan **plans, int n, TimestampTz now, bool *again, ErrorData **edata)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		for (int i = 0; i < n; i++)
		{
			handle(plans[i], now, again);
			CHECK_FOR_INTERRUPTS();
		}
		if (handle == fire)
			rom_plan_save_all(plans, n);
		ReleaseCurrentSubTransaction();
		ok = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		*edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (!ok && rom_runs_passes((*edata)->sqlerrcode))
		ReThrowError(*edata);
	return ok;
}

/*
 * handle_all handles schedules so that one that fails does not delay the others: after an error each gets a
 * subtransaction of its own, and one that cannot be fired pauses itself.
 */
static void
handle_all(Handler handle, RomPlan **plans, int n, TimestampTz now, bool *again)
{
	RomPlan    *saved = palloc_array(RomPlan, Max(n, 1));
	ErrorData  *edata;

	for (int i = 0; i < n; i++)
		saved[i] = *plans[i];
	if (n == 0 || try_all(handle, plans, n, now, again, &edata))
		return;
	for (int i = 0; i < n; i++)
	{
		*plans[i] = saved[i];
		plans[i]->quiet = false;	/* what was found may be why */
		if (try_all(handle, &plans[i], 1, now, again, &edata))
			continue;
		*plans[i] = saved[i];
		if (handle != fire)
			continue;
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("schedule \"%s\" pauses itself: %s", plans[i]->name, edata->message)));
		rom_plan_stop(plans[i], rom_error_to_jsonb(edata), edata->message);
	}
}

/* anew computes the next time of a schedule that was read without a lock. */
static void
anew(RomPlan *plan, TimestampTz now, bool *again)
{
	RomPlan    *locked;
	bool		held;

	rom_plan_understand(plan);
	if (rom_plan_next(plan, plan->after_at) == plan->next_at)
		return;
	locked = rom_plan_lock_free(plan, &held);
	if (locked != NULL && !locked->paused)
		rom_plan_save(locked, rom_runs_waiting(locked) > 0);
	*again |= held;
}

/*
 * Computes all next times anew, once after each start of the server, which may have brought other zone
 * data: a time that moved ahead would be seen too late otherwise. (One that moved back is found when it
 * is due: the times are computed from after_at then.) It waits for no lock: a schedule that another
 * transaction holds, and whose time is another one now, is looked at again by the next batch.
 */
static void
compute_anew(void)
{
	Datum		values[1] = {TimestampTzGetDatum(PgStartTime)};
	RomPlan    *plans[PAGE];
	const RomPlan *last = NULL;
	bool		again = false;
	int			n;

	do
	{
		n = rom_plan_page(last, PAGE, plans);
		handle_all(anew, plans, n, rom_now(), &again);
		if (n > 0)
			last = plans[n - 1];
	} while (n == PAGE);
	if (again)
		return;
	rom_execute(&delete_started, NULL, NULL, 0);
	rom_execute(&insert_started, values, NULL, 0);
}

/* held_wait gives the milliseconds to the next look at rows that are held. */
static int
held_wait(void)
{
	held = Min(held + 1, 10);
	return Min(HELD_MS << (held - 1), HELD_MAX_MS);
}

/*
 * take_due locks and reads the schedules of a batch: the nearest; and where these fill it, now and then the nearest of roles
 * that are not among them, which else would wait for all that is due of those. *full: there are more, most likely.
 */
static int
take_due(TimestampTz now, int limit, RomPlan **plans, bool *full)
{
	static TimestampTz looked = 0;
	int			n = rom_plan_due(now, NULL, (Datum) 0, limit, plans);

	*full = n == limit;
	if (!*full || (looked <= now && now < looked + BESIDES_US))
		return n;
	looked = now;
	for (int i = 0; i < HOGS_MAX; i++)
	{
		int			found = rom_plan_due_besides(now, limit, plans, n);

		n += found;
		if (found < limit)
			break;
	}
	return n;
}

/* sweep_schedules is a batch of the sweep. */
static int64
sweep_schedules(const RomSweepArgs *args)
{
	TimestampTz now = rom_now();
	RomPlan   **plans;
	RomEngine	engine;
	TimestampTz next;
	bool		again = false;
	bool		full;
	int			counted;
	int			n;

	if (args->part != 0)
		return 0;				/* not shared: skip locked does that */
	rom_engine_begin(&engine);
	if (zones_are_new())
		compute_anew();
	counted = rom_ends_count(NULL, args->limit);
	plans = palloc_array(RomPlan *, args->limit * (HOGS_MAX + 1));
	n = take_due(now, args->limit, plans, &full);
	rom_runs_look(plans, n);
	for (int i = 0; i < n; i++)
		plans[i]->nowait = true;
	handle_all(fire, plans, n, now, &again);
	/* after a full batch there are more, most likely: the look is spared */
	next = full || rom_ends_uncounted() ? 0 : rom_plan_next_due(NULL, (Datum) 0, DT_NOBEGIN);
	if (n == 0 && counted == 0 && next <= now)
		next = now + held_wait() * 1000;	/* others hold it */
	else
		held = 0;
	if (next < DT_NOEND)
		rom_wake_sweep(rom_plan_sweep(), Max(next, 0));
	rom_engine_end(&engine);
	return n + counted;
}

static TimestampTz
next_due(void)
{
	RomEngine	engine;
	TimestampTz due;

	rom_engine_begin(&engine);
	due = zones_are_new() || rom_ends_uncounted() ? rom_now() : rom_plan_next_due(NULL, (Datum) 0, DT_NOBEGIN);
	rom_engine_end(&engine);
	return due < 0 ? 0 : due;
}

/* ---------------------------------------------------------------- drain */

/* Names of schedules, as rom_plan_stored_name() writes them. */
typedef struct Names
{
	List	   *names;
	MemoryContext cxt;
} Names;

/* Those that fired in this drain, where each may fire once; those that fired and started nothing, since turns were run last. */
static Names fired;
static Names barren;

static void
names_clear(Names *names)
{
	names->names = NIL;
	if (names->cxt == NULL)
		names->cxt = AllocSetContextCreate(TopMemoryContext, "romancy drained schedules", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(names->cxt);
}

static void
names_add(Names *names, const RomPlan *plan)
{
	char	   *name = rom_plan_stored_name(plan);
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, names->names)
		if (strcmp((char *) lfirst(cell), name) == 0)
		return;
	old = MemoryContextSwitchTo(names->cxt);
	names->names = lappend(names->names, pstrdup(name));
	MemoryContextSwitchTo(old);
}

/* Both as one text[]; NULL adds none. */
static Datum
names_array(const Names *a, const Names *b)
{
	Datum	   *elements = palloc_array(Datum, list_length(a->names) + (b ? list_length(b->names) : 0) + 1);
	int			n = 0;
	ListCell   *cell;

	foreach(cell, a->names)
		elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	if (b != NULL)
		foreach(cell, b->names)
			elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
drain_begin(void)
{
	names_clear(&fired);
	names_clear(&barren);
}

static void
drain_ran(void)
{
	names_clear(&barren);
}

static int
drain_fire(const char *owner, bool once)
{
	TimestampTz now = rom_now();
	RomPlan    *plans[PAGE];
	TimestampTz was_after[PAGE];
	RomEngine	engine;
	bool		again = false;
	int			n;

	rom_engine_begin(&engine);
	(void) rom_ends_count(owner, PAGE);
	n = rom_plan_due(now, owner, names_array(&fired, NULL), PAGE, plans);
	rom_runs_look(plans, n);
	for (int i = 0; i < n; i++)
		was_after[i] = plans[i]->after_at;
	handle_all(fire, plans, n, now, &again);
	for (int i = 0; i < n; i++)
	{
		if (once && (plans[i]->new_runs > 0 || plans[i]->after_at != was_after[i]))
			names_add(&fired, plans[i]);
		if (plans[i]->new_runs == 0)
			names_add(&barren, plans[i]);
	}
	rom_engine_end(&engine);
	return n;
}

static TimestampTz
drain_next_due(const char *owner, TimestampTz after, bool hopeful)
{
	return rom_plan_next_due(owner, names_array(&fired, hopeful ? &barren : NULL), after);
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
		.ran = drain_ran,
		.next_due = drain_next_due
	};

	rom_sweep_register(&schedules);
	rom_drain_register(&source);
}
