/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room tasks at load with the rooms below.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tasks/accounts.h"
#include "tasks/canvas.h"
#include "tasks/execute.h"
#include "tasks/floor.h"
#include "tasks/front.h"
#include "tasks/lease.h"
#include "tasks/ledger.h"
#include "tasks/notify.h"
#include "tasks/park.h"
#include "tasks/poller.h"
#include "tasks/quota.h"
#include "tasks/resume.h"
#include "tasks/rotation.h"
#include "tasks/spawn.h"

void
rom_tasks_init(void)
{
	rom_front_init();
	rom_accounts_init();
	rom_rotation_init();
	rom_poller_init();
	rom_ledger_init();
	rom_execute_init();
	rom_resume_init();
	rom_spawn_init();
	rom_lease_init();
	rom_park_init();
	rom_notify_init();
	rom_quota_init();
	rom_canvas_init();
}
