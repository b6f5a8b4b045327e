/*-------------------------------------------------------------------------
 *
 * fanin.h
 *		How many ends an instance still waits for before it is worth waking, in
 *		shared memory.
 *
 * An instance that awaits a thousand tasks need not have a turn after each.
 * Its turn leaves the number here, and each task's commit takes one off; the
 * last one wakes it. Where nothing is known of it (after a restart, or when the
 * place is full) every end wakes it, so that losing an entry costs time only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FANIN_H
#define ROM_FANIN_H

#include "utils/uuid.h"

/*
 * From now on the key's instance, of a namespace, is woken by the count-th end. To be called before the
 * commit, while the instance's row is locked (or the key is new): then no later turn's number is
 * overwritten. A rollback leaves a number that is too high, and is followed by another turn.
 */
extern void rom_fanin_set(const pg_uuid_t *key, int32 namespace, int64 count);

/* One has ended: is the instance to be woken? For the commit hook. */
extern bool rom_fanin_end(const pg_uuid_t *key);

/* Forgets the key: every end wakes. Before a turn reads what has arrived, so that none in between is lost. */
extern void rom_fanin_forget(const pg_uuid_t *key);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_fanin_init(void);

#endif							/* ROM_FANIN_H */
