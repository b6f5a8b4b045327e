/*-------------------------------------------------------------------------
 *
 * recur.h
 *		An instance that continues in a new one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RECUR_H
#define ROM_RECUR_H

#include "turn/primitive.h"

extern const RomPrimitive rom_primitive_recur;

/* Called once from _PG_init. */
extern void rom_recur_init(void);

/* Starts the successor, moves over what goes over, and archives the history. For the save of a turn that recurs, when its history is stored; engine scope needed. */
extern void rom_recur_save(RomTurn *turn);

/* Hands requests that came to an instance after it had recurred on to the live one of its successors. Enters the engine by itself. */
extern void rom_recur_forward(RomTurn *turn);

#endif							/* ROM_RECUR_H */
