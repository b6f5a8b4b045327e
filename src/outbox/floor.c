/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room outbox at load: its sweep.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "outbox/floor.h"
#include "outbox/sweep.h"

void
rom_outbox_init(void)
{
	rom_outbox_sweep_init();
}
