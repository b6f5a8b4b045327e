/*-------------------------------------------------------------------------
 *
 * fire.h
 *		Starting what is due: the sweep "schedules", and drain.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FIRE_H
#define ROM_FIRE_H

#include "schedules/plan.h"

/* Settles all times of a locked schedule that are due by now, and saves it. Engine scope needed. */
extern void rom_fire_plan(RomPlan *plan, TimestampTz now);

/* Registers the sweep, and what drain does. */
extern void rom_fire_init(void);

#endif							/* ROM_FIRE_H */
