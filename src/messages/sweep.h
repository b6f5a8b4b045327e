/*-------------------------------------------------------------------------
 *
 * sweep.h
 *		The sweeps of messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MESSAGES_SWEEP_H
#define ROM_MESSAGES_SWEEP_H

/* Registers them; called once from _PG_init. */
extern void rom_messages_sweep_init(void);

#endif							/* ROM_MESSAGES_SWEEP_H */
