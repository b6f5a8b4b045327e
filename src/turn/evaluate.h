/*-------------------------------------------------------------------------
 *
 * evaluate.h
 *		One evaluation of a handler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EVALUATE_H
#define ROM_EVALUATE_H

#include "fmgr.h"

#include "turn/primitive.h"

/*
 * rom_evaluate runs the handler from the top, in a subtransaction: kept when
 * inlined and nothing went wrong, rolled back otherwise. *output and *edata
 * live in turn->cxt. With flinfo NULL (and inlined) it runs, in the handler's place, the
 * calls that are known of it: rom_ahead_run().
 */
extern RomEvaluation rom_evaluate(RomTurn *turn, FmgrInfo *flinfo, bool inlined, Jsonb **output, ErrorData **edata);

/* rom_evaluate_through: is this turn expected to run to the handler's end without waiting? */
extern bool rom_evaluate_through(RomTurn *turn);

/* How a turn ended that was run inline, or would have been. */
typedef enum RomBetEnd
{
	ROM_BET_THROUGH,			/* it ran to the handler's end */
	ROM_BET_WAIT,				/* it came to a wait, or to a step that runs
								 * outside of the evaluation */
	ROM_BET_FAILURE				/* a step failed, or the handler raised */
} RomBetEnd;

/* rom_evaluate_note remembers how a turn of this version ended. ahead: when it waits, rom_ahead_run() may make use of it. */
extern void rom_evaluate_note(RomTurn *turn, RomBetEnd end, bool ahead);

/* Registers what it does at the ends of subtransactions; called once from _PG_init. */
extern void rom_evaluate_init(void);

#endif							/* ROM_EVALUATE_H */
