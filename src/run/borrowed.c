/*-------------------------------------------------------------------------
 *
 * borrowed.c
 *		Objects that code of a drain's owner may not leave in a session of another
 *		role.
 *
 * A drain runs as current_user. After SET ROLE the session belongs to another role, perhaps to a superuser: handlers
 * and activities cannot change the user (turn/identity.c), and procedures, which could, are refused. But code can be
 * left behind to run later, when the session is itself again: deferred triggers and holdable cursors run at a commit,
 * a temporary table hides another of its name, a prepared statement takes another's name. Each activity therefore
 * ends with SET CONSTRAINTS ALL IMMEDIATE there (steps/activity.c), and a turn that leaves a deferred trigger or a
 * temporary object is an error of the drain, which rolls it back.
 *
 * A rollback does not undo everything: prepared statements are what they were made last, and what was dropped is
 * gone. Code could drop one of the session's and make its own of the same name, which the session would execute as
 * itself. So commands on what belongs to the session, and not to a transaction (command.c), are refused while that code runs, by
 * a hook on utility commands, and the drain ends with that error, also where the code caught it. So it leaves no prepared statement
 * and no holdable cursor. A cursor of the session's can be read through functions of languages, too, by its name alone: while one is
 * open, the code does not run at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/portal.h"

#include "base/session.h"
#include "base/spi.h"
#include "run/borrowed.h"
#include "run/command.h"

static bool active = false;
static Oid	its_owner = InvalidOid;
static int	temporary = 0;
static const char *called = NULL;	/* a command that was refused */
static ProcessUtility_hook_type prev_hook = NULL;

/* refuse raises the error: the workflow called, or left, what. */
static void
refuse(const char *verb, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("a workflow of role \"%s\" %s %s in a session of role \"%s\"",
					GetUserNameFromId(its_owner, false), verb, what,
					GetUserNameFromId(GetSessionUserId(), false)),
			 errdetail("It would take effect when the session is not that role's any more."),
			 errhint("Call romancy.drain() in a session of the workflow's owner (SET ROLE does not make one), or let the workers run it.")));
}

static void
hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
	 ProcessUtilityContext context, ParamListInfo params,
	 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (active && rom_command_reach(pstmt->utilityStmt) == ROM_COMMAND_SESSION)
	{
		called = IsA(pstmt->utilityStmt, DeclareCursorStmt) ? "DECLARE CURSOR WITH HOLD" : CreateCommandName(pstmt->utilityStmt);
		refuse("called", called);
	}
	if (prev_hook)
		prev_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
								env, dest, qc);
}

/* watch installs the hook, once: also where the library is not preloaded. */
static void
watch(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	prev_hook = ProcessUtility_hook;
	ProcessUtility_hook = hook;
}

/* refuse_cursors raises an error when a cursor of the session's could be read; the one that runs cannot. */
static void
refuse_cursors(Oid owner)
{
	static RomStatement stmt = {
		"SELECT name FROM pg_catalog.pg_cursors", 0
	};
	RomEngine	engine;
	uint64		rows;
	bool		open = false;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &stmt, NULL, NULL, 0);
	for (uint64 i = 0; i < rows && !open; i++)
	{
		char	   *name = rom_value_text(&set, i, 1, CurrentMemoryContext);
		Portal		portal = GetPortalByName(name);

		open = PortalIsValid(portal) && portal->status == PORTAL_READY;
	}
	rom_engine_end(&engine);
	if (open)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a workflow of role \"%s\" does not run while a cursor of role \"%s\" is open",
						GetUserNameFromId(owner, false), GetUserNameFromId(GetSessionUserId(), false)),
				 errdetail("It could read the cursor's rows."),
				 errhint("Close the cursor first.")));
}

/* is_deferred: does a trigger wait for the end of the transaction? */
static bool
is_deferred(void)
{
	static RomStatement stmt = {
		"SELECT DISTINCT tgrelid FROM pg_catalog.pg_trigger WHERE tgdeferrable", 0
	};
	RomEngine	engine;
	uint64		rows;
	bool		isnull;
	bool		found = false;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &stmt, NULL, NULL, 0);
	for (uint64 i = 0; i < rows && !found; i++)
		found = AfterTriggerPendingOnRel(DatumGetObjectId(rom_value(&set, i, 1, &isnull)));
	rom_engine_end(&engine);
	return found;
}

/* fail has the drain end with the error. */
static void
fail(const char *verb, const char *what)
{
	rom_borrowed_reset();
	refuse(verb, what);
}

void
rom_borrowed_begin(Oid owner)
{
	active = !rom_session_is(owner);
	if (!active)
		return;
	active = false;
	called = NULL;
	refuse_cursors(owner);
	watch();
	its_owner = owner;
	active = true;
	temporary = MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE;
	MyXactFlags &= ~XACT_FLAGS_ACCESSEDTEMPNAMESPACE;
}

void
rom_borrowed_end(void)
{
	if (!active)
		return;
	if (called != NULL)
		fail("called", called);
	if (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE)
		fail("left", "temporary objects");
	if (is_deferred())
		fail("left", "a deferred trigger");
	rom_borrowed_reset();
}

void
rom_borrowed_reset(void)
{
	if (active)
		MyXactFlags |= temporary;
	active = false;
}
