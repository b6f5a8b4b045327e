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

/*
 * rom_prepared_call says whether the command is a CALL of a procedure of the extension that a client executes by the extended
 * protocol: then the server's own code, which only reads its tree, may have it without a copy. If the client has prepared it, its
 * plan is kept from now on.
 */
extern bool rom_prepared_call(const PlannedStmt *pstmt, ProcessUtilityContext context);

#endif							/* ROM_PREPARED_H */
