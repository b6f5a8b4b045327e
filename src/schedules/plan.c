/*-------------------------------------------------------------------------
 *
 * plan.c
 *		Reads and writes schedules.
 *
 * Code that fires, edits or ends a run of a schedule first locks its row, by a
 * statement of its own: the next statement then sees all of its runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "schedules/cron.h"
#include "schedules/next.h"
#include "schedules/plan.h"
#include "schedules/zone.h"

#define PLAN_COLUMNS \
	" s.name, s.owner, s.search_path, s.cron, s.timezone, s.workflow, s.overlap, s.input, s.labels, s.catch_up, s.jitter," \
	" s.pause_on_failure, s.anchor, s.after_at, s.paused_at, s.failed_in_row, s.missed, s.namespace, s.next_at, s.created_at, s.ctid "

/* As rom_plan_stored_name() writes it. */
#define STORED_NAME_SQL "(s.namespace || '/' || s.name)"

static RomStatement select_due = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE s.due_at <= $1"
	" ORDER BY s.due_at, s.namespace, s.name LIMIT $2 FOR UPDATE SKIP LOCKED",
	2, {TIMESTAMPTZOID, INT4OID}
};

static RomStatement select_due_besides = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE s.due_at <= $1 AND s.owner <> ALL ($3)"
	" ORDER BY s.due_at, s.namespace, s.name LIMIT $2 FOR UPDATE SKIP LOCKED",
	3, {TIMESTAMPTZOID, INT4OID, TEXTARRAYOID}
};

static RomStatement select_due_of = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE s.due_at <= $1 AND s.owner = $3"
	" AND (s.due_at = '-infinity' OR " STORED_NAME_SQL " <> ALL ($4))"
	" ORDER BY s.due_at, s.namespace, s.name LIMIT $2 FOR UPDATE SKIP LOCKED",
	4, {TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTARRAYOID}
};

static RomStatement select_one = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2 FOR UPDATE",
	2, {INT4OID, TEXTOID}
};

static RomStatement select_free = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2 FOR UPDATE SKIP LOCKED",
	2, {INT4OID, TEXTOID}
};

static RomStatement select_page = {
	"SELECT" PLAN_COLUMNS "FROM romancy.t_schedule s WHERE (s.namespace, s.name) > ($1, $2) AND s.paused_at IS NULL"
	" ORDER BY s.namespace, s.name LIMIT $3",
	3, {INT4OID, TEXTOID, INT4OID}
};

static RomStatement select_there = {
	"SELECT 1 FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2",
	2, {INT4OID, TEXTOID}
};

static RomStatement select_next = {
	"SELECT s.due_at FROM romancy.t_schedule s WHERE s.due_at IS NOT NULL ORDER BY s.due_at LIMIT 1",
	0, {InvalidOid}
};

static RomStatement select_next_of = {
	"SELECT s.due_at FROM romancy.t_schedule s WHERE s.due_at > $1 AND s.owner = $2 AND " STORED_NAME_SQL " <> ALL ($3)"
	" ORDER BY s.due_at LIMIT 1",
	3, {TIMESTAMPTZOID, TEXTOID, TEXTARRAYOID}
};

/* Both statements set the same, from values in the order of save_values(). */
#define SAVED_SQL \
	" after_at = v.after_at, next_at = v.next_at, due_at = v.due_at, runs = s.runs + v.runs, failed = s.failed + v.failed," \
	" failed_in_row = v.failed_in_row, missed = v.missed, last_at = greatest(s.last_at, v.last_at)," \
	" last_run = CASE WHEN v.last_at >= coalesce(s.last_at, v.last_at) THEN v.last_run ELSE s.last_run END," \
	" error = CASE WHEN v.error IS NULL AND v.runs > 0 THEN NULL ELSE coalesce(v.error, s.error) END," \
	" paused_at = coalesce(s.paused_at, v.paused_at), paused_by = CASE WHEN v.paused_at IS NULL THEN s.paused_by ELSE 'romancy' END," \
	" note = coalesce(v.note, s.note)"

#define SAVED_COLUMNS \
	"after_at, next_at, due_at, runs, failed, failed_in_row, missed, last_at, last_run, error, paused_at, note"

#define SAVED_VALUES 12

static RomStatement update_plan = {
	"UPDATE romancy.t_schedule s SET" SAVED_SQL
	" FROM (SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) v (" SAVED_COLUMNS ") WHERE s.name = $13 AND s.namespace = $14",
	14, {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT4OID, JSONBOID,
	TIMESTAMPTZOID, UUIDOID, JSONBOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT4OID}
};

/* By the rows' places, which stay what they are while the caller has the rows locked: no index is read. */
static RomStatement update_plans = {
	"UPDATE romancy.t_schedule s SET" SAVED_SQL
	" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) v (" SAVED_COLUMNS ", tid) WHERE s.ctid = v.tid",
	13, {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID,
	TIMESTAMPTZARRAYOID, UUIDARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIDARRAYOID}
};

static RomStatement stop_plan = {
	"UPDATE romancy.t_schedule SET paused_at = coalesce(paused_at, $3), paused_by = 'romancy', note = $4, error = $5, due_at = NULL"
	" WHERE namespace = $1 AND name = $2",
	5, {INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, JSONBOID}
};

static const char *const overlap_names[] = {
	[ROM_OVERLAP_SKIP] = "skip",
	[ROM_OVERLAP_QUEUE] = "queue",
	[ROM_OVERLAP_QUEUE_ALL] = "queue_all",
	[ROM_OVERLAP_ALLOW] = "allow",
	[ROM_OVERLAP_CANCEL_PREVIOUS] = "cancel_previous",
	[ROM_OVERLAP_TERMINATE_PREVIOUS] = "terminate_previous"
};

/* As view schedules shows them. */
static const char *const missed_names[ROM_MISSED_KINDS] = {
	[ROM_MISSED_OVERLAP] = "overlap",
	[ROM_MISSED_QUEUE_FULL] = "queue_full",
	[ROM_MISSED_SUPERSEDED] = "superseded",
	[ROM_MISSED_TOO_OLD] = "too_old",
	[ROM_MISSED_MERGED] = "merged",
	[ROM_MISSED_CATCH_UP_LIMIT] = "catch_up_limit",
	[ROM_MISSED_PAUSED] = "paused",
	[ROM_MISSED_EDITED] = "edited",
	[ROM_MISSED_ERROR] = "error",
	[ROM_MISSED_KEY_TAKEN] = "key_taken"
};

RomOverlap
rom_plan_overlap(const char *name)
{
	for (int i = 0; i < lengthof(overlap_names); i++)
		if (strcmp(name, overlap_names[i]) == 0)
			return (RomOverlap) i;
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("overlap \"%.*s\" is not known", pg_mbcliplen(name, strlen(name), NAMEDATALEN), name),
			 errhint("It is one of skip, queue, queue_all, allow, cancel_previous and terminate_previous.")));
}

int
rom_plan_sweep(void)
{
	static int	number = -1;

	if (number < 0)
		number = rom_sweep_find("schedules");
	return number;
}

char *
rom_plan_stored_name(const RomPlan *plan)
{
	return psprintf("%d/%s", plan->namespace, plan->name);
}

char *
rom_plan_time_text(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	if (fsec != 0)
		return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
						tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* A value of a row of set that is passed by reference, or NULL. */
static void *
copied(const RomRowSet *set, uint64 row, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, cxt);

	return isnull ? NULL : DatumGetPointer(value);
}

/* Reads a row of set with PLAN_COLUMNS. */
static RomPlan *
read_plan(const RomRowSet *set, uint64 row, MemoryContext cxt)
{
	RomPlan    *plan = MemoryContextAllocZero(cxt, sizeof(RomPlan));
	bool		isnull;

	plan->name = rom_value_text(set, row, 1, cxt);
	plan->owner = rom_value_text(set, row, 2, cxt);
	plan->search_path = rom_value_text(set, row, 3, cxt);
	plan->cron_text = rom_value_text(set, row, 4, cxt);
	plan->zone_name = rom_value_text(set, row, 5, cxt);
	plan->workflow = rom_value_text(set, row, 6, cxt);
	plan->overlap = rom_plan_overlap(rom_value_text(set, row, 7, cxt));
	plan->input = copied(set, row, 8, cxt);
	plan->labels = copied(set, row, 9, cxt);
	plan->catch_up = copied(set, row, 10, cxt);
	plan->jitter = copied(set, row, 11, cxt);
	plan->pause_on_failure = DatumGetInt32(rom_value(set, row, 12, &isnull));
	if (isnull)
		plan->pause_on_failure = 0;
	plan->anchor = DatumGetTimestampTz(rom_value(set, row, 13, &isnull));
	plan->after_at = DatumGetTimestampTz(rom_value(set, row, 14, &isnull));
	(void) rom_value(set, row, 15, &isnull);
	plan->paused = !isnull;
	plan->failed_in_row = DatumGetInt32(rom_value(set, row, 16, &isnull));
	plan->missed = copied(set, row, 17, cxt);
	plan->namespace = DatumGetInt32(rom_value(set, row, 18, &isnull));
	plan->next_at = DatumGetTimestampTz(rom_value(set, row, 19, &isnull));
	if (isnull)
		plan->next_at = DT_NOEND;
	plan->created_at = DatumGetTimestampTz(rom_value(set, row, 20, &isnull));
	plan->tid = *(ItemPointer) DatumGetPointer(rom_value(set, row, 21, &isnull));
	return plan;
}

void
rom_plan_understand(RomPlan *plan)
{
	rom_cron_parse(plan->cron_text, plan->name, &plan->cron);
	plan->zone = rom_zone_find_opt(plan->zone_name);
}

int
rom_plan_due(TimestampTz now, const char *owner, Datum besides, int limit, RomPlan **plans)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[4] = {TimestampTzGetDatum(now), Int32GetDatum(limit)};
	int			n;
	RomRowSet	set;

	if (owner != NULL)
	{
		values[2] = CStringGetTextDatum(owner);
		values[3] = besides;
	}
	n = (int) rom_execute_rows(&set, owner != NULL ? &select_due_of : &select_due, values, NULL, 0);
	for (int i = 0; i < n; i++)
		plans[i] = read_plan(&set, i, cxt);
	rom_execute_free(&set);
	return n;
}

int
rom_plan_due_besides(TimestampTz now, int limit, RomPlan **plans, int n)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum	   *owners = palloc_array(Datum, n);
	Datum		values[3] = {TimestampTzGetDatum(now), Int32GetDatum(limit)};
	int			count = 0;
	int			found;
	RomRowSet	set;

	for (int i = 0; i < n; i++)
		if (i == 0 || strcmp(plans[i]->owner, plans[i - 1]->owner) != 0)
			owners[count++] = CStringGetTextDatum(plans[i]->owner);
	values[2] = PointerGetDatum(construct_array(owners, count, TEXTOID, -1, false, TYPALIGN_INT));
	found = (int) rom_execute_rows(&set, &select_due_besides, values, NULL, 0);
	for (int i = 0; i < found; i++)
		plans[n + i] = read_plan(&set, i, cxt);
	rom_execute_free(&set);
	return found;
}

int
rom_plan_page(const RomPlan *last, int limit, RomPlan **plans)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[3] = {Int32GetDatum(last ? last->namespace : 0), CStringGetTextDatum(last ? last->name : ""), Int32GetDatum(limit)};
	RomRowSet	set;
	int			n = (int) rom_execute_rows(&set, &select_page, values, NULL, 0);

	for (int i = 0; i < n; i++)
		plans[i] = read_plan(&set, i, cxt);
	rom_execute_free(&set);
	return n;
}

TimestampTz
rom_plan_next_due(const char *owner, Datum besides, TimestampTz after)
{
	Datum		values[3] = {TimestampTzGetDatum(after)};
	bool		isnull;
	RomRowSet	set;

	if (owner == NULL)
	{
		if (rom_execute_rows(&set, &select_next, NULL, NULL, 1) == 0)
			return DT_NOEND;
	}
	else
	{
		values[1] = CStringGetTextDatum(owner);
		values[2] = besides;
		if (rom_execute_rows(&set, &select_next_of, values, NULL, 1) == 0)
			return DT_NOEND;
	}
	return DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
}

RomPlan *
rom_plan_lock(int32 namespace, const char *name, Oid caller)
{
	Datum		values[2] = {Int32GetDatum(namespace), CStringGetTextDatum(name)};
	RomPlan    *plan;
	Oid			owner;
	RomRowSet	set;

	if (rom_execute_rows(&set, &select_one, values, NULL, 1) == 0)
		return NULL;
	plan = read_plan(&set, 0, CurrentMemoryContext);
	owner = get_role_oid(plan->owner, true);
	if (OidIsValid(owner) ? !has_privs_of_role(caller, owner) : !superuser_arg(caller))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of schedule \"%s\"", name)));
	return plan;
}

RomPlan *
rom_plan_lock_free(const RomPlan *plan, bool *held)
{
	Datum		values[2] = {Int32GetDatum(plan->namespace), CStringGetTextDatum(plan->name)};
	RomPlan    *locked;
	RomRowSet	set;

	*held = false;
	if (rom_execute_rows(&set, &select_free, values, NULL, 1) == 0)
	{
		*held = rom_execute(&select_there, values, NULL, 1) > 0;
		return NULL;
	}
	locked = read_plan(&set, 0, CurrentMemoryContext);
	rom_plan_understand(locked);
	return locked;
}

void
rom_plan_stop(const RomPlan *plan, Jsonb *error, const char *message)
{
	Datum		values[5] = {Int32GetDatum(plan->namespace), CStringGetTextDatum(plan->name), TimestampTzGetDatum(rom_now())};

	values[3] = CStringGetTextDatum(message);
	values[4] = PointerGetDatum(error);
	rom_execute(&stop_plan, values, NULL, 0);
}

TimestampTz
rom_plan_next(const RomPlan *plan, TimestampTz after)
{
	return plan->zone == NULL ? DT_NOEND : rom_next_time(&plan->cron, plan->zone, plan->anchor, after);
}

TimestampTz
rom_plan_due_at(const RomPlan *plan, TimestampTz time)
{
	int64		jitter;
	TimestampTz next;

	if (time >= DT_NOEND || plan->jitter == NULL || !rom_arg_interval_usec(plan->jitter, &jitter) || jitter <= 0)
		return time;
	next = rom_plan_next(plan, time);
	if (next < DT_NOEND)
		jitter = Min(jitter, next - time);
	return time + (int64) ((double) (rom_cron_hash(plan->name, (uint64) time) >> 32) / 4294967296.0 * jitter);
}

int64
rom_plan_count(const RomPlan *plan, TimestampTz after, TimestampTz until)
{
	int64		n = 0;

	while ((after = rom_plan_next(plan, after)) <= until)
	{
		n++;
		CHECK_FOR_INTERRUPTS();
	}
	return n;
}

/* The counters of times that did not run, with what is new. */
static Jsonb *
merged_missed(const RomPlan *plan)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	for (int i = 0; i < ROM_MISSED_KINDS; i++)
	{
		int64		n = rom_jb_get_int(plan->missed, missed_names[i], 0) + plan->new_missed[i];

		if (n != 0)
			rom_jb_int(&jb, missed_names[i], n);
	}
	return rom_jb_end(&jb);
}

/* save_values gives what has changed, in the order of SAVED_COLUMNS; and asks for the sweep by the time that the schedule is due next. */
static void
save_values(RomPlan *plan, bool waits, Datum *values, bool *nulls)
{
	TimestampTz next = rom_plan_next(plan, plan->after_at);
	TimestampTz due = waits ? DT_NOBEGIN : rom_plan_due_at(plan, next);

	if (plan->zone == NULL && !plan->paused && plan->pause_note == NULL)
		plan->pause_note = psprintf("timezone \"%s\" is not known any more", plan->zone_name);
	if (plan->again_at != 0)
		due = plan->again_at;
	if (plan->paused || plan->pause_note != NULL)
		due = DT_NOEND;
	memset(nulls, 0, SAVED_VALUES * sizeof(bool));
	values[0] = TimestampTzGetDatum(plan->after_at);
	values[1] = TimestampTzGetDatum(next);
	nulls[1] = next == DT_NOEND;
	values[2] = TimestampTzGetDatum(due);
	nulls[2] = due == DT_NOEND;
	values[3] = Int64GetDatum(plan->new_runs);
	values[4] = Int64GetDatum(plan->new_failed);
	values[5] = Int32GetDatum(plan->failed_in_row);
	values[6] = PointerGetDatum(merged_missed(plan));
	values[7] = TimestampTzGetDatum(plan->last_at);
	values[8] = UUIDPGetDatum(&plan->last_run);
	nulls[7] = nulls[8] = plan->new_runs == 0;
	values[9] = PointerGetDatum(plan->error);
	nulls[9] = plan->error == NULL;
	values[10] = TimestampTzGetDatum(rom_now());
	values[11] = (Datum) 0;
	nulls[10] = nulls[11] = plan->pause_note == NULL;
	if (plan->pause_note != NULL)
		values[11] = CStringGetTextDatum(plan->pause_note);
	if (due != DT_NOEND)
		rom_wake_sweep(rom_plan_sweep(), Max(due, 0));
}

void
rom_plan_save(RomPlan *plan, bool waits)
{
	Datum		values[SAVED_VALUES + 2];
	bool		nulls[SAVED_VALUES + 2] = {false};

	save_values(plan, waits, values, nulls);
	values[SAVED_VALUES] = CStringGetTextDatum(plan->name);
	values[SAVED_VALUES + 1] = Int32GetDatum(plan->namespace);
	rom_execute(&update_plan, values, nulls, 0);
}

void
rom_plan_save_all(RomPlan **plans, int n)
{
	Datum		arrays[SAVED_VALUES + 1];
	Datum	   *columns[SAVED_VALUES + 1];
	bool	   *column_nulls[SAVED_VALUES + 1];
	int			lbs[1] = {1};

	if (n == 0)
		return;
	for (int c = 0; c <= SAVED_VALUES; c++)
	{
		columns[c] = palloc_array(Datum, n);
		column_nulls[c] = palloc0_array(bool, n);
	}
	for (int i = 0; i < n; i++)
	{
		Datum		values[SAVED_VALUES];
		bool		nulls[SAVED_VALUES];

		save_values(plans[i], false, values, nulls);
		for (int c = 0; c < SAVED_VALUES; c++)
		{
			columns[c][i] = values[c];
			column_nulls[c][i] = nulls[c];
		}
		columns[SAVED_VALUES][i] = PointerGetDatum(&plans[i]->tid);
	}
	for (int c = 0; c <= SAVED_VALUES; c++)
	{
		Oid			type = get_element_type(update_plans.argtypes[c]);
		int16		length;
		bool		by_value;
		char		align;

		get_typlenbyvalalign(type, &length, &by_value, &align);
		arrays[c] = PointerGetDatum(construct_md_array(columns[c], column_nulls[c], 1, &n, lbs, type, length, by_value, align));
	}
	if (rom_execute(&update_plans, arrays, NULL, 0) != n)
		elog(ERROR, "unexpected number of schedules");
}
