/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room workers. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_WORKERS_GUC_H
#define ROM_WORKERS_GUC_H

#include "utils/guc.h"

extern char *rom_guc_databases;
extern bool rom_guc_reindex_bloated;
extern int	rom_guc_reindex_interval;
extern int	rom_guc_schedulers;
extern int	rom_guc_worker_idle_timeout;	/* 0: never */

/* Defines them; called once from _PG_init. */
extern void rom_workers_guc_init(void);

#endif							/* ROM_WORKERS_GUC_H */
