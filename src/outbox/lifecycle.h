/*-------------------------------------------------------------------------
 *
 * lifecycle.h
 *		The engine's own events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_LIFECYCLE_H
#define ROM_OUTBOX_LIFECYCLE_H

/* Has turns write the events of workflows and activities; called once, from rom_outbox_init(). */
extern void rom_lifecycle_init(void);

#endif							/* ROM_OUTBOX_LIFECYCLE_H */
