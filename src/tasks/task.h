/*-------------------------------------------------------------------------
 *
 * task.h
 *		A task: an activity that runs outside its instance's turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TASK_H
#define ROM_TASK_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/table.h"
#include "defs/definition.h"
#include "defs/retry.h"
#include "instances/instance.h"
#include "turn/observe.h"

/* Stored in t_task: numbers never change their meaning. */
typedef enum RomTaskState
{
	ROM_TASK_READY,				/* -> running, waiting, dead, gone */
	ROM_TASK_RUNNING,			/* under a lease -> ready, waiting, dead, gone */
	ROM_TASK_WAITING,			/* for its next attempt -> ready, running,
								 * gone */
	ROM_TASK_DEAD,				/* failed for good; stays for the operator */
	ROM_TASK_COMMAND,			/* of workflow code outside: it has asked for
								 * something (input) -> ready, gone */
	ROM_TASK_PARKED,			/* its instance is paused -> ready, waiting,
								 * gone */
	ROM_TASK_LEFT				/* under a lease, of an instance that has
								 * ended: on no account of a limit -> waiting,
								 * dead, gone */
} RomTaskState;

typedef enum RomTaskKind
{
	ROM_TASK_ACTIVITY,			/* a step of a handler */
	ROM_TASK_CANVAS,
	ROM_TASK_WORKFLOW,			/* a turn of a workflow whose code runs
								 * outside */
	ROM_TASK_COMPENSATION		/* undoes a step of a handler */
} RomTaskKind;

/* Workflow tasks of a queue are kept under this prefix and its name. */
#define ROM_QUEUE_WORKFLOWS "@"

typedef struct RomTask
{
	pg_uuid_t	id;
	pg_uuid_t	instance_id;
	RomTaskKind kind;
	RomTaskState state;
	int32		def_id;			/* of the instance's workflow: its search_path */
	int32		priority;
	int32		attempt;		/* attempts begun (queue: claimed; else:
								 * failed) */
	char	   *queue;			/* "": in the database */
	char	   *owner;
	char	   *activity;
	char	   *step;
	char	   *limit_key;		/* or NULL */
	Jsonb	   *input;			/* these may be NULL */
	Jsonb	   *retry;
	Jsonb	   *errors;
	Jsonb	   *details;
	Jsonb	   *next;
	TimestampTz started_at;		/* the first attempt; 0: none yet */
	TimestampTz due_at;			/* DT_NOEND: none */
	TimestampTz held_at;		/* ready, in the database, and waits for a
								 * limit; 0: none, as below */
	TimestampTz held_until;
	int64		fence;			/* of the lease; 0: none */
	int64		lease_us;
	int64		close_us;		/* start_to_close_timeout; 0: none, as below */
	int64		beat_us;		/* heartbeat_timeout */
	bool		has_retry_at;	/* rom_task_fail(): when another attempt is to
								 * begin, if there is one */
	TimestampTz retry_at;
	int64		delay_us;		/* rom_task_insert(): not before so much
								 * later; then start_by does not count */
	ItemPointerData locked;		/* where its row stands, if this transaction
								 * has locked it and knows */
	bool		live;			/* its instance is not final (where the
								 * statement reads it) */
	RomCost    *cost;			/* of the attempt that has just ended, where
								 * it is known, or NULL */
	int32		settings;		/* of its instance (execute.c) */
	bool		paused;			/* its instance is paused (execute.c) */
	bool		ending;			/* its instance waits for its parts before it
								 * ends (execute.c) */
	bool		unwanted;		/* its instance is final, or compensates and
								 * will undo it (lease.c) */
} RomTask;

/* Is this the id of a task? (A user may have given an instance such an id: look in the table.) */
extern bool rom_task_id(const pg_uuid_t *id);

/* Fills what depends on the definition: queue and timeouts. start_by: when it must have begun. */
extern void rom_task_define(RomTask *task, RomActivity *activity, TimestampTz *start_by);

/* Inserts a task that is ready (or parked: task->state), giving it an id, and notes its wake-up. Engine scope needed, as in all below. */
extern void rom_task_insert(RomTask *task, Oid owner, TimestampTz start_by);

/* Is the instance paused? What would become ready is parked then (park.c). */
extern bool rom_task_is_paused(const pg_uuid_t *instance_id);

/* The columns that rom_task_read() reads, of table t_task as t. */
#define ROM_TASK_COLUMNS \
	"t.task_id, t.instance_id, t.kind, t.state, t.def_id, t.priority, t.attempt," \
	" t.queue, t.owner, t.activity, t.step, t.limit_key, t.input, t.retry, t.errors," \
	" t.details, t.next, t.started_at, t.due_at, t.lease_us, t.close_us, t.beat_us, t.fence," \
	" t.held_at, t.held_until"
#define ROM_TASK_NCOLUMNS 25

/* The same as a table for base/rows.h; some of its columns, by number. */
extern RomTable rom_task_table;
#define ROM_TASK_STATE 3
#define ROM_TASK_PRIORITY 5
#define ROM_TASK_ATTEMPT 6
#define ROM_TASK_OWNER 8
#define ROM_TASK_ACTIVITY_NAME 9
#define ROM_TASK_LIMIT_KEY 11
#define ROM_TASK_DUE 18
#define ROM_TASK_FENCE 22

/* Row row of SPI_tuptable, allocated in the current context. */
extern RomTask *rom_task_read(uint64 row);

/* A row of rom_task_table, likewise. */
extern RomTask *rom_task_of(TupleTableSlot *row);

/* Is the instance not final? *status is its status, if it is there. */
extern bool rom_task_live(const pg_uuid_t *instance_id, RomStatus *status);

/* Makes the task, whose row has just become a ready one, known to those who fetch from its queue, or to executors. Its queue, priority and id count. */
extern void rom_task_wake(RomTask *task, Oid owner);

/* Deletes its row. */
extern void rom_task_delete(RomTask *task);

/* Is a task of that state under a lease of a program? */
static inline bool
rom_task_leased(RomTaskState state)
{
	return state == ROM_TASK_RUNNING || state == ROM_TASK_LEFT;
}

/* Hands the outcome to whom the task is of. One of result and error is NULL. */
extern void rom_task_deliver(RomTask *task, Oid owner, Jsonb *result,
							 Jsonb *error, Jsonb *detail);

/* The attempt succeeded: the row goes, the result is handed on. */
extern void rom_task_succeed(RomTask *task, Oid owner, Jsonb *result);

/* How a failed attempt goes on. */
typedef enum RomTaskRetry
{
	ROM_TASK_RETRY_POLICY,		/* as the policy says */
	ROM_TASK_RETRY_NEVER,		/* terminal */
	ROM_TASK_RETRY_AT_ONCE		/* a lost lease: without delay, while attempts
								 * are left */
} RomTaskRetry;

/* The attempt (task->attempt is its number) failed: another one later, or the task is dead and its error is handed on, or its instance is paused with it. */
extern void rom_task_fail(RomTask *task, Oid owner, const RomRetryPolicy *policy,
						  Jsonb *error, RomTaskRetry retry);

/* The policy of a task by its activity's name (as defined now) and its own retry. */
extern RomRetryPolicy rom_task_policy(RomTask *task);

/* What delivers a canvas's tasks; frames.c, set by canvas.c. */
typedef void (*RomCanvasDeliver) (RomTask *task, Oid owner, Jsonb *result,
								  Jsonb *error);
extern void rom_task_on_canvas(RomCanvasDeliver deliver);

/* A task whose row says that it runs does not any more: its place is free at the commit. Does nothing for one that is not in a queue. */
extern void rom_task_ended(const RomTask *task);

#endif							/* ROM_TASK_H */
