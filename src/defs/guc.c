/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room defs, alphabetically. Definitions.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "defs/guc.h"

char	   *rom_guc_default_retry = NULL;
char	   *rom_guc_namespace = NULL;

void
rom_defs_guc_init(GucStringCheckHook check_default_retry, GucStringCheckHook check_namespace, GucStringAssignHook assign_namespace)
{
	DefineCustomStringVariable("romancy.default_retry",
							   "Sets the retry policy of activities that have none, as a JSON object.",
							   "Its keys replace those of the built-in policy. When empty, the built-in policy holds.",
							   &rom_guc_default_retry,
							   "",
							   PGC_SIGHUP, 0,
							   check_default_retry, NULL, NULL);
	DefineCustomStringVariable("romancy.namespace",
							   "Sets the namespace that the session's names belong to.",
							   "It must be granted to the current role or one that it is a member of. When empty, it is the only one that is, or the role's own.",
							   &rom_guc_namespace,
							   "",
							   PGC_USERSET, 0,
							   check_namespace, assign_namespace, NULL);
}
