/*-------------------------------------------------------------------------
 *
 * quiet.h
 *		Messages of a handler that its replay does not write again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_QUIET_H
#define ROM_QUIET_H

#include "turn/primitive.h"

/* The message settings of the caller's session. */
typedef struct RomQuiet
{
	int			client;
	int			log;
} RomQuiet;

/* The turn's history is loaded: how much of the handler has run before. */
extern void rom_quiet_load(RomTurn *turn);

/*
 * An evaluation begins; and it is over, whatever came of it. Between the two, messages below ERROR come through only where the
 * handler is for the first time. handler: was that run, and not only its steps (ahead.h)?
 */
extern void rom_quiet_begin(RomTurn *turn, RomQuiet *saved);
extern void rom_quiet_end(RomTurn *turn, const RomQuiet *saved, bool handler);

/* The evaluation is past the await at which the instance waited: the code that follows is new, once in a turn. */
extern void rom_quiet_past_await(RomTurn *turn);

/* The evaluation has passed one more step (turn->replay.cursor). */
extern void rom_quiet_move(RomTurn *turn);

/* An activity runs inside the evaluation, always for the first time; rom_quiet_move() ends that. */
extern void rom_quiet_aloud(RomTurn *turn);

#endif							/* ROM_QUIET_H */
