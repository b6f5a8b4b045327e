/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room steps at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STEPS_FLOOR_H
#define ROM_STEPS_FLOOR_H

/* Called once from _PG_init. */
extern void rom_steps_init(void);

#endif							/* ROM_STEPS_FLOOR_H */
