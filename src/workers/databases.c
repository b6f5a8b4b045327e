/*-------------------------------------------------------------------------
 *
 * databases.c
 *		The databases of the cluster, as the launcher knows them.
 *
 * Whether a database has the extension can be seen from inside it alone. So
 * each one is marked for a scan when it is seen first, and the scheduler that is
 * started there finds out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/stat.h"
#include "steps/throttle.h"
#include "tasks/ledger.h"
#include "workers/bgw.h"
#include "workers/databases.h"
#include "workers/guc.h"

/* The result of list_databases(). */
typedef struct Listing
{
	MemoryContext context;
	Oid		   *all;
	int			nall;
	Oid		   *served;
	int			nserved;
} Listing;

/* Is name in romancy.databases, or that empty? */
static bool
is_named(List *names, const char *name)
{
	ListCell   *cell;

	if (names == NIL)
		return true;
	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
		return true;
	return false;
}

static void
read_databases(void *arg)
{
	Listing    *listing = arg;
	List	   *names = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	int			capacity = 0;

	/* the check hook has seen to the syntax */
	(void) SplitGUCList(pstrdup(rom_guc_databases), ',', &names);

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (listing->nall == capacity)
		{
			MemoryContext old = MemoryContextSwitchTo(listing->context);

			capacity = capacity == 0 ? 64 : capacity * 2;
			listing->all = listing->all == NULL ?
				palloc(capacity * sizeof(Oid)) :
				repalloc(listing->all, capacity * sizeof(Oid));
			listing->served = listing->served == NULL ?
				palloc(capacity * sizeof(Oid)) :
				repalloc(listing->served, capacity * sizeof(Oid));
			MemoryContextSwitchTo(old);
		}
		listing->all[listing->nall++] = form->oid;
		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != DATCONNLIMIT_INVALID_DB &&
			is_named(names, NameStr(form->datname)))
			listing->served[listing->nserved++] = form->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

static bool
contains(const Oid *oids, int n, Oid oid)
{
	int			i;

	for (i = 0; i < n; i++)
		if (oids[i] == oid)
			return true;
	return false;
}

void
rom_databases_list(void)
{
	RomRoster  *roster = rom_roster_get();
	Listing		listing = {0};
	bool		full;
	int			i;

	listing.context = TopMemoryContext;
	if (!rom_bgw_unit(read_databases, &listing, false))
		return;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < listing.nserved; i++)
		(void) rom_roster_database_locked(roster, listing.served[i], true);
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		bool		served = contains(listing.served, listing.nserved,
									  database->dbid);

		if (!OidIsValid(database->dbid))
			continue;
		database->listed = true;
		if (served && !database->served)
			database->scan = true;
		database->served = served;
		if (!contains(listing.all, listing.nall, database->dbid))
			database->dropped = true;
	}
	full = roster->databases_full;
	roster->databases_full = false;
	SpinLockRelease(&roster->mutex);

	if (full)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("romancy's workers serve no more than %d databases",
						ROM_MAX_DATABASES),
				 errhint("Name those that have work in \"romancy.databases\".")));

	if (listing.all)
		pfree(listing.all);
	if (listing.served)
		pfree(listing.served);
}

void
rom_databases_forget(void)
{
	RomRoster  *roster = rom_roster_get();
	Oid			dropped[ROM_MAX_DATABASES];
	int			n = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
		if (roster->databases[i].dropped)
			dropped[n++] = roster->databases[i].dbid;
	SpinLockRelease(&roster->mutex);

	for (i = 0; i < n; i++)
	{
		RomDatabase *database;

		rom_shmem_purge(dropped[i]);
		SpinLockAcquire(&roster->mutex);
		database = rom_roster_database_locked(roster, dropped[i], false);
		if (database != NULL)
		{
			database->dbid = InvalidOid;
			database->dropped = false;
		}
		SpinLockRelease(&roster->mutex);
	}
}

void
rom_databases_scan(void)
{
	RomRoster  *roster = rom_roster_get();
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
		roster->databases[i].scan = true;
	SpinLockRelease(&roster->mutex);
}
