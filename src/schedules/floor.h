/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room schedules at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SCHEDULES_FLOOR_H
#define ROM_SCHEDULES_FLOOR_H

/* Called once, from _PG_init. */
extern void rom_schedules_init(void);

#endif							/* ROM_SCHEDULES_FLOOR_H */
