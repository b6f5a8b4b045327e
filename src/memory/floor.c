/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room memory at load: its parts of shared memory, and its
 *		participants in the end of a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cancelled.h"
#include "memory/crossing.h"
#include "memory/expect.h"
#include "memory/fanin.h"
#include "memory/floor.h"
#include "memory/progress.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/slot.h"
#include "memory/stat.h"
#include "memory/suspect.h"
#include "memory/unwritten.h"
#include "memory/waiter.h"
#include "memory/wake.h"

void
rom_memory_init(void)
{
	rom_roster_init();
	rom_ready_init();
	rom_slot_init();
	rom_cancelled_init();
	rom_suspect_init();
	rom_waiter_init();
	rom_progress_init();
	rom_fanin_init();
	rom_stat_init();
	rom_unwritten_init();
	rom_expect_init();
	rom_wake_init();
	rom_crossing_init();
}
