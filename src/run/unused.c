/*-------------------------------------------------------------------------
 *
 * unused.c
 *		Deletes rows that no instance needs any more: a part of the sweep
 *		"retention".
 *
 * A start of an undefined name, and the first turn of an instance, refer to a row of t_workflow or of
 * t_settings that the backend has cached, without a look at the table or a lock. So a row cannot be deleted
 * as soon as no instance refers to it: a transaction that still runs may be about to. Its column leaving takes it out in steps,
 * each in a transaction of its own, under a lock that one process has at a time:
 *
 *	0		in use
 *	1		no instance refers to it. The caches are told; no look-up from now on will use it for a new instance.
 *	2		the message to the caches has been sent: the lock of step 1 was released after that. A backend that still
 *			uses the row began its statement, and has its snapshot, from before this step's transaction ended.
 *	3		no snapshot is as old as step 2: no backend is between the cache and its INSERT any more. Such rows were
 *			inserted in transactions that are older than this step's.
 *	gone	all transactions older than step 3 are over, and no instance refers to the row
 *	4		they are, and one does: the row stays, for that one only, and is looked at again
 *
 * There is no index of instances by these columns, for each start would pay for it. The sweep reads all of
 * t_instance once for a thousand rows, and a row is looked at once a day.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/table.h"
#include "run/unused.h"

#define LOCK_UNUSED 0x726f6d55	/* "romU" */

#define PERIOD_MS (INT64CONST(86400) * 1000)	/* between two looks at a row */

/* The statements for one table; its rows are known by the column id of theirs, and of t_instance. */
typedef struct Unused
{
	const char *table;
	RomStatement advance;		/* (oldest snapshot, next transaction) */
	RomStatement due;			/* (looked at before, oldest snapshot, next
								 * transaction) */
	RomStatement used;			/* (ids) */
	RomStatement drop;			/* (due, used) */
	RomStatement keep;			/* (due, used, now) */
} Unused;

/* A transaction that is over for all: or one of the cluster that a dump came from, which has no transactions here. */
#define OVER(oldest, next) "(leaving_xid < " oldest " OR leaving_xid >= " next ")"

#define UNUSED(name, t, t_id, i_id, which) { \
	.table = (name), \
	.advance = { \
		"UPDATE " t " SET leaving = leaving + 1, leaving_xid = pg_catalog.pg_current_xact_id()" \
		" WHERE leaving = 1 OR leaving = 2 AND " OVER("$1", "$2"), \
		2, {XID8OID, XID8OID} \
	}, \
	.due = { \
		"SELECT pg_catalog.array_agg(d.id) FROM (SELECT " t_id " AS id FROM " t \
		" WHERE " which " AND (leaving IN (0, 4) AND looked_at < $1 OR leaving = 3 AND " OVER("$2", "$3") ")" \
		" ORDER BY looked_at LIMIT 1000) d", \
		3, {TIMESTAMPTZOID, XID8OID, XID8OID} \
	}, \
	.used = { \
		"SELECT coalesce(pg_catalog.array_agg(DISTINCT " i_id "), '{}') FROM romancy.t_instance WHERE " i_id " = ANY ($1)", \
		1, {INT4ARRAYOID} \
	}, \
	.drop = { \
		"DELETE FROM " t " WHERE " t_id " = ANY ($1) AND " t_id " <> ALL ($2) AND leaving >= 3", \
		2, {INT4ARRAYOID, INT4ARRAYOID} \
	}, \
	.keep = { \
		"WITH k AS (UPDATE " t " SET looked_at = $3, leaving = CASE WHEN leaving >= 3 THEN 4 WHEN " t_id " = ANY ($2) THEN 0 ELSE 1 END" \
		" WHERE " t_id " = ANY ($1) RETURNING leaving) SELECT pg_catalog.count(*) FROM k WHERE leaving = 1", \
		3, {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID} \
	} \
}

static Unused tables[] = {
	UNUSED("t_workflow", "romancy.t_workflow", "def_id", "def_id", "NOT defined"),
	UNUSED("t_settings", "romancy.t_settings", "settings_id", "settings", "true"),
};

/* oldest_snapshot gives the transaction from which on some snapshot, or a running transaction, may not see what was done. */
static FullTransactionId
oldest_snapshot(const char *table, FullTransactionId next)
{
	Relation	rel = rom_table_open(table, AccessShareLock);
	TransactionId oldest = GetOldestNonRemovableTransactionId(rel);
	uint32		epoch = EpochFromFullTransactionId(next);

	table_close(rel, AccessShareLock);
	if (oldest > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, oldest);
}

/* sweep_table takes the rows of one table further. Engine scope needed. */
static int64
sweep_table(Unused *u, TimestampTz before)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId oldest = oldest_snapshot(u->table, next);
	Datum		values[3];
	Datum		due;
	RomRowSet	set;
	bool		isnull;
	int64		flagged;
	int64		rows;

	/* first: not what this transaction flags itself */
	values[0] = FullTransactionIdGetDatum(oldest);
	values[1] = FullTransactionIdGetDatum(next);
	rows = (int64) rom_execute(&u->advance, values, NULL, 0);

	values[0] = TimestampTzGetDatum(before);
	values[1] = FullTransactionIdGetDatum(oldest);

	/*
	 * anew: the row that this transaction has just marked was not marked by
	 * another
	 */
	values[2] = FullTransactionIdGetDatum(ReadNextFullTransactionId());
	rom_execute_rows(&set, &u->due, values, NULL, 0);
	due = rom_value_copy(&set, 0, 1, &isnull, CurrentMemoryContext);
	if (isnull)
		return rows;
	values[0] = due;
	rom_execute_rows(&set, &u->used, values, NULL, 0);
	values[1] = rom_value_copy(&set, 0, 1, &isnull, CurrentMemoryContext);
	rows += (int64) rom_execute(&u->drop, values, NULL, 0);
	values[2] = TimestampTzGetDatum(rom_now());
	rom_execute_rows(&set, &u->keep, values, NULL, 0);
	flagged = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	if (flagged > 0)
		CacheInvalidateRelcacheByRelid(rom_relation_oid(u->table));
	return rows + flagged;
}

int64
rom_unused_sweep(const RomSweepArgs *args)
{
	TimestampTz before = args->manual ? DT_NOEND : TimestampTzPlusMilliseconds(rom_now(), -PERIOD_MS);
	LOCKTAG		tag;
	RomEngine	engine;
	int64		rows = 0;

	if (args->part != 0)
		return 0;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_UNUSED, 0, 3);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return 0;
	rom_engine_begin(&engine);
	for (int i = 0; i < lengthof(tables); i++)
		rows += sweep_table(&tables[i], before);
	rom_engine_end(&engine);
	return rows;
}
