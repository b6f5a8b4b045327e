/*-------------------------------------------------------------------------
 *
 * turn.h
 *		A turn of one instance: load, apply what arrived, evaluate, carry out,
 *		save.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TURN_H
#define ROM_TURN_H

#include "turn/primitive.h"

/* Subtransactions with an xid in one transaction: more than 64 would overflow the proc array's cache. */
#define ROM_SUBXACTS_MAX	28

/* The outcome of an attempt that ran outside the turn's transaction (a procedure, or a COMMIT that failed). */
typedef struct RomInjected
{
	char	   *step;
	bool		failed;
	Jsonb	   *result;			/* when not failed */
	ErrorData  *error;			/* when failed */
	TimestampTz started;
	bool		measured;		/* cost is known */
	RomCost		cost;
} RomInjected;

/* How rom_turn_run() ended. */
typedef enum RomTurnEnd
{
	ROM_TURN_SAVE,				/* the verdict is in turn: save and commit it */
	ROM_TURN_NOTHING,			/* nothing was due: nothing to save */
	ROM_TURN_AGAIN				/* roll back (the member, at least) and run it
								 * again, alone */
} RomTurnEnd;

/* How handlers are evaluated; setting romancy.turn_mode. */
typedef enum RomTurnMode
{
	ROM_TURN_MODE_AUTO,
	ROM_TURN_MODE_INLINE,
	ROM_TURN_MODE_STEP
} RomTurnMode;

/* A turn for a claimed instance; all it allocates lives in a child context of cxt. */
extern RomTurn *rom_turn_create(RomInstance *inst, Oid owner, MemoryContext cxt);

/* Loads history and sorts out what answers replay. Engine SQL of its own. claimed: the caller holds the instance's row. */
extern void rom_turn_load(RomTurn *turn, bool claimed);

/*
 * Runs the turn up to its verdict. wrap: enclose step-by-step work in a
 * subtransaction, so that this member alone can be rolled back. Errors of the
 * engine itself are raised; errors of user code become part of the verdict.
 */
extern RomTurnEnd rom_turn_run(RomTurn *turn, bool wrap);

/* The verdict "paused" with error (an operator has to mend it), without running anything. */
extern void rom_turn_pause(RomTurn *turn, Jsonb *error);

/* Writes the verdict: history, the instance's row, and what goes with it. Engine SQL of its own. Notes wake-ups. */
extern void rom_turn_save(RomTurn *turn);

/* What t_instance.wait holds, as allocated in the current context. */
extern RomWait *rom_wait_from_jsonb(Jsonb *jb);

/* Others' tidying at the end of an instance (subscriptions, children, tasks): called in an engine scope for every terminal transition with any of flags set. */
typedef void (*RomEndHook) (RomTurn *turn, RomStatus status);
extern void rom_turn_on_end(int32 flags, RomEndHook hook);

/* Others' part in a pause (paused) and in its end: called in an engine scope when a turn has paused the instance, or a paused one goes on or ends, with any of flags set. */
typedef void (*RomPauseHook) (RomTurn *turn, bool paused);
extern void rom_turn_on_pause(int32 flags, RomPauseHook hook);

/* Others' moving of what goes over from an instance that ends as recurred to its successor (subscriptions, groups; undelivered messages have a mailbox that stays): called in an engine scope, before the end hooks, with any of flags set (0: always). The successor's row exists and has the flags for subscriptions and groups. */
typedef void (*RomMoveHook) (RomTurn *turn, const pg_uuid_t *successor);
extern void rom_turn_on_move(int32 flags, RomMoveHook hook);

/* Others' making again of what the program says to be there (subscriptions, groups): called in an engine scope in the first turns of a fork and of an instance that is retried, perhaps more than once. */
typedef void (*RomRenewHook) (RomTurn *turn);
extern void rom_turn_on_renew(RomRenewHook hook);
extern void rom_turn_renew(RomTurn *turn);
extern void rom_turn_move(RomTurn *turn, const pg_uuid_t *successor);

/* Runs user code as owner with path in force; to be called inside a subtransaction (its abort undoes it). */
typedef struct RomIdentity
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
} RomIdentity;

extern void rom_identity_enter(RomIdentity *saved, Oid owner, const char *path,
							   bool read_only);
extern void rom_identity_leave(RomIdentity *saved);

#endif							/* ROM_TURN_H */
