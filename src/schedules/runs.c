/*-------------------------------------------------------------------------
 *
 * runs.c
 *		Runs of schedules.
 *
 *		waiting --rom_runs_start_waiting--> live --run_ended--> ended
 *		                                      ^---run_renewed---'
 *
 * A run is an instance with the idempotency key schedule:{name}:{time}, and a row in
 * t_schedule_run, which is written in the same transaction: so a time runs once, whatever dies.
 * The row is deleted with the instance. Later generations of a run (recur) are found by the mailbox,
 * which is the first one's id.
 *
 * The end of a run waits for no other transaction: where another transaction holds the schedule, a session's that edits it or the end of another
 * run, it adds a row to t_schedule_end, and the sweep counts it when the schedule is free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "defs/namespace.h"
#include "instances/delete.h"
#include "instances/inbox.h"
#include "instances/start.h"
#include "memory/wake.h"
#include "run/guc.h"
#include "schedules/runs.h"
#include "turn/hooks.h"

/* Runs of a schedule that are counted at a time, when another transaction held it at their ends. */
#define COUNT_MAX 100

/* When a run is tried again of which another transaction has the idempotency key. */
#define HELD_AGAIN USECS_PER_SEC

/* The first values of statements about a schedule's runs: those of one of its name that was dropped are not its. */
#define PLAN_KEY(plan) Int32GetDatum((plan)->namespace), CStringGetTextDatum((plan)->name), TimestampTzGetDatum((plan)->created_at)
#define OF_PLAN_SQL "namespace = $1 AND r.schedule = $2 AND r.created_at = $3"

static RomStatement insert_waiting = {
	"INSERT INTO romancy.t_schedule_run (namespace, schedule, created_at, scheduled_at, state) VALUES ($1, $2, $3, $4, " ROM_SQL_RUN_WAITING ")",
	4, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/* One that waited has its row already. */
static RomStatement insert_live = {
	"INSERT INTO romancy.t_schedule_run (namespace, schedule, created_at, scheduled_at, instance_id, state) VALUES ($1, $2, $3, $4, $5, " ROM_SQL_RUN_LIVE ")"
	" ON CONFLICT (namespace, schedule, created_at, scheduled_at) DO UPDATE SET instance_id = excluded.instance_id, state = excluded.state",
	5, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID}
};

static RomStatement select_run = {
	"SELECT 1 FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.scheduled_at = $4",
	4, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static RomStatement delete_run = {
	"DELETE FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.scheduled_at = $4",
	4, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/* A run's row says that it lives; its instance has the last word. */
#define LIVE_SQL \
	"(EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = r.instance_id AND i.wake_at IS NOT NULL)" \
	" OR EXISTS (SELECT FROM romancy.t_instance i WHERE i.mailbox = r.instance_id AND i.status <> 'recurred'" \
	"  AND i.wake_at IS NOT NULL))"

static RomStatement select_live = {
	"SELECT 1 FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.state = " ROM_SQL_RUN_LIVE " AND r.state < " ROM_SQL_RUN_ENDED " AND " LIVE_SQL
	" LIMIT 1",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

/* The live generations of its live runs. */
static RomStatement select_generations = {
	"SELECT i.instance_id, i.owner, i.priority FROM romancy.t_schedule_run r,"
	" LATERAL (SELECT i.instance_id, i.owner, i.priority, i.wake_at FROM romancy.t_instance i WHERE i.instance_id = r.instance_id"
	"  UNION ALL SELECT i.instance_id, i.owner, i.priority, i.wake_at FROM romancy.t_instance i"
	"  WHERE i.mailbox = r.instance_id AND i.status <> 'recurred') i"
	" WHERE r." OF_PLAN_SQL " AND r.state = " ROM_SQL_RUN_LIVE " AND r.state < " ROM_SQL_RUN_ENDED " AND i.wake_at IS NOT NULL",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

static RomStatement select_waiting = {
	"SELECT r.scheduled_at FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED
	" ORDER BY r.scheduled_at",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

static RomStatement delete_waiting = {
	"DELETE FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED,
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

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
	"DELETE FROM romancy.t_schedule_end e"
	" WHERE NOT EXISTS (SELECT FROM romancy.t_schedule s WHERE s.namespace = e.namespace AND s.name = e.schedule)",
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
	"  WHEN EXISTS (SELECT FROM romancy.t_schedule_run r WHERE r." OF_PLAN_SQL " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED ")"
	"  THEN '-infinity' ELSE s.due_at END"
	" FROM (SELECT x.namespace, x.name, $5 > 0 AND x.paused_at IS NULL AND x.failed_in_row + 1 >= x.pause_on_failure IS TRUE AS pauses"
	"  FROM romancy.t_schedule x WHERE x.namespace = $1 AND x.name = $2 AND x.created_at = $3) p"
	" WHERE s.namespace = p.namespace AND s.name = p.name RETURNING s.due_at",
	7, {INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

/* Is the instance that has the key of a time the run for it? Of a schedule of that name which was dropped, then. */
static RomStatement select_its_run = {
	"SELECT 1 FROM romancy.t_instance i WHERE i.instance_id = $1 AND i.scheduled_at = $2", 2, {UUIDOID, TIMESTAMPTZOID}
};

/* A first generation may be deleted while a later one lives. */
static RomStatement delete_runs = {
	"DELETE FROM romancy.t_schedule_run r USING romancy.t_instance i WHERE i.instance_id = ANY ($1)"
	" AND r.instance_id = coalesce(i.mailbox, i.instance_id) AND i.status <> 'recurred'",
	1, {UUIDARRAYOID}
};

bool
rom_runs_live(const RomPlan *plan)
{
	Datum		values[3] = {PLAN_KEY(plan)};

	return rom_execute(&select_live, values, NULL, 1) > 0;
}

int
rom_runs_waiting(const RomPlan *plan)
{
	Datum		values[3] = {PLAN_KEY(plan)};
	RomRowSet	set;
	int			n = (int) rom_execute_rows(&set, &select_waiting, values, NULL, 0);

	rom_execute_free(&set);
	return n;
}

void
rom_runs_drop_waiting(const RomPlan *plan)
{
	Datum		values[3] = {PLAN_KEY(plan)};

	rom_execute(&delete_waiting, values, NULL, 0);
}

/* The role that a schedule's runs run as. */
static Oid
owner_oid(const RomPlan *plan)
{
	Oid			owner = get_role_oid(plan->owner, true);

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", plan->owner),
				 errdetail("It owns the schedule \"%s\".", plan->name),
				 errhint("Drop the schedule, and define it again as another role.")));
	return owner;
}

/* Raises the error for an owner from whom the right to use romancy was taken: nothing starts on its behalf any more. */
static void
check_usage(Oid owner)
{
	if (rom_namespace_aclcheck(get_namespace_oid("romancy", false), owner, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not use romancy", GetUserNameFromId(owner, false)),
				 errhint("Use romancy.grant_usage, or drop the schedule.")));
}

/* Resolves the workflow's name as the schedule's owner, now. No code of users runs. */
static RomWorkflow *
resolve(const RomPlan *plan)
{
	Oid			owner = owner_oid(plan);
	RomWorkflow *workflow;
	Oid			userid;
	int			sec_context;

	rom_arg_check_payload(plan->input, "input");
	rom_arg_check_payload(plan->labels, "labels");
	check_usage(owner);
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	workflow = rom_definition_resolve_in(plan->namespace, plan->workflow, 0, plan->search_path);
	rom_namespace_check_owner(plan->namespace, owner);
	SetUserIdAndSecContext(userid, sec_context);
	return workflow;
}

bool
rom_runs_passes(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TRANSACTION_ROLLBACK || category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_SYSTEM_ERROR ||
		category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

/*
 * The same, where an error is no reason to give up what else the transaction does: NULL, and it is in
 * *error. The subtransaction has no transaction id, unless the name is resolved for the first time.
 */
static RomWorkflow *
try_resolve(const RomPlan *plan, Jsonb **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomWorkflow *volatile workflow = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		workflow = resolve(plan);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (rom_runs_passes(edata->sqlerrcode))
			ReThrowError(edata);
		*error = rom_error_to_jsonb(edata);
		if (rom_guc_log_failures)
			ereport(LOG,
					(errcode(edata->sqlerrcode),
					 errmsg("schedule \"%s\" could not start workflow \"%s\": %s", plan->name, plan->workflow, edata->message)));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	return workflow;
}

/* Removes the row of a run that waited, and is not started. */
static void
remove_waiting(const RomPlan *plan, TimestampTz time)
{
	Datum		values[4] = {PLAN_KEY(plan), TimestampTzGetDatum(time)};

	rom_execute(&delete_run, values, NULL, 0);
}

/* The labels of a run: the schedule's own, with its name and the time. */
static Jsonb *
run_labels(const RomPlan *plan, const char *time)
{
	RomJb		jb;
	Jsonb	   *labels = plan->labels;

	if (labels == NULL)
	{
		rom_jb_begin(&jb);
		labels = rom_jb_end(&jb);
	}
	labels = rom_jb_with(labels, "schedule", rom_jb_string_document(plan->name));
	return rom_jb_with(labels, "scheduled_at", rom_jb_string_document(time));
}

/*
 * Starts the run for a time that has none, or whose run waits. Counts the time as missed where another instance has its key, unless that was
 * the run for it before the schedule was dropped and defined anew.
 */
static RomOffer
start_run(RomPlan *plan, TimestampTz time, RomWorkflow *workflow, pg_uuid_t *id)
{
	char	   *text = rom_plan_time_text(time);
	Datum		values[5] = {PLAN_KEY(plan), TimestampTzGetDatum(time), UUIDPGetDatum(id)};
	RomStart	start = {0};

	start.workflow = workflow;
	start.name = plan->workflow;
	start.owner = owner_oid(plan);
	start.input = plan->input;
	start.idempotency_key = psprintf("schedule:%s:%s", plan->name, text);
	start.labels = run_labels(plan, text);
	start.flags = ROM_IS_SCHEDULED;
	start.has_scheduled_at = true;
	start.scheduled_at = time;
	if (plan->nowait && rom_start_would_wait(&start))
	{
		plan->again_at = rom_now() + HELD_AGAIN;
		return ROM_OFFER_HELD;
	}
	if (!rom_start_instance(&start, id))
	{
		Datum		run[2] = {UUIDPGetDatum(id), TimestampTzGetDatum(time)};

		remove_waiting(plan, time);
		if (rom_execute(&select_its_run, run, NULL, 1) > 0)
			return ROM_OFFER_THERE;
		plan->new_missed[ROM_MISSED_KEY_TAKEN]++;
		return ROM_OFFER_MISSED;
	}
	rom_execute(&insert_live, values, NULL, 0);
	plan->new_runs++;
	plan->last_at = time;
	plan->last_run = *id;
	return ROM_OFFER_STARTED;
}

/* The same, where what the schedule starts is resolved first: starts the run, or counts why not. */
static RomOffer
try_start(RomPlan *plan, TimestampTz time)
{
	Jsonb	   *error = NULL;
	RomWorkflow *workflow = try_resolve(plan, &error);
	pg_uuid_t	id;

	if (workflow != NULL)
		return start_run(plan, time, workflow, &id);
	remove_waiting(plan, time);
	plan->error = error;
	plan->new_missed[ROM_MISSED_ERROR]++;
	plan->failed_in_row++;
	if (plan->pause_on_failure > 0 && plan->failed_in_row >= plan->pause_on_failure && !plan->paused)
		plan->pause_note = psprintf("%d failed runs in a row", plan->failed_in_row);
	return ROM_OFFER_MISSED;
}

/* Does the time have a run? */
static bool
has_run(const RomPlan *plan, TimestampTz time)
{
	Datum		values[4] = {PLAN_KEY(plan), TimestampTzGetDatum(time)};

	return rom_execute(&select_run, values, NULL, 1) > 0;
}

/* Adds the row of a run that waits. The time has none. */
static void
add_waiting(const RomPlan *plan, TimestampTz time)
{
	Datum		values[4] = {PLAN_KEY(plan), TimestampTzGetDatum(time)};

	rom_execute(&insert_waiting, values, NULL, 0);
}

/* Asks what lives to end. */
static void
end_previous(const RomPlan *plan, TimestampTz time, RomInboxKind kind)
{
	Datum		values[3] = {PLAN_KEY(plan)};
	RomRowSet	set;
	int			n = (int) rom_execute_rows(&set, &select_generations, values, NULL, 0);
	RomJb		jb;
	Jsonb	   *detail;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "reason", psprintf("schedule \"%s\" starts the run for %s", plan->name, rom_plan_time_text(time)));
	rom_jb_text(&jb, "by", plan->owner);
	rom_jb_time(&jb, "at", rom_now());
	detail = rom_jb_end(&jb);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		pg_uuid_t	id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		Oid			owner = get_role_oid(rom_value_text(&set, i, 2, CurrentMemoryContext), true);
		int32		priority = DatumGetInt32(rom_value(&set, i, 3, &isnull));

		rom_inbox_insert(&id, kind, NULL, NULL, NULL, detail);
		if (OidIsValid(owner))
			rom_wake_ready(&id, owner, priority);
		rom_wake_cancel(&id);
	}
	rom_execute_free(&set);
}

/* The time waits, if fewer than the limit wait; else it is missed. */
static RomOffer
wait_for_previous(RomPlan *plan, TimestampTz time, int may_wait)
{
	if (rom_runs_waiting(plan) >= may_wait)
	{
		plan->new_missed[ROM_MISSED_QUEUE_FULL]++;
		return ROM_OFFER_MISSED;
	}
	add_waiting(plan, time);
	return ROM_OFFER_WAITS;
}

RomOffer
rom_runs_offer(RomPlan *plan, TimestampTz time, RomOverlap overlap)
{
	if (has_run(plan, time))
		return ROM_OFFER_THERE;
	if (overlap == ROM_OVERLAP_ALLOW || (rom_runs_waiting(plan) == 0 && !rom_runs_live(plan)))
		return try_start(plan, time);
	switch (overlap)
	{
		case ROM_OVERLAP_QUEUE:
			return wait_for_previous(plan, time, 1);
		case ROM_OVERLAP_QUEUE_ALL:
			return wait_for_previous(plan, time, ROM_RUNS_WAITING_MAX);
		case ROM_OVERLAP_CANCEL_PREVIOUS:
		case ROM_OVERLAP_TERMINATE_PREVIOUS:
			end_previous(plan, time, overlap == ROM_OVERLAP_CANCEL_PREVIOUS ? ROM_INBOX_CANCEL : ROM_INBOX_TERMINATE);
			plan->new_missed[ROM_MISSED_SUPERSEDED] += rom_runs_waiting(plan);
			rom_runs_drop_waiting(plan);
			add_waiting(plan, time);
			return ROM_OFFER_WAITS;
		default:
			plan->new_missed[ROM_MISSED_OVERLAP]++;
			return ROM_OFFER_MISSED;
	}
}

void
rom_runs_start_now(RomPlan *plan, TimestampTz time, pg_uuid_t *id)
{
	RomWorkflow *workflow = resolve(plan);

	while (has_run(plan, time))
		time++;					/* the clock was set back, or has stood still */
	if (start_run(plan, time, workflow, id) != ROM_OFFER_STARTED)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("schedule \"%s\" has a run for %s", plan->name, rom_plan_time_text(time))));
}

void
rom_runs_start_waiting(RomPlan *plan)
{
	Datum		values[3] = {PLAN_KEY(plan)};
	RomRowSet	set;

	while (plan->pause_note == NULL && !rom_runs_live(plan))
	{
		bool		isnull;

		if (rom_execute_rows(&set, &select_waiting, values, NULL, 1) == 0)
			return;
		if (try_start(plan, DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull))) == ROM_OFFER_HELD)
			return;
	}
}

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
rom_runs_count_ended(const char *owner, int limit)
{
	Datum		values[2] = {Int32GetDatum(limit)};
	bool		nulls[2] = {false, owner == NULL};
	RomRowSet	set;
	int			n;

	if (!rom_runs_uncounted())
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
rom_runs_count_ended_of(const RomPlan *plan)
{
	return count_of(Int32GetDatum(plan->namespace), CStringGetTextDatum(plan->name));
}

bool
rom_runs_uncounted(void)
{
	return rom_execute(&select_uncounted, NULL, NULL, 1) > 0;
}

static void
runs_deleted(Datum ids)
{
	rom_execute(&delete_runs, &ids, NULL, 0);
}

void
rom_runs_init(void)
{
	rom_hooks_on_end(ROM_IS_SCHEDULED, run_ended);
	rom_hooks_on_renew(run_renewed);
	rom_delete_on(runs_deleted);
}
