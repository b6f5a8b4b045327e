/*-------------------------------------------------------------------------
 *
 * bucket_rows.c
 *		The contents of rate limit buckets as rows of t_bucket.
 *
 * Without the executor: it is done for each activity of some limits, and at the
 * end of a transaction (throttle.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/rows.h"
#include "base/table.h"
#include "memory/bucket_rows.h"

/* Outdated rows that go when one comes. */
#define PRUNE 4

static RomTable table = {
	"t_bucket", 6, {"scope", "key", "tokens", "at", "full_at", "id"}
};

bool
rom_bucket_rows_read(const char *scope, const char *key, double *left, TimestampTz *at)
{
	ScanKeyData keys[2];
	IndexScanDesc scan;
	RomRows		rows;
	bool		found;
	bool		isnull;

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(scope));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(key));
	rom_rows_open(&rows, &table, "t_bucket_newest", false);
	scan = rom_index_beginscan(rows.rel, rows.index, rows.snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, rows.slot);
	if (found)
	{
		*left = DatumGetFloat8(rom_rows_column(&rows, 2, &isnull));
		*at = DatumGetTimestampTz(rom_rows_column(&rows, 3, &isnull));
	}
	index_endscan(scan);
	rom_rows_close(&rows);
	return found;
}

/* prune deletes rows of buckets that are full again, that no other transaction deletes at the moment. */
static void
prune(void)
{
	ScanKeyData key;
	IndexScanDesc scan;
	RomRows		rows;
	int			n = 0;

	ScanKeyInit(&key, 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(GetCurrentTimestamp()));
	rom_rows_open(&rows, &table, "t_bucket_full", true);
	scan = rom_index_beginscan(rows.rel, rows.index, rows.snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < PRUNE && index_getnext_slot(scan, ForwardScanDirection, rows.slot))
	{
		(void) rom_table_delete(&table, &rows.slot->tts_tid, false);
		n++;
	}
	index_endscan(scan);
	rom_rows_close(&rows);
}

void
rom_bucket_rows_write(const char *scope, const char *key, double left, TimestampTz at, int64 period)
{
	Datum		values[6];
	bool		nulls[6] = {0};

	/* called at the end of a transaction, when there is no snapshot any more */
	PushActiveSnapshot(GetTransactionSnapshot());
	values[0] = CStringGetTextDatum(scope);
	values[1] = CStringGetTextDatum(key);
	values[2] = Float8GetDatum(left);
	values[3] = TimestampTzGetDatum(at);
	values[4] = TimestampTzGetDatum(at + period);
	values[5] = Int64GetDatum(rom_table_next_id("t_bucket_id_seq"));
	rom_table_insert(&table, values, nulls);
	prune();
	PopActiveSnapshot();
}
