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

#include "nodes/pg_list.h"

#include "turn/primitive.h"

/* Adds to the list, in the current context, how a turn that was saved has failed or paused its instance, if it has. */
extern void rom_failures_note(List **failures, RomTurn *turn);

/* Writes what was noted to the log: after the commit. Nothing with romancy.log_failures off. */
extern void rom_failures_log(List **failures);

#endif							/* ROM_FAILURES_H */
