/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room run. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RUN_GUC_H
#define ROM_RUN_GUC_H

#include "utils/guc.h"

extern int	rom_guc_activity_timeout_interval;
extern bool rom_guc_eager_runs;
extern bool rom_guc_log_failures;
extern int	rom_guc_max_concurrent_resumptions;
extern int	rom_guc_message_timeout_interval;
extern int	rom_guc_resumption_interval;
extern int	rom_guc_retention;	/* seconds; 0: off */
extern int	rom_guc_retention_interval;
extern int	rom_guc_timer_interval;

/* Defines them; called once from _PG_init. */
extern void rom_run_guc_init(void);

#endif							/* ROM_RUN_GUC_H */
