/*-------------------------------------------------------------------------
 *
 * prepared.c
 *		CALL of a prepared statement without a new copy of it for each execution.
 *
 * The server copies a utility command twice each time that a client executes it: as a "custom plan", since it compares
 * the costs of plans, which utility commands do not have, and never finds the generic one to be cheaper; and before it
 * carries the command out, since some commands change their tree. A CALL is not planned, and its tree is
 * only read. Both copies together take a tenth of the time of a short workflow.
 *
 * The portal holds the plan that it executes, but not over the abort of a transaction inside the CALL. So the plan has a reference of
 * its own until the command is over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/portal.h"

#include "base/prepared.h"
#include "base/spi.h"

/* is_ours: is it a procedure of the extension's? */
static bool
is_ours(Oid funcid)
{
	static Oid	ours = InvalidOid;	/* the last one that was */
	static Oid	of = InvalidOid;	/* and the extension that had it */
	Oid			extension = rom_extension_oid();

	if (!OidIsValid(extension))
		return false;
	if (funcid == ours && extension == of)
		return true;
	if (get_func_namespace(funcid) != get_namespace_oid("romancy", true))
		return false;
	ours = funcid;
	of = extension;
	return true;
}

/* keep_plan has the plan of a prepared statement kept, if it is still a CALL: a client may have given its name to another one. */
static void
keep_plan(const char *name)
{
	PreparedStatement *statement = FetchPreparedStatement(name, false);

	if (statement != NULL && statement->plansource->commandTag == CMDTAG_CALL &&
		(statement->plansource->cursor_options & CURSOR_OPT_CUSTOM_PLAN) == 0)
		statement->plansource->cursor_options |= CURSOR_OPT_GENERIC_PLAN;
}

CachedPlan *
rom_prepared_hold(const PlannedStmt *pstmt, ProcessUtilityContext context)
{
	CachedPlan *plan;

	if (context != PROCESS_UTILITY_TOPLEVEL || !IsA(pstmt->utilityStmt, CallStmt) ||
		ActivePortal == NULL || ActivePortal->cplan == NULL || linitial(ActivePortal->stmts) != pstmt ||
		!is_ours(((CallStmt *) pstmt->utilityStmt)->funcexpr->funcid))
		return NULL;
	if (ActivePortal->prepStmtName != NULL)
		keep_plan(ActivePortal->prepStmtName);
	plan = ActivePortal->cplan;
	plan->refcount++;
	return plan;
}
