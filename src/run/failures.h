/*-------------------------------------------------------------------------
 *
 * failures.h
 *		A line in the server's log for each instance that failed, or that the engine
 *		paused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FAILURES_H
#define ROM_FAILURES_H

#include "run/run.h"
#include "turn/turn.h"

/* Notes in run, in the current context, how a turn that was saved has failed or paused its instance, if it has. */
extern void rom_failures_note(RomRun *run, RomTurn *turn);

/* Writes what was noted to the log: after the commit. Nothing with romancy.log_failures off. */
extern void rom_failures_log(RomRun *run);

#endif							/* ROM_FAILURES_H */
