/*-------------------------------------------------------------------------
 *
 * state.h
 *		The row of a task, its states, and every statement that changes a state.
 *
 *	 READY    -> RUNNING	rom_state_claim(): a program fetches it
 *			  -> READY		rom_state_hold(): it waits for a limit of its activity
 *			  -> PARKED		rom_state_park(), rom_state_park_one(): its instance is paused
 *	 RUNNING  -> READY		rom_state_release(): given back; rom_state_fail(): the lease was lost
 *			  -> WAITING	rom_state_fail(): another attempt later
 *			  -> PARKED		rom_state_release(), rom_state_fail(): its instance is paused
 *			  -> DEAD		rom_state_fail(): no attempt is left
 *			  -> COMMAND	rom_state_command(): workflow code outside sends a command
 *			  -> LEFT		rom_state_leave(): its instance has ended, the lease goes on
 *	 WAITING  -> READY		rom_state_promote(), rom_state_ready(): the next attempt is due
 *			  -> READY		rom_state_hold(): it is due, and waits for a limit
 *			  -> PARKED		as READY
 *	 PARKED   -> READY, WAITING		rom_state_unpark(): the pause is over
 *	 COMMAND  -> READY		rom_state_carried_out(): the program continues
 *	 LEFT	  -> WAITING, DEAD	rom_state_fail(): as RUNNING
 *
 *	 A task begins with rom_state_insert() (READY, WAITING or PARKED). A task that executors run (queue "") fails from
 *	 READY or WAITING, as its state is not changed when an attempt begins. An end deletes the row: rom_task_delete(),
 *	 in bulk tasks_end() and cancel_parts() in spawn.c, delete_instances() in canvas.c, take_dead() in revive.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STATE_H
#define ROM_STATE_H

#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/rows.h"
#include "base/spi.h"
#include "turn/observe.h"

/* Stored in t_task.state: numbers never change their meaning. For SQL: ROM_SQL_TASK_READY. */
#define ROM_SQL_TASK_READY		"0"
#define ROM_SQL_TASK_RUNNING	"1"
#define ROM_SQL_TASK_WAITING	"2"
#define ROM_SQL_TASK_DEAD		"3"
#define ROM_SQL_TASK_COMMAND	"4"
#define ROM_SQL_TASK_PARKED		"5"
#define ROM_SQL_TASK_LEFT		"6"

typedef enum RomTaskState
{
	ROM_TASK_READY = 0,
	ROM_TASK_RUNNING = 1,		/* under a lease */
	ROM_TASK_WAITING = 2,		/* for its next attempt */
	ROM_TASK_DEAD = 3,			/* failed for good; stays for the operator */
	ROM_TASK_COMMAND = 4,		/* of workflow code outside: it has asked for
								 * something (input) */
	ROM_TASK_PARKED = 5,		/* its instance is paused */
	ROM_TASK_LEFT = 6			/* under a lease, of an instance that has
								 * ended: on no account of a limit */
} RomTaskState;

/* Stored in t_task.kind, likewise. */
#define ROM_SQL_TASK_ACTIVITY		"0"
#define ROM_SQL_TASK_CANVAS			"1"
#define ROM_SQL_TASK_WORKFLOW		"2"
#define ROM_SQL_TASK_COMPENSATION	"3"

typedef enum RomTaskKind
{
	ROM_TASK_ACTIVITY = 0,		/* a step of a handler */
	ROM_TASK_CANVAS = 1,		/* a step of a canvas */
	ROM_TASK_WORKFLOW = 2,		/* a turn of a workflow whose code runs
								 * outside */
	ROM_TASK_COMPENSATION = 3	/* undoes a step of a handler */
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
	int64		fence;			/* of the lease; of a task in the database:
								 * the attempt that rom_state_announce()
								 * noted; 0: none */
	int64		lease_us;
	int64		close_us;		/* start_to_close_timeout; 0: none, as below */
	int64		beat_us;		/* heartbeat_timeout */
	bool		has_retry_at;	/* rom_task_fail(): when another attempt is to
								 * begin, if there is one */
	TimestampTz retry_at;
	bool		retry_at_least; /* not before then, but later where the policy
								 * says so */
	int64		delay_us;		/* rom_task_insert(): not before this much
								 * later; then start_by does not count */
	bool		is_short;		/* what it runs is known not to take long
								 * (rom_task_insert()) */
	bool		deleted;		/* its row is, by this transaction */
	ItemPointerData locked;		/* where its row stands, if this transaction
								 * has locked it and knows */
	bool		live;			/* its instance is not final (where the
								 * statement reads it) */
	bool		sent;			/* the HTTP worker holds its lease (likewise) */
	RomCost    *cost;			/* of the attempt that has just ended, where
								 * it is known, or NULL */
	int32		settings;		/* of its instance (execute.c) */
	TimestampTz deadline;		/* of its instance, DT_NOEND for none
								 * (execute.c) */
	bool		paused;			/* its instance is paused (execute.c) */
	bool		ending;			/* its instance waits for its parts before it
								 * ends (execute.c) */
	bool		cancelled;		/* cancel_task() asks for its end (execute.c) */
	bool		unwanted;		/* its instance is final, or compensates and
								 * will undo it (lease.c) */
} RomTask;

/*
 * All of these need the engine's scope. A task's row is locked by the caller, or the statement locks it
 * and skips rows that others have locked.
 */

/* Inserts the row of a new task, whose id and state are set. start_by: when it must have begun, or (WAITING) its due time; DT_NOEND: none. */
extern void rom_state_insert(const RomTask *task, TimestampTz start_by);

/* The table that it writes to, for rom_table_gather(). */
extern RomTable *rom_state_inserted(void);

/*
 * Gives the row that a scan has found to a program: state RUNNING, with the attempt, the times, the fence and the limit key
 * that task holds; sends: to the HTTP worker. TM_BeingModified: others have it locked.
 */
extern TM_Result rom_state_claim(RomRows *rows, const RomTask *task, const char *worker_id, bool sends, TimestampTz now);

/* Makes tasks of a queue (name as stored) ready whose next attempt is due; returns whether there were any. */
extern bool rom_state_promote(const char *queue, TimestampTz now);

/* The next attempt of this task is due. */
extern void rom_state_ready(const pg_uuid_t *id);

/* Makes the task ready, held until task->held_until for a limit of its activity. */
extern void rom_state_hold(const RomTask *task);

/*
 * Notes that an attempt which is not transactional is about to begin (task->fence: its number): until that attempt's outcome is known, or the end of the
 * row, the task may have had effects that no record tells of.
 */
extern void rom_state_announce(const RomTask *task);

/* Parks the tasks of an instance that are ready or waiting; or one task. */
extern void rom_state_park(const pg_uuid_t *instance_id);
extern void rom_state_park_one(const pg_uuid_t *id);

/*
 * Ends that, but for tasks that another transaction has; those that are not parked any more, in the current context, have id, queue,
 * priority, state and due_at. *n is their number.
 */
extern RomTask *rom_state_unpark(const pg_uuid_t *instance_id, int *n);

/*
 * The instance has ended: its tasks that programs hold stay under their leases, and off the accounts of limits; but for those that another
 * transaction has. Those tasks, in the current context, have queue, activity and limit_key. *n is their number.
 */
extern RomTask *rom_state_leave(const pg_uuid_t *instance_id, int *n);

/* Does a task of the instance have this state (PARKED, or RUNNING in a program)? After one of the two above: one that another transaction has. */
extern bool rom_state_has(const pg_uuid_t *instance_id, RomTaskState state);

/* Gives a claim back, which does not count as an attempt; task->state: READY or PARKED. */
extern void rom_state_release(const RomTask *task);

/*
 * Records a failed attempt: task->state is WAITING, READY, PARKED or DEAD. due: when the next attempt is due, also of a
 * parked task, which waits for it after the pause; DT_NOEND: none. attempt, started: of the attempts
 * so far (started 0: none); errors: the list of their errors. Of a task in the database, task->fence stays unless it is DEAD.
 */
extern void rom_state_fail(const RomTask *task, TimestampTz due, int32 attempt, TimestampTz started, Jsonb *errors);

/*
 * Leaves a command of workflow code outside in its task; and makes the task ready when that was carried out: false if
 * it has no command. *priority: the task's.
 */
extern void rom_state_command(const RomTask *task, Jsonb *command);
extern bool rom_state_carried_out(const pg_uuid_t *id, int32 *priority);

#endif							/* ROM_STATE_H */
