/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room outbox. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_GUC_H
#define ROM_OUTBOX_GUC_H

#include "utils/guc.h"

extern int	rom_guc_outbox_batch_size;
extern int	rom_guc_outbox_interval;
extern int	rom_guc_outbox_max_age; /* seconds; 0: off */
extern int	rom_guc_outbox_max_attempts;
extern int	rom_guc_outbox_retention;	/* seconds; 0: for ever */
extern char *rom_guc_outbox_url;

/* Defines them; called once from _PG_init. */
extern void rom_outbox_guc_init(void);

#endif							/* ROM_OUTBOX_GUC_H */
