/*-------------------------------------------------------------------------
 *
 * identity.h
 *		Running user code as the role that owns an instance.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_IDENTITY_H
#define ROM_IDENTITY_H

#include "postgres_ext.h"

/* Runs user code as owner with path and the settings of that number (settings.h; 0: the session's) in force; to be called inside a subtransaction (its abort undoes it). */
typedef struct RomIdentity
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
	bool		plans_go;		/* the session has other settings */
} RomIdentity;

extern void rom_identity_enter(RomIdentity *saved, Oid owner, const char *path,
							   int32 settings, bool read_only);
extern void rom_identity_leave(RomIdentity *saved);

#endif							/* ROM_IDENTITY_H */
