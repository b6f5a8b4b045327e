/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room tasks. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TASKS_GUC_H
#define ROM_TASKS_GUC_H

#include "utils/guc.h"

extern int	rom_guc_lock_cleanup_interval;
extern int	rom_guc_lock_timeout;
extern int	rom_guc_queue_notify_interval;

/* Defines them; called once from _PG_init. */
extern void rom_tasks_guc_init(void);

#endif							/* ROM_TASKS_GUC_H */
