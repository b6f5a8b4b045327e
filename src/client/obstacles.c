/*-------------------------------------------------------------------------
 *
 * obstacles.c
 *		Reasons why workflows do not run in this database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/version.h"
#include "client/obstacles.h"
#include "instances/control.h"
#include "instances/instance.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/shmem.h"

/* The facts that the roster holds. */
typedef struct Facts
{
	bool		launcher_seen;	/* since the server's start */
	int			nwaiting;
	Oid			waiting[ROM_MAX_PENDING];	/* owners whose work in this
											 * database waits for a worker,
											 * with no place or no process for
											 * one */
	int			failures;		/* of workers of this database, in a row */
	int			nfailing;
	struct
	{
		Oid			owner;
		int			count;
	}			failing[ROM_FAILING_OWNERS];	/* of executors */
	RomShortage short_of;		/* what work waits for */
} Facts;

/* read_facts copies what is of interest out of shared memory. */
static void
read_facts(RomRoster *roster, RomObstacles *found, Facts *facts)
{
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	found->launcher = roster->launcher_pid != 0;
	facts->launcher_seen = roster->launcher_seen;
	for (int i = 0; roster->cannot_grow && i < roster->npending; i++)
		if (roster->pending[i].dbid == MyDatabaseId)
			facts->waiting[facts->nwaiting++] = roster->pending[i].owner;
	found->max_workers = roster->nplaces;
	for (int i = 0; i < roster->first_http; i++)
		found->workers += roster->workers[i].state != ROM_WORKER_FREE && !roster->workers[i].overtime;
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
	{
		facts->short_of = database->short_of;
		for (int i = 0; i < ROM_WORKER_KINDS; i++)
			facts->failures += database->failing[i].count;
	}
	for (int i = 0; i < ROM_FAILING_OWNERS; i++)
	{
		if (roster->failing_owners[i].dbid != MyDatabaseId)
			continue;
		facts->failing[facts->nfailing].owner = roster->failing_owners[i].owner;
		facts->failing[facts->nfailing++].count = roster->failing_owners[i].failing.count;
	}
	SpinLockRelease(&roster->mutex);
}

void
rom_obstacles_add(RomObstacles *found, char *text)
{
	if (found->count < lengthof(found->texts))
		found->texts[found->count++] = text;
}

/*
 * add_failing_owners adds that executors of the caller's fail. Of the others whom the caller may read, the one whose have failed
 * most often is no obstacle to the caller's workflows.
 */
static void
add_failing_owners(RomObstacles *found, const Facts *facts)
{
	int			most = 0;

	for (int i = 0; i < facts->nfailing; i++)
	{
		char	   *name = GetUserNameFromId(facts->failing[i].owner, true);
		char	   *text;

		if (name == NULL || !rom_instance_may_read(name))
			continue;
		text = psprintf("workers of role \"%s\" have failed %d times in a row: see the server's log",
						name, facts->failing[i].count);

		if (facts->failing[i].owner == GetUserId())
			rom_obstacles_add(found, text);
		else if (facts->failing[i].count > most)
		{
			most = facts->failing[i].count;
			found->others = text;
		}
	}
}

/* waits_for_worker: does work of the caller's, or of an owner whom the caller may read, wait? That of others is no obstacle to the caller's workflows. */
static bool
waits_for_worker(const Facts *facts)
{
	for (int i = 0; i < facts->nwaiting; i++)
	{
		char	   *name = GetUserNameFromId(facts->waiting[i], true);

		if (facts->waiting[i] == GetUserId() || (name != NULL && rom_instance_may_read(name)))
			return true;
	}
	return false;
}

/*
 * find_left_out adds that the launcher passes this database over. It is no part of the roster then, so the same is looked up
 * here as in workers/databases.c.
 */
static void
find_left_out(RomObstacles *found)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	Form_pg_database form;
	List	   *names = NIL;
	ListCell   *cell;
	bool		named = false;

	if (!HeapTupleIsValid(tuple))
		return;					/* it is being dropped */
	form = (Form_pg_database) GETSTRUCT(tuple);
	(void) SplitGUCList(pstrdup(GetConfigOption("romancy.databases", false, false)), ',', &names);
	foreach(cell, names)
		named |= strcmp(lfirst(cell), NameStr(form->datname)) == 0;
	if (names != NIL && !named)
		rom_obstacles_add(found, "romancy.databases leaves this database out");
	if (form->datistemplate)
		rom_obstacles_add(found, "this database is a template, in which no worker runs");
	ReleaseSysCache(tuple);
}

void
rom_obstacles_find(RomObstacles *found)
{
	RomRoster  *roster = rom_roster_get();
	Facts		facts = {0};
	bool		same_version;

	memset(found, 0, sizeof(RomObstacles));
	found->preloaded = roster != NULL;
	same_version = rom_control_version_matches(&found->sql_version);
	found->adopted = rom_control_matches();
	if (roster != NULL)
		read_facts(roster, found, &facts);

	if (roster == NULL)
		rom_obstacles_add(found, "romancy is not in shared_preload_libraries: no worker runs until it is added there and the server restarted");
	else if (RecoveryInProgress())
		rom_obstacles_add(found, "the server is a standby: workers start when it is promoted");
	else if (!found->launcher && facts.launcher_seen)
		rom_obstacles_add(found, "the launcher is not running: see the server's log");
	else if (!found->launcher)
		rom_obstacles_add(found, psprintf("the launcher has not started: max_worker_processes (%d) has to leave it a process, and another to each worker",
										  max_worker_processes));
	if (!rom_guc_enabled)
		rom_obstacles_add(found, "romancy.enabled is off");
	if (!same_version)
		rom_obstacles_add(found, psprintf("the library's version is %s, that of the extension's objects is %s: they have to be brought together",
										  ROM_VERSION, found->sql_version ? found->sql_version : "unknown"));
	if (!found->adopted)
		rom_obstacles_add(found, "the workflows belong to another cluster or database, of which this is a copy: see romancy.adopt_database()");
	find_left_out(found);
	if (waits_for_worker(&facts))
		rom_obstacles_add(found, psprintf("work waits for a worker, and there is none to be had: raise %s",
										  rom_roster_shortage_setting(facts.short_of)));
	if (facts.failures > 0)
		rom_obstacles_add(found, psprintf("workers of this database have failed %d times in a row: see the server's log",
										  facts.failures));
	add_failing_owners(found, &facts);
}

char *
rom_obstacles_text(const RomObstacles *found)
{
	StringInfoData all;

	initStringInfo(&all);
	for (int i = 0; i < found->count; i++)
	{
		int			at = all.len + (i > 0 ? 1 : 0);

		appendStringInfo(&all, "%s%s.", i > 0 ? " " : "", found->texts[i]);
		/* "romancy" stays as it is written */
		if (strncmp(&all.data[at], "romancy", 7) != 0)
			all.data[at] = pg_toupper((unsigned char) all.data[at]);
	}
	return all.data;
}
