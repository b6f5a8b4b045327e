/*-------------------------------------------------------------------------
 *
 * primitive.h
 *		Primitives, the calls of a handler that are recorded: one struct of
 *		functions each.
 *
 * The engine knows no primitive by name. A SQL-callable function of a primitive fills a RomCall and
 * calls rom_call_step(), which answers from history, or has the primitive execute the call. A new
 * primitive is a new file; facts that are needed before its first call (kinds of scheduled steps,
 * hooks at an instance's end) are registered from _PG_init.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PRIMITIVE_H
#define ROM_PRIMITIVE_H

#include "nodes/pg_list.h"

#include "defs/definition.h"
#include "instances/event.h"
#include "instances/inbox.h"
#include "instances/instance.h"
#include "turn/cost.h"
#include "turn/limit.h"

typedef struct RomTurn RomTurn;
typedef struct RomCall RomCall;
typedef struct RomAttemptStat RomAttemptStat;

/* Subtransactions with an xid in one transaction: more than 64 would overflow the proc array's cache. */
#define ROM_SUBXACTS_MAX	28

/* How carrying a call out went. */
typedef enum RomOutcome
{
	ROM_OUTCOME_DONE,			/* the event is filled in: append it, continue */
	ROM_OUTCOME_WAIT,			/* turn->wait.now is filled in: the turn ends */
	ROM_OUTCOME_END,			/* the instance ends now, turn->out.status
								 * says how (recur) */
	ROM_OUTCOME_LOOK,			/* something came that the evaluation will
								 * find: evaluate again, nothing is answered */
	ROM_OUTCOME_SOLO,			/* needs the turn to itself (non-transactional
								 * activity): leave the batch, run again alone */
	ROM_OUTCOME_APART,			/* a step that is not known to be quick:
								 * commit what the turn has done, then come
								 * again; turn->wait.now is set if an earlier
								 * attempt has to be remembered */
	ROM_OUTCOME_AGAIN,			/* interrupted from outside (a cancel, other
								 * members' locks): roll back, run again */
	ROM_OUTCOME_PAUSE,			/* turn->out.pause_error is set: pause the
								 * instance with it */
	ROM_OUTCOME_FAIL			/* turn->out.fail_error is set: the instance
								 * fails with it. The event is appended if it
								 * has a type */
} RomOutcome;

/* How an evaluation ended. The later one wins where there are several reasons to end it. */
typedef enum RomEvaluation
{
	ROM_EVAL_RETURNED,
	ROM_EVAL_ERROR,
	ROM_EVAL_CALL,				/* turn->eval.call has to be carried out */
	ROM_EVAL_FAIL,				/* turn->out.fail_error */
	ROM_EVAL_ABANDONED,			/* inline: roll back, go step by step */
	ROM_EVAL_PAUSE,				/* turn->out.pause_error */
	ROM_EVAL_AGAIN				/* interrupted from outside: roll back */
} RomEvaluation;

/* How a primitive is carried out. */
typedef enum RomPrimitiveKind
{
	ROM_PRIMITIVE_PURE,			/* computes its event at once, in the
								 * evaluation; no table is written but by
								 * deferred() */
	ROM_PRIMITIVE_EFFECT,		/* writes engine tables; never waits: inline,
								 * or after unwinding */
	ROM_PRIMITIVE_BLOCKING		/* may wait */
} RomPrimitiveKind;

typedef struct RomPrimitive
{
	const char *name;			/* as in messages: "activity", "sleep" */
	RomPrimitiveKind kind;

	/* which event types history may hold for it (0-terminated) */
	RomEventType events[6];

	/*
	 * Carries out call and fills event (type, result, detail; step, name,
	 * input and at are preset from the call). BLOCKING: may return WAIT after
	 * rom_call_wait(). turn->wait.before, when it is for call->step, is what
	 * the last turn that reached this call waited with. PURE ones are called
	 * inside the evaluation and may not touch tables; EFFECT and BLOCKING
	 * ones run in the turn's transaction as the worker (in inline mode:
	 * within the evaluation, XactReadOnly off), and enter the engine or the
	 * owner's identity themselves.
	 */
	RomOutcome	(*execute) (RomTurn *turn, RomCall *call, RomEvent *event);

	/*
	 * PURE, optional: after the evaluation is over and before the turn is
	 * saved, once, writes what the new event asks for (engine scope is
	 * entered).
	 */
	void		(*deferred) (RomTurn *turn, RomEvent *event);

	/*
	 * may execute() be called inside the evaluation (inline path)? NULL: yes
	 * for EFFECT, no for BLOCKING
	 */
	bool		(*inlineable) (RomTurn *turn, RomCall *call);

	/*
	 * execute() opens subtransactions of its own and returns errors of user
	 * code as events
	 */
	bool		own_subxact;

	/* compares input on replay? (default: yes when call->input is set) */
	bool		ignore_input;

	/* waits for other steps, under a label; is no step itself */
	bool		awaits;
} RomPrimitive;

struct RomCall
{
	const RomPrimitive *primitive;
	const char *step_base;		/* step id without ":n" when step is NULL */
	const char *step;			/* given activity_id, or NULL */
	const char *name;			/* recorded name; NULL: step_base */
	Jsonb	   *input;			/* fingerprint and recorded input; or NULL */
	Jsonb	   *detail;			/* recorded with the event; not compared; or
								 * NULL */
	const char *undoes;			/* of a compensation: the step that it undoes;
								 * else NULL */
	bool		too_large;		/* its input is: it raises RM011, and is
								 * recorded without it */
	void	   *options;		/* the primitive's own; must survive the
								 * unwind: allocated in rom_context_memory() */
};

/* The wait of a blocked instance; stored in t_instance.wait. */
typedef struct RomWait
{
	RomStatus	status;			/* waiting_for_* */
	const char *kind;			/* 'timer', 'retry', 'message', 'event',
								 * 'activity', 'workflow', ... */
	const char *step;
	const char *name;
	bool		await;			/* it is an await: step is its label, and no
								 * step of the program */
	const char *undoes;			/* the step that it undoes (a compensation);
								 * NULL: none */
	TimestampTz since;
	TimestampTz until;			/* DT_NOEND: no time */
	Jsonb	   *detail;			/* primitive's own state (object), or NULL */
} RomWait;

/* How handlers are evaluated; setting romancy.turn_mode. */
typedef enum RomTurnMode
{
	ROM_TURN_MODE_AUTO,
	ROM_TURN_MODE_INLINE,
	ROM_TURN_MODE_STEP
} RomTurnMode;

/* The outcome of an attempt that ran outside the turn's transaction (a procedure, or a COMMIT that failed). */
typedef struct RomInjected
{
	char	   *step;
	bool		failed;
	Jsonb	   *result;			/* when not failed */
	ErrorData  *error;			/* when failed */
	RomLimitKind limit;			/* that ended it */
	bool		cancelled;		/* failed, for it was interrupted with its
								 * instance or by itself: how far it came is
								 * not known */
	ErrorData  *interrupt;		/* the cancel that came meanwhile, for the
								 * session that drains; or NULL */
	bool		outside;		/* it ran outside of any transaction of a
								 * turn: its effects stay, whatever comes */
	TimestampTz started;
	bool		measured;		/* cost is known */
	RomCost		cost;
} RomInjected;

/* Replay: what history answers (replay.c). */
typedef struct RomTurnReplay
{
	RomEventList history;		/* stored ones, then new ones of this turn */
	int			stored;			/* how many of them are stored */
	RomEventList program;		/* the subset that answers calls in program
								 * order */
	int			cursor;			/* next of program in this evaluation */
	int			told;			/* the number of steps whose following code
								 * the handler has run (quiet.h) */
	bool		told_await;		/* and is past the await at which it waited */
	int64		completions;	/* outcomes of scheduled steps so far */
	RomEvent   *failure;		/* the last WorkflowFailed in history */
	int			failures_seen;	/* scheduled steps that raised their errors in
								 * evaluations of this turn */
	struct HTAB *steps;			/* step id -> completion event of a scheduled
								 * step */
} RomTurnReplay;

/* The evaluation under way, or the last one (evaluate.c). */
typedef struct RomTurnEval
{
	int			number;			/* evaluations of the handler in this turn */
	bool		active;			/* it is under way */
	bool		inlined;		/* calls are carried out inside it */
	bool		unwinding;		/* sticky: every call raises again */
	RomEvaluation end;			/* why it has to end (rom_context_end()); else
								 * ROM_EVAL_RETURNED */
	int			swallowed;		/* raises while unwinding */
	int			nest;			/* transaction nest level of the evaluation */
	int			inline_steps;	/* effects inside the inline evaluation */
	int64		inline_us;		/* how long that took */
	int			spawned;		/* tasks for the database that may be long */
	RomCall    *call;			/* what the handler asked for */
	List	   *ahead;			/* calls that an inline evaluation showed
								 * (ahead.c) */
	int			ahead_next;		/* next of them */
	struct HTAB *counters;		/* step_base -> n */
	struct HTAB *used;			/* given ids */
	const char *given_step;		/* id of the next call, where that takes no
								 * activity_id; or NULL */
	int			progress_in;	/* evaluation that called set_progress() last */
	int			progress_steps; /* and steps before it, and one */
} RomTurnEval;

/* The wait with which the instance came, the requests that arrived, and the next wait. */
typedef struct RomTurnWait
{
	RomWait    *before;			/* as loaded */
	bool		was_paused;		/* as loaded */
	bool		set_right;		/* before was written by a clock that was
								 * ahead: its times are not those that are
								 * stored */
	RomInboxItem *inbox;
	int			ninbox;
	bool		over;			/* this evaluation is past it: what it awaited
								 * is there */
	RomWait    *now;			/* set by rom_call_wait() */
	int64		fan_in;			/* number of ends for which it waits
								 * (rom_wake_end); 0, 1: wake it at each */
} RomTurnWait;

/* How the turn is run: said by the caller of rom_turn_run(). */
typedef struct RomTurnHow
{
	bool		solo;			/* alone in its transaction */
	bool		in_session;		/* drain */
	bool		in_block;		/* drain in a transaction block: nothing
								 * commits */
	bool		eager;			/* in the session that starts the instance: to
								 * its end at once, inside the evaluation, or
								 * not at all */
	bool		careful;		/* commit after every activity */
	bool		checks;			/* nothing is carried out: the evaluation ends
								 * where history does (check_replay) */
	bool		apart;			/* a step that is not known to be quick has a
								 * transaction of its own */
	bool		slow_done;		/* its transactions before this one had one:
								 * the next one waits in the slow lane */
	RomInjected *injected;		/* outcome of an attempt that ran outside this
								 * transaction */
} RomTurnHow;

/* The time and resources that the turn has used so far. */
typedef struct RomTurnSpent
{
	int			subxacts;		/* with an xid */
	RomCost		cost;
	RomAttemptStat *attempts;	/* that ended in it */
	int			nattempts;
	int			attempts_size;
} RomTurnSpent;

/* The outcome of the turn: the verdict, the rows that the save has to write, and the actions that are left to the caller. */
typedef struct RomTurnOut
{
	RomStatus	status;			/* new status */
	bool		changed;		/* there is something to save */
	TimestampTz wake_at;
	Jsonb	   *output;
	Jsonb	   *error;
	Jsonb	   *failed_step;	/* what rom_failure_find() found, or NULL */
	Jsonb	   *pause_error;	/* of ROM_EVAL_PAUSE and ROM_OUTCOME_PAUSE */
	int64		differs_at;		/* where replay and history do, 0: nowhere; */
	char	   *recorded;		/* what history holds there, and */
	char	   *asked;			/* what the handler asks for */
	Jsonb	   *fail_error;		/* of ROM_EVAL_FAIL and ROM_OUTCOME_FAIL */

	/* what the save has to write besides the row and the history */
	Jsonb	   *labels;			/* new labels, or NULL */
	Jsonb	   *recur_input;	/* status recurred: of the instance that
								 * continues it, or NULL */
	List	   *pure_events;	/* RomDeferred: events whose primitive has
								 * deferred() */

	bool		first;			/* no turn of the instance was saved before */

	/* what the caller has to do */
	bool		commit_now;		/* a primitive asks for it: yield after this
								 * step */
	bool		slow_ran;		/* this transaction had a step that is not
								 * known to be quick */
	bool		slow_next;		/* it reaches one next */
	bool		interrupted;	/* its process was, and not to cancel it */
	bool		goes_on;		/* saved, and its caller runs it on at once */
	bool		tainted;		/* a handler was torn out of its interpreter:
								 * the process should leave */
	ErrorData  *raise_error;	/* drain is to raise this */
	struct RomProcedure *procedure; /* to be run after the commit (activity.h) */
} RomTurnOut;

struct RomTurn
{
	RomInstance *inst;
	RomWorkflow *workflow;
	Oid			owner;
	MemoryContext cxt;			/* lives as long as the turn */
	RomTurnReplay replay;
	RomTurnEval eval;
	RomTurnWait wait;
	struct RomSaga *saga;		/* its compensations run before it ends
								 * (saga.h), or NULL */
	struct RomRegistry *registry;	/* registry.c's, or NULL */
	RomTurnHow	how;
	RomTurnSpent spent;
	RomTurnOut	out;
};

typedef struct RomDeferred
{
	const RomPrimitive *primitive;
	RomEvent   *event;
} RomDeferred;

#endif							/* ROM_PRIMITIVE_H */
