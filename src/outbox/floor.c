/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room outbox at load: its sweep, and its look at what turns save.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "outbox/floor.h"
#include "outbox/lifecycle.h"
#include "outbox/sender.h"
#include "outbox/sweep.h"

void
rom_outbox_init(void)
{
	rom_outbox_sweep_init();
	rom_sender_init();
	rom_lifecycle_init();
}
