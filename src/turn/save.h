/*-------------------------------------------------------------------------
 *
 * save.h
 *		Saving a turn: the verdict becomes rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SAVE_H
#define ROM_SAVE_H

#include "turn/primitive.h"

/* Writes the verdict: history, the instance's row, and what goes with it. Engine SQL of its own. Notes wake-ups. */
extern void rom_save_turn(RomTurn *turn);

/* The wait that t_instance.wait holds, allocated in the current context. */
extern RomWait *rom_save_read_wait(Jsonb *jb);

#endif							/* ROM_SAVE_H */
