/*-------------------------------------------------------------------------
 *
 * bloat.c
 *		Which of romancy's own indexes are mostly empty.
 *
 * Vacuum takes the entries of dead rows out of an index, but gives back none of its pages. So an
 * index keeps the size that it had at the end of a snapshot that was held for long. A sample of its
 * pages tells how much its entries need: how full they are, as pgstattuple computes it
 * (pgstatindex(), avg_leaf_density), whatever the types and the statistics of its columns are.
 * Entries of dead rows count as needed until vacuum has been there; and indexes that it has never counted
 * the pages of (pg_class.relpages) are not looked at.
 *
 * romancy's own indexes are those that table t_index names, and those of its TOAST tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/spi.h"
#include "workers/bloat.h"

/* Smaller indexes are not worth it: pages (1 MB). */
#define MIN_PAGES 128

/* So many pages are looked at. */
#define SAMPLE 100

/* Tables that are larger are left to the operator: a rebuild reads all of one (pages; 4 GB). */
#define MAX_TABLE_PAGES (512 * 1024)

/* A transaction that has lasted so long may last for longer. */
#define LASTING "5 s"

/* room is how many bytes of a page entries may take. */
static Size
room(Page page)
{
	return PageGetPageSize(page) - SizeOfPageHeaderData - PageGetSpecialSize(page);
}

/*
 * needed_pages is how many pages the entries of a btree would take, each filled to its default fillfactor.
 * The pages looked at lie at even distances from a random one.
 */
static double
needed_pages(Relation index, BlockNumber pages)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	int			n = (int) Min(SAMPLE, pages - 1);
	double		step = (double) (pages - 1) / n;
	double		offset = pg_prng_double(&pg_global_prng_state);
	double		used = 0;

	for (int i = 0; i < n; i++)
	{
		/* (block 0 has no entries) */
		BlockNumber block = 1 + Min((BlockNumber) ((i + offset) * step), pages - 2);
		Buffer		buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		Page		page;

		CHECK_FOR_INTERRUPTS();
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		if (!PageIsNew(page) && !P_IGNORE(BTPageGetOpaque(page)))
			used += (double) (room(page) - PageGetExactFreeSpace(page)) / room(page);
		UnlockReleaseBuffer(buffer);
	}
	FreeAccessStrategy(strategy);
	return used / n * pages * 100 / BTREE_DEFAULT_FILLFACTOR;
}

/*
 * is_empty: would a rebuild make this index half as large at least? *pages: how large it is. One whose table is locked by a
 * command that keeps readers out is passed by.
 */
static bool
is_empty(const RomBloated *bloated, BlockNumber *pages)
{
	Relation	index = NULL;
	bool		empty = false;

	if (!ConditionalLockRelationOid(bloated->table, AccessShareLock))
		return false;
	if (ConditionalLockRelationOid(bloated->index, AccessShareLock))
	{
		if (rom_bloat_is_there(bloated))
			index = index_open(bloated->index, NoLock);
		if (index != NULL)
		{
			*pages = RelationGetNumberOfBlocks(index);
			empty = index->rd_rel->relam == BTREE_AM_OID && *pages >= MIN_PAGES &&
				2 * needed_pages(index, *pages) < *pages;
			index_close(index, NoLock);
		}
		UnlockRelationOid(bloated->index, AccessShareLock);
	}
	UnlockRelationOid(bloated->table, AccessShareLock);
	return empty;
}

List *
rom_bloat_find(bool (*is_due) (const char *name, BlockNumber pages))
{
	static RomStatement stmt = {
		"SELECT c.oid, i.indrelid, n.nspname, c.relname, NOT i.indisvalid, c.relpages"
		" FROM pg_catalog.pg_class t JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = t.oid"
		"  AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = $1 AND d.deptype = 'e'"
		" JOIN pg_catalog.pg_index i ON i.indrelid IN (t.oid, t.reltoastrelid)"
		" JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		" WHERE t.relkind = 'r' AND CASE WHEN i.indisvalid THEN c.relpages >= $2 AND"
		"  (SELECT h.relpages FROM pg_catalog.pg_class h WHERE h.oid = i.indrelid) <= $3"
		"  ELSE c.relname ~ '_cc(new|old)[0-9]*$' END"
		" AND (i.indrelid = t.reltoastrelid OR EXISTS (SELECT FROM romancy.t_index o"
		"  WHERE o.name = CASE WHEN i.indisvalid THEN c.relname::text ELSE pg_catalog.regexp_replace(c.relname::text, '_cc(new|old)[0-9]*$', '') END))"
		" ORDER BY i.indisvalid, c.relpages",
		3, {OIDOID, INT4OID, INT4OID}
	};
	RomEngine	engine;
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[] = {ObjectIdGetDatum(rom_extension_oid()), Int32GetDatum(MIN_PAGES), Int32GetDatum(MAX_TABLE_PAGES)};
	List	   *result = NIL;
	RomRowSet	set;
	uint64		rows;

	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &stmt, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		RomBloated *bloated = MemoryContextAllocZero(cxt, sizeof(RomBloated));
		bool		isnull;

		bloated->index = DatumGetObjectId(rom_value(&set, i, 1, &isnull));
		bloated->table = DatumGetObjectId(rom_value(&set, i, 2, &isnull));
		namestrcpy(&bloated->schema, NameStr(*DatumGetName(rom_value(&set, i, 3, &isnull))));
		namestrcpy(&bloated->name, NameStr(*DatumGetName(rom_value(&set, i, 4, &isnull))));
		bloated->leftover = DatumGetBool(rom_value(&set, i, 5, &isnull));
		bloated->pages = (BlockNumber) DatumGetInt32(rom_value(&set, i, 6, &isnull));
		if (bloated->leftover || (is_due(NameStr(bloated->name), bloated->pages) && is_empty(bloated, &bloated->pages)))
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			result = lappend(result, bloated);
			MemoryContextSwitchTo(old);
		}
	}
	rom_engine_end(&engine);
	return result;
}

bool
rom_bloat_is_there(const RomBloated *bloated)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(bloated->index));
	bool		valid;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		return false;
	valid = ((Form_pg_index) GETSTRUCT(tuple))->indisvalid;
	ReleaseSysCache(tuple);
	name = get_rel_name(bloated->index);
	return valid != bloated->leftover && name != NULL && strcmp(name, NameStr(bloated->name)) == 0;
}

BlockNumber
rom_bloat_pages(const RomBloated *bloated)
{
	Oid			oid = get_relname_relid(NameStr(bloated->name), get_namespace_oid(NameStr(bloated->schema), true));
	Relation	index;
	BlockNumber pages;

	if (!OidIsValid(oid))
		return 0;
	index = index_open(oid, AccessShareLock);
	pages = RelationGetNumberOfBlocks(index);
	index_close(index, AccessShareLock);
	return pages;
}

/* A rebuild waits for those that have a snapshot, and for those, prepared ones as well, that have locked the table. */
bool
rom_bloat_is_busy(const RomBloated *bloated)
{
	static RomStatement stmt = {
		"SELECT FROM pg_catalog.pg_stat_activity a"
		" WHERE a.datid = $2 AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type <> 'autovacuum worker'"
		" AND a.xact_start < pg_catalog.clock_timestamp() - '" LASTING "'::interval AND (a.backend_xmin IS NOT NULL"
		"  OR EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.database = $2 AND l.relation = $1))"
		" UNION ALL SELECT FROM pg_catalog.pg_locks l WHERE l.pid IS NULL AND l.database = $2 AND l.relation = $1",
		2, {OIDOID, OIDOID}
	};
	Datum		values[] = {ObjectIdGetDatum(bloated->table), ObjectIdGetDatum(MyDatabaseId)};
	RomRowSet	set;
	bool		busy;

	/*
	 * (not as the extension's owner, who may not be allowed to see others'
	 * sessions; the path of this process is safe)
	 */
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	busy = rom_execute_rows(&set, &stmt, values, NULL, 1) > 0;
	SPI_finish();
	return busy;
}
