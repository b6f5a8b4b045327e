/*-------------------------------------------------------------------------
 *
 * prepared.h
 *		CALL of a prepared statement without a new copy of it for each execution.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PREPARED_H
#define ROM_PREPARED_H

#include "nodes/plannodes.h"
#include "tcop/utility.h"
#include "utils/plancache.h"

/*
 * rom_prepared_hold says whether the command is a CALL of a procedure of the extension that a client executes by the extended
 * protocol (otherwise NULL): then the server's own code, which only reads its tree, may have it without a copy. If the client has prepared it, its
 * plan is kept from now on. The caller gives the reference to the plan back with ReleaseCachedPlan(plan, NULL), also after an error.
 */
extern CachedPlan *rom_prepared_hold(const PlannedStmt *pstmt, ProcessUtilityContext context);

#endif							/* ROM_PREPARED_H */
