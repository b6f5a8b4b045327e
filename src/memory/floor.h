/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room memory at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MEMORY_FLOOR_H
#define ROM_MEMORY_FLOOR_H

/* Called once from _PG_init, before any other room's: what it keeps comes first. */
extern void rom_memory_init(void);

#endif							/* ROM_MEMORY_FLOOR_H */
