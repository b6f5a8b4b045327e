/*-------------------------------------------------------------------------
 *
 * rows.c
 *		Finding rows of an engine table by an index, without the executor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/rows.h"
#include "base/spi.h"

#define PKEY "_pkey"

/* is_primary: does the name stand for a table's primary key, whatever a DBA has named that since? The others are known by name alone. */
static bool
is_primary(const char *name)
{
	size_t		length = strlen(name);

	return length > strlen(PKEY) && strcmp(name + length - strlen(PKEY), PKEY) == 0;
}

/* find_index finds an index of the table. */
static Oid
find_index(Relation rel, const char *name)
{
	Oid			oid;

	if (!is_primary(name))
		return rom_relation_oid(name);
	oid = ROM_PRIMARY_KEY(rel);
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table romancy.%s has no primary key that is valid and not deferrable", RelationGetRelationName(rel)),
				 errhint("Indexes and columns that romancy brings have to stay: create it again.")));
	return oid;
}

/*
 * check_columns raises 55000 where a DBA has replaced the primary key by one of other columns, which a search would take for those of the table's
 * definition. The columns of an index never change, so each is looked at once.
 */
static void
check_columns(Relation index, const char *name)
{
	static const struct
	{
		const char *name;
		const char *columns;
	}			keys[] = {
		{"t_activity" PKEY, "namespace, name"},
		{"t_destination" PKEY, "namespace, name"},
		{"t_document" PKEY, "id, copy"},
		{"t_history" PKEY, "instance_id, last_seq"},
		{"t_idempotency" PKEY, "namespace, owner, workflow, idempotency_key"},
		{"t_inbox" PKEY, "instance_id, id"},
		{"t_instance" PKEY, "instance_id"},
		{"t_namespace" PKEY, "namespace_id"},
		{"t_queue" PKEY, "name"},
		{"t_settings" PKEY, "settings_id"},
		{"t_task" PKEY, "task_id"},
		{"t_workflow" PKEY, "def_id"},
	};
	static Oid	seen[lengthof(keys)];
	StringInfoData has;

	for (int k = 0; k < lengthof(keys) && OidIsValid(seen[k]); k++)
		if (seen[k] == RelationGetRelid(index))
			return;
	for (int k = 0; k < lengthof(keys); k++)
	{
		if (strcmp(keys[k].name, name) != 0)
			continue;
		initStringInfo(&has);
		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
			appendStringInfo(&has, "%s%s", i > 0 ? ", " : "", NameStr(TupleDescAttr(RelationGetDescr(index), i)->attname));
		if (strcmp(has.data, keys[k].columns) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the primary key of table romancy.%.*s has other columns", (int) (strlen(name) - strlen(PKEY)), name),
					 errdetail("It is on (%s) instead of (%s).", has.data, keys[k].columns),
					 errhint("Another primary key may take its place, on the same columns in the same order.")));
		pfree(has.data);
		memmove(&seen[1], seen, sizeof(seen) - sizeof(seen[0]));
		seen[0] = RelationGetRelid(index);
		return;
	}
	elog(ERROR, "the columns of %s are not known", name);
}

/*
 * open_index opens that index. Its table is locked, so an index
 * that REINDEX CONCURRENTLY replaces at this moment can still be used; but another
 * index may already have taken its place.
 */
static Relation
open_index(Relation rel, const char *name, LOCKMODE mode)
{
	for (;;)
	{
		Oid			oid = find_index(rel, name);
		Relation	index = index_open(oid, mode);

		if (index->rd_index->indisvalid)
		{
			if (is_primary(name))
				check_columns(index, name);
			return index;
		}
		index_close(index, mode);
		if (find_index(rel, name) == oid)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("index romancy.%s is not valid", name),
					 errhint("Run REINDEX INDEX CONCURRENTLY romancy.%s.", name)));
	}
}

/* open_at opens the table with the lock mode, and an index of it, for rows that snapshot sees. */
static void
open_at(RomRows *rows, RomTable *table, const char *index, LOCKMODE mode, LOCKMODE index_mode, Snapshot (*snapshot) (void))
{
	rows->table = table;
	rows->rel = rom_table_open(table->name, mode);
	(void) rom_table_oid(table);	/* it may have changed while we waited for
									 * the lock */
	rows->index = open_index(rows->rel, index, index_mode);
	rows->snapshot = RegisterSnapshot(snapshot());
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->scan = NULL;
	rows->active = false;
}

void
rom_rows_open(RomRows *rows, RomTable *table, const char *index, bool writing)
{
	LOCKMODE	mode = writing ? RowExclusiveLock : AccessShareLock;

	if (writing)
		rom_table_may_write("UPDATE");
	open_at(rows, table, index, mode, mode, GetLatestSnapshot);
}

void
rom_rows_open_select(RomRows *rows, RomTable *table, const char *index, bool locking)
{
	if (locking)
		rom_table_may_write("SELECT FOR NO KEY UPDATE");
	CommandCounterIncrement();
	open_at(rows, table, index, locking ? RowShareLock : AccessShareLock, AccessShareLock, GetTransactionSnapshot);
}

void
rom_rows_open_active(RomRows *rows, RomTable *table, const char *index)
{
	open_at(rows, table, index, AccessShareLock, AccessShareLock, GetActiveSnapshot);
	rows->active = true;
}

void
rom_rows_close(RomRows *rows)
{
	if (rows->scan != NULL)
		index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->slot);
	UnregisterSnapshot(rows->snapshot);
	index_close(rows->index, NoLock);
	table_close(rows->rel, NoLock);
}

/* find finds the first visible row for a key of so many columns. */
static bool
find(RomRows *rows, ScanKey key, int nkeys)
{
	/* own changes since the last search count, too */
	if (!rows->active)
		rows->snapshot->curcid = GetCurrentCommandId(false);
	if (rows->scan != NULL && rows->nkeys != nkeys)
	{
		index_endscan(rows->scan);
		rows->scan = NULL;
	}
	if (rows->scan == NULL)
		rows->scan = rom_index_beginscan(rows->rel, rows->index, rows->snapshot, nkeys);
	rows->nkeys = nkeys;
	index_rescan(rows->scan, key, nkeys, NULL, 0);
	return rom_rows_next(rows);
}

bool
rom_rows_next(RomRows *rows)
{
	return index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot);
}

bool
rom_rows_find(RomRows *rows, const pg_uuid_t *id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	return find(rows, &key, 1);
}

/* text_key makes the key of column n of the index. */
static void
text_key(ScanKey key, AttrNumber n, const char *text)
{
	ScanKeyEntryInitialize(key, 0, n, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(text));
}

bool
rom_rows_find_text(RomRows *rows, const char *text)
{
	ScanKeyData key;

	text_key(&key, 1, text);
	return find(rows, &key, 1);
}

bool
rom_rows_find_int(RomRows *rows, int32 number)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	return find(rows, &key, 1);
}

bool
rom_rows_find_int_text(RomRows *rows, int32 number, const char *text)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	text_key(&keys[1], 2, text);
	return find(rows, keys, 2);
}

bool
rom_rows_undecided(RomRows *rows, ScanKey key, int nkeys, bool *none)
{
	SnapshotData dirty;
	IndexScanDesc scan;
	bool		undecided = false;

	InitDirtySnapshot(dirty);
	scan = rom_index_beginscan(rows->rel, rows->index, &dirty, nkeys);
	index_rescan(scan, key, nkeys, NULL, 0);
	*none = true;
	while (!undecided && index_getnext_slot(scan, ForwardScanDirection, rows->slot))
	{
		undecided = TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
		*none = false;
	}
	index_endscan(scan);
	return undecided;
}

/* lock locks the row that was found. */
static bool
lock(RomRows *rows, LockWaitPolicy policy, uint8 flags)
{
	ItemPointerData tid = rows->slot->tts_tid;
	TM_FailureData failure;

	return table_tuple_lock(rows->rel, &tid, rows->snapshot, rows->slot,
							GetCurrentCommandId(false), LockTupleExclusive, policy,
							flags, &failure) == TM_Ok;
}

bool
rom_rows_lock(RomRows *rows)
{
	return lock(rows, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION);
}

bool
rom_rows_try_lock(RomRows *rows)
{
	return lock(rows, LockWaitSkip, 0);
}

bool
rom_rows_claim(RomRows *rows, LockTupleMode mode, bool wait)
{
	ItemPointerData tid = rows->slot->tts_tid;
	uint8		flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_FailureData failure;
	TM_Result	result;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	result = table_tuple_lock(rows->rel, &tid, rows->snapshot, rows->slot, GetCurrentCommandId(false),
							  mode, wait ? LockWaitBlock : LockWaitSkip, flags, &failure);
	if ((result == TM_Updated || result == TM_Deleted) && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
	return result == TM_Ok;
}

Datum
rom_rows_column(RomRows *rows, int column, bool *isnull)
{
	return rom_table_column(rows->table, rows->slot, column, isnull);
}

char *
rom_rows_text(RomRows *rows, int column)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}
