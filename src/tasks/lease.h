/*-------------------------------------------------------------------------
 *
 * lease.h
 *		Leases: the program that holds a task, until when, and the token that
 *		proves it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LEASE_H
#define ROM_LEASE_H

#include "fmgr.h"

#include "tasks/task.h"
#include "tasks/token.h"

/*
 * The task whose lease the token holds, its row locked; NULL when the lease was lost, or the
 * current user is not its owner's. Engine scope needed; called_by: the user who calls.
 */
extern RomTask *rom_lease_lock(const RomToken *token, Oid caller);

/* Renews the lease of a task that rom_lease_lock() gave. details: of a heartbeat, or NULL. Engine scope needed. */
extern void rom_lease_extend(RomTask *task, int64 lease_us, Jsonb *details);

/* Is the row of rom_task_table that was found under the token's lease? */
extern bool rom_lease_holds(RomRows *rows, const RomToken *token);

/*
 * Records that the attempt failed; false when its lease was lost or its instance is over. Enters the engine, as does the next one. retry_at: when another one is to begin, if there is one, instead of the
 * policy's time, or (at_least) where it is later than that; NULL: as the policy says.
 */
extern bool rom_lease_fail(const RomToken *token, Oid caller, Jsonb *error, RomTaskRetry retry,
						   const TimestampTz *retry_at, bool at_least);

/*
 * The attempt goes on at a server that has taken it, which holds the token and will complete it: the lease lasts until then, or until
 * start_to_close_timeout is over, and is of no process any more. False as rom_lease_fail().
 */
extern bool rom_lease_hand_over(const RomToken *token, Oid caller);

/* The request under way has been given up, since its instance is over or compensates: a compensation need not wait for it. */
extern void rom_lease_abandon(const RomToken *token, Oid caller);

/* The error that a worker reports; code is a SQLSTATE or any other name. */
extern Jsonb *rom_lease_failure(const char *message, const char *code, Jsonb *detail);

/* RM004 in a handler: what a worker's call does is no step. */
extern void rom_lease_refuse(FunctionCallInfo fcinfo);

/* A lease argument in microseconds: null is romancy.lock_timeout; RM012 when it is nothing or over a week. */
extern int64 rom_lease_arg(FunctionCallInfo fcinfo, int n, const char *name);

/* Registers the sweeps; called once from _PG_init. */
extern void rom_lease_init(void);

#endif							/* ROM_LEASE_H */
