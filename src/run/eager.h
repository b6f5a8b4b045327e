/*-------------------------------------------------------------------------
 *
 * eager.h
 *		The first turn of an instance in the session, and the transaction, that
 *		starts it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EAGER_H
#define ROM_EAGER_H

#include "base/errors.h"
#include "defs/definition.h"
#include "instances/instance.h"

/* How it went. */
typedef struct RomEager
{
	Jsonb	   *output;			/* the instance is completed; NULL: it is left
								 * to the executors, and nothing has happened */
	ErrorData  *interrupt;		/* a cancel of the session's statement, to be
								 * raised when the start is committed; or NULL */
} RomEager;

/*
 * rom_eager_possible says whether an instance of the workflow may run in this session: setting
 * romancy.eager_runs, its state (clean.h), executors that would run it, and a version that is known to end in its
 * first turn.
 */
extern bool rom_eager_possible(const RomWorkflow *workflow);

/*
 * rom_eager_run runs an instance that this transaction has started (RomStart.here), owned by the current user, and writes its row. All
 * but a completed instance is rolled back, its row written as it started, and its wake-up noted. Results are in cxt. Raises what that raises, and FATAL.
 */
extern void rom_eager_run(RomInstance *inst, RomEager *eager, MemoryContext cxt);

/* rom_eager_interrupt takes the error that was just caught: a cancel of the statement, or NULL for any other. */
extern ErrorData *rom_eager_interrupt(void);

/* rom_eager_end is to be called when the transaction is over, whatever way. */
extern void rom_eager_end(void);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_eager_init(void);

#endif							/* ROM_EAGER_H */
