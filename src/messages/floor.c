/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room messages at load: sweeps, hooks, and kinds of
 *		scheduled steps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "messages/floor.h"
#include "messages/group.h"
#include "messages/receive.h"
#include "messages/subscription.h"
#include "messages/sweep.h"

void
rom_messages_init(void)
{
	rom_messages_sweep_init();
	rom_subscription_init();
	rom_receive_init();
	rom_group_init();
}
