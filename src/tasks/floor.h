/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room tasks at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TASKS_FLOOR_H
#define ROM_TASKS_FLOOR_H

/* Registers with the rooms below; called once from _PG_init. */
extern void rom_tasks_init(void);

#endif							/* ROM_TASKS_FLOOR_H */
