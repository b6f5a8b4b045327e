/*-------------------------------------------------------------------------
 *
 * fire.h
 *		Starting what is due: the sweep "schedules", and drain.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FIRE_H
#define ROM_FIRE_H

/* Registers the sweep, and what drain does. */
extern void rom_fire_init(void);

#endif							/* ROM_FIRE_H */
