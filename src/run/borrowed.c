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
 * ends with SET CONSTRAINTS ALL IMMEDIATE there (steps/activity.c), and a turn that leaves any of these is an error
 * of the drain, which rolls it back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"

#include "base/session.h"
#include "base/spi.h"
#include "run/borrowed.h"

static bool active = false;
static Oid	its_owner = InvalidOid;
static int64 cursors = 0;
static int64 statements = 0;
static int	temporary = 0;

/* count reads how many holdable cursors and prepared statements the session has. */
static void
count(int64 *ncursors, int64 *nstatements)
{
	static RomStatement stmt = {
		"SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors WHERE is_holdable),"
		" (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements)", 0
	};
	RomEngine	engine;
	bool		isnull;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &stmt, NULL, NULL, 1);
	*ncursors = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	*nstatements = DatumGetInt64(rom_value(&set, 0, 2, &isnull));
	rom_engine_end(&engine);
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

/* refuse raises the error. what: what was left. */
static void
refuse(const char *what)
{
	rom_borrowed_reset();
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("a workflow of role \"%s\" left %s in a session of role \"%s\"",
					GetUserNameFromId(its_owner, false), what,
					GetUserNameFromId(GetSessionUserId(), false)),
			 errdetail("It would take effect when the session is not that role's any more."),
			 errhint("Call romancy.drain() in a session of the workflow's owner (SET ROLE does not make one), or let the workers run it.")));
}

void
rom_borrowed_begin(Oid owner)
{
	active = !rom_session_is(owner);
	if (!active)
		return;
	its_owner = owner;
	count(&cursors, &statements);
	temporary = MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE;
	MyXactFlags &= ~XACT_FLAGS_ACCESSEDTEMPNAMESPACE;
}

void
rom_borrowed_end(void)
{
	int64		ncursors;
	int64		nstatements;

	if (!active)
		return;
	if (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE)
		refuse("temporary objects");
	count(&ncursors, &nstatements);
	if (ncursors != cursors)
		refuse("a cursor WITH HOLD");
	if (nstatements != statements)
		refuse("a prepared statement");
	if (is_deferred())
		refuse("a deferred trigger");
	rom_borrowed_reset();
}

void
rom_borrowed_reset(void)
{
	if (active)
		MyXactFlags |= temporary;
	active = false;
}
