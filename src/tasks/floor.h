/*-------------------------------------------------------------------------
 *
 * floor.h
 *		The floor of tasks, for _PG_init.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TASKS_FLOOR_H
#define ROM_TASKS_FLOOR_H

/* Registers with the floors below; called once from _PG_init. */
extern void rom_tasks_init(void);

#endif							/* ROM_TASKS_FLOOR_H */
