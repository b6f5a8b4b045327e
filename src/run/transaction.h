/*-------------------------------------------------------------------------
 *
 * transaction.h
 *		One transaction of a worker that runs turns, from its begin to what is left after it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TRANSACTION_H
#define ROM_TRANSACTION_H

#include "run/run.h"

typedef enum RomTransactionResult
{
	ROM_TRANSACTION_COMMITTED,
	ROM_TRANSACTION_FAILED,		/* before the commit */
	ROM_TRANSACTION_COMMIT_FAILED
} RomTransactionResult;

/*
 * Where outcomes of transactions are kept: the run's, errors, injected ones. It is current
 * between them; rom_batch_run() resets it.
 */
extern MemoryContext rom_transaction_context(void);

/*
 * rom_transaction_run runs turns of ids in one transaction. The outcome is in run;
 * *error is set (in rom_transaction_context()) when it failed.
 */
extern RomTransactionResult rom_transaction_run(RomRun *run, Oid owner,
												const pg_uuid_t *ids, int n,
												ErrorData **error);

/* rom_transaction_scrub takes away what user code may have left in the session. temp: it touched temporary tables. */
extern void rom_transaction_scrub(bool temp);

/* rom_transaction_wake notes, in a transaction of its own, that an instance is to be run in ms. */
extern void rom_transaction_wake(const pg_uuid_t *id, Oid owner, int ms);

#endif							/* ROM_TRANSACTION_H */
