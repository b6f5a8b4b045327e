/*-------------------------------------------------------------------------
 *
 * utility.c
 *		Commands that concern the workers.
 *
 * DROP DATABASE, CREATE DATABASE ... TEMPLATE, and the forms of ALTER DATABASE
 * that rename or move one, require that no other session is in that database.
 * Before such a command its workers are asked to leave, and kept out until it
 * ends; for a DROP, workers that do not leave in time are terminated, since
 * their work is deleted anyway. This happens only if the role may run the
 * command: otherwise any role could disturb the workers by commands that fail.
 * If the command fails, the database is scanned anew.
 *
 * DROP EXTENSION and ALTER EXTENSION end a rebuild of an index that is under way (rebuild.c).
 *
 * COMMIT PREPARED publishes no notes, for they were dropped by PREPARE: it asks
 * for a scan. ALTER EXTENSION romancy lets the workers look at the version again. A CALL of the extension's is not
 * copied (base/prepared.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/prepared.h"
#include "base/spi.h"
#include "memory/crossing.h"
#include "memory/roster.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "run/clean.h"
#include "tasks/ledger.h"
#include "workers/rebuild.h"
#include "workers/utility.h"

/* How long workers have to leave, and then to be terminated. */
#define LEAVE_MS 5000
#define POLL_MS 10

static ProcessUtility_hook_type prev_hook = NULL;

/* The meaning of a command for the workers. */
typedef struct Meaning
{
	Oid			empty;			/* the database that has to be empty */
	bool		drop;			/* and goes */
	bool		force;			/* at once */
	bool		list;			/* databases come, go, or change */
	bool		announce;		/* the extension, or its work, changes */
	bool		rights;			/* a role may have more rights than before */
	bool		tables;			/* the extension's tables may go, or change */
} Meaning;

/* May the current user do this to the database? template: copy it. */
static bool
may_empty(Oid dbid, bool template)
{
	HeapTuple	tuple;
	Form_pg_database form;
	bool		may;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dbid));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_database) GETSTRUCT(tuple);
	may = has_privs_of_role(GetUserId(), form->datdba);
	if (template && !may && form->datistemplate)
		may = true;
	ReleaseSysCache(tuple);

	if (template && may && !superuser())
	{
		tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
		may = HeapTupleIsValid(tuple) &&
			((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
	}
	return may;
}

/* The database of that name, if it is another one than ours and the user may empty it. */
static Oid
to_empty(const char *name, bool template)
{
	Oid			dbid = get_database_oid(name, true);

	if (!OidIsValid(dbid) || dbid == MyDatabaseId ||
		!may_empty(dbid, template))
		return InvalidOid;
	return dbid;
}

/* The value of a string option, or the default given. */
static const char *
option(List *options, const char *name, const char *absent)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *element = lfirst(cell);

		if (strcmp(element->defname, name) == 0 && element->arg != NULL)
			return defGetString(element);
	}
	return absent;
}

static void
understand(Node *node, Meaning *meaning)
{
	memset(meaning, 0, sizeof(*meaning));
	switch (nodeTag(node))
	{
		case T_TransactionStmt:
			if (((TransactionStmt *) node)->kind == TRANS_STMT_ROLLBACK_PREPARED)
				rom_ledger_recount();
			/* it may bring the extension, too: so not merely a scan */
			if (((TransactionStmt *) node)->kind != TRANS_STMT_COMMIT_PREPARED)
				break;
			meaning->announce = rom_wake_prepared();
			/* what was prepared may change the mode of channels */
			rom_crossing_change(NULL);
			/* and what runs */
			rom_ledger_recount();
			break;
		case T_DropdbStmt:
			{
				DropdbStmt *stmt = (DropdbStmt *) node;
				ListCell   *cell;

				meaning->empty = to_empty(stmt->dbname, false);
				meaning->drop = true;
				meaning->list = true;
				foreach(cell, stmt->options)
					if (strcmp(lfirst_node(DefElem, cell)->defname, "force") == 0)
					meaning->force = true;
				break;
			}
		case T_CreatedbStmt:
			meaning->empty = to_empty(option(((CreatedbStmt *) node)->options,
											 "template", "template1"), true);
			meaning->list = true;
			break;
		case T_GrantRoleStmt:
			meaning->rights = ((GrantRoleStmt *) node)->is_grant;
			break;
		case T_AlterRoleStmt:
			{
				ListCell   *cell;

				/* (a new password or limit is no right) */
				foreach(cell, ((AlterRoleStmt *) node)->options)
				{
					const char *name = lfirst_node(DefElem, cell)->defname;

					meaning->rights |= strcmp(name, "superuser") == 0 || strcmp(name, "inherit") == 0 || strcmp(name, "rolemembers") == 0;
				}
				break;
			}
		case T_CreateRoleStmt:
			meaning->rights = true;
			break;
		case T_RenameStmt:
			meaning->rights = ((RenameStmt *) node)->renameType == OBJECT_ROLE;
			if (((RenameStmt *) node)->renameType == OBJECT_DATABASE)
			{
				meaning->empty = to_empty(((RenameStmt *) node)->subname, false);
				meaning->list = true;
			}
			break;
		case T_AlterDatabaseStmt:
			{
				AlterDatabaseStmt *stmt = (AlterDatabaseStmt *) node;

				if (option(stmt->options, "tablespace", NULL) != NULL)
					meaning->empty = to_empty(stmt->dbname, false);
				meaning->list = true;
				break;
			}
		case T_AlterExtensionStmt:
			meaning->announce = meaning->tables =
				strcmp(((AlterExtensionStmt *) node)->extname, "romancy") == 0;
			break;
		case T_DropStmt:
			{
				ListCell   *cell;

				if (((DropStmt *) node)->removeType == OBJECT_EXTENSION)
					foreach(cell, ((DropStmt *) node)->objects)
						meaning->tables |= strcmp(strVal(lfirst(cell)), "romancy") == 0;
				break;
			}
		default:
			break;
	}
}

/* Asks the workers of a database to leave, and terminates them, if that is wanted. Returns how many there are. */
static int
send_away(Oid dbid, bool terminate)
{
	RomRoster  *roster = rom_roster_get();
	int			there = 0;
	int			i;

	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];
		RomLatches	latches;
		int			pid = 0;

		latches.count = 0;
		SpinLockAcquire(&roster->mutex);
		if (worker->state != ROM_WORKER_FREE && worker->dbid == dbid)
		{
			there++;
			pid = worker->pid;
			if (!worker->leave && pid != 0)
				latches.procnos[latches.count++] = worker->procno;
			worker->leave = true;
		}
		SpinLockRelease(&roster->mutex);
		rom_roster_set_latches(&latches);
		if (terminate && pid != 0)
			(void) kill(pid, SIGTERM);
	}
	/* (what it has begun is no loss) */
	if (rom_rebuild_stop(dbid, true))
		there++;
	return there;
}

static void
sleep_a_bit(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = ROM_WAIT_EVENT("RomancyLeave");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 POLL_MS, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Waits until the workers have left. */
static void
wait_until_empty(const Meaning *meaning)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		terminated = false;

	while (send_away(meaning->empty, false) > 0)
	{
		if ((meaning->force && !terminated) ||
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LEAVE_MS))
		{
			/* then the server says what is wrong, or its FORCE does it */
			if (!meaning->drop || terminated)
				break;
			send_away(meaning->empty, true);
			terminated = true;
			start = GetCurrentTimestamp();
		}
		sleep_a_bit();
	}
}

/* Keeps workers out of a database, or lets them in again. */
static void
bar(Oid dbid, int count)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	RomLatches	latches;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, count > 0);
	if (database != NULL)
	{
		database->barred += count;
		if (count < 0)
		{
			database->scan = true;
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
		}
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

/* The database was dropped: the launcher removes its record. */
static void
set_dropped(Oid dbid)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	RomLatches	latches;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, false);
	if (database != NULL)
	{
		database->dropped = true;
		rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

static void
unbar(int code, Datum arg)
{
	bar(DatumGetObjectId(arg), -1);
}

static void
run(PlannedStmt *pstmt, const char *query, bool read_only_tree,
	ProcessUtilityContext context, ParamListInfo params,
	QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	CachedPlan *held = NULL;

	/* another hook would have the right to change what it need not protect */
	if (prev_hook)
	{
		prev_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	if (read_only_tree)
		held = rom_prepared_hold(pstmt, context);
	if (held == NULL)
	{
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	PG_TRY();
	{
		standard_ProcessUtility(pstmt, query, false, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		ReleaseCachedPlan(held, NULL);
	}
	PG_END_TRY();
}

static void
hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
	 ProcessUtilityContext context, ParamListInfo params,
	 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Meaning		meaning;

	rom_clean_check(pstmt->utilityStmt);
	if (rom_roster_get() == NULL || !IsTransactionState())
	{
		run(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}

	understand(pstmt->utilityStmt, &meaning);
	/* it would wait for a rebuild, which would wait for its snapshot */
	if (meaning.tables && OidIsValid(rom_extension_oid()) && has_privs_of_role(GetUserId(), rom_extension_owner()))
		(void) rom_rebuild_stop(MyDatabaseId, false);
	if (!OidIsValid(meaning.empty))
		run(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
	{
		bar(meaning.empty, 1);
		PG_ENSURE_ERROR_CLEANUP(unbar, ObjectIdGetDatum(meaning.empty));
		{
			wait_until_empty(&meaning);
			run(pstmt, query, read_only_tree, context, params, env, dest, qc);
		}
		PG_END_ENSURE_ERROR_CLEANUP(unbar, ObjectIdGetDatum(meaning.empty));
		if (meaning.drop)
			set_dropped(meaning.empty);
		else
			bar(meaning.empty, -1);
	}

	if (meaning.list)
		rom_wake_list();
	if (meaning.announce)
		rom_wake_announce();
	/* (no statement of ours is to fail with such a command) */
	if (meaning.rights && OidIsValid(rom_extension_oid()))
		rom_wake_sweep(rom_sweep_find("resumption"), 0);
}

void
rom_utility_init(void)
{
	prev_hook = ProcessUtility_hook;
	ProcessUtility_hook = hook;
}
