/*-------------------------------------------------------------------------
 *
 * spawn.h
 *		spawn, map, and activity() on one with a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SPAWN_H
#define ROM_SPAWN_H

/* Registers with the engine; called once from _PG_init. */
extern void rom_spawn_init(void);

#endif							/* ROM_SPAWN_H */
