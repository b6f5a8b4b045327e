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
#include "turn/context.h"
#include "turn/turn.h"

/* Kinds of waits: for max_concurrency, for a rate limit. */
#define ROM_WAIT_SLOT "max_concurrency"
#define ROM_WAIT_TOKEN "rate_limit"

/* A non-transactional activity to be run after the turn's commit. */
typedef struct RomProcedure
{
	RomRunning	running;
	char	   *step;
	char	   *name;
	char	   *search_path;
	int32		settings;		/* turn/settings.h */
	Oid			handler;
	bool		is_procedure;
	Jsonb	   *input;
	int			attempt;
	TimestampTz limit;			/* start_to_close; DT_NOEND: none */
} RomProcedure;

/*
 * Calls an activity's function with input in the state its owner expects (identity, path,
 * settings, limits), inside the present (sub)transaction. Returns a copy of the result in cxt
 * (JSON null for SQL NULL). Errors propagate.
 */
extern Jsonb *rom_activity_call(RomTurn *turn, RomActivity *activity,
								RomActivityRun *run, Jsonb *input,
								MemoryContext cxt);

/*
 * rom_activity_quick says whether this activity, whose handler has been resolved, is known to be
 * quick and to succeed, so that it may share a transaction. An unknown activity is not, and neither
 * is one that is not transactional.
 */
extern bool rom_activity_quick(const RomActivity *activity);

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
