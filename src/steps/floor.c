/*-------------------------------------------------------------------------
 *
 * floor.c
 *		Registers the room steps at load: kinds of scheduled steps, hooks, and
 *		the primitive of compensations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "steps/activity.h"
#include "steps/child.h"
#include "steps/floor.h"
#include "steps/profile.h"
#include "steps/throttle.h"
#include "steps/timer.h"
#include "steps/turnstile.h"
#include "turn/evaluate.h"
#include "turn/recur.h"
#include "turn/saga.h"
#include "turn/settings.h"

void
rom_steps_init(void)
{
	rom_profile_init();
	rom_turnstile_init();
	rom_throttle_init();
	rom_evaluate_init();
	rom_settings_init();
	rom_timer_init();
	rom_saga_init(&rom_primitive_activity);
	rom_child_init();
	rom_recur_init();
}
