/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room tasks, alphabetically. Leases and queues.
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

#include "tasks/guc.h"

int			rom_guc_lock_cleanup_interval = 60000;
int			rom_guc_lock_timeout = 300000;
int			rom_guc_queue_notify_interval = 60000;

void
rom_tasks_guc_init(void)
{
	DefineCustomIntVariable("romancy.lock_cleanup_interval",
							"Sets the time between two runs of the sweep that takes work back from external workers whose lease is over.",
							"See romancy.lock_timeout.",
							&rom_guc_lock_cleanup_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.lock_timeout",
							"Sets the length of an external worker's lease.",
							"It holds for calls that name no lease of their own.",
							&rom_guc_lock_timeout,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.queue_notify_interval",
							"Sets the time between two runs of the sweep that notifies the channels of queues.",
							"A safety net: it is run as soon as there is a task to tell of.",
							&rom_guc_queue_notify_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
