/*-------------------------------------------------------------------------
 *
 * park.c
 *		Tasks of paused instances: none begins.
 *
 * The turn that pauses an instance parks its tasks that have not begun and those that wait for
 * another attempt; the turn that takes the pause back lets them go on. Between the two, what a
 * task's end would make ready is parked as well (rom_task_is_paused()). What another transaction makes
 * ready, or holds and gives back, while the pause commits is seen by neither: who comes to begin it finds
 * its instance paused, and parks it then (rom_park_task()). A limit that goes on from before the
 * pause, schedule_to_start_timeout, is looked at again after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "base/uuid.h"
#include "instances/instance.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "tasks/park.h"
#include "tasks/task.h"
#include "turn/hooks.h"
#include "turn/turn.h"

/* park is for an instance that is paused now. */
static void
park(const pg_uuid_t *id)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = 5 WHERE task_id IN (SELECT task_id FROM romancy.t_task"
		" WHERE instance_id = $1 AND state IN (0, 2) FOR UPDATE SKIP LOCKED)",
		1, {UUIDOID}
	};
	Datum		values[1];

	values[0] = UUIDPGetDatum(id);
	rom_execute(&update, values, NULL, 0);
}

bool
rom_park_task(const RomTask *task)
{
	/*
	 * no turn, which might take the pause back, is under way, nor begins
	 * before we have committed
	 */
	static RomStatement hold = {
		"SELECT 1 FROM romancy.t_instance WHERE instance_id = $1 AND status = 'paused' FOR SHARE SKIP LOCKED",
		1, {UUIDOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = 5 WHERE task_id = (SELECT task_id FROM romancy.t_task"
		" WHERE task_id = $1 AND state IN (0, 2) FOR UPDATE SKIP LOCKED)",
		1, {UUIDOID}
	};
	Datum		values[1];
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		held;

	values[0] = UUIDPGetDatum(&task->instance_id);
	held = rom_execute_at(&hold, values, NULL, snapshot, 1) > 0;
	UnregisterSnapshot(snapshot);
	if (!held)
		return false;
	values[0] = UUIDPGetDatum(&task->id);
	rom_execute(&update, values, NULL, 0);
	return true;
}

/* unpark makes its tasks what they were, and tells those who run them. */
static void
unpark(const pg_uuid_t *id, Oid owner)
{
	static RomStatement update = {
		"UPDATE romancy.t_task t SET state = CASE WHEN (t.attempt > 0 OR t.held_at IS NOT NULL) AND t.due_at IS NOT NULL THEN 2 ELSE 0 END"
		" WHERE t.instance_id = $1 AND t.state = 5 RETURNING t.task_id, t.queue, t.priority, t.state, t.due_at",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	RomTask    *tasks;

	values[0] = UUIDPGetDatum(id);
	rows = rom_execute(&update, values, NULL, 0);
	/* what follows may execute statements of its own */
	tasks = MemoryContextAllocHuge(cxt, (rows + 1) * sizeof(RomTask));
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		due;

		tasks[i].id = *DatumGetUUIDP(rom_value(i, 1, &isnull));
		tasks[i].queue = rom_value_text(i, 2, cxt);
		tasks[i].priority = DatumGetInt32(rom_value(i, 3, &isnull));
		tasks[i].state = DatumGetInt16(rom_value(i, 4, &isnull));
		due = rom_value(i, 5, &isnull);
		tasks[i].due_at = isnull ? DT_NOEND : DatumGetTimestampTz(due);
	}
	for (uint64 i = 0; i < rows; i++)
	{
		RomTask    *task = &tasks[i];

		if (task->state == ROM_TASK_WAITING)
		{
			rom_wake_at(&task->id, owner, task->priority, task->due_at);
			continue;
		}
		rom_task_wake(task, owner);
		if (task->due_at < DT_NOEND)
			rom_wake_sweep(rom_sweep_find("activity_timeouts"), task->due_at);
	}
}

/* on_pause is called at both ends of a pause. */
static void
on_pause(RomTurn *turn, bool paused)
{
	if (paused)
		park(&turn->inst->id);
	else
		unpark(&turn->inst->id, turn->owner);
}

void
rom_park_init(void)
{
	rom_hooks_on_pause(ROM_HAS_TASKS, on_pause);
}

void
rom_park_orphans(const pg_uuid_t *ids, int n)
{
	static RomStatement find = {
		"SELECT DISTINCT instance_id, priority FROM romancy.t_task WHERE task_id = ANY ($1) AND state IN (0, 2)",
		1, {UUIDARRAYOID}
	};
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	bool		isnull;

	values[0] = rom_uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute(&find, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_wake_ready(DatumGetUUIDP(rom_value(i, 1, &isnull)), InvalidOid,
					   DatumGetInt32(rom_value(i, 2, &isnull)));
	rom_engine_end(&engine);
}
