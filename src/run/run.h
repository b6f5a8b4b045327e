/*-------------------------------------------------------------------------
 *
 * run.h
 *		The work of one transaction that runs turns; shared by executors
 *		(transaction.c) and sessions (drain.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RUN_H
#define ROM_RUN_H

#include "memory/slot.h"
#include "steps/activity.h"
#include "turn/turn.h"

typedef struct RomRun
{
	/* in */
	bool		solo;			/* one member, which may ask for the
								 * transaction's end */
	bool		careful;		/* commit after each activity */
	bool		in_session;		/* a drain */
	bool		in_block;		/* a drain in a transaction block: nothing
								 * commits */
	bool		eager;			/* the session that starts the one member runs
								 * it */
	bool		slow_done;		/* solo: the transactions before had a step
								 * that is not quick */
	RomInjected *injected;		/* outcome for the one member */
	const ErrorData *pause_error;	/* nothing is run: the one member is
									 * paused with it */

	/* out */
	pg_uuid_t	again[ROM_BATCH_MAX];	/* did not get its turn: still ready */
	int			nagain;
	int			nalone;			/* to be run again alone: solo, by the caller;
								 * else they wait in the slow lane */
	int			nslow;			/* wait there, because their next step is not
								 * quick */
	bool		more;			/* solo: the turn continues in another
								 * transaction */
	bool		slow_ran;		/* solo: a step that is not quick was run */
	int			nsaved;			/* turns in this transaction */
	int			nheld;			/* of them, only to wait for max_concurrency */
	int			subxacts;		/* of the members that ran */
	bool		tainted;
	ErrorData  *interrupt;		/* eager: a cancel from outside; or NULL */
	RomProcedure *procedure;	/* solo: to be run after the commit */
	char	   *last_step;		/* careful: the activity that ran last */
	List	   *failures;		/* what the log is to tell (failures.h) */
} RomRun;

/*
 * Claims, runs and saves turns of ids (at most ROM_BATCH_MAX) of one owner in the
 * transaction that is open. Allocates in the current context. Errors of the engine are
 * raised: the caller rolls back.
 */
extern void rom_run_members(RomRun *run, Oid owner, const pg_uuid_t *ids, int n);

/*
 * rom_run_eager runs the first turn of an instance that the transaction has just started, in a subtransaction of
 * the caller's, and saves it if that has completed the instance and can_save() agrees: *output, in the current context. After that settle() says
 * whether it stays: statistics count it from then on. False: the caller rolls it back.
 */
extern bool rom_run_eager(RomRun *run, RomInstance *inst, Oid owner, bool (*can_save) (void), bool (*settle) (void), Jsonb **output);

/* A first turn of the version took us microseconds; ended: and its instance was completed by it, by steps that are quick. */
extern void rom_run_note_first(const RomInstance *inst, int64 us, bool ended);

/* Turns of the version have been seen to look at the rows of instances; have they? Kept as profiles are. */
extern void rom_run_note_looks(const RomInstance *inst);
extern bool rom_run_looks(const RomInstance *inst);

/* rom_run_init has new instances taken alone of whose first turns nothing is known, or that they come to a long step. */
extern void rom_run_init(void);

/* Do first turns of the version nearly always do that, and take less than us microseconds usually? */
extern bool rom_run_ends_at_once(const RomWorkflow *workflow, int64 us);

/* A member of a transaction: a turn, or a task. */
typedef struct RomMember
{
	pg_uuid_t	id;
	int			place;			/* in the slot */
	void	   *of;				/* RomTurn, RomTask */
	bool		others_wait;	/* for its end */
	bool		shares;			/* the transaction, with what ran before or
								 * runs after it */
	bool		torn;			/* out: it has delayed the others for long
								 * enough */
	bool		save;			/* out: to be saved when all have run */
} RomMember;

/* RomMemberKind holds the parts that differ between kinds of members; rom_run_members() has the loop over them. */
typedef struct RomMemberKind
{
	/*
	 * Locks those of ids that are its own and puts them into members (id and
	 * of), in their order; returns how many. The rest goes to others.
	 */
	int			(*claim) (RomRun *run, Oid owner, const pg_uuid_t *ids, int n,
						  RomMember *members, pg_uuid_t *others, int *nothers);

	/*
	 * Runs one, and adds to run's again, nalone, nslow, nsaved and subxacts.
	 */
	void		(*run) (RomRun *run, Oid owner, RomMember *member);

	/* All of them have run. May be NULL. */
	void		(*ran) (void);

	/* Writes what it changed, if save is set; adds to run's nsaved. */
	void		(*save) (RomRun *run, RomMember *member);
} RomMemberKind;

/* rom_run_begin_member has the process say that it runs this one, and limits it for the sake of others that wait; rom_run_end_member ends both. */
extern void rom_run_begin_member(const RomMember *member);
extern void rom_run_end_member(void);

/*
 * Other work that goes through the ready queue: tasks of a room above. Registered once, from
 * _PG_init.
 */
typedef struct RomRunHook
{
	RomMemberKind kind;

	/*
	 * For drain: work of this owner that is due by now, at most max; and when
	 * the next is due after that. In engine scope.
	 */
	int			(*find) (const char *owner, TimestampTz now, pg_uuid_t *ids,
						 int max);
	TimestampTz (*next_due) (const char *owner, TimestampTz after);

	/*
	 * Is id one of its own? Then the instance that it belongs to (if it is
	 * still there). Enters the engine by itself.
	 */
	bool		(*instance) (const pg_uuid_t *id, pg_uuid_t *instance);
} RomRunHook;

extern void rom_run_register(const RomRunHook *hook);
extern const RomRunHook *rom_run_hook(void);

/* Milliseconds: limit of what shares its transaction with others' uncommitted work, and after which no further member begins. */
#define ROM_BATCH_LIMIT_MS		100
#define ROM_BATCH_BUDGET_MS		50

#endif							/* ROM_RUN_H */
