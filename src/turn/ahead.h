/*-------------------------------------------------------------------------
 *
 * ahead.h
 *		Running ahead: steps that an abandoned inline evaluation has shown.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_AHEAD_H
#define ROM_AHEAD_H

#include "instances/event.h"
#include "turn/primitive.h"

/* rom_ahead_begin forgets what is known; for the begin of an inline evaluation. */
extern void rom_ahead_begin(RomTurn *turn);

/*
 * rom_ahead_note remembers a call that an inline evaluation carried out, and its event. detail: what the call gave
 * the event, which may have replaced it.
 */
extern void rom_ahead_note(RomTurn *turn, const RomCall *call, RomEvent *event, Jsonb *detail);

/* rom_ahead_matches: is turn->eval.call, for which a handler was unwound, a known call? The known calls before it are skipped. */
extern bool rom_ahead_matches(RomTurn *turn);

/*
 * rom_ahead_run carries known calls out, from the one that rom_ahead_matches() found, until one has
 * another result than it had: from there on the handler may make other calls. rom_evaluate() calls
 * it in place of a handler: an error, or an unwind, rolls all of it back.
 */
extern void rom_ahead_run(RomTurn *turn);

/* rom_ahead_done: have all calls that were known been carried out as they were the first time? */
extern bool rom_ahead_done(RomTurn *turn);

#endif							/* ROM_AHEAD_H */
