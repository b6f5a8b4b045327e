/*-------------------------------------------------------------------------
 *
 * wake.h
 *		Notes taken in a transaction about what it makes ready, published to
 *		shared memory after its commit.
 *
 * A note lives in backend-local memory until the top-level transaction commits; a subtransaction's
 * abort takes its notes back. None of these functions touches shared memory or raises (but for out
 * of memory), and all are no-ops when romancy is not preloaded. Shared memory is a hint: scans find
 * lost notes again, because the tables are the truth.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_WAKE_H
#define ROM_WAKE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* The instance is ready for a turn. owner: the role it runs as. */
extern void rom_wake_ready(const pg_uuid_t *id, Oid owner, int32 priority);

/* The same for an instance whose next step is not known to be quick: it runs alone. */
extern void rom_wake_slow(const pg_uuid_t *id, Oid owner, int32 priority);

/* The same for one of which it is not known how long it takes: it is taken alone, until others like it were seen to be quick. */
extern void rom_wake_unknown(const pg_uuid_t *id, Oid owner, int32 priority);

/* The instance is to have a turn at due. */
extern void rom_wake_at(const pg_uuid_t *id, Oid owner, int32 priority,
						TimestampTz due);

/* Interrupt the statement that a running turn of this instance is in, if any. */
extern void rom_wake_cancel(const pg_uuid_t *id);

/* Was rom_wake_cancel() called in this transaction (or in a part of it that was rolled back)? */
extern bool rom_wake_has_cancels(void);

/* Scan this database for ready work (bulk loads, COMMIT PREPARED, overflow). */
extern void rom_wake_scan(void);

/* The extension came to this database, or changed (also: it was adopted): look at it anew, and scan. */
extern void rom_wake_announce(void);

/* Databases came, went or changed. */
extern void rom_wake_list(void);

/* The scheduler of this database is to run the named sweep (index in the table of sweeps) by due. */
extern void rom_wake_sweep(int sweep, TimestampTz due);

/* Wake sessions that wait for key (waiter.h). */
extern void rom_wake_key(uint64 key);

/* Wake one more session that waits for key: there is one thing more to take. */
extern void rom_wake_one(uint64 key);

/* One of the ends that key (fanin.h) counts: the last one makes the instance ready. */
extern void rom_wake_end(const pg_uuid_t *key, const pg_uuid_t *instance,
						 Oid owner, int32 priority);

/*
 * After the commit, when notes are published, calls function with a copy of the len bytes at arg. It must not raise,
 * and wait for nothing but spinlocks.
 */
typedef void (*RomWakeFunction) (const void *arg);
extern void rom_wake_call(RomWakeFunction function, const void *arg, Size len);

/* Is there a prepared transaction in this database that made something ready? */
extern bool rom_wake_prepared(void);

/* Registers the transaction callbacks; called once from _PG_init. */
extern void rom_wake_init(void);

#endif							/* ROM_WAKE_H */
