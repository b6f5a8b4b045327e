/*-------------------------------------------------------------------------
 *
 * park.h
 *		Tasks of paused instances.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PARK_H
#define ROM_PARK_H

/* Registers with the engine; called once from _PG_init. */
extern void rom_park_init(void);

#endif							/* ROM_PARK_H */
