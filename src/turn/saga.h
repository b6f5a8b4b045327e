/*-------------------------------------------------------------------------
 *
 * saga.h
 *		Compensations: what undoes the activities of an instance that does not
 *		complete.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SAGA_H
#define ROM_SAGA_H

#include "instances/event.h"
#include "turn/primitive.h"

/*
 * An instance on its way to a final status; kept in its wait while compensations run, and while
 * parts of it that run elsewhere have not ended.
 */
typedef struct RomSaga
{
	RomStatus	status;			/* failed or cancelled, when they have run; or
								 * completed */
	Jsonb	   *error;
	Jsonb	   *output;			/* completed: the handler's */
	bool		bare;			/* no compensations: completed, or terminated */
	bool		quiet;			/* nothing of it runs elsewhere any more */
	Jsonb	   *failed_step;	/* as of rom_failure_find(), or NULL */
	bool		begun;			/* in this turn: its status becomes visible
								 * before a compensation runs */
	bool		closed;			/* children and tasks have been asked to end */
	Jsonb	   *in_flight;		/* array of {step, activity, input,
								 * compensation} that is waited for, or NULL */
} RomSaga;

/* Registers what the file has to say elsewhere; called once from _PG_init. activity: the primitive that compensations run as. */
extern void rom_saga_init(const RomPrimitive *activity);

/* Takes up what the instance's wait holds of a saga under way. */
extern void rom_saga_load(RomTurn *turn);

/* The form in which the wait holds it. */
extern Jsonb *rom_saga_to_jsonb(const RomSaga *saga);

/* Registers an activity's compensation (NULL: it has none) with the event of its completion. */
extern void rom_saga_note(RomTurn *turn, RomEvent *event,
						  const char *compensation);

/* The same for a scheduled activity, whose definition is looked up. Enters the engine by itself. */
extern void rom_saga_note_scheduled(RomTurn *turn, RomEvent *event);

#define ROM_WAIT_FAILED "failed"

/*
 * Gives the result of an activity that ran outside the turn's transaction, and that the handler's replay does not reach in this turn (which ends or
 * pauses the instance), its place in history. A failure is kept in the wait, for the step to find when it is asked for again: its kind is ROM_WAIT_FAILED then,
 * and a member of that name of its detail is {at, error, timeout, terminal, of_result}.
 */
extern void rom_saga_take_injected(RomTurn *turn);

/*
 * The same where the handler asks for another step first, since it was changed while its step ran outside of transactions: the result is history, which it
 * does not match any more. True if it was taken: the handler is to be evaluated again.
 */
extern bool rom_saga_take_before(RomTurn *turn, const char *step);

/* The outcome of a scheduled activity is not known (ROM_OUTCOME_UNKNOWN): has it undone as if it had an effect. Enters the engine by itself. */
extern void rom_saga_undo_scheduled(RomTurn *turn, RomEvent *event);

/* Returns the compensation of a defined activity, or NULL. Enters the engine by itself. */
extern char *rom_saga_compensation(int32 namespace, const char *name);

/*
 * The instance is to end with status and error: if anything is registered that
 * has not run, it compensates first, and true is returned.
 */
extern bool rom_saga_begin(RomTurn *turn, RomStatus status, Jsonb *error);

/*
 * rom_saga_close has an instance whose handler has returned, or that is terminated, wait for its
 * spawned activities that run elsewhere before it ends with status and output or error: the
 * outcomes until then are in history. False: there are none that could be, and it ends at once.
 */
extern bool rom_saga_close(RomTurn *turn, RomStatus status, Jsonb *output, Jsonb *error);

/* rom_saga_unsettled says whether spawned activities may still run elsewhere, as far as history tells. */
extern bool rom_saga_unsettled(RomTurn *turn);

/* rom_saga_shown is the status that others see until the end. */
extern RomStatus rom_saga_shown(const RomSaga *saga);

/*
 * Runs the last registered compensation that has not run: DONE. END: there is none, and
 * turn->saga->error says what failed. WAIT: turn->wait.now is set. Or SOLO, APART, AGAIN, PAUSE or FAIL
 * as for any activity.
 */
extern RomOutcome rom_saga_step(RomTurn *turn);

/* Is anything registered that has not run? */
extern bool rom_saga_pending(RomTurn *turn);

/* Does an event register a compensation, and has that succeeded? For a fork. */
extern bool rom_saga_registers(RomEvent *event);
extern bool rom_saga_has_undone(RomTurn *turn, RomEvent *event);

/*
 * An effect outside the database that is under way when an instance begins to
 * compensate: it may happen yet, so it is waited for, and undone as well. The
 * hook lists those of activities with a compensation, and takes away those whose
 * lease is over. Called in an engine scope; allocates in the current context.
 */
typedef struct RomInFlight
{
	char	   *step;
	char	   *activity;
	char	   *compensation;
	Jsonb	   *input;			/* or NULL */
	TimestampTz until;			/* end of the lease */
	bool		over;			/* given up: whether it happened is not known */
} RomInFlight;

typedef List *(*RomInFlightHook) (RomTurn *turn);
extern void rom_saga_on_in_flight(RomInFlightHook hook);

/*
 * Registers what a canvas has to undo: its tasks that have ended well, as COMPENSATION_REGISTERED in history, those that
 * are not there yet, in the order of their ends. True while some still run. Called in an engine scope.
 */
typedef bool (*RomGatherHook) (RomTurn *turn);
extern void rom_saga_on_gather(RomGatherHook hook);

/* Has history an event that registers the compensation of this step? */
extern bool rom_saga_has(RomTurn *turn, const char *step);

/* Sees to effects under way; true when the instance has to wait for some, until *until at most. */
extern bool rom_saga_settle(RomTurn *turn, TimestampTz *until);

/* The id under which the compensation of a step runs. */
extern char *rom_saga_step_id(const char *step);

#endif							/* ROM_SAGA_H */
