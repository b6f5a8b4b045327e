/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room schedules at load: their sweep, drain's source, hooks
 *		of runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "schedules/ends.h"
#include "schedules/fire.h"
#include "schedules/floor.h"

void
rom_schedules_init(void)
{
	rom_fire_init();
	rom_ends_init();
}
