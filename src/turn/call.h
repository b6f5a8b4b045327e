/*-------------------------------------------------------------------------
 *
 * call.h
 *		A call of a running handler, for the parts of a turn; handlers' calls use primitive.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CALL_H
#define ROM_CALL_H

#include "turn/primitive.h"

/*
 * rom_call_mismatch has the instance paused with RM003: replay asks for something else than what history holds. asked: what the
 * handler asks for; event, held (or ""): what history holds, and more to say of it; what: in which they differ.
 */
extern void rom_call_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what, const char *held);

/* rom_call_new_event prepares the event of a call that history does not answer. */
extern RomEvent *rom_call_new_event(RomTurn *turn, RomCall *call);

/* rom_call_same_jsonb compares two documents, either of which may be NULL (as JSON null). */
extern bool rom_call_same_jsonb(Jsonb *a, Jsonb *b);

/* rom_call_can_inline: may this call be carried out inside the evaluation? */
extern bool rom_call_can_inline(RomTurn *turn, RomCall *call);

/* rom_call_execute_inline carries a call out inside the evaluation, and fills event; any failure abandons the evaluation. */
extern void rom_call_execute_inline(RomTurn *turn, RomCall *call, RomEvent *event);

/* rom_call_answered appends a carried out call's event, and steps over it. */
extern RomEvent *rom_call_answered(RomTurn *turn, RomCall *call, RomEvent *event);

#endif							/* ROM_CALL_H */
