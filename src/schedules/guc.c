/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room schedules, alphabetically. Schedules.
 *
 * Sizes of shared memory are POSTMASTER, what only tests change is SUSET, all
 * else can be changed by a reload: the processes read it where they use it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "schedules/guc.h"

int			rom_guc_schedule_interval = 60000;

void
rom_schedules_guc_init(void)
{
	DefineCustomIntVariable("romancy.schedule_interval",
							"Sets the time between two runs of the sweep for schedules.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_schedule_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
