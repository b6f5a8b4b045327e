/*-------------------------------------------------------------------------
 *
 * floor.h
 *		Registers the room messages at load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MESSAGES_FLOOR_H
#define ROM_MESSAGES_FLOOR_H

/* Called once from _PG_init. */
extern void rom_messages_init(void);

#endif							/* ROM_MESSAGES_FLOOR_H */
