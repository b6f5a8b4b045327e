/*-------------------------------------------------------------------------
 *
 * batch.h
 *		Running turns: several instances of one owner in one transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BATCH_H
#define ROM_BATCH_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * Runs a turn of each of these instances (at most ROM_BATCH_MAX, all of one owner), in as few
 * transactions as it can. slow: one instance, from the slow lane. Called by an executor outside a
 * transaction, as the worker's own user; returns likewise, whatever happened: errors are logged or
 * recorded. Instances that have to run again are put back into the ready queue by the call. Returns
 * the number of turns that ended in a commit. Sets *tainted when the process should leave (a
 * handler had to be torn out of a language's interpreter).
 */
extern int	rom_batch_run(Oid owner, const pg_uuid_t *ids, int n, bool slow, bool *tainted);

#endif							/* ROM_BATCH_H */
