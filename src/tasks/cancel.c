/*-------------------------------------------------------------------------
 *
 * cancel.c
 *		cancel_task(): the end of one task of a canvas; and whether tasks are to run at all.
 *
 * A task whose row is free is ended at once, in the caller's transaction. One
 * whose row is locked (it runs in the database, or a program is about to take or
 * end it), or that runs between two transactions, gets a request: a row in the
 * canvas's inbox, which names its step. At the commit the process that runs
 * the task is interrupted, in this task alone. It is ended by the first of those
 * that has its row after that: an executor that was to run it again
 * (execute.c), or the canvas's turn.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "instances/steer.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "tasks/cancel.h"
#include "tasks/notify.h"
#include "turn/context.h"
#include "turn/kinds.h"

/* The tasks of a canvas that have not ended. $1: its id. */
#define LIVE_TASKS \
	"SELECT " ROM_TASK_COLUMNS ", t.callback IS FALSE FROM romancy.t_task t WHERE t.instance_id = $1 AND t.kind = " ROM_SQL_TASK_CANVAS \
	" AND t.state IN (" ROM_SQL_TASK_READY ", " ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_WAITING ", " ROM_SQL_TASK_PARKED ")"

/* Of those, one by its path; or by its step. */
#define BY_PATH LIVE_TASKS " AND pg_catalog.substr(t.step, pg_catalog.length(t.activity) + 2) = $2 LIMIT 1"
#define BY_STEP LIVE_TASKS " AND t.step = $2 LIMIT 1"

static uint64 made = 0;

/* The tasks that this process runs in the transaction under way. (After an error they stay until the next; that does no harm.) */
static pg_uuid_t claimed[ROM_BATCH_MAX];
static int	nclaimed = 0;

void
rom_cancel_claimed(const pg_uuid_t *ids, int n)
{
	if (n > 0)
		memcpy(claimed, ids, n * sizeof(pg_uuid_t));
	nclaimed = n;
}

/* has_claimed: does this process run the task? It has the row's lock, and the task has not ended. */
static bool
has_claimed(const pg_uuid_t *id)
{
	for (int i = 0; i < nclaimed; i++)
		if (memcmp(&claimed[i], id, sizeof(pg_uuid_t)) == 0)
			return true;
	return false;
}

uint64
rom_cancel_made(void)
{
	return made;
}

/* find runs one of the statements, and reads the task into cxt; NULL: there is none. */
static RomTask *
find(RomStatement *select, const pg_uuid_t *id, const char *text, MemoryContext cxt)
{
	Datum		values[2];
	RomTask    *task = NULL;
	RomRowSet	set;
	bool		isnull;

	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(text);
	if (rom_execute_rows(&set, select, values, NULL, 1) == 1)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		task = rom_task_read(&set, 0);
		task->sent = DatumGetBool(rom_value(&set, 0, ROM_TASK_NCOLUMNS + 1, &isnull));
		MemoryContextSwitchTo(old);
	}
	return task;
}

void
rom_cancel_end(RomTask *task, Oid owner)
{
	static RomStatement heed = {
		"DELETE FROM romancy.t_inbox WHERE instance_id = $1 AND kind = " ROM_SQL_INBOX_CANCEL_TASK " AND step = $2",
		2, {UUIDOID, TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomRetryPolicy policy = rom_task_policy(task);
	Jsonb	   *error;
	Datum		values[2];

	values[0] = UUIDPGetDatum(&task->instance_id);
	values[1] = CStringGetTextDatum(task->step);
	rom_execute(&heed, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	policy.pause = false;
	if (task->state == ROM_TASK_RUNNING)
		rom_notify_unwanted(task);
	error = rom_error_make(ERRCODE_ROM_CANCELLED,
						   psprintf("task \"%s\" was cancelled", task->step + strlen(task->activity) + 1),
						   NULL, NULL, NULL);
	/* (gather() has what it may have done undone, should the canvas fail) */
	task->attempt += rom_task_unknown(task);
	rom_task_fail(task, owner, &policy, error, ROM_TASK_RETRY_NEVER);
}

void
rom_cancel_open(RomRows *rows)
{
	static RomTable inbox = {"t_inbox", 2, {"kind", "step"}, true};

	rom_rows_open_select(rows, &inbox, "t_inbox_pkey", false);
}

bool
rom_cancel_find(RomRows *rows, const RomTask *task)
{
	for (bool more = rom_rows_find(rows, &task->instance_id); more; more = rom_rows_next(rows))
	{
		bool		isnull;

		if (DatumGetInt16(rom_rows_column(rows, 0, &isnull)) == ROM_INBOX_CANCEL_TASK)
		{
			char	   *step = rom_rows_text(rows, 1);

			if (step != NULL && strcmp(step, task->step) == 0)
				return true;
		}
	}
	return false;
}

bool
rom_cancel_requested(const RomTask *task)
{
	RomRows		rows;
	bool		found;

	rom_cancel_open(&rows);
	found = rom_cancel_find(&rows, task);
	rom_rows_close(&rows);
	return found;
}

bool
rom_cancel_is_ending(const RomTask *task)
{
	RomRows		rows;
	bool		found = task->deadline <= rom_now();

	if (found)
		return true;
	rom_cancel_open(&rows);
	for (bool more = rom_rows_find(&rows, &task->instance_id); more && !found; more = rom_rows_next(&rows))
	{
		bool		isnull;
		int			kind = DatumGetInt16(rom_rows_column(&rows, 0, &isnull));

		found = kind == ROM_INBOX_CANCEL || kind == ROM_INBOX_TERMINATE;
	}
	rom_rows_close(&rows);
	return found;
}

void
rom_cancel_unknown(RomTask *task, Oid owner)
{
	Jsonb	   *error = rom_error_make(ERRCODE_ROM_CANCELLED,
									   psprintf("activity \"%s\" was interrupted by the end of its workflow", task->activity),
									   "It is not transactional: how far it came is not known.", NULL, NULL);
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_bool(&jb, ROM_OUTCOME_UNKNOWN, true);
	task->attempt++;
	rom_task_delete(task);
	rom_task_deliver(task, owner, NULL, error, rom_jb_end(&jb));
}

void
rom_cancel_unknown_of(const pg_uuid_t *id, Oid owner)
{
	static RomStatement select = {
		"SELECT " ROM_TASK_COLUMNS " FROM romancy.t_task t WHERE t.task_id = $1", 1, {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);
	MemoryContext cxt = CurrentMemoryContext;
	RomRowSet	set;

	if (rom_execute_rows(&set, &select, &value, NULL, 1) == 1)
	{
		MemoryContextSwitchTo(cxt);
		rom_cancel_unknown(rom_task_read(&set, 0), owner);
	}
	MemoryContextSwitchTo(cxt);
}

/* request asks for the end of a task that this transaction cannot end. */
static void
request(RomTask *task, const RomInstanceHead *head)
{
	if (!rom_cancel_requested(task))
		rom_inbox_insert(&task->instance_id, ROM_INBOX_CANCEL_TASK, task->step, NULL, NULL, NULL);
	made++;
	rom_wake_ready(&task->instance_id, head->owner, head->priority);
	if (task->queue[0] == '\0')
		rom_wake_ready(&task->id, head->owner, task->priority);
	rom_wake_cancel(&task->id);
}

void
rom_cancel_apply(RomTurn *turn, bool revived)
{
	static RomStatement take = {BY_STEP " FOR UPDATE SKIP LOCKED", 2, {UUIDOID, TEXTOID}};
	static RomStatement look = {BY_STEP, 2, {UUIDOID, TEXTOID}};
	MemoryContext cxt = CurrentMemoryContext;

	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		RomInboxItem *item = &turn->wait.inbox[i];
		RomTask    *task;

		if (item->kind != ROM_INBOX_CANCEL_TASK || item->taken)
			continue;
		item->taken = revived;
		if (revived)
			continue;
		task = find(&take, &turn->inst->id, item->step, cxt);
		if (task != NULL && !rom_slot_kept(&task->id))
		{
			item->taken = true;
			rom_cancel_end(task, turn->owner);
		}
		else if (task == NULL && find(&look, &turn->inst->id, item->step, cxt) == NULL)
			item->taken = true;
		else if (task == NULL || !rom_slot_mark_again(&task->id))
			rom_wake_at(&turn->inst->id, turn->owner, turn->inst->priority,
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100));
		MemoryContextSwitchTo(cxt);
	}
}

PG_FUNCTION_INFO_V1(romancy_cancel_task);

/*
 * romancy.cancel_task(instance_id uuid, path text) -> boolean
 *
 * Ends one task of a canvas as failed with RM008, whether it has begun or not: an attempt in the database is interrupted, a program loses
 * its lease. False where there is no such task, it has not been scheduled yet or has ended. Errors: RM002 unknown, or another role's.
 */
Datum
romancy_cancel_task(PG_FUNCTION_ARGS)
{
	static RomStatement take = {BY_PATH " FOR UPDATE SKIP LOCKED", 2, {UUIDOID, TEXTOID}};
	static RomStatement look = {BY_PATH, 2, {UUIDOID, TEXTOID}};
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	char	   *path = rom_arg_text(fcinfo, 1, "path");
	MemoryContext cxt = CurrentMemoryContext;
	RomInstanceHead head;
	RomEngine	engine;
	RomTask    *task;

	rom_context_refuse_handler("cancel_task");
	rom_steer_head(id, true, &head);
	rom_engine_begin(&engine);
	task = find(&take, id, path, cxt);
	MemoryContextSwitchTo(cxt);
	if (task != NULL && !rom_slot_kept(&task->id) && !has_claimed(&task->id))
		rom_cancel_end(task, head.owner);
	else
	{
		if (task == NULL)
			task = find(&look, id, path, cxt);
		MemoryContextSwitchTo(cxt);
		if (task != NULL)
			request(task, &head);
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(task != NULL);
}
