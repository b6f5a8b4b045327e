/*-------------------------------------------------------------------------
 *
 * call.h
 *		A call of a running handler, for the parts of a turn; handlers' calls use primitive.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CALL_H
#define ROM_CALL_H

#include "base/errors.h"
#include "instances/event.h"
#include "turn/primitive.h"

/*
 * rom_call_mismatch has the instance paused with RM003: replay asks for something else than what history holds. asked: what the
 * handler asks for; event, held (or ""): what history holds, and more to say of it; what: in which they differ.
 */
extern void rom_call_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what, const char *held);

/*
 * Answers a call of the running handler from history, or carries it out.
 * Raises RM004 outside a handler; unwinds (does not return) when the call has
 * to be carried out after the evaluation or the handler has to wait.
 */
extern RomEvent *rom_call_step(RomCall *call);

/* Counts one call of step_base without recording it (patched() that answers false). */
extern void rom_call_skip(RomTurn *turn, const char *step_base);

/* For execute(): the turn has to wait. Strings are copied. until: DT_NOEND for none. */
extern RomOutcome rom_call_wait(RomTurn *turn, RomCall *call, RomStatus status,
								const char *kind, TimestampTz until,
								Jsonb *detail);

/* The wait that call recorded when it was reached before, or NULL. */
extern RomWait *rom_call_waited(RomTurn *turn, RomCall *call);

/* The evaluation has what an await of this label waited for, if that is what the instance waited for. */
extern void rom_call_wait_over(RomTurn *turn, const char *label);

/* Raises RM012 unless name, of an activity or a workflow, can be part of a step id. */
extern void rom_call_check_name(const char *name);

/* The next step id for a call (counts it); rom_call_step() does it by itself. */
extern char *rom_call_next_step(RomTurn *turn, RomCall *call);

/*
 * For the PG_CATCH of a call that looks up what its arguments name: the instance is paused by the error, whose context names the step that the call
 * would be (activity_id, or the next of step_base). A cancel is thrown again.
 */
extern void rom_call_pause(RomTurn *turn, const char *step_base, char *activity_id) pg_attribute_noreturn();

/* Ends the evaluation; call (with call->step set) is carried out after it, but is not recorded as a step by itself. */
extern void rom_call_block(RomTurn *turn, RomCall *call) pg_attribute_noreturn();

#endif							/* ROM_CALL_H */
