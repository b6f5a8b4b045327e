/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room run, alphabetically. How instances are found, run, logged
 *		and kept.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "run/guc.h"

int			rom_guc_activity_timeout_interval = 10000;
bool		rom_guc_eager_runs = true;
bool		rom_guc_log_failures = true;
int			rom_guc_max_concurrent_resumptions = 10;
int			rom_guc_message_timeout_interval = 5000;
int			rom_guc_resumption_interval = 30000;
int			rom_guc_retention = 30 * 24 * 60 * 60;
int			rom_guc_retention_interval = 300000;
int			rom_guc_timer_interval = 10000;

void
rom_run_guc_init(void)
{
	DefineCustomIntVariable("romancy.activity_timeout_interval",
							"Sets the time between two runs of the sweep for activities that are over their time.",
							"A safety net: due times are served exactly by other means. Each interval is drawn anew, by romancy.sweep_jitter.",
							&rom_guc_activity_timeout_interval,
							10000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("romancy.eager_runs",
							 "Runs a quick workflow in the session that calls run_workflow, and not in an executor.",
							 "Only where it comes to the same: in a session of the workflow's owner, for versions that are known to be quick and not to wait.",
							 &rom_guc_eager_runs,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("romancy.log_failures",
							 "Writes a line to the log for each instance that fails or is paused by the engine.",
							 "With the SQLSTATE and the message of its error, never with payloads.",
							 &rom_guc_log_failures,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_concurrent_resumptions",
							"Sets how many instances the resumption sweep hands out at a time.",
							"These are instances whose wake-up was lost, in a crash for example.",
							&rom_guc_max_concurrent_resumptions,
							10, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.message_timeout_interval",
							"Sets the time between two runs of the sweep for receivers whose timeout is over.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_message_timeout_interval,
							5000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.resumption_interval",
							"Sets the time between two runs of the sweep for instances that are ready and were not run.",
							"A safety net for lost wake-ups.",
							&rom_guc_resumption_interval,
							30000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retention",
							"Sets how long a finished instance is kept.",
							"A workflow may define its own. Zero keeps them for ever.",
							&rom_guc_retention,
							30 * 24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retention_interval",
							"Sets the time between two runs of the sweep that deletes old instances.",
							"See romancy.retention.",
							&rom_guc_retention_interval,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.timer_interval",
							"Sets the time between two runs of the sweep for due timers.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_timer_interval,
							10000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
