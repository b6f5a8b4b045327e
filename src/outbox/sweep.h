/*-------------------------------------------------------------------------
 *
 * sweep.h
 *		The sweep "outbox".
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SWEEP_H
#define ROM_OUTBOX_SWEEP_H

/* Its number. */
extern int	rom_outbox_sweep(void);

extern void rom_outbox_sweep_init(void);

#endif							/* ROM_OUTBOX_SWEEP_H */
