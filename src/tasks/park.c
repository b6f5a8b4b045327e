/*-------------------------------------------------------------------------
 *
 * park.c
 *		Tasks of paused instances: none begins.
 *
 * The turn that pauses an instance parks its tasks that have not begun and
 * those that wait for another attempt; the turn that ends the pause makes them
 * ready or waiting again. Between the two, tasks that a task's end would make
 * ready are parked as well (rom_task_is_paused()). A task that another
 * transaction makes ready, or holds and gives back, while the pause commits is
 * seen by neither: the process that wants to begin it finds its instance
 * paused, and parks it then (rom_park_task()). The limit
 * schedule_to_start_timeout, which runs on during the pause, is checked after
 * it.
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
	Datum		values[1];
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		held;

	values[0] = UUIDPGetDatum(&task->instance_id);
	held = rom_execute_rows_at(NULL, &hold, values, NULL, snapshot, 1) > 0;
	UnregisterSnapshot(snapshot);
	if (!held)
		return false;
	rom_state_park_one(&task->id);
	return true;
}

/* unpark gives its tasks their former states, and announces those that are ready. Those that another transaction has come later. */
static void
unpark(RomTurn *turn)
{
	Oid			owner = turn->owner;
	int			n;
	RomTask    *tasks = rom_state_unpark(&turn->inst->id, &n);

	for (int i = 0; i < n; i++)
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
	if (rom_state_has(&turn->inst->id, ROM_TASK_PARKED))
		rom_hooks_look_later(turn, NULL);
}

/* on_pause is called at both ends of a pause. */
static void
on_pause(RomTurn *turn, bool paused)
{
	if (paused)
		rom_state_park(&turn->inst->id);
	else
		unpark(turn);
}

/* look_again is for tasks that unpark() could not have. */
static void
look_again(RomTurn *turn, const char *step)
{
	if (step == NULL && !ROM_STATUS_IS_FINAL(turn->out.status) && !turn->wait.was_paused)
		unpark(turn);
}

void
rom_park_init(void)
{
	rom_hooks_on_pause(ROM_HAS_TASKS, on_pause);
	rom_hooks_on_look_again(ROM_HAS_TASKS, look_again);
}

void
rom_park_orphans(const pg_uuid_t *ids, int n)
{
	static RomStatement find = {
		"SELECT DISTINCT instance_id, priority FROM romancy.t_task WHERE task_id = ANY ($1) AND state IN (" ROM_SQL_TASK_READY ", " ROM_SQL_TASK_WAITING ")",
		1, {UUIDARRAYOID}
	};
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	values[0] = rom_uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_wake_ready(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)), InvalidOid,
					   DatumGetInt32(rom_value(&set, i, 2, &isnull)));
	rom_engine_end(&engine);
}
