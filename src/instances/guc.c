/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room instances, alphabetically. Instances.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "base/guc.h"
#include "instances/guc.h"

int			rom_guc_result_expires = 0;

/* as it is written */
static char *result_expires = NULL;

static void
assign_result_expires(const char *newval, void *extra)
{
	(void) rom_guc_read_duration(newval, &rom_guc_result_expires, NULL);
}

void
rom_instances_guc_init(void)
{
	DefineCustomStringVariable("romancy.result_expires",
							   "Sets how long the output of a finished instance is kept.",
							   "A duration, in seconds without a unit, or \"off\": as long as the instance.",
							   &result_expires,
							   "off",
							   PGC_SIGHUP, 0,
							   rom_guc_check_duration, assign_result_expires, NULL);
}
