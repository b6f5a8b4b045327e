/*-------------------------------------------------------------------------
 *
 * runs.c
 *		Runs of schedules.
 *
 *		waiting --rom_runs_start_waiting--> live --run_ended--> ended (ends.c)
 *		                                      ^---run_renewed---'
 *
 * A run is an instance with the idempotency key schedule:{name}:{time}, and a row in
 * t_schedule_run, which is written in the same transaction: so a time runs once, whatever dies.
 * The row is deleted with the instance. Later generations of a run (recur) are found by the mailbox,
 * which is the first one's id.
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
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/table.h"
#include "defs/namespace.h"
#include "instances/inbox.h"
#include "instances/instance.h"
#include "instances/start.h"
#include "memory/wake.h"
#include "run/guc.h"
#include "schedules/runs.h"

/* When a run is tried again of which another transaction has the idempotency key. */
#define HELD_AGAIN USECS_PER_SEC

/* The first values of statements about a schedule's runs: those of one of its name that was dropped are not its. */
#define PLAN_KEY(plan) Int32GetDatum((plan)->namespace), CStringGetTextDatum((plan)->name), TimestampTzGetDatum((plan)->created_at)

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
	"SELECT 1 FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.scheduled_at = $4",
	4, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static RomStatement delete_run = {
	"DELETE FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.scheduled_at = $4",
	4, {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

/* A run's row says that it lives; its instance has the last word. */
#define LIVE_SQL \
	"(EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = r.instance_id AND i.wake_at IS NOT NULL)" \
	" OR EXISTS (SELECT FROM romancy.t_instance i WHERE i.mailbox = r.instance_id AND i.status <> 'recurred'" \
	"  AND i.wake_at IS NOT NULL))"

static RomStatement select_live = {
	"SELECT 1 FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.state = " ROM_SQL_RUN_LIVE " AND r.state < " ROM_SQL_RUN_ENDED " AND " LIVE_SQL
	" LIMIT 1",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

/* The live generations of its live runs. */
static RomStatement select_generations = {
	"SELECT i.instance_id, i.owner, i.priority FROM romancy.t_schedule_run r,"
	" LATERAL (SELECT i.instance_id, i.owner, i.priority, i.wake_at FROM romancy.t_instance i WHERE i.instance_id = r.instance_id"
	"  UNION ALL SELECT i.instance_id, i.owner, i.priority, i.wake_at FROM romancy.t_instance i"
	"  WHERE i.mailbox = r.instance_id AND i.status <> 'recurred') i"
	" WHERE r." ROM_SQL_RUNS_OF " AND r.state = " ROM_SQL_RUN_LIVE " AND r.state < " ROM_SQL_RUN_ENDED " AND i.wake_at IS NOT NULL",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

static RomStatement select_waiting = {
	"SELECT r.scheduled_at FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED
	" ORDER BY r.scheduled_at",
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

static RomStatement delete_waiting = {
	"DELETE FROM romancy.t_schedule_run r WHERE r." ROM_SQL_RUNS_OF " AND r.state = " ROM_SQL_RUN_WAITING " AND r.state < " ROM_SQL_RUN_ENDED,
	3, {INT4OID, TEXTOID, TIMESTAMPTZOID}
};

/* Is the instance that has the key of a time the run for it? Of a schedule of that name which was dropped, then. */
static RomStatement select_its_run = {
	"SELECT 1 FROM romancy.t_instance i WHERE i.instance_id = $1 AND i.scheduled_at = $2", 2, {UUIDOID, TIMESTAMPTZOID}
};

/* The row of a run that was found to be the schedule's only one (quiet). */
static RomTable run_table = {
	"t_schedule_run", 6, {"namespace", "schedule", "created_at", "scheduled_at", "instance_id", "state"}
};

/* Subqueries, so that each schedule is looked up in the indexes. */
static RomStatement select_quiet = {
	"SELECT (SELECT 1 FROM romancy.t_schedule_run r WHERE r.namespace = u.namespace AND r.schedule = u.schedule AND r.created_at = u.created_at"
	"  AND r.state < " ROM_SQL_RUN_ENDED " LIMIT 1) IS NULL"
	" AND (SELECT 1 FROM romancy.t_schedule_run r WHERE r.namespace = u.namespace AND r.schedule = u.schedule AND r.created_at = u.created_at"
	"  AND r.scheduled_at > u.after_at LIMIT 1) IS NULL"
	" FROM unnest($1, $2, $3, $4) WITH ORDINALITY u (namespace, schedule, created_at, after_at, n) ORDER BY u.n",
	4, {INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}
};

/* The schedule of the batch whose workflow was resolved last, or NULL. */
static const RomPlan *resolved = NULL;

void
rom_runs_look(RomPlan **plans, int n)
{
	Datum	   *columns[4];
	Datum		arrays[4];
	RomRowSet	set;

	resolved = NULL;
	if (n == 0)
		return;
	for (int c = 0; c < 4; c++)
		columns[c] = palloc_array(Datum, n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = Int32GetDatum(plans[i]->namespace);
		columns[1][i] = CStringGetTextDatum(plans[i]->name);
		columns[2][i] = TimestampTzGetDatum(plans[i]->created_at);
		columns[3][i] = TimestampTzGetDatum(plans[i]->after_at);
	}
	arrays[0] = PointerGetDatum(construct_array(columns[0], n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	arrays[1] = PointerGetDatum(construct_array(columns[1], n, TEXTOID, -1, false, TYPALIGN_INT));
	for (int c = 2; c < 4; c++)
		arrays[c] = PointerGetDatum(construct_array(columns[c], n, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (rom_execute_rows(&set, &select_quiet, arrays, NULL, 0) != n)
		elog(ERROR, "unexpected number of schedules");
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		plans[i]->quiet = DatumGetBool(rom_value(&set, i, 1, &isnull));
	}
	rom_execute_free(&set);
}

/* is_live: does a run of the schedule, or a later generation of it, live? */
static bool
is_live(const RomPlan *plan)
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

/* Does resolve() for this schedule what it did without an error for the one before, in the same batch? */
static bool
is_resolved(const RomPlan *plan)
{
	return plan->quiet && resolved != NULL && resolved->namespace == plan->namespace &&
		strcmp(resolved->owner, plan->owner) == 0 && strcmp(resolved->workflow, plan->workflow) == 0 &&
		strcmp(resolved->search_path, plan->search_path) == 0 &&
		rom_arg_payload_fits(plan->input) && rom_arg_payload_fits(plan->labels);
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

	if (is_resolved(plan))
		return resolve(plan);
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
	if (workflow != NULL && plan->quiet)
		resolved = plan;
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
	if ((plan->nowait || plan->quiet) && rom_start_would_wait(&start, &start.key_is_free) && plan->nowait)
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
	if (plan->quiet)
	{
		Datum		row[6] = {PLAN_KEY(plan), TimestampTzGetDatum(time), UUIDPGetDatum(id), Int16GetDatum(ROM_RUN_LIVE)};
		bool		nulls[6] = {false};

		rom_table_insert(&run_table, row, nulls);
		plan->quiet = false;
	}
	else
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
	if (!plan->quiet && has_run(plan, time))
		return ROM_OFFER_THERE;
	if (plan->quiet || overlap == ROM_OVERLAP_ALLOW || (rom_runs_waiting(plan) == 0 && !is_live(plan)))
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

	while (!plan->quiet && plan->pause_note == NULL && !is_live(plan))
	{
		bool		isnull;

		if (rom_execute_rows(&set, &select_waiting, values, NULL, 1) == 0)
			return;
		if (try_start(plan, DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull))) == ROM_OFFER_HELD)
			return;
	}
}
