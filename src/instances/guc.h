/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room instances. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INSTANCES_GUC_H
#define ROM_INSTANCES_GUC_H

#include "utils/guc.h"

extern int	rom_guc_result_expires; /* seconds; 0: off */

/* Defines them; called once from _PG_init. */
extern void rom_instances_guc_init(void);

#endif							/* ROM_INSTANCES_GUC_H */
