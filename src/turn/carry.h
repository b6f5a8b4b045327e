/*-------------------------------------------------------------------------
 *
 * carry.h
 *		Carrying a call out: inside the evaluation, in its place, or after it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CARRY_H
#define ROM_CARRY_H

#include "instances/event.h"
#include "turn/primitive.h"

/* rom_carry_new_event prepares the event of a call that history does not answer. */
extern RomEvent *rom_carry_new_event(RomTurn *turn, RomCall *call);

/* rom_carry_same_jsonb compares two documents, either of which may be NULL (as JSON null). */
extern bool rom_carry_same_jsonb(Jsonb *a, Jsonb *b);

/* rom_carry_can_inline: may this call be carried out inside the evaluation? */
extern bool rom_carry_can_inline(RomTurn *turn, RomCall *call);

/* rom_carry_inline carries a call out inside the evaluation, and fills event; any failure abandons the evaluation. */
extern void rom_carry_inline(RomTurn *turn, RomCall *call, RomEvent *event);

/* rom_carry_answered appends a carried out call's event, and steps over it. */
extern RomEvent *rom_carry_answered(RomTurn *turn, RomCall *call, RomEvent *event);

/* rom_carry_left_out: does the event of a call not have its input, which was too large? */
extern bool rom_carry_left_out(RomEvent *event);

/*
 * rom_carry_out executes the call for which the handler was unwound, in a subtransaction. An error
 * becomes an event (CallFailed), which is raised in the handler now and on replay; an error that an
 * operator has to mend pauses the instance. (Errors of an activity's own code are caught by its
 * primitive.) AGAIN also where the instance was cancelled meanwhile.
 */
extern RomOutcome rom_carry_out(RomTurn *turn, RomCall *call);

/* rom_carry_base_length: the length of a step id without its ":n". */
extern int	rom_carry_base_length(const char *step);

#endif							/* ROM_CARRY_H */
