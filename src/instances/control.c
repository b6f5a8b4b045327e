/*-------------------------------------------------------------------------
 *
 * control.c
 *		Whose work the tables hold: this database's, or that of one it is a copy of.
 *
 * A row of t_control names the cluster and the database. Where it names others,
 * the tables came with a copy, and nothing of it runs until an administrator
 * adopts it. So they did where the cluster has since been restored to a point in time: the history of its timeline says so. A copy that brought no work needs none of that,
 * but for a dump, whose row of t_control may be restored after its work.
 *
 * Rows that were restored from a dump of another cluster hold transaction ids
 * that may be given out here once more, or never. They are replaced when they
 * are first needed, or at the adoption; column xids_of says whether that is done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/spi.h"
#include "base/table.h"
#include "base/version.h"
#include "instances/control.h"
#include "memory/wake.h"

/*
 * begins_at_target reads the history file of timeline now, and says whether a timeline since
 * "since" began because recovery had reached its target, a point in time. A standby that was
 * promoted, and a recovery to the end of the archive, leave "no recovery target specified"
 * (getRecoveryStopReason() in the server).
 */
static bool
begins_at_target(TimeLineID since, TimeLineID now)
{
	char		path[MAXPGPATH];
	char		line[MAXPGPATH];
	bool		at_target = false;
	FILE	   *file;

	TLHistoryFilePath(path, now);
	file = AllocateFile(path, "r");
	while (file != NULL && !at_target && fgets(line, sizeof(line), file) != NULL)
	{
		unsigned int parent;

		if (sscanf(line, "%u\t%*X/%*X\t", &parent) == 1 && parent >= since)
			at_target = strstr(line, "no recovery target specified") == NULL;
	}
	if (file != NULL)
		FreeFile(file);
	return at_target;
}

/* is_restored: was the cluster, since the work became this database's on timeline since, restored to a point in time? */
static bool
is_restored(TimeLineID since)
{
	static TimeLineID known_since = 0;
	static TimeLineID known_now = 0;
	static bool known = false;
	TimeLineID	now;

	if (RecoveryInProgress())
		return false;
	now = GetWALInsertionTimeLine();
	if (now <= since)
		return false;
	if (known_since != since || known_now != now)
	{
		known = begins_at_target(since, now);
		known_since = since;
		known_now = now;
	}
	return known;
}

/* column is a column of the row in slot, which has no nulls. */
static Datum
column(TupleTableSlot *slot, const char *name)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	bool		isnull;

	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return slot_getattr(slot, i + 1, &isnull);
	elog(ERROR, "table t_control has no column %s", name);
}

/*
 * Every row has to name us: a restored dump brings its own one beside that of CREATE EXTENSION. (Each executor looks when it begins, so this
 * does without SPI; the table has one row.)
 */
bool
rom_control_matches(void)
{
	Relation	rel = rom_table_open("t_control", AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		some = false;
	bool		matches = true;
	TimeLineID	timeline = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		some = true;
		matches = matches && DatumGetInt64(column(slot, "system_identifier")) == (int64) GetSystemIdentifier() &&
			DatumGetObjectId(column(slot, "database_oid")) == MyDatabaseId;
		timeline = Max(timeline, (TimeLineID) DatumGetInt32(column(slot, "timeline")));
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return some && matches && !is_restored(timeline);
}

static void (*on_foreign_xids) (void) = NULL;

void
rom_control_on_foreign_xids(void (*function) (void))
{
	on_foreign_xids = function;
}

void
rom_control_own_xids(void)
{
	static RomStatement look = {
		"SELECT pg_catalog.bool_and(xids_of = $1) FROM romancy.t_control",
		1, {INT8OID}
	};
	static RomStatement lock = {"SELECT 1 FROM romancy.t_control FOR UPDATE", 0, {0}};
	static RomStatement update = {"UPDATE romancy.t_control SET xids_of = $1", 1, {INT8OID}};
	static bool own = false;
	static FullTransactionId taken = {0};
	Datum		value = Int64GetDatum((int64) GetSystemIdentifier());
	bool		isnull;
	RomRowSet	set;

	if (own)
		return;
	for (int i = 0; i < 2; i++)
	{
		rom_execute_rows(&set, &look, &value, NULL, 0);
		if (DatumGetBool(rom_value(&set, 0, 1, &isnull)) || isnull)
		{
			/* what this transaction did may be rolled back */
			own = !FullTransactionIdEquals(taken, GetTopFullTransactionIdIfAny()) ||
				!FullTransactionIdIsValid(taken);
			return;
		}
		if (i == 0)
			rom_execute(&lock, NULL, NULL, 0);
	}
	on_foreign_xids();
	rom_execute(&update, &value, NULL, 0);
	taken = GetTopFullTransactionId();
}

/*
 * Rows that another server's logical replication brought did not take their ids from the sequences
 * here. Engine scope needed.
 */
static void
advance_sequences(void)
{
	static RomStatement stmts[] = {
		{"SELECT pg_catalog.setval('romancy.t_namespace_namespace_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(namespace_id) FROM romancy.t_namespace"
		" UNION ALL SELECT last_value FROM romancy.t_namespace_namespace_id_seq WHERE is_called) s (m)", 0, {0}},
		{"SELECT pg_catalog.setval('romancy.t_workflow_def_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(def_id) FROM romancy.t_workflow"
		" UNION ALL SELECT last_value FROM romancy.t_workflow_def_id_seq WHERE is_called) s (m)", 0, {0}},
		{"SELECT pg_catalog.setval('romancy.t_settings_settings_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(settings_id) FROM romancy.t_settings"
		" UNION ALL SELECT last_value FROM romancy.t_settings_settings_id_seq WHERE is_called) s (m)", 0, {0}},
		{"SELECT pg_catalog.setval('romancy.t_inbox_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(id) FROM romancy.t_inbox"
		" UNION ALL SELECT last_value FROM romancy.t_inbox_id_seq WHERE is_called) s (m)", 0, {0}},
		{"SELECT pg_catalog.setval('romancy.t_message_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(id) FROM romancy.t_message"
		" UNION ALL SELECT last_value FROM romancy.t_message_id_seq WHERE is_called) s (m)", 0, {0}},
		{"SELECT pg_catalog.setval('romancy.t_bucket_id_seq', pg_catalog.max(m))"
			" FROM (SELECT max(id) FROM romancy.t_bucket"
		" UNION ALL SELECT last_value FROM romancy.t_bucket_id_seq WHERE is_called) s (m)", 0, {0}}
	};

	for (int i = 0; i < lengthof(stmts); i++)
		rom_execute(&stmts[i], NULL, NULL, 0);
}

/* Makes the work ours. Engine scope needed. */
static void
write_control(void)
{
	static RomStatement clear = {"DELETE FROM romancy.t_control", 0, {0}};
	static RomStatement insert = {
		"INSERT INTO romancy.t_control (system_identifier, database_oid, xids_of, timeline)"
		" VALUES ($1, $2, $1, $3)",
		3, {INT8OID, OIDOID, INT4OID}
	};
	Datum		values[3];

	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	rom_execute(&clear, NULL, NULL, 0);
	rom_execute(&insert, values, NULL, 0);
}

void
rom_control_adopt(void)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_control_own_xids();
	advance_sequences();
	write_control();
	rom_engine_end(&engine);
	rom_wake_announce();
}

/*
 * The transaction that made this database as a copy of another one of this cluster; invalid where
 * that cannot be told. Rows that were copied were written before it; rows of instances that were
 * started here, perhaps before any worker looked, after it. A dump that was restored brings a
 * second row of t_control, another cluster's files another identifier, and ALTER DATABASE ...
 * RENAME or OWNER a later transaction, with which more counts as copied.
 */
static TransactionId
copied_by(void)
{
	static RomStatement stmt = {
		"SELECT pg_catalog.count(*) = 1 AND pg_catalog.bool_and(system_identifier = $1), pg_catalog.max(timeline)"
		" FROM romancy.t_control",
		1, {INT8OID}
	};
	TransactionId xid = InvalidTransactionId;
	RomEngine	engine;
	Datum		value = Int64GetDatum((int64) GetSystemIdentifier());
	HeapTuple	tuple;
	bool		isnull;
	bool		within;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &stmt, &value, NULL, 0);
	within = DatumGetBool(rom_value(&set, 0, 1, &isnull));
	within = within && !isnull;
	/* nor can it be told of all that was restored to a point in time */
	within = within && !is_restored((TimeLineID) DatumGetInt32(rom_value(&set, 0, 2, &isnull)));
	rom_engine_end(&engine);
	if (!within)
		return xid;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (HeapTupleIsValid(tuple))
	{
		if (!HeapTupleHeaderXminFrozen(tuple->t_data))
			xid = HeapTupleHeaderGetXmin(tuple->t_data);
		ReleaseSysCache(tuple);
	}
	return xid;
}

/* Does the table hold a row that a new transaction sees, and that is older than copied (any, if that is invalid)? */
static bool
holds_rows(Oid relid, TransactionId copied)
{
	Relation	rel = try_table_open(relid, AccessShareLock);
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (rel == NULL)
		return false;			/* the extension is being dropped */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
		found = !TransactionIdIsValid(copied) ||
			HeapTupleHeaderXminFrozen(tuple->t_data) ||
			TransactionIdPrecedes(HeapTupleHeaderGetXmin(tuple->t_data), copied);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/* Tables whose rows are no work: grants, names, and facts that the server finds out by itself. */
static const char *const no_work[] = {"t_control", "t_namespace", "t_grant", "t_schedule_zones", "t_index"};

/* is_no_work: is the relation one of these? */
static bool
is_no_work(Oid relation)
{
	for (int i = 0; i < lengthof(no_work); i++)
		if (relation == rom_relation_oid(no_work[i]))
			return true;
	return false;
}

/* Does any table of the extension, but those, hold rows that came with the copy? */
static bool
holds_work(void)
{
	TransactionId copied = copied_by();
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(rom_extension_oid()));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL,
							  2, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->classid == RelationRelationId &&
			form->deptype == DEPENDENCY_EXTENSION &&
			get_rel_relkind(form->objid) == RELKIND_RELATION && !is_no_work(form->objid))
			found = holds_rows(form->objid, copied);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return found;
}

/* Was the extension created by the restore of a dump (sql/parts/60_workers.sql), whose rows may be yet to come? */
static bool
is_dump(void)
{
	static RomStatement stmt = {"SELECT 1 FROM romancy.t_control WHERE system_identifier = 0", 0, {0}};
	RomEngine	engine;
	bool		found;

	rom_engine_begin(&engine);
	found = rom_execute(&stmt, NULL, NULL, 1) > 0;
	rom_engine_end(&engine);
	return found;
}

bool
rom_control_adopt_empty(void)
{
	if (is_dump() || holds_work())
		return false;
	rom_control_adopt();
	return true;
}

bool
rom_control_version_matches(char **sql_version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;

	*sql_version = NULL;
	ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("romancy"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(rel), &isnull);

		if (!isnull)
			*sql_version = TextDatumGetCString(version);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return *sql_version != NULL && strcmp(*sql_version, ROM_VERSION) == 0;
}
