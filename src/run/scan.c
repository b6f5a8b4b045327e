/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Finds work in the tables: after a start, after an overflow, and by
 *		sweeps.
 *
 * The sweeps of this file are the safety net under exact wake-ups. Each looks at a window
 * of the rows that are due, in the order of their index, and hands out those whose status
 * is its own. A window that was full is followed, in the next run, by the one behind it,
 * so that rows that cannot be run do not hide the others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "instances/inbox.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/guc.h"
#include "run/retention.h"
#include "run/scan.h"
#include "run/unused.h"

/* Rows that a sweep looks at, for each that it may hand out. */
#define WINDOW 10

/* Rows that became due less than this long ago are on their way already. */
#define GRACE USECS_PER_SEC

/* A scheduler's share: instances whose id's hash modulo $4 is $5. */
#define SHARE "($4 = 1 OR (pg_catalog.uuid_hash(i.instance_id)::bigint & 2147483647) % $4 = $5)"

/*
 * The role's oid. InvalidOid, with one line in the log, when there is no such role: an executor
 * without owner then pauses the instances of that role.
 */
static Oid
owner_oid(const char *name)
{
	static bool told = false;
	Oid			oid = get_role_oid(name, true);

	if (!OidIsValid(oid) && !told)
	{
		told = true;
		ereport(LOG,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", name),
				 errdetail("Workflow instances that are to run as this role are paused."),
				 errhint("Terminate them, or create the role again and resume them.")));
	}
	return oid;
}

/* Notes row row of the result: wake_at, instance_id, owner, priority; unless its owner is one of but. */
static void
note_row(const RomRowSet *set, uint64 row, RomScanPos *pos, List *but)
{
	bool		isnull;
	char	   *name = rom_value_text(set, row, 3, CurrentMemoryContext);
	Oid			owner = owner_oid(name);

	pos->wake_at = DatumGetTimestampTz(rom_value(set, row, 1, &isnull));
	pos->id = *DatumGetUUIDP(rom_value(set, row, 2, &isnull));
	if (!list_member_oid(but, owner))
		rom_wake_at(&pos->id, owner, DatumGetInt32(rom_value(set, row, 4, &isnull)), pos->wake_at);
	pfree(name);
}

int
rom_scan_wake(RomScanPos *pos, int limit, List *but)
{
	static RomStatement stmt = {
		"SELECT wake_at, instance_id, owner, priority"
		" FROM romancy.t_instance"
		" WHERE (wake_at, instance_id) > ($1, $2) AND wake_at < 'infinity'"
		" ORDER BY wake_at, instance_id LIMIT $3",
		3, {TIMESTAMPTZOID, UUIDOID, INT4OID}
	};
	RomEngine	engine;
	Datum		values[3];
	uint64		rows;
	uint64		i;
	RomRowSet	set;

	rom_engine_begin(&engine);
	values[0] = TimestampTzGetDatum(pos->wake_at);
	values[1] = UUIDPGetDatum(&pos->id);
	values[2] = Int32GetDatum(limit);
	rows = rom_execute_rows(&set, &stmt, values, NULL, 0);
	for (i = 0; i < rows; i++)
		note_row(&set, i, pos, but);
	rom_engine_end(&engine);
	return (int) rows;
}

int
rom_scan_ahead(RomScanPos *pos, int limit)
{
	static RomStatement stmt = {
		"SELECT CASE WHEN status = 'pending' AND wake_at > updated_at + '1 s' THEN wake_at ELSE $3 END,"
		" instance_id, owner, priority, wake_at"
		" FROM romancy.t_instance"
		" WHERE (wake_at, instance_id) > ($1, $2) AND wake_at > $3 AND wake_at < 'infinity'"
		" AND updated_at > $4 ORDER BY t_instance.wake_at, instance_id LIMIT $5",
		5, {TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	TimestampTz now = rom_now();
	RomEngine	engine;
	Datum		values[5];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	rom_engine_begin(&engine);
	values[0] = TimestampTzGetDatum(pos->wake_at);
	values[1] = UUIDPGetDatum(&pos->id);
	values[2] = TimestampTzGetDatum(now);
	values[3] = TimestampTzGetDatum(now + ROM_AHEAD_MIN);
	values[4] = Int32GetDatum(limit);
	rows = rom_execute_rows(&set, &stmt, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		note_row(&set, i, pos, NIL);
		pos->wake_at = DatumGetTimestampTz(rom_value(&set, i, 5, &isnull));
	}
	rom_engine_end(&engine);
	return (int) rows;
}

/* kinds: requests that a paused instance heeds, too, and what is left for one that has ended (RomInboxKind) */
int
rom_scan_inbox(pg_uuid_t *after, int limit)
{
	static RomStatement stmt = {
		"SELECT x.instance_id, i.owner, i.priority,"
		" i.owner IS NOT NULL AND CASE WHEN i.wake_at IS NOT NULL THEN i.status <> 'paused' OR y.kind IS NOT NULL ELSE z.kind IS NOT NULL END"
		" FROM (SELECT DISTINCT instance_id FROM romancy.t_inbox"
		"  WHERE instance_id > $1 ORDER BY instance_id LIMIT $2) x"
		" LEFT JOIN LATERAL (SELECT t.owner, t.priority, t.wake_at, t.status"
		"  FROM romancy.t_instance t WHERE t.instance_id = x.instance_id LIMIT 1) i"
		" ON true"
		" LEFT JOIN LATERAL (SELECT t.kind FROM romancy.t_inbox t"
		"  WHERE t.instance_id = x.instance_id AND t.kind IN (" ROM_SQL_INBOX_CANCEL ", " ROM_SQL_INBOX_TERMINATE ", " ROM_SQL_INBOX_RESUME ") LIMIT 1) y"
		" ON i.status = 'paused'"
		" LEFT JOIN LATERAL (SELECT t.kind FROM romancy.t_inbox t"
		"  WHERE t.instance_id = x.instance_id AND t.kind = " ROM_SQL_INBOX_LOOK_AGAIN " LIMIT 1) z"
		" ON i.owner IS NOT NULL AND i.wake_at IS NULL"
		" ORDER BY x.instance_id",
		2, {UUIDOID, INT4OID}
	};
	RomEngine	engine;
	Datum		values[2];
	uint64		rows;
	uint64		i;
	RomRowSet	set;

	rom_engine_begin(&engine);
	values[0] = UUIDPGetDatum(after);
	values[1] = Int32GetDatum(limit);
	rows = rom_execute_rows(&set, &stmt, values, NULL, 0);
	for (i = 0; i < rows; i++)
	{
		bool		isnull;

		*after = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		if (DatumGetBool(rom_value(&set, i, 4, &isnull)) && !isnull)
		{
			char	   *name = rom_value_text(&set, i, 2, CurrentMemoryContext);

			rom_wake_ready(after, owner_oid(name),
						   DatumGetInt32(rom_value(&set, i, 3, &isnull)));
			pfree(name);
		}
	}
	rom_engine_end(&engine);
	return (int) rows;
}

/* ---- sweeps ---- */

/* A sweep over due rows: its statement, and where its next window begins. */
typedef struct DueSweep
{
	RomStatement stmt;
	RomScanPos	pos;
} DueSweep;

/* The status list stands in the text, the rest are parameters. $3: window, $6: limit. */
#define DUE_SQL(statuses) \
	"SELECT i.wake_at, i.instance_id, i.owner, i.priority," \
	" i.status IN (" statuses ") AND " SHARE \
	" FROM (SELECT wake_at, instance_id, owner, priority, status" \
	"  FROM romancy.t_instance" \
	"  WHERE (wake_at, instance_id) > ($1, $2) AND wake_at <= $6" \
	"  ORDER BY wake_at, instance_id LIMIT $3) i" \
	" ORDER BY i.wake_at, i.instance_id"
#define DUE_ARGS \
	6, {TIMESTAMPTZOID, UUIDOID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID}

/* Hands out what is due and has one of the sweep's statuses. */
static int64
sweep_due(DueSweep *sweep, const RomSweepArgs *args, int limit)
{
	RomEngine	engine;
	RomScanPos	start;
	RomScanPos	pos;
	Datum		values[6];
	uint64		rows;
	uint64		i;
	int64		noted = 0;
	RomRowSet	set;

	memset(&start, 0, sizeof(start));
	start.wake_at = DT_NOBEGIN;
	if (!args->manual && sweep->pos.wake_at != 0)
		start = sweep->pos;
	pos = start;

	rom_engine_begin(&engine);
	values[0] = TimestampTzGetDatum(start.wake_at);
	values[1] = UUIDPGetDatum(&start.id);
	values[2] = Int32GetDatum(limit * WINDOW);
	values[3] = Int32GetDatum(args->nparts);
	values[4] = Int32GetDatum(args->part);
	values[5] = TimestampTzGetDatum(rom_now() - (args->manual ? 0 : GRACE));
	rows = rom_execute_rows(&set, &sweep->stmt, values, NULL, 0);
	for (i = 0; i < rows && noted < limit; i++)
	{
		bool		isnull;

		if (DatumGetBool(rom_value(&set, i, 5, &isnull)))
		{
			note_row(&set, i, &pos, NIL);
			noted++;
		}
		else
		{
			pos.wake_at = DatumGetTimestampTz(rom_value(&set, i, 1, &isnull));
			pos.id = *DatumGetUUIDP(rom_value(&set, i, 2, &isnull));
		}
	}
	if (!args->manual)
	{
		/* continue behind a full window, or else from the start */
		if (i < rows || rows >= (uint64) limit * WINDOW)
			sweep->pos = pos;
		else
			memset(&sweep->pos, 0, sizeof(sweep->pos));
	}
	rom_engine_end(&engine);
	return noted;
}

static int64
sweep_timers(const RomSweepArgs *args)
{
	static DueSweep sweep = {{DUE_SQL("'waiting_for_timer'"), DUE_ARGS}};

	return sweep_due(&sweep, args, args->limit);
}

static int64
sweep_message_timeouts(const RomSweepArgs *args)
{
	static DueSweep sweep = {{DUE_SQL("'waiting_for_message'"), DUE_ARGS}};

	return sweep_due(&sweep, args, args->limit);
}

static int64
sweep_activity_timeouts(const RomSweepArgs *args)
{
	static DueSweep sweep = {
		{DUE_SQL("'waiting_for_activity', 'waiting_for_workflow', 'compensating'"),
		DUE_ARGS}
	};

	return sweep_due(&sweep, args, args->limit);
}

static int64
sweep_resumption(const RomSweepArgs *args)
{
	static DueSweep sweep = {{DUE_SQL("'pending', 'running'"), DUE_ARGS}};

	return sweep_due(&sweep, args,
					 Min(args->limit, rom_guc_max_concurrent_resumptions));
}

/* The other half of the resumption: requests that no turn has applied. */
static int64
sweep_inbox(const RomSweepArgs *args)
{
	static pg_uuid_t after;
	pg_uuid_t	pos;
	int			limit = Min(args->limit, rom_guc_max_concurrent_resumptions);
	int			rows;

	/* few, and cheap: not shared */
	if (args->part != 0)
		return 0;
	if (args->manual)
		memset(&pos, 0, sizeof(pos));
	else
		pos = after;
	rows = rom_scan_inbox(&pos, limit);
	if (!args->manual)
	{
		if (rows >= limit)
			after = pos;
		else
			memset(&after, 0, sizeof(after));
	}
	return rows;
}

static RomScanHook scan_hook = NULL;

void
rom_scan_on_database(RomScanHook hook)
{
	scan_hook = hook;
}

RomScanHook
rom_scan_hook(void)
{
	return scan_hook;
}

void
rom_scan_init(void)
{
	static const RomSweep sweeps[] = {
		{"timers", &rom_guc_timer_interval, sweep_timers},
		{"message_timeouts", &rom_guc_message_timeout_interval,
		sweep_message_timeouts},
		{"activity_timeouts", &rom_guc_activity_timeout_interval,
		sweep_activity_timeouts},
		{"resumption", &rom_guc_resumption_interval, sweep_resumption},
		{"resumption", &rom_guc_resumption_interval, sweep_inbox},
		{"retention", &rom_guc_retention_interval, rom_retention_sweep,
		rom_retention_next_due},
		{"retention", &rom_guc_retention_interval, rom_retention_expire,
		rom_retention_next_expiry},
		{"retention", &rom_guc_retention_interval, rom_unused_sweep},
	};
	int			i;

	for (i = 0; i < lengthof(sweeps); i++)
		rom_sweep_register(&sweeps[i]);
}
