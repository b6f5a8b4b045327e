/*-------------------------------------------------------------------------
 *
 * timer.h
 *		Durable sleeps, and timers that a handler awaits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TIMER_H
#define ROM_TIMER_H

#include "turn/primitive.h"

extern const RomPrimitive rom_primitive_spawn_timer;

/* Registers the kind of scheduled step; called once from _PG_init. */
extern void rom_timer_init(void);

#endif							/* ROM_TIMER_H */
