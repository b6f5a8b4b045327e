/*-------------------------------------------------------------------------
 *
 * command.h
 *		What a utility command leaves in the session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_COMMAND_H
#define ROM_COMMAND_H

#include "nodes/nodes.h"

typedef enum RomCommandReach
{
	ROM_COMMAND_TRANSACTION,	/* nothing, when the transaction is over and
								 * the settings are put back */
	ROM_COMMAND_SESSION,		/* it works on what the session itself has,
								 * and no rollback undoes that */
	ROM_COMMAND_OTHER			/* it changes the catalog, or is not known */
} RomCommandReach;

extern RomCommandReach rom_command_reach(const Node *command);

#endif							/* ROM_COMMAND_H */
