/*-------------------------------------------------------------------------
 *
 * resume.c
 *		The net under lost wake-ups of tasks in the database: the scan of a database,
 *		and the sweep resumption.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "defs/activity_definition.h"
#include "memory/roster.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/guc.h"
#include "run/scan.h"
#include "tasks/canvas.h"
#include "tasks/notify.h"
#include "tasks/resume.h"
#include "tasks/state.h"

/* ask_http has the HTTP worker come where there are requests, or where one had some in hand when the server, or the worker, ended. Engine scope needed. */
static void
ask_http(void)
{
	static RomStatement find = {
		"SELECT 1 WHERE EXISTS (SELECT FROM romancy.t_namespace n CROSS JOIN (VALUES ('/" ROM_QUEUE_HTTP "'), ('/" ROM_QUEUE_HTTP_CALL "')) q (name)"
		" JOIN romancy.t_task t ON t.queue = n.namespace_id || q.name WHERE t.state = " ROM_SQL_TASK_READY ")"
		" OR EXISTS (SELECT FROM romancy.t_queue q JOIN romancy.t_task t ON t.queue = q.name WHERE q.push_url IS NOT NULL AND NOT q.paused"
		" AND t.state = " ROM_SQL_TASK_READY ")"
		" OR EXISTS (SELECT FROM romancy.t_task t WHERE t.due_at IS NOT NULL AND NOT t.callback AND t.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT "))",
		0, {0}
	};

	if (rom_execute(&find, NULL, NULL, 1) > 0)
		rom_notify_http(ROM_HTTP_CLAIM);
}

/* note_ready notes tasks in the database that are ready, best first, and at its end those that wait for an attempt. ask: ask_http(), too. */
static int
note_ready(RomScanPlace *place, int limit, bool ask)
{
	static RomStatement ready = {
		"SELECT task_id, owner, priority, (- priority::bigint), held_until FROM romancy.t_task WHERE queue = '' AND state = " ROM_SQL_TASK_READY
		" AND ((- priority::bigint), task_id) > ($1, $2) ORDER BY (- priority::bigint), task_id LIMIT $3",
		3, {INT8OID, UUIDOID, INT4OID}
	};
	static RomStatement waiting = {
		"SELECT task_id, owner, priority, due_at FROM romancy.t_task WHERE due_at IS NOT NULL AND state = " ROM_SQL_TASK_WAITING
		" ORDER BY due_at LIMIT $1",
		1, {INT4OID}
	};
	RomEngine	engine;
	Datum		values[3];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	if (!place->begun)
	{
		place->begun = true;
		place->rank = PG_INT64_MIN;
	}
	values[0] = Int64GetDatum(place->rank);
	values[1] = UUIDPGetDatum(&place->id);
	values[2] = Int32GetDatum(limit);
	rom_engine_begin(&engine);
	if (ask)
		ask_http();
	rows = rom_execute_rows(&set, &ready, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		Oid			owner = get_role_oid(rom_value_text(&set, i, 2, CurrentMemoryContext), true);
		int32		priority = DatumGetInt32(rom_value(&set, i, 3, &isnull));
		Datum		held_until = rom_value(&set, i, 5, &isnull);

		/*
		 * tasks that wait for a limit have their time; the others have been
		 * ready for a while, and those of them that are queued stay where
		 * they are
		 */
		if (isnull)
			rom_wake_at(id, owner, priority,
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													-rom_guc_resumption_interval));
		else
			rom_wake_at(id, owner, priority, DatumGetTimestampTz(held_until));
		place->rank = DatumGetInt64(rom_value(&set, i, 4, &isnull));
		place->id = *id;
	}
	if (rows < limit)
	{
		uint64		late;

		values[0] = Int32GetDatum(limit);
		late = rom_execute_rows(&set, &waiting, values, NULL, 0);
		for (uint64 i = 0; i < late; i++)
		{
			rom_wake_at(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)),
						get_role_oid(rom_value_text(&set, i, 2, CurrentMemoryContext), true),
						DatumGetInt32(rom_value(&set, i, 3, &isnull)),
						DatumGetTimestampTz(rom_value(&set, i, 4, &isnull)));
		}
		(void) rom_canvas_find(NULL, NULL, limit);
	}
	rom_engine_end(&engine);
	return rows;
}

/* scan is the scan of a database: it asks for the HTTP worker at its beginning. */
static int
scan(RomScanPlace *place, int limit)
{
	return note_ready(place, limit, !place->begun);
}

/* The net under lost wake-ups: what has been ready for a while. */
static int64
sweep_ready(const RomSweepArgs *args)
{
	static RomScanPlace after;
	RomScanPlace place = {0};
	int			rows;

	if (args->part != 0)
		return 0;
	if (args->manual)
		return note_ready(&place, args->limit, true);
	/* asks in each: it may be for new rights, in the middle of a pass */
	rows = note_ready(&after, args->limit, true);
	if (rows < args->limit)
		memset(&after, 0, sizeof(after));
	return rows;
}

static const RomSweep resumption = {
	.name = "resumption",
	.interval = &rom_guc_resumption_interval,
	.batch = sweep_ready,
};

void
rom_resume_init(void)
{
	rom_scan_on_database(scan);
	rom_sweep_register(&resumption);
}
