/*-------------------------------------------------------------------------
 *
 * invoke.h
 *		One attempt at an activity in the database, for turns and for tasks alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INVOKE_H
#define ROM_INVOKE_H

#include "defs/activity_definition.h"
#include "turn/context.h"

/* The instance that an activity runs for, and what it runs with. The strings must live meanwhile. */
typedef struct RomInvocation
{
	RomRunning	running;
	Oid			owner;
	const char *search_path;	/* of the workflow; an activity may have one
								 * of its own */
	int32		settings;		/* turn/settings.h */
	TimestampTz deadline;		/* of the instance; DT_NOEND: none */
	bool		careful;		/* what is deferred to the commit is to fail
								 * in the activity */
} RomInvocation;

/* That of a turn's instance. */
extern RomInvocation rom_invoke_for(RomTurn *turn);

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
	Jsonb	   *input;			/* not copied */
	int			attempt;
	TimestampTz limit;			/* start_to_close; DT_NOEND: none */
	TimestampTz deadline;		/* of the instance, where its end interrupts
								 * it; DT_NOEND: none */
	bool		of_task;		/* of a task, which tells its instance that it
								 * was interrupted */
} RomProcedure;

/* The activity that is to be run after the commit, for run (name, step, attempt, close_us), in cxt. The activity's handler has been resolved. */
extern RomProcedure *rom_invoke_later(const RomInvocation *of, const RomActivity *activity, const RomActivityRun *run,
									  Jsonb *input, MemoryContext cxt);

/* Resolves the name as the owner, and its handler unless it has a queue; undoable: its compensation as well. Errors propagate. */
extern RomActivity *rom_invoke_find(const RomInvocation *of, const char *name, bool undoable);

/*
 * Calls an activity's function with input in the state its owner expects (identity, path,
 * settings, limits), inside the present (sub)transaction. Returns a copy of the result in cxt
 * (JSON null for SQL NULL). Errors propagate.
 */
extern Jsonb *rom_invoke(const RomInvocation *of, RomActivity *activity, RomActivityRun *run, Jsonb *input, MemoryContext cxt);

/* Raises RM011, marked as an error of the result's own, where an activity's result is larger than romancy.max_payload_size. NULL: SQL NULL. */
extern void rom_invoke_check_result(const char *name, const Jsonb *result);

/* The outcome of rom_invoke_try(). */
typedef struct RomTried
{
	ErrorData  *error;			/* NULL: it succeeded */
	bool		torn;			/* the user's code was torn out */
	bool		wrote;			/* the subtransaction has an id */
} RomTried;

/*
 * Runs attempt(arg), which calls rom_invoke() or finds that it must not, in a subtransaction of its own; false when it
 * failed. attempt() may be what fills *of. The error is in cxt. The cost of the attempt, failed or not, is in run->cost.
 */
extern bool rom_invoke_try(const RomInvocation *of, RomActivityRun *run, void (*attempt) (void *arg), void *arg,
						   MemoryContext cxt, RomTried *tried);

/* Could an error of this SQLSTATE be due to others in the transaction (or this one to theirs)? Then it is no verdict. */
extern bool rom_invoke_shared_trouble(int sqlerrcode);

/*
 * rom_invoke_quick says whether this activity, whose handler has been resolved, is known to be
 * quick and to succeed, so that it may share a transaction. An unknown activity is not, and neither
 * is one that is not transactional.
 */
extern bool rom_invoke_quick(const RomActivity *activity);

/*
 * The same by the name alone, for those who schedule it: is an activity of that name known to take a short time as a task? A hint, as names
 * may mean one function for one role and another one for the next. rom_invoke_note_task() is told of one that took us microseconds.
 */
extern bool rom_invoke_short_task(int32 namespace, const char *activity);
extern void rom_invoke_note_task(int32 namespace, const char *activity, int64 us);

#endif							/* ROM_INVOKE_H */
