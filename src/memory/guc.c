/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room memory, alphabetically. Workers, as far as shared memory is sized and shared for them, and what all sweeps have in common.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "memory/guc.h"

bool		rom_guc_enabled = true;
int			rom_guc_executors = 4;
int			rom_guc_max_workers = 4;
int			rom_guc_retry_backoff_max = 60000;
int			rom_guc_sweep_batch_size = 100;
double		rom_guc_sweep_jitter = 0.25;
int			rom_guc_worker_wait_warning = 60000;

void
rom_memory_guc_init(void)
{
	/*
	 * A library that is loaded later has no shared memory to size, and the
	 * server would refuse such a setting.
	 */
	GucContext	restart = process_shared_preload_libraries_in_progress ?
		PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomBoolVariable("romancy.enabled",
							 "Lets the workers run.",
							 "When off, the SQL API works and no worker runs anything.",
							 &rom_guc_enabled,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.executors",
							"Sets the number of executors per database.",
							"They are started on demand, each serving one owner at a time.",
							&rom_guc_executors,
							4, 1, 256,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_workers",
							"Sets the number of workers of all databases together.",
							"They are taken out of max_worker_processes. The launcher is not counted.",
							&rom_guc_max_workers,
							4, 1, 1024,
							restart, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retry_backoff_max",
							"Caps the back-off of a sweep that finds nothing, or its lock taken.",
							"It caps that of workers that cannot be started, too.",
							&rom_guc_retry_backoff_max,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.sweep_batch_size",
							"Sets how many rows a sweep handles in one transaction.",
							"A sweep that fills its batch goes on with the next one.",
							&rom_guc_sweep_batch_size,
							100, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("romancy.sweep_jitter",
							 "Sets the fraction by which each interval of a sweep varies.",
							 "0.25 means up to 25 percent shorter or longer, drawn anew each time.",
							 &rom_guc_sweep_jitter,
							 0.25, 0.0, 0.9,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.worker_wait_warning",
							"Sets the time for which work waits for a worker before health() and the log tell of it.",
							"Zero means never.",
							&rom_guc_worker_wait_warning,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
