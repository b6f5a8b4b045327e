/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room defs. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DEFS_GUC_H
#define ROM_DEFS_GUC_H

#include "utils/guc.h"

extern char *rom_guc_default_retry;
extern char *rom_guc_namespace;

/* Defines them; called once from _PG_init. */
/* The hooks are of retry.c and namespace.c, which use what is set here. */
extern void rom_defs_guc_init(GucStringCheckHook check_default_retry, GucStringCheckHook check_namespace, GucStringAssignHook assign_namespace);

#endif							/* ROM_DEFS_GUC_H */
