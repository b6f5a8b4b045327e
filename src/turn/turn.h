/*-------------------------------------------------------------------------
 *
 * turn.h
 *		A turn of one instance: load, apply what arrived, evaluate, carry out,
 *		save.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TURN_H
#define ROM_TURN_H

#include "turn/primitive.h"

/* How rom_turn_run() ended. */
typedef enum RomTurnEnd
{
	ROM_TURN_SAVE,				/* the verdict is in turn: save and commit it */
	ROM_TURN_NOTHING,			/* nothing was due: nothing to save */
	ROM_TURN_AGAIN				/* roll back (the member, at least) and run it
								 * again, alone */
} RomTurnEnd;

/* A turn for a claimed instance; all it allocates lives in a child context of cxt. */
extern RomTurn *rom_turn_create(RomInstance *inst, Oid owner, MemoryContext cxt);

/*
 * Runs the turn up to its verdict. wrap: enclose step-by-step work in a
 * subtransaction, so that this member alone can be rolled back. Errors of the
 * engine itself are raised; errors of user code become part of the verdict.
 */
extern RomTurnEnd rom_turn_run(RomTurn *turn, bool wrap);

#endif							/* ROM_TURN_H */
