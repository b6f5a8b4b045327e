/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room schedules. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SCHEDULES_GUC_H
#define ROM_SCHEDULES_GUC_H

#include "utils/guc.h"

extern int	rom_guc_schedule_interval;

/* Defines them; called once from _PG_init. */
extern void rom_schedules_guc_init(void);

#endif							/* ROM_SCHEDULES_GUC_H */
