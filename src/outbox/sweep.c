/*-------------------------------------------------------------------------
 *
 * sweep.c
 *		The sweep "outbox": leases that have ended, events that are too old, and what is kept no longer.
 *
 * Two parts: deadlines, which are kept whatever the interval is, and the deletion of final events, which is not urgent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "memory/sweep.h"
#include "outbox/guc.h"
#include "outbox/settle.h"
#include "outbox/state.h"
#include "outbox/sweep.h"
#include "run/guc.h"

int
rom_outbox_sweep(void)
{
	static int	number = -1;

	if (number < 0)
		number = rom_sweep_find("outbox");
	return number;
}

/*
 * end_leases has what a program neither acknowledged nor gave back given out again, as if it had given it back when the lease
 * ended. Engine scope needed.
 */
static int64
end_leases(TimestampTz now, int limit)
{
	static RomStatement select = {
		"SELECT o.outbox_id, o.attempt, coalesce(o.replayed_at, o.created_at), o.due_at, d.retry"
		" FROM romancy.t_outbox o LEFT JOIN romancy.t_destination d ON d.destination_id = o.destination_id"
		" WHERE o.state = " ROM_SQL_OUTBOX_TAKEN " AND o.attempt > 0 AND o.due_at <= $1 ORDER BY o.due_at LIMIT $2 FOR UPDATE OF o SKIP LOCKED",
		2, {TIMESTAMPTZOID, INT4OID}
	};

	/* the rows are locked */
	static RomStatement update = {
		"UPDATE romancy.t_outbox u SET state = CASE WHEN t.at = 'infinity' THEN " ROM_SQL_OUTBOX_DEAD " ELSE " ROM_SQL_OUTBOX_PENDING " END,"
		" due_at = CASE WHEN t.at = 'infinity' THEN $1 ELSE t.at END, error = 'the lease ended before the event was acknowledged'"
		" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) t (id, at) WHERE u.outbox_id = t.id",
		3, {TIMESTAMPTZOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}
	};
	Datum		values[3] = {TimestampTzGetDatum(now), Int32GetDatum(limit)};
	RomRowSet	set;
	int			n = (int) rom_execute_rows(&set, &select, values, NULL, 0);
	Datum	   *ids = palloc_array(Datum, Max(n, 1));
	Datum	   *at = palloc_array(Datum, Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		retry = rom_value(&set, i, 5, &isnull);
		Jsonb	   *keys = isnull ? NULL : DatumGetJsonbP(retry);

		ids[i] = rom_value(&set, i, 1, &isnull);
		at[i] = TimestampTzGetDatum(rom_settle_next_attempt(DatumGetInt32(rom_value(&set, i, 2, &isnull)), DatumGetTimestampTz(rom_value(&set, i, 3, &isnull)),
															keys, DatumGetTimestampTz(rom_value(&set, i, 4, &isnull))));
	}
	if (n == 0)
		return 0;
	values[1] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(construct_array(at, n, TIMESTAMPTZOID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	return (int64) rom_execute(&update, values, NULL, 0);
}

/* expire makes events final that no program has taken for too long. */
static int64
expire(TimestampTz now, int limit)
{
	static RomStatement update = {
		"UPDATE romancy.t_outbox SET state = " ROM_SQL_OUTBOX_EXPIRED ", due_at = $1, error = 'older than romancy.outbox_max_age'"
		" WHERE outbox_id = ANY (ARRAY(SELECT o.outbox_id FROM romancy.t_outbox o WHERE o.state = " ROM_SQL_OUTBOX_PENDING
		"  AND coalesce(o.replayed_at, o.created_at) <= $2 ORDER BY coalesce(o.replayed_at, o.created_at) LIMIT $3 FOR UPDATE SKIP LOCKED))",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(now - (int64) rom_guc_outbox_max_age * USECS_PER_SEC), Int32GetDatum(limit)};

	return rom_guc_outbox_max_age > 0 ? (int64) rom_execute(&update, values, NULL, 0) : 0;
}

static int64
sweep_deadlines(const RomSweepArgs *args)
{
	TimestampTz now = rom_now();
	int64		n;
	RomEngine	engine;

	if (args->part != 0)
		return 0;				/* not shared: skip locked does that */
	rom_engine_begin(&engine);
	n = end_leases(now, args->limit) + expire(now, args->limit);
	rom_engine_end(&engine);
	return n;
}

/* first_time runs a query for the first time of an index; DT_NOEND where there is none. Engine scope needed. */
static TimestampTz
first_time(RomStatement *select)
{
	RomRowSet	set;
	bool		isnull = true;
	Datum		value = (Datum) 0;

	if (rom_execute_rows(&set, select, NULL, NULL, 1) > 0)
		value = rom_value(&set, 0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

static TimestampTz
deadlines_next_due(void)
{
	static RomStatement lease = {
		"SELECT o.due_at FROM romancy.t_outbox o WHERE o.state = " ROM_SQL_OUTBOX_TAKEN " AND o.attempt > 0 ORDER BY o.due_at LIMIT 1", 0, {InvalidOid}
	};
	static RomStatement oldest = {
		"SELECT coalesce(o.replayed_at, o.created_at) FROM romancy.t_outbox o WHERE o.state = " ROM_SQL_OUTBOX_PENDING
		" ORDER BY coalesce(o.replayed_at, o.created_at) LIMIT 1", 0, {InvalidOid}
	};
	TimestampTz due;
	TimestampTz first;
	RomEngine	engine;

	rom_engine_begin(&engine);
	due = first_time(&lease);
	first = rom_guc_outbox_max_age > 0 ? first_time(&oldest) : DT_NOEND;
	rom_engine_end(&engine);
	if (first != DT_NOEND)
		due = Min(due, first + (int64) rom_guc_outbox_max_age * USECS_PER_SEC);
	return due;
}

/* clean deletes events of the final states from first to last that became final before. */
static int64
clean(RomOutboxState first, RomOutboxState last, int keep_seconds, int limit)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_outbox WHERE outbox_id = ANY (ARRAY(SELECT o.outbox_id FROM romancy.t_outbox o"
		" WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = $1 AND o.due_at < $2 ORDER BY o.due_at LIMIT $3 FOR UPDATE SKIP LOCKED))",
		3, {INT2OID, TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[3];
	int64		n = 0;

	if (keep_seconds <= 0)
		return 0;
	values[1] = TimestampTzGetDatum(rom_now() - (int64) keep_seconds * USECS_PER_SEC);
	values[2] = Int32GetDatum(limit);
	for (int state = first; state <= last; state++)
	{
		values[0] = Int16GetDatum(state);
		n += (int64) rom_execute(&delete, values, NULL, 0);
	}
	return n;
}

static int64
sweep_final(const RomSweepArgs *args)
{
	int64		n;
	RomEngine	engine;

	if (args->part != 0)
		return 0;
	rom_engine_begin(&engine);
	n = clean(ROM_OUTBOX_PUBLISHED, ROM_OUTBOX_PUBLISHED, rom_guc_outbox_retention, args->limit);
	n += clean(ROM_OUTBOX_INVALID, ROM_OUTBOX_DEAD, rom_guc_retention, args->limit);
	rom_engine_end(&engine);
	return n;
}

static TimestampTz
final_next_due(void)
{
	static RomStatement published = {
		"SELECT o.due_at FROM romancy.t_outbox o WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_PUBLISHED
		" ORDER BY o.due_at LIMIT 1", 0, {InvalidOid}
	};
	static RomStatement others = {
		"SELECT least((SELECT o.due_at FROM romancy.t_outbox o WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_INVALID " ORDER BY o.due_at LIMIT 1),"
		" (SELECT o.due_at FROM romancy.t_outbox o WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_EXPIRED " ORDER BY o.due_at LIMIT 1),"
		" (SELECT o.due_at FROM romancy.t_outbox o WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_DEAD " ORDER BY o.due_at LIMIT 1))",
		0, {InvalidOid}
	};
	TimestampTz due = DT_NOEND;
	TimestampTz first;
	RomEngine	engine;

	rom_engine_begin(&engine);
	first = rom_guc_outbox_retention > 0 ? first_time(&published) : DT_NOEND;
	if (first != DT_NOEND)
		due = first + (int64) rom_guc_outbox_retention * USECS_PER_SEC;
	first = rom_guc_retention > 0 ? first_time(&others) : DT_NOEND;
	if (first != DT_NOEND)
		due = Min(due, first + (int64) rom_guc_retention * USECS_PER_SEC);
	rom_engine_end(&engine);
	return due;
}

void
rom_outbox_sweep_init(void)
{
	static const RomSweep deadlines = {
		.name = "outbox",
		.interval = &rom_guc_outbox_interval,
		.batch = sweep_deadlines,
		.next_due = deadlines_next_due,
		.exact = true
	};
	static const RomSweep final = {
		.name = "outbox",
		.interval = &rom_guc_outbox_interval,
		.batch = sweep_final,
		.next_due = final_next_due
	};

	rom_sweep_register(&deadlines);
	rom_sweep_register(&final);
}
