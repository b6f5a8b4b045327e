/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room outbox at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_FLOOR_H
#define ROM_OUTBOX_FLOOR_H

/* Called once, from _PG_init. */
extern void rom_outbox_init(void);

#endif							/* ROM_OUTBOX_FLOOR_H */
