/*-------------------------------------------------------------------------
 *
 * replay.h
 *		What history answers, for the parts of a turn; handlers' calls use primitive.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REPLAY_H
#define ROM_REPLAY_H

#include "engine/primitive.h"

/* rom_replay_index files an event under what it is for in replay. */
extern void rom_replay_index(RomTurn *turn, RomEvent *event);

/* rom_replay_observe notes that a scheduled step raises its error in the handler now, if it failed. */
extern void rom_replay_observe(RomTurn *turn, const char *step);

/*
 * rom_replay_failure finds the step whose error ended the handler: {failed_step, replay: how many
 * events come before it, caught: scheduled steps whose errors the handler had caught before}. NULL
 * when it was none. It is kept with WorkflowFailed, for retry_workflow.
 */
extern Jsonb *rom_replay_failure(RomTurn *turn, Jsonb *error);

/* rom_replay_schedule_again makes the work of scheduled steps anew whose outcome was superseded. */
extern void rom_replay_schedule_again(RomTurn *turn);

/* rom_replay_mismatch has the instance paused with RM003: replay asks for something else than what history holds. */
extern void rom_replay_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what);

/* rom_replay_new_event prepares the event of a call that history does not answer. */
extern RomEvent *rom_replay_new_event(RomTurn *turn, RomCall *call);

/* rom_replay_same_jsonb compares two documents, either of which may be NULL (as JSON null). */
extern bool rom_replay_same_jsonb(Jsonb *a, Jsonb *b);

/* rom_replay_can_inline: may this call be carried out inside the evaluation? */
extern bool rom_replay_can_inline(RomTurn *turn, RomCall *call);

/* rom_replay_execute_inline carries a call out inside the evaluation, and fills event; any failure abandons the evaluation. */
extern void rom_replay_execute_inline(RomTurn *turn, RomCall *call, RomEvent *event);

/* rom_replay_answered appends a carried out call's event, and steps over it. */
extern RomEvent *rom_replay_answered(RomTurn *turn, RomCall *call, RomEvent *event);

#endif							/* ROM_REPLAY_H */
