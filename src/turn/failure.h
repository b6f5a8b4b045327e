/*-------------------------------------------------------------------------
 *
 * failure.h
 *		Which step's error ended a handler, and how retry_workflow takes it back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FAILURE_H
#define ROM_FAILURE_H

#include "turn/primitive.h"

/* rom_failure_observe notes that a scheduled step raises its error in the handler now, if it failed. */
extern void rom_failure_observe(RomTurn *turn, const char *step);

/*
 * rom_failure_find finds the step whose error ended the handler: {failed_step, replay: how many
 * events come before it, caught: scheduled steps whose errors the handler had caught before}. NULL
 * when it was none. It is kept with WorkflowFailed, for retry_workflow.
 */
extern Jsonb *rom_failure_find(RomTurn *turn, Jsonb *error);

/* rom_failure_is_free: could rom_failure_schedule_again() begin without waiting for another transaction? */
extern bool rom_failure_is_free(RomTurn *turn);

/* rom_failure_schedule_again makes the work of scheduled steps anew whose outcome was superseded. */
extern void rom_failure_schedule_again(RomTurn *turn);

#endif							/* ROM_FAILURE_H */
