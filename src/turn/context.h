/*-------------------------------------------------------------------------
 *
 * context.h
 *		Which turn, instance and activity this backend runs something of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CONTEXT_H
#define ROM_CONTEXT_H

#include "utils/uuid.h"

#include "turn/primitive.h"

typedef struct RomRunning
{
	pg_uuid_t	id;
	const char *workflow;
	int32		namespace;
} RomRunning;

/* Lets names of a running instance belong to its namespace (defs/namespace.h). */
extern void rom_context_init(void);

/* For an activity that runs outside a turn; NULL: no more. The strings must live meanwhile. */
extern void rom_context_set(const RomRunning *running);

/* The running instance; RM004 naming function when there is none. */
extern const RomRunning *rom_context_get(const char *function);

/* The same, NULL when there is none. */
extern const RomRunning *rom_context_find(void);

/*
 * The error context of user code: between push and pop its messages have a line of context with its
 * workflow, instance and step (or NULL), and none of the session that runs it. An error pops by
 * itself (PG_TRY).
 */
typedef struct RomUserCode
{
	ErrorContextCallback callback;
	ErrorContextCallback *outer;
	const pg_uuid_t *instance;
	const char *workflow;
	const char *step;
} RomUserCode;

extern void rom_context_push(RomUserCode *code, const pg_uuid_t *instance, const char *workflow, const char *step);
extern void rom_context_pop(RomUserCode *code);

/*
 * This process is in a step of an instance of the workflow from now on (step NULL: in its handler):
 * for view waiting, and in a worker for pg_stat_activity.
 */
extern void rom_context_step(const pg_uuid_t *instance, const char *workflow, const char *step);

/* The attempt under way; context functions read it. */
typedef struct RomActivityRun
{
	const char *name;
	const char *step;
	int			attempt;
	Jsonb	   *last_details;	/* heartbeat details of the attempt before, or
								 * NULL */
	int64		close_us;		/* its own limit; 0: as the activity is
								 * defined */
	RomCostMark begun;			/* set by rom_invoke() */
	RomCost		cost;			/* likewise, when it returns */
} RomActivityRun;

/* The turn that this backend runs (turn->eval.active: its handler is being evaluated), or NULL. */
extern RomTurn *rom_context_turn;

/* The activity that this backend runs now for an instance (in a turn or as a task), or NULL. */
extern RomActivityRun *rom_context_activity;

/* Where an unwind goes that the handler swallows without end: the catch of its evaluation; NULL outside one. */
extern sigjmp_buf *rom_context_tear_out;

/* Raises RM004 unless a handler is running (and no activity inside it); function: for the message. */
extern RomTurn *rom_context_require(const char *function);

/* Are we in a handler (not in an activity of it)? For calls that are recorded in a handler and plain elsewhere. */
extern bool rom_context_in_handler(void);

/* Raises RM004 in a handler: function (without schema) must not be called there. */
extern void rom_context_refuse_handler(const char *function);

/* Adds to the context of an error which step, workflow and instance it is of, for one that no line of a handler raised. */
extern void rom_context_tell_step(RomTurn *turn, const char *step, ErrorData *edata);

/* The evaluation has to end for this reason, unless there is a better one; call rom_context_unwind(), or raise something else. */
extern void rom_context_end(RomTurn *turn, RomEvaluation why);

/* The same, with the error with which the instance is paused, or fails; copied. */
extern void rom_context_end_pause(RomTurn *turn, Jsonb *error);
extern void rom_context_end_fail(RomTurn *turn, Jsonb *error);

/* Raises the unwind; noreturn. Used by primitives that must not continue. */
extern void rom_context_unwind(RomTurn *turn) pg_attribute_noreturn();

/* Memory that lives as long as the turn. */
extern MemoryContext rom_context_memory(void);

/* A copy of jb / s in the turn's context. */
extern Jsonb *rom_context_copy_jsonb(RomTurn *turn, Jsonb *jb);
extern char *rom_context_copy_text(RomTurn *turn, const char *s);

#endif							/* ROM_CONTEXT_H */
