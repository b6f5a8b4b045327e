/*-------------------------------------------------------------------------
 *
 * verdict.h
 *		How a turn ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_VERDICT_H
#define ROM_VERDICT_H

#include "turn/primitive.h"

/* The instance waits, in status, until wake_at or a message, at most to its deadline. */
extern void rom_verdict_waiting(RomTurn *turn, RomStatus status, TimestampTz wake_at);

/* Is output within romancy.max_payload_size? If not, turn->out.fail_error is set. */
extern bool rom_verdict_fits(RomTurn *turn, Jsonb *output);

/* It ends with output, which was found to fit. */
extern void rom_verdict_completed(RomTurn *turn, Jsonb *output);

/* rom_verdict_final ends the instance as failed or cancelled. */
extern void rom_verdict_final(RomTurn *turn, RomStatus status, Jsonb *error);

/* rom_verdict_failed ends the instance as failed, or first runs its compensations. */
extern void rom_verdict_failed(RomTurn *turn, Jsonb *error);

/* rom_verdict_paused stops the instance until an operator has mended what error says. */
extern void rom_verdict_paused(RomTurn *turn, Jsonb *error);

/*
 * rom_verdict_cancelled ends the instance as cancelled: a terminate at once, a cancel when its
 * compensations have run. A cancel of an instance that already compensates because of a cancel
 * changes nothing.
 */
extern void rom_verdict_cancelled(RomTurn *turn, RomInboxItem *item);

/* rom_verdict_saga_error is the error of an instance whose compensations have run: it names those that failed for good. */
extern Jsonb *rom_verdict_saga_error(RomTurn *turn);

/* The verdict "paused" with error (an operator has to mend it), without running anything. */
extern void rom_verdict_pause(RomTurn *turn, Jsonb *error);

#endif							/* ROM_VERDICT_H */
