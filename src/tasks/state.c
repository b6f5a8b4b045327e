/*-------------------------------------------------------------------------
 *
 * state.c
 *		Every statement that changes the state of a task.
 *
 * state.h has the list of transitions. The consequences of a change (wake-ups,
 * counts, the result for the instance) are left to the caller: task.c, queue.c,
 * lease.c, park.c, execute.c, and outside/.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "instances/document.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "tasks/state.h"

/* optional_text and its kin set a parameter that may be null. */
static void
optional_text(Datum *values, bool *nulls, int i, const char *value)
{
	nulls[i] = value == NULL;
	values[i] = value ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
optional_jsonb(Datum *values, bool *nulls, int i, Jsonb *value)
{
	nulls[i] = value == NULL;
	values[i] = PointerGetDatum(value);
}

static void
optional_us(Datum *values, bool *nulls, int i, int64 value)
{
	nulls[i] = value <= 0;
	values[i] = Int64GetDatum(value);
}

/* The table of rom_state_insert(). */
static RomTable inserted = {
	"t_task", 21, {
		"task_id", "instance_id", "created_at", "due_at", "close_us", "beat_us", "def_id",
		"priority", "kind", "queue", "owner", "activity", "step", "limit_key", "input", "retry",
		"next", "state", "attempt", "held_at", "document"
	}
};

RomTable *
rom_state_inserted(void)
{
	return &inserted;
}

void
rom_state_insert(const RomTask *task, TimestampTz start_by)
{
	Datum		values[21];
	bool		nulls[21] = {0};
	pg_uuid_t	document;

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = UUIDPGetDatum(&task->instance_id);
	values[2] = TimestampTzGetDatum(rom_now());
	values[3] = TimestampTzGetDatum(start_by);
	nulls[3] = start_by == DT_NOEND;
	optional_us(values, nulls, 4, task->close_us);
	optional_us(values, nulls, 5, task->beat_us);
	values[6] = Int32GetDatum(task->def_id);
	values[7] = Int32GetDatum(task->priority);
	values[8] = Int16GetDatum(task->kind);
	values[9] = CStringGetTextDatum(task->queue);
	values[10] = CStringGetTextDatum(task->owner);
	values[11] = CStringGetTextDatum(task->activity);
	values[12] = CStringGetTextDatum(task->step);
	optional_text(values, nulls, 13, task->limit_key);
	rom_document_columns(&task->instance_id, task->input, &document, values, nulls, 14, 20);
	optional_jsonb(values, nulls, 15, task->retry);
	optional_jsonb(values, nulls, 16, task->next);
	values[17] = Int16GetDatum(task->state);
	values[18] = Int32GetDatum(0);

	/*
	 * the mark by which a pause's end tells it from one that has to begin by
	 * then (park.c)
	 */
	values[19] = TimestampTzGetDatum(rom_now());
	nulls[19] = task->delay_us <= 0;
	rom_table_insert(&inserted, values, nulls);
}

TM_Result
rom_state_claim(RomRows *rows, const RomTask *task, const char *worker_id, bool sends, TimestampTz now)
{
	static RomTable columns = {
		"t_task", 11, {
			"state", "attempt", "started_at", "claimed_at", "beat_at", "fence", "lease_us",
			"worker_id", "due_at", "limit_key", "callback"
		}, true, true
	};
	Datum		values[11];
	bool		nulls[11] = {0};
	TM_Result	result;

	values[0] = Int16GetDatum(ROM_TASK_RUNNING);
	values[1] = Int32GetDatum(task->attempt);
	values[2] = TimestampTzGetDatum(task->started_at);
	values[3] = values[4] = TimestampTzGetDatum(now);
	values[5] = Int64GetDatum(task->fence);
	values[6] = Int64GetDatum(task->lease_us);
	values[7] = CStringGetTextDatum(worker_id);
	values[8] = TimestampTzGetDatum(task->due_at);
	optional_text(values, nulls, 9, task->limit_key);
	values[10] = BoolGetDatum(false);
	nulls[10] = !sends;
	result = rom_table_update(&columns, rows->slot, values, nulls, rows->snapshot, false);
	/* locked: by this transaction, or by others */
	if (result == TM_BeingModified && rom_rows_try_lock(rows))
		result = rom_table_update(&columns, rows->slot, values, nulls, rows->snapshot, true);
	return result;
}

bool
rom_state_promote(const char *queue, TimestampTz now)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_READY ", due_at = NULL WHERE task_id = ANY (ARRAY"
		"(SELECT task_id FROM romancy.t_task WHERE due_at <= $2 AND due_at IS NOT NULL"
		" AND state = " ROM_SQL_TASK_WAITING " AND queue = $1"
		" ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED))",
		2, {TEXTOID, TIMESTAMPTZOID}, NULL, true
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(queue);
	values[1] = TimestampTzGetDatum(now);
	return rom_execute(&update, values, NULL, 0) > 0;
}

void
rom_state_ready(const pg_uuid_t *id)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_READY ", due_at = NULL WHERE task_id = $1",
		1, {UUIDOID}
	};
	Datum		values[1];

	values[0] = UUIDPGetDatum(id);
	rom_execute(&update, values, NULL, 0);
}

void
rom_state_hold(const RomTask *task)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_READY ","
		" due_at = CASE WHEN state = " ROM_SQL_TASK_READY " THEN due_at END,"
		" held_at = $2, held_until = $3 WHERE task_id = $1",
		3, {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[3];

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = TimestampTzGetDatum(task->held_at);
	values[2] = TimestampTzGetDatum(task->held_until);
	rom_execute(&update, values, NULL, 0);
}

void
rom_state_announce(const RomTask *task)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET fence = $2, due_at = CASE WHEN state <> " ROM_SQL_TASK_READY " THEN due_at END WHERE task_id = $1",
		2, {UUIDOID, INT8OID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = Int64GetDatum(task->fence);
	rom_execute(&update, values, NULL, 0);
}

/* The statement that parks tasks: those that "which" finds, of $1. */
#define PARK_SQL(which) \
	"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_PARKED " WHERE task_id IN (SELECT task_id FROM romancy.t_task" \
	" WHERE " which " AND state IN (" ROM_SQL_TASK_READY ", " ROM_SQL_TASK_WAITING ") FOR UPDATE SKIP LOCKED)"

void
rom_state_park(const pg_uuid_t *instance_id)
{
	static RomStatement update = {PARK_SQL("instance_id = $1"), 1, {UUIDOID}};
	Datum		values[1];

	values[0] = UUIDPGetDatum(instance_id);
	rom_execute(&update, values, NULL, 0);
}

void
rom_state_park_one(const pg_uuid_t *id)
{
	static RomStatement update = {PARK_SQL("task_id = $1"), 1, {UUIDOID}};
	Datum		values[1];

	values[0] = UUIDPGetDatum(id);
	rom_execute(&update, values, NULL, 0);
}

RomTask *
rom_state_unpark(const pg_uuid_t *instance_id, int *n)
{
	/* a time by which a task has to begin is no time to wait for */
	static RomStatement update = {
		"UPDATE romancy.t_task t SET state = CASE WHEN (t.attempt > 0 OR t.held_at IS NOT NULL) AND t.due_at IS NOT NULL"
		" THEN " ROM_SQL_TASK_WAITING " ELSE " ROM_SQL_TASK_READY " END"
		" WHERE t.task_id IN (SELECT p.task_id FROM romancy.t_task p WHERE p.instance_id = $1 AND p.state = " ROM_SQL_TASK_PARKED " FOR UPDATE SKIP LOCKED)"
		" RETURNING t.task_id, t.queue, t.priority, t.state, t.due_at",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	RomTask    *tasks;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(instance_id);
	rows = rom_execute_rows(&set, &update, values, NULL, 0);
	tasks = MemoryContextAllocHuge(cxt, (rows + 1) * sizeof(RomTask));
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		due;

		tasks[i].id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		tasks[i].queue = rom_value_text(&set, i, 2, cxt);
		tasks[i].priority = DatumGetInt32(rom_value(&set, i, 3, &isnull));
		tasks[i].state = DatumGetInt16(rom_value(&set, i, 4, &isnull));
		due = rom_value(&set, i, 5, &isnull);
		tasks[i].due_at = isnull ? DT_NOEND : DatumGetTimestampTz(due);
	}
	*n = (int) rows;
	return tasks;
}

RomTask *
rom_state_leave(const pg_uuid_t *instance_id, int *n)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_LEFT ", due_at = CASE WHEN callback THEN '-infinity' ELSE due_at END"
		" WHERE task_id IN (SELECT task_id FROM romancy.t_task WHERE instance_id = $1"
		" AND state = " ROM_SQL_TASK_RUNNING " AND queue <> '' AND kind <> " ROM_SQL_TASK_WORKFLOW " FOR UPDATE SKIP LOCKED)"
		" RETURNING queue, activity, limit_key, callback",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	RomRowSet	set;
	uint64		rows;
	RomTask    *tasks;
	bool		callback;
	bool		isnull;

	values[0] = UUIDPGetDatum(instance_id);
	rows = rom_execute_rows(&set, &update, values, NULL, 0);
	tasks = MemoryContextAllocHuge(cxt, (rows + 1) * sizeof(RomTask));
	for (uint64 i = 0; i < rows; i++)
	{
		memset(&tasks[i], 0, sizeof(RomTask));
		tasks[i].kind = ROM_TASK_ACTIVITY;
		tasks[i].queue = rom_value_text(&set, i, 1, cxt);
		tasks[i].activity = rom_value_text(&set, i, 2, cxt);
		tasks[i].limit_key = rom_value_text(&set, i, 3, cxt);
		/* its lease may be without end */
		callback = DatumGetBool(rom_value(&set, i, 4, &isnull));
		tasks[i].sent = !isnull && !callback;
		if (!isnull && callback)
			rom_wake_sweep(rom_sweep_find("lock_cleanup"), rom_now());
	}
	*n = (int) rows;
	return tasks;
}

bool
rom_state_has(const pg_uuid_t *instance_id, RomTaskState state)
{
	static RomStatement find = {
		"SELECT 1 FROM romancy.t_task WHERE instance_id = $1 AND state = $2"
		" AND (state <> " ROM_SQL_TASK_RUNNING " OR kind <> " ROM_SQL_TASK_WORKFLOW ")",
		2, {UUIDOID, INT2OID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(instance_id);
	values[1] = Int16GetDatum(state);
	return rom_execute(&find, values, NULL, 1) > 0;
}

void
rom_state_release(const RomTask *task)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = $2, attempt = attempt - 1, due_at = NULL, fence = NULL, claimed_at = NULL,"
		" beat_at = NULL, worker_id = NULL, callback = NULL, started_at = CASE WHEN attempt > 1 THEN started_at END WHERE task_id = $1",
		2, {UUIDOID, INT2OID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = Int16GetDatum(task->state);
	rom_execute(&update, values, NULL, 0);
}

void
rom_state_fail(const RomTask *task, TimestampTz due, int32 attempt, TimestampTz started, Jsonb *errors)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = $2, due_at = $3, attempt = $4, started_at = $5, errors = $6,"
		" fence = $7, claimed_at = NULL, worker_id = NULL, callback = NULL, held_at = NULL, held_until = NULL WHERE task_id = $1",
		7, {UUIDOID, INT2OID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID, JSONBOID, INT8OID}
	};
	Datum		values[7];
	bool		nulls[7] = {0};

	values[0] = UUIDPGetDatum(&task->id);
	values[1] = Int16GetDatum(task->state);
	values[2] = TimestampTzGetDatum(due);
	nulls[2] = due == DT_NOEND;
	values[3] = Int32GetDatum(attempt);
	values[4] = TimestampTzGetDatum(started);
	nulls[4] = started == 0;
	values[5] = PointerGetDatum(errors);
	values[6] = Int64GetDatum(task->fence);
	nulls[6] = task->fence == 0 || task->queue[0] != '\0' || task->state == ROM_TASK_DEAD;
	rom_execute(&update, values, nulls, 0);
}

void
rom_state_command(const RomTask *task, Jsonb *command)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_COMMAND ", input = $2, document = $3, fence = NULL, due_at = NULL WHERE task_id = $1",
		3, {UUIDOID, JSONBOID, UUIDOID}
	};
	Datum		values[3];
	bool		nulls[3] = {0};
	pg_uuid_t	document;

	values[0] = UUIDPGetDatum(&task->id);
	rom_document_columns(&task->instance_id, command, &document, values, nulls, 1, 2);
	rom_execute(&update, values, nulls, 0);
}

bool
rom_state_carried_out(const pg_uuid_t *id, int32 *priority)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = " ROM_SQL_TASK_READY ", due_at = NULL, input = NULL, document = NULL, errors = NULL"
		" WHERE task_id = $1 AND state = " ROM_SQL_TASK_COMMAND " RETURNING priority",
		1, {UUIDOID}
	};
	Datum		values[1];
	bool		isnull;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(id);
	if (rom_execute_rows(&set, &update, values, NULL, 0) == 0)
		return false;
	*priority = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	return true;
}
