/*-------------------------------------------------------------------------
 *
 * alone.h
 *		Running an instance alone: an instance that could not be run beside others,
 *		or whose batch failed at COMMIT.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ALONE_H
#define ROM_ALONE_H

#include "utils/uuid.h"

/*
 * Runs a turn of one instance in a transaction of its own, and again as far as it takes. Called
 * as rom_batch_run() is, with rom_transaction_context() current. Returns the number of
 * turns that ended in a commit. *tainted is set as by that, else left alone.
 */
extern int	rom_alone_run(Oid owner, const pg_uuid_t *id, bool *tainted);

#endif							/* ROM_ALONE_H */
