/*-------------------------------------------------------------------------
 *
 * romancy.c
 *		Durable workflows inside PostgreSQL: where the library begins.
 *
 * Preloaded (shared_preload_libraries) it has shared memory, a launcher and
 * hooks. Loaded later, by the first call of one of its functions, it serves
 * the SQL API and drain, and no worker runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "base/distributed.h"
#include "base/guc.h"
#include "base/version.h"
#include "client/refused.h"
#include "defs/guc.h"
#include "defs/namespace.h"
#include "defs/retry.h"
#include "http/floor.h"
#include "http/guc.h"
#include "instances/guc.h"
#include "memory/floor.h"
#include "memory/guc.h"
#include "memory/shmem.h"
#include "messages/floor.h"
#include "messages/guc.h"
#include "monitor/stats.h"
#include "outbox/floor.h"
#include "outbox/guc.h"
#include "run/eager.h"
#include "run/guc.h"
#include "run/run.h"
#include "run/scan.h"
#include "outside/seen.h"
#include "schedules/floor.h"
#include "schedules/guc.h"
#include "steps/floor.h"
#include "tasks/floor.h"
#include "tasks/guc.h"
#include "turn/context.h"
#include "turn/guc.h"
#include "workers/guc.h"
#include "workers/launcher.h"
#include "workers/rebuild.h"
#include "workers/registrar.h"
#include "workers/utility.h"

ROM_MODULE_MAGIC("romancy", ROM_VERSION);

extern PGDLLEXPORT void _PG_init(void);

/*
 * preload_plpgsql loads the language of most workflows into the postmaster: a process that runs the first step of its life has it then, and need
 * not load it, which is a third of an executor's start. (As shared_preload_libraries = 'plpgsql' would; a server without the library has none to load.)
 */
static void
preload_plpgsql(void)
{
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/plpgsql%s", pkglib_path, DLSUFFIX);
	if (access(path, R_OK) == 0)
		load_file(path, false);
}

void
_PG_init(void)
{
	/* settings, from the bottom room to the top */
	rom_base_guc_init();
	rom_memory_guc_init();
	rom_defs_guc_init(rom_retry_check_defaults, rom_namespace_setting_check, rom_namespace_setting_changed);
	rom_instances_guc_init();
	rom_turn_guc_init();
	rom_run_guc_init();
	rom_messages_guc_init();
	rom_outbox_guc_init();
	rom_tasks_guc_init();
	rom_schedules_guc_init();
	rom_workers_guc_init();
	rom_http_guc_init();
	MarkGUCPrefixReserved("romancy");

	/* shared memory, sweeps, hooks, and what runs at the ends of transactions */
	rom_memory_init();
	rom_context_init();
	rom_refused_init();
	rom_distributed_init();
	rom_scan_init();
	rom_run_init();
	rom_eager_init();
	rom_steps_init();
	rom_tasks_init();
	rom_seen_init();
	rom_messages_init();
	rom_outbox_init();
	rom_schedules_init();
	rom_stats_init();
	rom_registrar_init();
	rom_rebuild_init();
	rom_http_init();

	if (!process_shared_preload_libraries_in_progress)
		return;

	rom_shmem_init();
	rom_utility_init();
	preload_plpgsql();

	/* pg_upgrade's servers must not begin to work */
	if (!IsBinaryUpgrade)
		rom_launcher_register();
}
