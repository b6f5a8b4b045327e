/*-------------------------------------------------------------------------
 *
 * ends.c
 *		Ends of runs of schedules: counters, pauses after failures, what waits.
 *
 * The end of a run waits for no other transaction: where another transaction holds the schedule, a session's that edits it or the end of another
 * run, it adds a row to t_schedule_end, and the sweep counts it when the schedule is free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "base/spi.h"
#include "instances/delete.h"
#include "memory/wake.h"
#include "schedules/ends.h"
#include "schedules/runs.h"
#include "turn/hooks.h"

/* Runs of a schedule that are counted at a time, when another transaction held it at their ends. */
#define COUNT_MAX 100

static RomStatement find_run = {
	"SELECT r.namespace, r.schedule, r.created_at, r.state FROM romancy.t_schedule_run r WHERE r.instance_id = $1", 1, {UUIDOID}
};

static RomStatement lock_schedule = {
	"SELECT 1 FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2 AND s.created_at = $3 FOR UPDATE SKIP LOCKED",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

static RomStatement set_state = {
	"UPDATE romancy.t_schedule_run SET state = $2 WHERE instance_id = $1", 2, {UUIDOID, INT2OID}
};

static RomStatement insert_end = {
	"INSERT INTO romancy.t_schedule_end (namespace, schedule, created_at, completed, failed, cancelled)"
	" SELECT $1, $2, $3, $4, $5, $6 FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2 AND s.created_at = $3",
	6, {INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}
};

/* The subquery has a lock, so that it is looked up for each of the few names. $2: of this owner alone, or null. */
static RomStatement lock_uncounted = {
	"SELECT s.namespace, s.name FROM (SELECT DISTINCT e.namespace, e.schedule FROM romancy.t_schedule_end e) p"
	" CROSS JOIN LATERAL (SELECT x.namespace, x.name FROM romancy.t_schedule x WHERE x.namespace = p.namespace AND x.name = p.schedule"
	"  AND ($2 IS NULL OR x.owner = $2) FOR UPDATE SKIP LOCKED) s LIMIT $1",
	2, {INT4OID, TEXTOID}
};

static RomStatement select_uncounted = {
	"SELECT 1 FROM romancy.t_schedule_end LIMIT 1", 0, {InvalidOid}
};

/* In their order, by which failures are in a row. Column 5: of this schedule; it is not when one of its name was dropped. */
static RomStatement select_ends = {
	"SELECT e.end_id, e.completed, e.failed, e.cancelled, e.created_at = s.created_at, e.created_at FROM romancy.t_schedule_end e"
	" JOIN romancy.t_schedule s ON s.namespace = e.namespace AND s.name = e.schedule WHERE e.namespace = $1 AND e.schedule = $2"
	" ORDER BY e.end_id LIMIT $3",
	3, {INT4OID, TEXTOID, INT4OID}
};

static RomStatement delete_end = {
	"DELETE FROM romancy.t_schedule_end WHERE namespace = $1 AND schedule = $2 AND end_id = $3",
	3, {INT4OID, TEXTOID, INT8OID}
};

/* Those of schedules that were dropped are counted nowhere. */
static RomStatement delete_orphans = {
	"DELETE FROM romancy.t_schedule_end WHERE ctid = ANY (ARRAY(SELECT e.ctid FROM romancy.t_schedule_end e"
	" WHERE NOT EXISTS (SELECT FROM romancy.t_schedule s WHERE s.namespace = e.namespace AND s.name = e.schedule) FOR UPDATE SKIP LOCKED))",
	0, {InvalidOid}
};

/* $4 to $6: what is added to completed, failed and cancelled; 1, or -1 for one that lives again */
static RomStatement count_run = {
	"UPDATE romancy.t_schedule s SET completed = s.completed + $4, failed = s.failed + $5, cancelled = s.cancelled + $6,"
	" failed_in_row = CASE WHEN $5 > 0 THEN s.failed_in_row + 1 WHEN $4 > 0 THEN 0 WHEN $5 < 0 THEN greatest(s.failed_in_row - 1, 0) ELSE s.failed_in_row END,"
	" paused_at = CASE WHEN p.pauses THEN $7 ELSE s.paused_at END,"
	" paused_by = CASE WHEN p.pauses THEN 'romancy' ELSE s.paused_by END,"
	" note = CASE WHEN p.pauses THEN pg_catalog.format('%s failed runs in a row', s.failed_in_row + 1) ELSE s.note END,"
	" due_at = CASE WHEN p.pauses OR s.paused_at IS NOT NULL THEN NULL"
	"  WHEN EXISTS (SELECT FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED ")"
	"  THEN '-infinity' ELSE s.due_at END"
	" FROM (SELECT x.namespace, x.name, $5 > 0 AND x.paused_at IS NULL AND x.failed_in_row + 1 >= x.pause_on_failure IS TRUE AS pauses"
	"  FROM romancy.t_schedule x WHERE x.namespace = $1 AND x.name = $2 AND x.created_at = $3) p"
	" WHERE s.namespace = p.namespace AND s.name = p.name RETURNING s.due_at",
	7, {INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

/* A first generation may be deleted while a later one lives. */
static RomStatement delete_runs = {
	"DELETE FROM romancy.t_schedule_run r USING romancy.t_instance i WHERE i.instance_id = ANY ($1)"
	" AND r.instance_id = coalesce(i.mailbox, i.instance_id) AND i.status <> 'recurred'",
	1, {UUIDARRAYOID}
};

/*
 * count adds the ends of a run to its schedule's counters, pauses it after too many failures, and makes it due at once when a
 * run waits. values: its namespace, name and creation, and what is added to completed, failed and cancelled; with room for one more. It is
 * locked, or gone.
 */
static void
count(Datum *values)
{
	TimestampTz due;
	bool		isnull;
	RomRowSet	set;

	values[6] = TimestampTzGetDatum(rom_now());
	if (rom_execute_rows(&set, &count_run, values, NULL, 1) == 0)
		return;
	due = DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
	if (!isnull && due == DT_NOBEGIN)
		rom_wake_sweep(rom_plan_sweep(), 0);
	rom_execute_free(&set);
}

/*
 * run_changed writes a run's new state, and counts what is added to completed, failed and cancelled; or has the sweep do that, where
 * another transaction holds the schedule. Nothing is done for an instance that is no run, or one whose state is not another; and nothing
 * is counted where the schedule was dropped, also if there is a new one of its name.
 */
static void
run_changed(RomTurn *turn, RomRunState state, int completed, int failed, int cancelled)
{
	Datum		row[2] = {UUIDPGetDatum(&turn->inst->mailbox), Int16GetDatum(state)};
	Datum		values[7];
	bool		isnull;
	RomRowSet	set;

	if (rom_execute_rows(&set, &find_run, row, NULL, 1) == 0)
		return;
	values[0] = rom_value(&set, 0, 1, &isnull);
	values[1] = CStringGetTextDatum(rom_value_text(&set, 0, 2, CurrentMemoryContext));
	values[2] = rom_value(&set, 0, 3, &isnull);
	values[3] = Int64GetDatum(completed);
	values[4] = Int64GetDatum(failed);
	values[5] = Int64GetDatum(cancelled);
	if ((DatumGetInt16(rom_value(&set, 0, 4, &isnull)) == ROM_RUN_ENDED) == (state == ROM_RUN_ENDED))
		return;
	rom_execute(&set_state, row, NULL, 0);
	if (rom_execute(&lock_schedule, values, NULL, 1) > 0)
		count(values);
	else
	{
		rom_execute(&insert_end, values, NULL, 0);
		rom_wake_sweep(rom_plan_sweep(), 0);
	}
}

/* The end hook: counts the run, pauses the schedule after too many failures, and has what waits started. */
static void
run_ended(RomTurn *turn, RomStatus status)
{
	if (status != ROM_STATUS_RECURRED)
		run_changed(turn, ROM_RUN_ENDED, status == ROM_STATUS_COMPLETED, status == ROM_STATUS_FAILED, status == ROM_STATUS_CANCELLED);
}

/* The renew hook: a run that has failed lives again. */
static void
run_renewed(RomTurn *turn)
{
	if (turn->inst->flags & ROM_IS_SCHEDULED)
		run_changed(turn, ROM_RUN_LIVE, 0, -1, 0);
}

/* count_of counts the ends of runs of a schedule that the caller has locked; whether there were any. namespace, name: the schedule. */
static bool
count_of(Datum namespace, Datum name)
{
	Datum		values[7] = {namespace, name, Int32GetDatum(COUNT_MAX)};
	RomRowSet	set;
	bool		any;

	rom_execute_rows(&set, &select_ends, values, NULL, 0);
	for (uint64 i = 0; i < set.count; i++)
	{
		bool		isnull;

		values[2] = rom_value(&set, i, 1, &isnull);
		rom_execute(&delete_end, values, NULL, 0);
		if (!DatumGetBool(rom_value(&set, i, 5, &isnull)))
			continue;
		values[2] = rom_value(&set, i, 6, &isnull);
		for (int c = 2; c <= 4; c++)
			values[c + 1] = Int64GetDatum(DatumGetInt16(rom_value(&set, i, c, &isnull)));
		count(values);
	}
	any = set.count > 0;
	rom_execute_free(&set);
	return any;
}

int
rom_ends_count(const char *owner, int limit)
{
	Datum		values[2] = {Int32GetDatum(limit)};
	bool		nulls[2] = {false, owner == NULL};
	RomRowSet	set;
	int			n;

	if (!rom_ends_uncounted())
		return 0;
	if (owner == NULL)
		rom_execute(&delete_orphans, NULL, NULL, 0);
	else
		values[1] = CStringGetTextDatum(owner);
	n = (int) rom_execute_rows(&set, &lock_uncounted, values, nulls, 0);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		namespace = rom_value(&set, i, 1, &isnull);

		(void) count_of(namespace, rom_value(&set, i, 2, &isnull));
		CHECK_FOR_INTERRUPTS();
	}
	rom_execute_free(&set);
	return n;
}

bool
rom_ends_count_of(const RomPlan *plan)
{
	return count_of(Int32GetDatum(plan->namespace), CStringGetTextDatum(plan->name));
}

bool
rom_ends_uncounted(void)
{
	return rom_execute(&select_uncounted, NULL, NULL, 1) > 0;
}

static void
runs_deleted(Datum ids)
{
	rom_execute(&delete_runs, &ids, NULL, 0);
}

void
rom_ends_init(void)
{
	rom_hooks_on_end(ROM_IS_SCHEDULED, run_ended);
	rom_hooks_on_renew(run_renewed);
	rom_delete_on(runs_deleted);
}
