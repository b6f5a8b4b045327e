/*-------------------------------------------------------------------------
 *
 * identity.c
 *		Running user code as the role that owns an instance.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/session.h"
#include "turn/identity.h"
#include "turn/settings.h"

void
rom_identity_enter(RomIdentity *saved, Oid owner, const char *path,
				   int32 settings, bool read_only)
{
	rom_session_require(owner);
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	saved->read_only = XactReadOnly;
	saved->guc_level = NewGUCNestLevel();
	saved->plans_go = rom_settings_apply(settings, read_only);
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
	if (path && strcmp(path, namespace_search_path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	XactReadOnly = read_only;
}

void
rom_identity_leave(RomIdentity *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
	XactReadOnly = saved->read_only;
	rom_settings_left(saved->plans_go);
}
