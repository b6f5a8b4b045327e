/*-------------------------------------------------------------------------
 *
 * task.c
 *		Tasks as rows: made, read, ended.
 *
 * The outcome of a task is a row in its instance's inbox and is written in the
 * transaction that deletes the task's row (or marks it dead). That transaction
 * holds the row's lock and has checked the fence, so it happens once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/inbox.h"
#include "instances/instance.h"
#include "memory/expect.h"
#include "memory/guc.h"
#include "memory/sweep.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "steps/attempt.h"
#include "steps/invoke.h"
#include "tasks/front.h"
#include "tasks/notify.h"
#include "tasks/running.h"
#include "tasks/task.h"
#include "turn/kinds.h"
#include "turn/turn.h"

static RomCanvasDeliver deliver_canvas = NULL;

void
rom_task_on_canvas(RomCanvasDeliver deliver)
{
	deliver_canvas = deliver;
}

bool
rom_task_id(const pg_uuid_t *id)
{
	return (id->data[6] & 0xf0) == 0x80;
}

/* interval_us is an interval in microseconds, 0 for none. */
static int64
interval_us(const Interval *interval)
{
	int64		us = 0;

	if (interval != NULL && !rom_arg_interval_usec(interval, &us))
		us = 0;
	return us;
}

void
rom_task_define(RomTask *task, RomActivity *activity, TimestampTz *start_by)
{
	int64		start_us = interval_us(activity->schedule_to_start_timeout);

	task->queue = activity->queue ? rom_notify_queue_stored(activity->namespace, activity->queue) : pstrdup("");
	task->close_us = interval_us(activity->start_to_close_timeout);
	task->beat_us = interval_us(activity->heartbeat_timeout);
	*start_by = start_us > 0 ? rom_now() + start_us : DT_NOEND;
}

/* A task whose row is gathered, and that is announced when that is written. */
typedef struct Unwritten
{
	pg_uuid_t	id;
	char	   *queue;
	Oid			owner;
	int32		priority;
	RomTaskState state;
	bool		is_short;
	TimestampTz start_by;
} Unwritten;

/* Of the gathering under way: rom_table_gathers(). */
static Unwritten *unwritten = NULL;
static int	nunwritten = 0;
static MemoryContext unwritten_cxt = NULL;

/* announce notes the wake-ups of a task that was just inserted. before: one that was announced with it, or NULL. */
static void
announce(const Unwritten *task, const Unwritten *before)
{
	if (task->state == ROM_TASK_PARKED)
		return;
	if (task->state == ROM_TASK_WAITING)
	{
		rom_wake_at(&task->id, task->owner, task->priority, task->start_by);
		return;
	}
	if (task->queue[0] != '\0')
	{
		/* a mark that is at the one before is before this one, too */
		if (before == NULL || before->state != ROM_TASK_READY || before->priority != task->priority ||
			strcmp(before->queue, task->queue) != 0 || memcmp(&before->id, &task->id, sizeof(pg_uuid_t)) > 0)
			rom_front_lower(task->queue, task->priority, &task->id);
		rom_notify_ready(task->queue);
	}
	else if (task->is_short)
		rom_wake_ready(&task->id, task->owner, task->priority);
	else
		rom_wake_unknown(&task->id, task->owner, task->priority);
	if (task->start_by != DT_NOEND)
		rom_wake_sweep(rom_sweep_find("activity_timeouts"), task->start_by);
}

/* write_gathered writes the rows that were gathered, and then announces their tasks: a mark that is lowered before the entry is there may pass it by. */
static void
write_gathered(void)
{
	rom_table_write(rom_state_inserted());
	for (int i = 0; i < nunwritten; i++)
		announce(&unwritten[i], i > 0 ? &unwritten[i - 1] : NULL);
	nunwritten = 0;
}

bool
rom_task_gather(void)
{
	if (!rom_table_gather(rom_state_inserted()))
		return false;
	unwritten_cxt = CurrentMemoryContext;
	unwritten = palloc_array(Unwritten, ROM_TABLE_GATHERED);
	nunwritten = 0;
	return true;
}

void
rom_task_gather_end(void)
{
	write_gathered();
	rom_table_gather_end(rom_state_inserted());
	pfree(unwritten);
	unwritten = NULL;
}

void
rom_task_expect(RomTurn *turn, const RomActivity *activity, const char *name, int n)
{
	if (activity == NULL || activity->queue != NULL || rom_invoke_short_task(turn->inst->namespace, name))
		return;
	turn->eval.spawned += Min(n, rom_guc_executors);
	rom_expect(turn->eval.spawned);
}

void
rom_task_insert(RomTask *task, Oid owner, TimestampTz start_by)
{
	bool		delayed = task->delay_us > 0;
	Unwritten	new;

	if (delayed)
	{
		start_by = rom_now() + task->delay_us;
		if (task->state == ROM_TASK_READY)
			task->state = ROM_TASK_WAITING;
	}

	rom_uuid_v7(&task->id);
	task->id.data[6] = 0x80 | (task->id.data[6] & 0x0f);
	rom_state_insert(task, start_by);
	new.id = task->id;
	new.queue = task->queue;
	new.owner = owner;
	new.priority = task->priority;
	new.state = task->state;
	new.is_short = task->is_short;
	new.start_by = start_by;
	if (!rom_table_gathers(rom_state_inserted()))
	{
		announce(&new, NULL);
		return;
	}
	if (nunwritten > 0 && strcmp(unwritten[nunwritten - 1].queue, task->queue) == 0)
		new.queue = unwritten[nunwritten - 1].queue;
	else
		new.queue = MemoryContextStrdup(unwritten_cxt, task->queue);
	unwritten[nunwritten++] = new;
	if (nunwritten == ROM_TABLE_GATHERED)
		write_gathered();
}

bool
rom_task_is_paused(const pg_uuid_t *instance_id)
{
	static RomStatement select = {
		"SELECT 1 FROM romancy.t_instance WHERE instance_id = $1 AND status = 'paused'",
		1, {UUIDOID}
	};
	Datum		values[1];

	values[0] = UUIDPGetDatum(instance_id);
	return rom_execute(&select, values, NULL, 1) > 0;
}

void
rom_task_wake(RomTask *task, Oid owner)
{
	if (task->queue[0] == '\0')
		rom_wake_ready(&task->id, owner, task->priority);
	else
	{
		rom_front_lower(task->queue, task->priority, &task->id);
		rom_notify_ready(task->queue);
	}
}

/* A task's columns, in the order of ROM_TASK_COLUMNS. */
RomTable	rom_task_table = {
	"t_task", ROM_TASK_NCOLUMNS, {
		"task_id", "instance_id", "kind", "state", "def_id", "priority", "attempt",
		"queue", "owner", "activity", "step", "limit_key", "input", "retry", "errors",
		"details", "next", "started_at", "due_at", "lease_us", "close_us", "beat_us", "fence",
		"held_at", "held_until", "document"
	}, true
};

/* text_of and its kin are a column's value, copied; NULL for null. */
static char *
text_of(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

static Jsonb *
jsonb_of(Datum value, bool isnull)
{
	return isnull ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(value);
}

/* make_task makes a task of a row's columns. */
static RomTask *
make_task(const Datum *values, const bool *nulls)
{
	RomTask    *task = palloc0_object(RomTask);

	task->id = *DatumGetUUIDP(values[0]);
	task->instance_id = *DatumGetUUIDP(values[1]);
	task->kind = DatumGetInt16(values[2]);
	task->state = DatumGetInt16(values[3]);
	task->def_id = nulls[4] ? 0 : DatumGetInt32(values[4]);
	task->priority = DatumGetInt32(values[5]);
	task->attempt = DatumGetInt32(values[6]);
	task->queue = text_of(values[7], nulls[7]);
	task->owner = text_of(values[8], nulls[8]);
	task->activity = text_of(values[9], nulls[9]);
	task->step = text_of(values[10], nulls[10]);
	task->limit_key = text_of(values[11], nulls[11]);
	task->input = nulls[25] ? jsonb_of(values[12], nulls[12]) : rom_document_get(DatumGetUUIDP(values[25]));
	task->retry = jsonb_of(values[13], nulls[13]);
	task->errors = jsonb_of(values[14], nulls[14]);
	task->details = jsonb_of(values[15], nulls[15]);
	task->next = jsonb_of(values[16], nulls[16]);
	task->started_at = nulls[17] ? 0 : DatumGetTimestampTz(values[17]);
	task->due_at = nulls[18] ? DT_NOEND : DatumGetTimestampTz(values[18]);
	task->lease_us = nulls[19] ? 0 : DatumGetInt64(values[19]);
	task->close_us = nulls[20] ? 0 : DatumGetInt64(values[20]);
	task->beat_us = nulls[21] ? 0 : DatumGetInt64(values[21]);
	task->fence = nulls[22] ? 0 : DatumGetInt64(values[22]);
	task->held_at = nulls[23] ? 0 : DatumGetTimestampTz(values[23]);
	task->held_until = nulls[24] ? 0 : DatumGetTimestampTz(values[24]);
	ItemPointerSetInvalid(&task->locked);
	return task;
}

RomTask *
rom_task_read(const RomRowSet *set, uint64 row)
{
	Datum		values[ROM_TASK_NCOLUMNS];
	bool		nulls[ROM_TASK_NCOLUMNS];

	for (int i = 0; i < ROM_TASK_NCOLUMNS; i++)
		values[i] = rom_value(set, row, i + 1, &nulls[i]);
	return make_task(values, nulls);
}

RomTask *
rom_task_of(TupleTableSlot *row)
{
	Datum		values[ROM_TASK_NCOLUMNS];
	bool		nulls[ROM_TASK_NCOLUMNS];

	for (int i = 0; i < ROM_TASK_NCOLUMNS; i++)
		values[i] = rom_table_column(&rom_task_table, row, i, &nulls[i]);
	return make_task(values, nulls);
}

bool
rom_task_live(const pg_uuid_t *instance_id, RomStatus *status)
{
	static RomTable table = {
		"t_instance", 2, {"wake_at", "status"}, true
	};
	RomRows		rows;
	bool		live = false;

	rom_rows_open(&rows, &table, "t_instance_pkey", false);
	if (rom_rows_find(&rows, instance_id))
	{
		bool		isnull;

		*status = rom_instance_status_from_datum(rom_rows_column(&rows, 1, &isnull));
		(void) rom_rows_column(&rows, 0, &isnull);
		live = !isnull;
	}
	rom_rows_close(&rows);
	return live;
}

void
rom_task_delete(RomTask *task)
{
	bool		done = task->deleted || (ItemPointerIsValid(&task->locked) &&
										 rom_table_delete(&rom_task_table, &task->locked, true) == TM_Ok);

	while (!done)
	{
		RomRows		rows;

		rom_rows_open(&rows, &rom_task_table, "t_task_pkey", true);
		done = !rom_rows_find(&rows, &task->id) ||
			rom_table_delete(&rom_task_table, &rows.slot->tts_tid, true) == TM_Ok;
		rom_rows_close(&rows);
	}
	CommandCounterIncrement();
	if (task->state == ROM_TASK_RUNNING)
		rom_task_ended(task);
}

void
rom_task_deliver(RomTask *task, Oid owner, Jsonb *result, Jsonb *error,
				 Jsonb *detail)
{
	if (task->kind == ROM_TASK_CANVAS)
	{
		deliver_canvas(task, owner, result, error, detail);
		rom_wake_key(rom_waiter_key(ROM_INSTANCE_PROGRESS_KEY, &task->instance_id, sizeof(pg_uuid_t)));
		return;
	}
	rom_inbox_insert(&task->instance_id, ROM_INBOX_RESULT, task->step, result,
					 error, detail);
	rom_wake_end(&task->instance_id, &task->instance_id, owner, task->priority);
}

/* attempts_of is the attempt that has just ended, with what came before it. */
static void
attempts_of(RomTask *task, RomAttempts *a)
{
	rom_attempts_init(a);
	a->attempt = Max(task->attempt, 1);
	if (task->started_at != 0)
		a->started = task->started_at;
	rom_attempts_read_errors(a, task->errors);
}

/*
 * observe tells of the attempt that has just ended. One in a worker outside has
 * taken the time since its claim, as far as that is known: for the first one.
 */
static void
observe(RomTask *task, Oid owner, bool failed)
{
	RomAttemptStat stat = {0};

	if (rom_observe_get() == NULL || task->kind == ROM_TASK_WORKFLOW)
		return;
	stat.name = task->activity;
	stat.failed = failed;
	stat.again = task->attempt > 1;
	if (task->cost != NULL)
		stat.cost = *task->cost;
	else if (task->attempt == 1 && task->started_at != 0)
		stat.cost.us = Max(rom_now() - task->started_at, 0);
	stat.measured = stat.cost.us > 0;
	rom_observe_get()->attempt(owner, rom_definition_by_id(task->def_id)->namespace, &stat);
}

void
rom_task_succeed(RomTask *task, Oid owner, Jsonb *result)
{
	RomAttempts a;
	Jsonb	   *detail = NULL;

	observe(task, owner, false);
	if (task->attempt > 1)
	{
		attempts_of(task, &a);
		detail = rom_attempts_summary(&a);
	}
	rom_task_delete(task);
	rom_task_deliver(task, owner, result, NULL, detail);
}

RomRetryPolicy
rom_task_policy(RomTask *task)
{
	static RomStatement select = {
		"SELECT retry FROM romancy.t_activity WHERE name = $1"
		" AND namespace = (SELECT namespace FROM romancy.t_workflow WHERE def_id = $2)",
		2, {TEXTOID, INT4OID}
	};
	RomRetryPolicy policy;
	Datum		values[2];
	RomRowSet	set;

	rom_retry_defaults(&policy);
	values[0] = CStringGetTextDatum(task->activity);
	values[1] = Int32GetDatum(task->def_id);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
	{
		bool		isnull;
		Datum		retry = rom_value_copy(&set, 0, 1, &isnull, CurrentMemoryContext);

		if (!isnull)
			rom_retry_overlay(&policy, DatumGetJsonbP(retry), "retry");
	}
	if (task->retry != NULL)
		rom_retry_overlay(&policy, task->retry, "retry");
	return policy;
}

/* with_unknown is a document that says, too, that an attempt before may have had effects. */
static Jsonb *
with_unknown(Jsonb *document)
{
	RomJb		jb;
	Jsonb	   *unknown;

	rom_jb_begin(&jb);
	rom_jb_bool(&jb, ROM_OUTCOME_UNKNOWN, true);
	unknown = rom_jb_end(&jb);
	return document == NULL ? unknown :
		rom_jb_with(document, ROM_OUTCOME_UNKNOWN, rom_jb_get_json(unknown, ROM_OUTCOME_UNKNOWN));
}

/* give_up delivers the last failure. A process that died in an attempt before may have had effects: the instance undoes them, if it does not complete. */
static void
give_up(RomTask *task, Oid owner, Jsonb *error, Jsonb *summary)
{
	if (rom_task_unknown(task) && task->kind == ROM_TASK_CANVAS)
		error = with_unknown(error);	/* (the detail would say that the
										 * canvas ends) */
	else if (rom_task_unknown(task))
		summary = with_unknown(summary);
	rom_task_deliver(task, owner, NULL, error, summary);
}

void
rom_task_fail(RomTask *task, Oid owner, const RomRetryPolicy *policy,
			  Jsonb *error, RomTaskRetry retry)
{
	RomAttempts a;
	TimestampTz next;
	TimestampTz due;
	bool		again;
	bool		pause;

	observe(task, owner, true);
	if (task->state == ROM_TASK_RUNNING)
		rom_task_ended(task);
	attempts_of(task, &a);
	a.of_result = retry == ROM_TASK_RETRY_NAMED;
	again = rom_attempts_fail(&a, policy, error, retry == ROM_TASK_RETRY_NEVER, &next);
	if (task->has_retry_at)
		next = task->retry_at_least ? Max(next, task->retry_at) : task->retry_at;
	if (retry == ROM_TASK_RETRY_AT_ONCE && !a.exhausted)
		again = true;
	pause = !again && policy->pause && retry != ROM_TASK_RETRY_NEVER;
	task->state = pause ? ROM_TASK_PARKED : !again ? ROM_TASK_DEAD :
		retry == ROM_TASK_RETRY_AT_ONCE ? ROM_TASK_READY : ROM_TASK_WAITING;
	due = task->state == ROM_TASK_WAITING ? next : DT_NOEND;
	if (again && rom_task_is_paused(&task->instance_id))
		task->state = ROM_TASK_PARKED;
	/* after the pause its attempts begin anew */
	rom_state_fail(task, due, pause ? 0 : a.attempt, pause ? 0 : a.started, rom_attempts_errors(&a));
	ItemPointerSetInvalid(&task->locked);
	if (task->state == ROM_TASK_READY)
		rom_task_wake(task, owner);
	else if (task->state == ROM_TASK_WAITING)
		rom_wake_at(&task->id, owner, task->priority, next);
	else if (pause)
	{
		rom_inbox_insert(&task->instance_id, ROM_INBOX_PAUSE, task->step, NULL, error, NULL);
		rom_wake_ready(&task->instance_id, owner, task->priority);
	}
	else if (task->state == ROM_TASK_DEAD)
		give_up(task, owner, error, retry == ROM_TASK_RETRY_NEVER ? NULL : rom_attempts_summary(&a));
}

void
rom_task_ended(const RomTask *task)
{
	if (task->queue[0] != '\0' && task->kind != ROM_TASK_WORKFLOW)
		rom_running_ended(task->queue, task->activity, task->limit_key);
}
