/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room turn. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TURN_GUC_H
#define ROM_TURN_GUC_H

#include "utils/guc.h"

extern int	rom_guc_evaluation_timeout;
extern int	rom_guc_max_history_events;
extern int	rom_guc_turn_mode;	/* RomTurnMode of turn/turn.h */

/* Defines them; called once from _PG_init. */
extern void rom_turn_guc_init(void);

#endif							/* ROM_TURN_GUC_H */
