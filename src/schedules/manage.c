/*-------------------------------------------------------------------------
 *
 * manage.c
 *		schedule, unschedule, pause_schedule, resume_schedule, trigger_schedule,
 *		backfill_schedule, schedule_runs, scheduled_at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "defs/definition.h"
#include "defs/namespace.h"
#include "instances/instance.h"
#include "instances/start.h"
#include "memory/wake.h"
#include "schedules/cron.h"
#include "schedules/ends.h"
#include "schedules/next.h"
#include "schedules/runs.h"
#include "schedules/zone.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_schedule);
PG_FUNCTION_INFO_V1(romancy_unschedule);
PG_FUNCTION_INFO_V1(romancy_pause_schedule);
PG_FUNCTION_INFO_V1(romancy_resume_schedule);
PG_FUNCTION_INFO_V1(romancy_trigger_schedule);
PG_FUNCTION_INFO_V1(romancy_backfill_schedule);
PG_FUNCTION_INFO_V1(romancy_schedule_runs);
PG_FUNCTION_INFO_V1(romancy_scheduled_at);

/* Times that one backfill may start. */
#define BACKFILL_MAX 100000

static RomStatement insert_schedule = {
	"INSERT INTO romancy.t_schedule (name, owner, search_path, cron, timezone, workflow, overlap, input, labels, description,"
	" catch_up, jitter, pause_on_failure, created_at, updated_at, anchor, after_at, namespace)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15, $14, $16) ON CONFLICT DO NOTHING",
	16, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID,
	INTERVALOID, INTERVALOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
};

/* The periods of @every continue where they were, unless the expression is another one. */
static RomStatement update_schedule = {
	"UPDATE romancy.t_schedule SET search_path = $3, timezone = $5, workflow = $6, overlap = $7, input = $8, labels = $9,"
	" description = $10, catch_up = $11, jitter = $12, pause_on_failure = $13, updated_at = $14, after_at = $14,"
	" anchor = CASE WHEN cron = $4 THEN anchor ELSE $15 END, cron = $4, error = NULL"
	" WHERE namespace = $16 AND name = $1 AND owner = $2",
	16, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID,
	INTERVALOID, INTERVALOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
};

static RomStatement delete_schedule = {
	"DELETE FROM romancy.t_schedule WHERE namespace = $1 AND name = $2", 2, {INT4OID, TEXTOID}
};

static RomStatement set_paused = {
	"UPDATE romancy.t_schedule SET paused_at = $3, paused_by = $4, note = $5, due_at = NULL WHERE namespace = $1 AND name = $2",
	5, {INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
};

static RomStatement clear_paused = {
	"UPDATE romancy.t_schedule SET paused_at = NULL, paused_by = NULL, note = NULL, error = NULL WHERE namespace = $1 AND name = $2",
	2, {INT4OID, TEXTOID}
};

static RomStatement select_scheduled_at = {
	"SELECT i.scheduled_at FROM romancy.t_instance i WHERE i.instance_id = $1", 1, {UUIDOID}
};

static RomStatement select_owner = {
	"SELECT s.owner, s.created_at FROM romancy.t_schedule s WHERE s.namespace = $1 AND s.name = $2", 2, {INT4OID, TEXTOID}
};

/* f: the first generation, i: the last one */
static RomStatement select_runs = {
	"SELECT r.scheduled_at, coalesce(f.started_at, i.started_at), CASE WHEN r.instance_id IS NULL THEN 'waiting'"
	" ELSE romancy.t_shown_status(i.instance_id, i.status)::text END, i.error,"
	" coalesce(i.finished_at, pg_catalog.clock_timestamp()) - coalesce(f.started_at, i.started_at), i.instance_id"
	" FROM (SELECT r.* FROM romancy.t_schedule_run r WHERE r.namespace = $1 AND r.schedule = $2 AND r.created_at = $4"
	"  ORDER BY r.scheduled_at DESC LIMIT $3) r"
	" LEFT JOIN romancy.t_instance f ON f.instance_id = r.instance_id"
	" LEFT JOIN LATERAL (SELECT i.* FROM romancy.t_instance i WHERE i.instance_id = r.instance_id AND i.status <> 'recurred'"
	"  UNION ALL SELECT i.* FROM romancy.t_instance i WHERE i.mailbox = r.instance_id AND i.status <> 'recurred' LIMIT 1) i ON true"
	" ORDER BY r.scheduled_at DESC",
	4, {INT4OID, TEXTOID, INT4OID, TIMESTAMPTZOID}
};

static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0' || strlen(name) > ROM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must have between 1 and %d bytes", ROM_NAME_MAX)));
	return name;
}

/* An argument that may be null, as a Datum. */
static Datum
datum_arg(FunctionCallInfo fcinfo, int n, bool *isnull)
{
	*isnull = PG_ARGISNULL(n);
	return *isnull ? (Datum) 0 : PG_GETARG_DATUM(n);
}

static Datum
interval_datum(Interval *interval, bool *isnull)
{
	*isnull = interval == NULL;
	return PointerGetDatum(interval);
}

/* rom_plan_lock(), for a schedule whose counters hold all runs that have ended. */
static RomPlan *
lock_counted(int32 namespace, const char *name, Oid caller)
{
	RomPlan    *plan = rom_plan_lock(namespace, name, caller);

	if (plan != NULL && rom_ends_count_of(plan))
		plan = rom_plan_lock(namespace, name, caller);
	return plan;
}

static void no_schedule(const char *name) pg_attribute_noreturn();

static void
no_schedule(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_UNDEFINED),
			 errmsg("schedule \"%s\" does not exist", name)));
}

/* Labels must be an object, and the two that a run gets are not for others. */
static void
check_labels(Jsonb *labels)
{
	if (labels == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(labels))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("labels must be a JSON object")));
	if (rom_jb_get_json(labels, "schedule") != NULL || rom_jb_get_json(labels, "scheduled_at") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("labels \"schedule\" and \"scheduled_at\" are set by the schedule")));
	rom_arg_check_payload(labels, "labels");
}

/* The anchor of periods: a whole second, so that times are. */
static TimestampTz
anchor_of(TimestampTz now)
{
	return now - now % USECS_PER_SEC;
}

/* The arguments of schedule(), as values of insert_schedule. */
static void
schedule_values(FunctionCallInfo fcinfo, int32 namespace, const char *name, const char *owner, Datum *values, bool *nulls)
{
	char	   *workflow = rom_arg_text(fcinfo, 2, "workflow");
	char	   *zone_name = rom_arg_text(fcinfo, 4, "timezone");
	char	   *overlap = rom_arg_text(fcinfo, 5, "overlap");
	TimestampTz now = rom_now();
	RomCron		cron;

	if (strlen(workflow) > ROM_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"workflow\" must not exceed %d bytes", ROM_KEY_MAX)));
	rom_cron_parse(rom_arg_text(fcinfo, 1, "cron"), name, &cron);
	zone_name = pstrdup(pg_get_timezone_name(rom_zone_find(zone_name)));
	(void) rom_plan_overlap(overlap);
	rom_arg_check_payload(rom_arg_jsonb_opt(fcinfo, 3), "input");
	check_labels(rom_arg_jsonb_opt(fcinfo, 9));
	(void) rom_arg_prose_opt(fcinfo, 10, "description");
	(void) rom_definition_resolve(workflow, 0);
	if (!PG_ARGISNULL(8) && PG_GETARG_INT32(8) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"pause_on_failure\" must be greater than zero")));
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = CStringGetTextDatum(rom_definition_path());
	values[3] = PG_GETARG_DATUM(1);
	values[4] = CStringGetTextDatum(zone_name);
	values[5] = PG_GETARG_DATUM(2);
	values[6] = PG_GETARG_DATUM(5);
	values[7] = datum_arg(fcinfo, 3, &nulls[7]);
	values[8] = datum_arg(fcinfo, 9, &nulls[8]);
	values[9] = datum_arg(fcinfo, 10, &nulls[9]);
	values[10] = interval_datum(rom_arg_interval_opt(fcinfo, 6, "catch_up"), &nulls[10]);
	values[11] = interval_datum(rom_arg_interval_opt(fcinfo, 7, "jitter"), &nulls[11]);
	values[12] = datum_arg(fcinfo, 8, &nulls[12]);
	values[13] = TimestampTzGetDatum(now);
	values[14] = TimestampTzGetDatum(anchor_of(now));
	values[15] = Int32GetDatum(namespace);
}

/*
 * romancy.schedule(name, cron, workflow, input, timezone, overlap, catch_up, jitter, pause_on_failure, labels, description) -> void
 *
 * Creates or replaces a schedule: counters, a pause and the owner stay, the next run is computed from now. input, jitter, pause_on_failure, labels
 * and description may be null; catch_up null: without end. Errors: RM012 for an expression, a zone, an overlap, labels or limits
 * that cannot be; RM001 for a workflow that does not exist; RM011; 42501 for another role's schedule; RM004 in a workflow.
 */
Datum
romancy_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[16];
	bool		nulls[16] = {false};
	RomPlan    *plan;
	RomEngine	engine;

	rom_context_refuse_handler("schedule");
	namespace = rom_namespace_require_define("schedule");
	schedule_values(fcinfo, namespace, name, GetUserNameFromId(role, false), values, nulls);
	rom_start_warn();
	rom_engine_begin(&engine);
	while ((plan = lock_counted(namespace, name, role)) == NULL && rom_execute(&insert_schedule, values, nulls, 0) == 0)
		CHECK_FOR_INTERRUPTS();
	if (plan != NULL)
	{
		int64		late = 0;

		if (!plan->paused)
		{
			rom_plan_understand(plan);
			late = rom_plan_count(plan, plan->after_at, DatumGetTimestampTz(values[13]));
		}
		values[1] = CStringGetTextDatum(plan->owner);
		rom_execute(&update_schedule, values, nulls, 0);
		plan = rom_plan_lock(namespace, name, role);
		plan->new_missed[ROM_MISSED_EDITED] = late;
	}
	else
		plan = rom_plan_lock(namespace, name, role);
	rom_plan_understand(plan);
	rom_plan_save(plan, rom_runs_waiting(plan) > 0);
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}

/* romancy.unschedule(name) -> boolean: drops a schedule and its waiting runs; a live run continues. False: there is none. 42501, RM004. */
Datum
romancy_unschedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[2];
	RomPlan    *plan;
	RomEngine	engine;

	rom_context_refuse_handler("unschedule");
	namespace = rom_namespace_current();
	values[0] = Int32GetDatum(namespace);
	values[1] = CStringGetTextDatum(name);
	rom_engine_begin(&engine);
	plan = rom_plan_lock(namespace, name, role);
	if (plan != NULL)
	{
		rom_runs_drop_waiting(plan);
		rom_execute(&delete_schedule, values, NULL, 0);
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(plan != NULL);
}

/*
 * romancy.pause_schedule(name, note) -> boolean
 *
 * Nothing more is started, not even a waiting run; a live run continues. note, for others to read, may be null. False
 * when it is paused. Errors: RM001, 42501, RM004 in a workflow.
 */
Datum
romancy_pause_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[5];
	bool		nulls[5] = {false};
	RomPlan    *plan;
	bool		was_paused;
	RomEngine	engine;

	rom_context_refuse_handler("pause_schedule");
	namespace = rom_namespace_current();
	values[0] = Int32GetDatum(namespace);
	values[1] = CStringGetTextDatum(name);
	values[2] = TimestampTzGetDatum(rom_now());
	values[3] = CStringGetTextDatum(GetUserNameFromId(role, false));
	(void) rom_arg_prose_opt(fcinfo, 1, "note");
	values[4] = datum_arg(fcinfo, 1, &nulls[4]);
	rom_engine_begin(&engine);
	plan = lock_counted(namespace, name, role);
	if (plan == NULL)
		no_schedule(name);
	was_paused = plan->paused;
	if (!was_paused)
		rom_execute(&set_paused, values, nulls, 0);
	rom_engine_end(&engine);
	PG_RETURN_BOOL(!was_paused);
}

/*
 * romancy.resume_schedule(name) -> boolean
 *
 * Ends a pause. Times that passed meanwhile are counted as missed, and what waits is started. False when the schedule is not
 * paused. Errors: RM001, 42501, RM004 in a workflow.
 */
Datum
romancy_resume_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[2];
	bool		resumed;
	RomPlan    *plan;
	RomEngine	engine;

	rom_context_refuse_handler("resume_schedule");
	namespace = rom_namespace_current();
	values[0] = Int32GetDatum(namespace);
	values[1] = CStringGetTextDatum(name);
	rom_engine_begin(&engine);
	plan = lock_counted(namespace, name, role);
	if (plan == NULL)
		no_schedule(name);
	rom_plan_understand(plan);
	resumed = plan->paused;
	if (resumed)
	{
		TimestampTz now = rom_now();

		plan->zone = rom_zone_find(plan->zone_name);
		plan->new_missed[ROM_MISSED_PAUSED] = rom_plan_count(plan, plan->after_at, now);
		plan->after_at = now;
		plan->failed_in_row = 0;
		plan->paused = false;
		rom_execute(&clear_paused, values, NULL, 0);
		rom_plan_save(plan, rom_runs_waiting(plan) > 0);
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(resumed);
}

/*
 * romancy.trigger_schedule(name) -> uuid
 *
 * Starts a run now, whatever lives and also of a paused schedule; its scheduled time is now. Errors: RM001 (the schedule, or its workflow),
 * 42501, RM004 in a workflow.
 */
Datum
romancy_trigger_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	pg_uuid_t  *id = palloc_object(pg_uuid_t);
	int32		namespace;
	RomPlan    *plan;
	RomEngine	engine;

	rom_context_refuse_handler("trigger_schedule");
	namespace = rom_namespace_current();
	rom_engine_begin(&engine);
	plan = lock_counted(namespace, name, role);
	if (plan == NULL)
		no_schedule(name);
	rom_plan_understand(plan);
	rom_runs_start_now(plan, rom_now(), id);
	rom_plan_save(plan, rom_runs_waiting(plan) > 0);
	rom_engine_end(&engine);
	PG_RETURN_UUID_P(id);
}

/*
 * romancy.backfill_schedule(name, from_time, to_time, overlap) -> bigint
 *
 * Starts runs for the schedule's times from from_time on and before to_time, but for those that have a run; overlap says what
 * happens while one lives. Returns how many were started or wait; the others are not counted as missed, and may be asked for
 * again. Errors: RM001, RM011 for more than 100,000 times, RM012 for a range that ends before it begins or in the future, 42501,
 * RM004 in a workflow.
 */
Datum
romancy_backfill_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	RomOverlap	overlap = rom_plan_overlap(rom_arg_text(fcinfo, 3, "overlap"));
	Oid			role = GetUserId();
	TimestampTz from;
	TimestampTz to;
	int64		n = 0;
	int64		times = 0;
	int32		namespace;
	RomPlan    *plan;
	RomEngine	engine;

	rom_context_refuse_handler("backfill_schedule");
	namespace = rom_namespace_current();
	if (!rom_arg_timestamp_opt(fcinfo, 1, "from_time", &from) || !rom_arg_timestamp_opt(fcinfo, 2, "to_time", &to))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("arguments \"from_time\" and \"to_time\" must not be null")));
	if (from > to)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"from_time\" must not be later than \"to_time\"")));
	if (to > rom_now())
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"to_time\" must not be in the future"),
				 errhint("The schedule runs the times from now on by itself.")));
	rom_engine_begin(&engine);
	plan = lock_counted(namespace, name, role);
	if (plan == NULL)
		no_schedule(name);
	rom_plan_understand(plan);
	for (TimestampTz time = rom_plan_next(plan, from - 1); time < to; time = rom_plan_next(plan, time))
	{
		if (++times > BACKFILL_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_LIMIT),
					 errmsg("schedule \"%s\" has more than %d times in this range", name, BACKFILL_MAX),
					 errhint("Nothing was started. Ask for a part of the range at a time.")));
		CHECK_FOR_INTERRUPTS();
	}
	for (TimestampTz time = rom_plan_next(plan, from - 1); time < to; time = rom_plan_next(plan, time))
	{
		RomOffer	offer = rom_runs_offer(plan, time, overlap);

		if (plan->error != NULL)
			rom_error_raise(plan->error);
		if (offer == ROM_OFFER_STARTED || offer == ROM_OFFER_WAITS)
			n++;
		else if (plan->new_missed[ROM_MISSED_QUEUE_FULL] > 0)
			break;				/* nor is there a place for the next */
		CHECK_FOR_INTERRUPTS();
	}
	/* the caller is told how many run, and may ask for the others again */
	plan->new_missed[ROM_MISSED_QUEUE_FULL] = 0;
	plan->new_missed[ROM_MISSED_OVERLAP] = 0;
	rom_plan_save(plan, rom_runs_waiting(plan) > 0);
	rom_engine_end(&engine);
	PG_RETURN_INT64(n);
}

/*
 * romancy.schedule_runs(name, n) -> setof (scheduled, started, status, error, duration, instance_id)
 *
 * The n latest runs, by their time, latest first. n may be null: 20. Errors: RM001, also for another role's schedule; 22023 for an n below
 * zero; RM004 in a workflow.
 */
Datum
romancy_schedule_runs(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	int32		n = rom_arg_int32_opt(fcinfo, 1, 20);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			role = GetUserId();
	Datum		values[4];
	bool		isnull;
	uint64		rows;
	RomEngine	engine;
	RomRowSet	set;

	rom_context_refuse_handler("schedule_runs");
	if (n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"n\" must not be negative")));
	values[0] = Int32GetDatum(rom_namespace_current());
	values[1] = CStringGetTextDatum(name);
	values[2] = Int32GetDatum(n);
	InitMaterializedSRF(fcinfo, 0);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_owner, values, NULL, 1) == 0 ||
		!rom_instance_may_access(rom_value_text(&set, 0, 1, CurrentMemoryContext), role, false))
		no_schedule(name);
	values[3] = rom_value(&set, 0, 2, &isnull);
	rows = rom_execute_rows(&set, &select_runs, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		Datum		columns[6];
		bool		nulls[6];

		for (int c = 0; c < 6; c++)
			columns[c] = rom_value(&set, i, c + 1, &nulls[c]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, columns, nulls);
	}
	rom_engine_end(&engine);
	PG_RETURN_NULL();
}

/* romancy.scheduled_at() -> timestamptz: the time that the running instance is a schedule's run for; null in others. RM004 outside of one. */
Datum
romancy_scheduled_at(PG_FUNCTION_ARGS)
{
	const RomRunning *running = rom_context_get("scheduled_at");
	Datum		values[1] = {UUIDPGetDatum(&running->id)};
	Datum		result = (Datum) 0;
	bool		isnull = true;
	RomEngine	engine;
	RomRowSet	set;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_scheduled_at, values, NULL, 1) > 0)
		result = rom_value(&set, 0, 1, &isnull);
	rom_engine_end(&engine);
	if (isnull)
		PG_RETURN_NULL();
	return result;
}
