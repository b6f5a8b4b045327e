/*-------------------------------------------------------------------------
 *
 * retention.c
 *		Old instances and outputs go: the sweep "retention".
 *
 * There is no index on the time at which instances ended, for it would cost
 * every instance an entry. The sweep goes through the index on created_at
 * instead, a window at a time, up to the first that is too young to be over;
 * live ones that are older are passed by. Where a window ends is remembered, so
 * that they are looked at once in a pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/clock.h"
#include "base/spi.h"
#include "instances/delete.h"
#include "instances/history.h"
#include "run/guc.h"
#include "run/retention.h"

/* Rows that are looked at, for each that may be deleted. */
#define WINDOW 10

/* When an output expires, and which have a time for it: as in index t_instance_expires. UTC, because an index needs what no setting changes. */
#define EXPIRES "((finished_at AT TIME ZONE 'UTC') + result_expires)"
#define HAS_EXPIRY \
	"(output IS NOT NULL OR output_seq IS NOT NULL OR output_document IS NOT NULL) AND result_expires IS NOT NULL AND finished_at IS NOT NULL"

/* romancy.retention, NULL when it is off. */
static Datum
global_retention(bool *isnull)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (int64) rom_guc_retention * USECS_PER_SEC;
	*isnull = rom_guc_retention == 0;
	return IntervalPGetDatum(interval);
}

/*
 * The shortest retention there is, applied to now: an instance that was created later cannot have
 * passed its retention. False when no retention is set.
 */
static bool
cutoff(TimestampTz now, TimestampTz *at)
{
	static RomStatement stmt = {
		"SELECT $2 - least($1, pg_catalog.min(retention))"
		" FROM romancy.t_workflow",
		2, {INTERVALOID, TIMESTAMPTZOID}
	};
	Datum		values[2];
	bool		nulls[2] = {false, false};
	bool		isnull;
	RomRowSet	set;

	values[0] = global_retention(&nulls[0]);
	values[1] = TimestampTzGetDatum(now);
	rom_execute_rows(&set, &stmt, values, nulls, 0);
	*at = DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
	return !isnull;
}

/* Where the pass is. */
typedef struct Position
{
	TimestampTz created_at;
	pg_uuid_t	id;
} Position;

/*
 * Collects up to limit instances that have passed their retention from the window behind pos, which moves. Returns
 * how many; *full: the pass continues.
 */
static int
find_over(Position *pos, const RomSweepArgs *args, TimestampTz now,
		  TimestampTz before, Datum *ids, bool *full)
{
	static RomStatement stmt = {
		"SELECT i.created_at, i.instance_id,"
		" i.finished_at < $1 - coalesce(w.retention, $2)"
		" AND ($7 = 1 OR (pg_catalog.uuid_hash(i.instance_id)::bigint & 2147483647) % $7 = $8)"
		" FROM (SELECT created_at, instance_id, finished_at, def_id"
		"  FROM romancy.t_instance"
		"  WHERE (created_at, instance_id) > ($3, $4) AND created_at < $5"
		"  ORDER BY created_at, instance_id LIMIT $6) i"
		" LEFT JOIN romancy.t_workflow w ON w.def_id = i.def_id"
		" ORDER BY i.created_at, i.instance_id",
		8, {TIMESTAMPTZOID, INTERVALOID, TIMESTAMPTZOID, UUIDOID,
		TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID}
	};
	Datum		values[8];
	bool		nulls[8] = {false};
	uint64		rows;
	uint64		i;
	int			n = 0;
	RomRowSet	set;

	values[0] = TimestampTzGetDatum(now);
	values[1] = global_retention(&nulls[1]);
	values[2] = TimestampTzGetDatum(pos->created_at);
	values[3] = UUIDPGetDatum(&pos->id);
	values[4] = TimestampTzGetDatum(before);
	values[5] = Int32GetDatum(args->limit * WINDOW);
	values[6] = Int32GetDatum(args->nparts);
	values[7] = Int32GetDatum(args->part);
	rows = rom_execute_rows(&set, &stmt, values, nulls, 0);
	for (i = 0; i < rows && n < args->limit; i++)
	{
		bool		isnull;
		bool		over;

		pos->created_at = DatumGetTimestampTz(rom_value(&set, i, 1, &isnull));
		pos->id = *DatumGetUUIDP(rom_value(&set, i, 2, &isnull));
		over = DatumGetBool(rom_value(&set, i, 3, &isnull));
		if (over && !isnull)
			ids[n++] = rom_value_copy(&set, i, 2, &isnull, CurrentMemoryContext);
	}
	*full = i < rows || rows >= (uint64) args->limit * WINDOW;
	return n;
}

/*
 * without_held takes those out of ids of which another transaction has a task: a program that ends one after its instance's end. A scheduler, which
 * serves all roles, does not wait for it; the next pass finds them.
 */
static int
without_held(Datum *ids, int n)
{
	static RomStatement stmt = {
		"WITH l AS MATERIALIZED (SELECT instance_id FROM romancy.t_task WHERE instance_id = ANY ($1) FOR UPDATE SKIP LOCKED)"

		/*
		 * (numbers, and no joins: a plan that knows nothing of $1 would read
		 * all tasks)
		 */
		" SELECT u.id FROM pg_catalog.unnest($1) u (id) WHERE (SELECT count(*) FROM romancy.t_task t WHERE t.instance_id = u.id)"
		" = (SELECT count(*) FROM l WHERE l.instance_id = u.id)",
		1, {UUIDARRAYOID}
	};
	Datum		value = PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	RomRowSet	set;
	int			rows = (int) rom_execute_rows(&set, &stmt, &value, NULL, 0);
	bool		isnull;

	for (int i = 0; i < rows; i++)
		ids[i] = rom_value_copy(&set, i, 1, &isnull, CurrentMemoryContext);
	return rows;
}

/* Locks those of ids that are still finished and that no other transaction holds. */
static int
lock_finished(Datum *ids, int n)
{
	static RomStatement stmt = {
		"SELECT instance_id FROM romancy.t_instance"
		" WHERE instance_id = ANY ($1) AND finished_at IS NOT NULL"
		" AND wake_at IS NULL"
		/* neither a live child's parent nor what a live instance continued */
		" AND NOT EXISTS (SELECT FROM romancy.t_instance c"
		"  WHERE c.parent_id = t_instance.instance_id AND c.wake_at IS NOT NULL)"
		" AND NOT EXISTS (SELECT FROM romancy.t_instance c"
		"  WHERE c.continued_from = t_instance.instance_id AND c.wake_at IS NOT NULL)"
		" FOR UPDATE SKIP LOCKED",
		1, {UUIDARRAYOID}
	};
	Datum		value = PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN,
														false, TYPALIGN_CHAR));
	RomRowSet	set;
	int			rows = (int) rom_execute_rows(&set, &stmt, &value, NULL, 0);
	int			i;

	for (i = 0; i < rows; i++)
	{
		bool		isnull;

		ids[i] = rom_value_copy(&set, i, 1, &isnull, CurrentMemoryContext);
	}
	return rows;
}

int64
rom_retention_sweep(const RomSweepArgs *args)
{
	static Position next;		/* of this process's pass, */
	static Position next_ahead; /* and of its look at what is ahead */
	Position	pos;
	RomEngine	engine;
	TimestampTz now = rom_now();
	TimestampTz before;
	Datum	   *ids;
	int64		deleted = 0;
	bool		full = false;

	memset(&pos, 0, sizeof(pos));
	pos.created_at = DT_NOBEGIN;
	if (!args->manual && next.created_at != 0)
		pos = next;

	rom_engine_begin(&engine);
	if (cutoff(now, &before))
	{
		int			n;

		ids = palloc(args->limit * sizeof(Datum));
		n = find_over(&pos, args, now, before, ids, &full);
		if (n == 0 && !full)
		{
			/* those that were started while the clock was ahead */
			Position	ahead = {now + ROM_AHEAD_MIN};
			bool		more;

			if (!args->manual && next_ahead.created_at > ahead.created_at)
				ahead = next_ahead;
			n = find_over(&ahead, args, now, DT_NOEND, ids, &more);
			if (!args->manual && more)
				next_ahead = ahead;
			else if (!args->manual)
				memset(&next_ahead, 0, sizeof(next_ahead));
		}
		if (n > 0)
			n = lock_finished(ids, n);
		if (n > 0)
			n = without_held(ids, n);
		if (n > 0)
			deleted = rom_delete_instances(
										   PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN,
																		   false, TYPALIGN_CHAR)));
	}
	if (!args->manual)
	{
		if (full)
			next = pos;
		else
			memset(&next, 0, sizeof(next));
	}
	rom_engine_end(&engine);
	return deleted;
}

/* When the oldest of the finished ones is over: the others, hardly before. */
TimestampTz
rom_retention_next_due(void)
{
	static RomStatement stmt = {
		"SELECT i.finished_at + coalesce(w.retention, $1)"
		" FROM romancy.t_instance i"
		" LEFT JOIN romancy.t_workflow w ON w.def_id = i.def_id"
		" WHERE i.finished_at IS NOT NULL"
		" AND coalesce(w.retention, $1) IS NOT NULL"
		" ORDER BY i.created_at, i.instance_id LIMIT 1",
		1, {INTERVALOID}
	};
	RomEngine	engine;
	Datum		value;
	bool		isnull;
	TimestampTz due = DT_NOEND;
	RomRowSet	set;

	rom_engine_begin(&engine);
	value = global_retention(&isnull);
	if (rom_execute_rows(&set, &stmt, &value, &isnull, 1) > 0)
		due = DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
	rom_engine_end(&engine);
	return due;
}

int64
rom_retention_expire(const RomSweepArgs *args)
{
	static RomStatement stmt = {
		"UPDATE romancy.t_instance i SET output = NULL, output_seq = NULL, output_document = NULL FROM"
		" (SELECT instance_id, output_document FROM romancy.t_instance"
		"  WHERE " EXPIRES " <= ($1 AT TIME ZONE 'UTC') AND " HAS_EXPIRY
		"  ORDER BY " EXPIRES " LIMIT $2 FOR UPDATE SKIP LOCKED) x"
		" WHERE i.instance_id = x.instance_id RETURNING i.instance_id, x.output_document IS NOT NULL",
		2, {TIMESTAMPTZOID, INT4OID}
	};

	/* what the members of a canvas have given is its output as well */
	static RomStatement members = {
		"WITH had AS (SELECT join_id, member FROM romancy.t_canvas_result WHERE instance_id = $1 AND (value_document IS NOT NULL OR input_document IS NOT NULL)),"
		" gone AS (UPDATE romancy.t_canvas_result SET value = NULL, input = NULL, value_document = NULL, input_document = NULL WHERE instance_id = $1)"
		" SELECT 1 FROM had LIMIT 1",
		1, {UUIDOID}
	};
	RomEngine	engine;
	Datum		values[2];
	int64		rows;
	pg_uuid_t  *ids;
	bool	   *documents;
	RomRowSet	set;

	if (args->part != 0)
		return 0;				/* an UPDATE of a few rows: not shared */
	rom_engine_begin(&engine);
	values[0] = TimestampTzGetDatum(rom_now());
	values[1] = Int32GetDatum(args->limit);
	rows = (int64) rom_execute_rows(&set, &stmt, values, NULL, 0);
	ids = palloc_array(pg_uuid_t, rows + 1);
	documents = palloc_array(bool, rows + 1);
	for (int64 i = 0; i < rows; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		documents[i] = DatumGetBool(rom_value(&set, i, 2, &isnull));
	}
	for (int64 i = 0; i < rows; i++)
	{
		values[0] = UUIDPGetDatum(&ids[i]);
		if (rom_execute(&members, values, NULL, 0) > 0 || documents[i])
			rom_history_forget_documents(&ids[i]);
	}
	rom_engine_end(&engine);
	return rows;
}

TimestampTz
rom_retention_next_expiry(void)
{
	static RomStatement stmt = {
		"SELECT " EXPIRES " AT TIME ZONE 'UTC' FROM romancy.t_instance"
		" WHERE " HAS_EXPIRY " ORDER BY " EXPIRES " LIMIT 1",
		0, {0}
	};
	RomEngine	engine;
	bool		isnull;
	TimestampTz due = DT_NOEND;
	RomRowSet	set;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &stmt, NULL, NULL, 1) > 0)
		due = DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
	rom_engine_end(&engine);
	return due;
}
