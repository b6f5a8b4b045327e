/*-------------------------------------------------------------------------
 *
 * revive.c
 *		Canvas: retry_workflow of a failed canvas.
 *
 * Everything that failed in a canvas failed because of tasks that are dead now:
 * their groups, and the groups of which these were members. So of a failed
 * canvas its dead tasks, its failed groups, the rests of its chains and all rows of t_canvas_result are
 * kept, and undoing the failure is to delete the rows with an error, to open
 * the failed groups again and to start the dead tasks again, whose rows hold
 * their successors. Tasks that an on_error has started are not part of that:
 * they start again if its task fails again.
 *
 * A canvas can fail in another way, by its execution_timeout or a limit: then tasks are missing that
 * had not begun, or none is dead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "base/jb.h"
#include "base/spi.h"
#include "memory/fanin.h"
#include "tasks/chain.h"
#include "tasks/revive.h"
#include "tasks/task.h"

/* A group of the canvas that has failed, or was not at its end. */
typedef struct Failed
{
	pg_uuid_t	id;
	int32		members;
	bool		counted;		/* not of an on_error */
	int64		ended;
	int64		errors;			/* of those that have ended */
} Failed;

/* frames is a row's next, which may be NULL. */
static Jsonb *
frames(Jsonb *next)
{
	return next ? next : rom_jb_array(NULL, 0);
}

/* read_groups reads the canvas's groups that have not succeeded. */
static int
read_groups(const RomCanvas *canvas, Failed **groups)
{
	static RomStatement select = {
		"SELECT j.join_id, j.members, j.next,"
		" (SELECT count(*) FROM romancy.t_canvas_result r WHERE r.instance_id = $1 AND r.join_id = j.join_id),"
		" (SELECT count(*) FROM romancy.t_canvas_result r WHERE r.instance_id = $1 AND r.join_id = j.join_id"
		"  AND r.error IS NOT NULL)"
		" FROM romancy.t_canvas_join j WHERE j.instance_id = $1",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&canvas->id);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	*groups = palloc_array(Failed, rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		Failed	   *group = &(*groups)[i];
		bool		isnull;

		group->id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		group->members = DatumGetInt32(rom_value(&set, i, 2, &isnull));
		group->counted = rom_frames_count(DatumGetJsonbP(rom_value(&set, i, 3, &isnull)));
		group->ended = DatumGetInt64(rom_value(&set, i, 4, &isnull));
		group->errors = DatumGetInt64(rom_value(&set, i, 5, &isnull));
	}
	return rows;
}

/* The canvas's dead tasks; $1: its id. */
#define DEAD_TASKS " FROM romancy.t_task t WHERE t.instance_id = $1 AND t.state = " ROM_SQL_TASK_DEAD " AND t.kind = " ROM_SQL_TASK_CANVAS

/* is_free locks the canvas's dead tasks; false where another transaction has one of them. */
static bool
is_free(const RomCanvas *canvas)
{
	static RomStatement lock = {"SELECT 1" DEAD_TASKS " FOR UPDATE SKIP LOCKED", 1, {UUIDOID}};
	static RomStatement count = {"SELECT 1" DEAD_TASKS, 1, {UUIDOID}};
	Datum		values[1] = {UUIDPGetDatum(&canvas->id)};
	uint64		locked = rom_execute(&lock, values, NULL, 0);

	return rom_execute(&count, values, NULL, 0) <= locked;
}

/* take_dead deletes the canvas's dead tasks and gives those of them that are not of an on_error. */
static int
take_dead(const RomCanvas *canvas, RomTask ***tasks)
{
	static RomStatement delete = {"DELETE" DEAD_TASKS " RETURNING " ROM_TASK_COLUMNS, 1, {UUIDOID}};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	int			n = 0;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&canvas->id);
	rows = rom_execute_rows(&set, &delete, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	*tasks = palloc_array(RomTask *, rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		RomTask    *task = rom_task_read(&set, i);

		if (rom_frames_count(frames(task->next)))
			(*tasks)[n++] = task;
	}
	return n;
}

/* open_groups takes back that groups have failed. Those of an on_error go. */
static void
open_groups(const RomCanvas *canvas, const Failed *groups, int n)
{
	static RomStatement delete_errors = {
		"DELETE FROM romancy.t_canvas_result WHERE instance_id = $1 AND error IS NOT NULL",
		1, {UUIDOID}
	};
	static RomStatement open = {
		"UPDATE romancy.t_canvas_join SET failed = false WHERE join_id = $1",
		1, {UUIDOID}
	};
	static RomStatement delete = {
		"DELETE FROM romancy.t_canvas_join WHERE join_id = $1",
		1, {UUIDOID}
	};
	Datum		values[1];

	values[0] = UUIDPGetDatum(&canvas->id);
	rom_execute(&delete_errors, values, NULL, 0);
	for (int i = 0; i < n; i++)
	{
		values[0] = UUIDPGetDatum(&groups[i].id);
		rom_execute(groups[i].counted ? &open : &delete, values, NULL, 0);
		if (groups[i].counted)
			rom_fanin_set(&groups[i].id, canvas->namespace, groups[i].members - groups[i].ended + groups[i].errors);
	}
}

RomRevival
rom_revive_canvas(RomCanvas *canvas)
{
	Failed	   *groups;
	RomTask   **dead;
	int			ngroups;
	int			ndead;
	bool		whole;

	if (!is_free(canvas))
		return ROM_REVIVAL_LATER;
	ngroups = read_groups(canvas, &groups);
	ndead = take_dead(canvas, &dead);
	whole = ndead > 0;
	for (int i = 0; i < ngroups; i++)
		whole = whole && (!groups[i].counted || groups[i].ended >= groups[i].members);
	if (!whole)
	{
		Datum		id = UUIDPGetDatum(&canvas->id);

		rom_revive_forget(PointerGetDatum(construct_array(&id, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
		return ROM_REVIVAL_NONE;
	}
	open_groups(canvas, groups, ngroups);
	for (int i = 0; i < ndead; i++)
		rom_frames_task(canvas, dead[i], 0);
	return ROM_REVIVAL_DONE;
}

void
rom_revive_forget(Datum ids)
{
	static RomStatement delete_results = {
		"DELETE FROM romancy.t_canvas_result WHERE instance_id = ANY ($1)",
		1, {UUIDARRAYOID}
	};
	static RomStatement delete_joins = {
		"DELETE FROM romancy.t_canvas_join WHERE instance_id = ANY ($1)",
		1, {UUIDARRAYOID}
	};
	Datum		values[1];

	values[0] = ids;
	rom_execute(&delete_results, values, NULL, 0);
	rom_execute(&delete_joins, values, NULL, 0);
	rom_chain_forget(ids);
}
