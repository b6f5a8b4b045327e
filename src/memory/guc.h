/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room memory. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MEMORY_GUC_H
#define ROM_MEMORY_GUC_H

#include "utils/guc.h"

extern bool rom_guc_enabled;
extern int	rom_guc_executors;
extern int	rom_guc_max_workers;
extern int	rom_guc_retry_backoff_max;
extern int	rom_guc_sweep_batch_size;
extern double rom_guc_sweep_jitter;
extern int	rom_guc_worker_wait_warning;	/* 0: never */

/* Defines them; called once from _PG_init. */
extern void rom_memory_guc_init(void);

#endif							/* ROM_MEMORY_GUC_H */
