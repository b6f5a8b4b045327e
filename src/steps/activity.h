/*-------------------------------------------------------------------------
 *
 * activity.h
 *		Running activities: attempts, failures, retries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ACTIVITY_H
#define ROM_ACTIVITY_H

#include "instances/event.h"
#include "steps/invoke.h"
#include "turn/context.h"
#include "turn/turn.h"

/* Kinds of waits: for max_concurrency, for a rate limit. */
#define ROM_WAIT_SLOT "max_concurrency"
#define ROM_WAIT_TOKEN "rate_limit"

/*
 * Why this activity, which is not transactional, must not be run for owner here: a drain in a transaction block
 * (RM010), or in a session of another role's, which the activity could take over (42501). NULL: it may.
 */
extern ErrorData *rom_procedure_refusal(const char *activity, bool in_block, Oid owner);

/*
 * Runs a non-transactional activity outside the turn's transaction, as owner, at least once.
 * in_session: a drain's transaction is open before and after (it may be another one); else
 * there is none. Returns the outcome, allocated in cxt; raises nothing.
 */
extern RomInjected *rom_procedure_run(RomProcedure *procedure, Oid owner,
									  bool in_session, MemoryContext cxt);

/*
 * Carries out activity() for an activity with a queue: like execute() of a primitive, with what
 * the name was resolved to. Registered once, from _PG_init.
 */
typedef RomOutcome (*RomQueuedActivity) (RomTurn *turn, RomCall *call,
										 RomEvent *event, RomActivity *activity);
extern void rom_activity_on_queued(RomQueuedActivity carry_out);

extern const RomPrimitive rom_primitive_activity;

#endif							/* ROM_ACTIVITY_H */
