/*-------------------------------------------------------------------------
 *
 * command.c
 *		What a utility command leaves in the session: for code that runs in one that
 *		is not its own (borrowed.c), or as if it were an executor (clean.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/parsenodes.h"

#include "run/command.h"

RomCommandReach
rom_command_reach(const Node *command)
{
	switch (nodeTag(command))
	{
		case T_VariableSetStmt:
			return ((const VariableSetStmt *) command)->kind == VAR_RESET_ALL ? ROM_COMMAND_OTHER : ROM_COMMAND_TRANSACTION;
		case T_CallStmt:
		case T_ConstraintsSetStmt:
		case T_DoStmt:
		case T_LockStmt:
		case T_NotifyStmt:
		case T_TruncateStmt:
			return ROM_COMMAND_TRANSACTION;
		case T_DeclareCursorStmt:
			return ((const DeclareCursorStmt *) command)->options & CURSOR_OPT_HOLD ? ROM_COMMAND_SESSION : ROM_COMMAND_OTHER;
		case T_ClosePortalStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_FetchStmt:
		case T_ListenStmt:
		case T_LoadStmt:
		case T_PrepareStmt:
		case T_UnlistenStmt:
			return ROM_COMMAND_SESSION;
		default:
			return ROM_COMMAND_OTHER;
	}
}
