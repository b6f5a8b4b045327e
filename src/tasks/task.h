/*-------------------------------------------------------------------------
 *
 * task.h
 *		A task: an activity that runs outside its instance's turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TASK_H
#define ROM_TASK_H

#include "base/table.h"
#include "defs/definition.h"
#include "defs/retry.h"
#include "instances/instance.h"
#include "tasks/state.h"
#include "turn/primitive.h"

/* Is this the id of a task? (A user may have given an instance such an id: look in the table.) */
extern bool rom_task_id(const pg_uuid_t *id);

/* Fills what depends on the definition: queue and timeouts. start_by: when it must have begun. */
extern void rom_task_define(RomTask *task, RomActivity *activity, TimestampTz *start_by);

/* rom_task_expect tells of n steps that a turn spawns, unless this is a replay (activity NULL), they are for programs, or known to be short. */
extern void rom_task_expect(RomTurn *turn, const RomActivity *activity, const char *name, int n);

/* Inserts a task that is ready (or parked: task->state), giving it an id, and notes its wake-up. Engine scope needed, as in all below. */
extern void rom_task_insert(RomTask *task, Oid owner, TimestampTz start_by);

/*
 * Where tables are kept open: has the rows of new tasks be gathered, and written many at a time, until rom_task_gather_end(), which the caller
 * is to call if this is true. As rom_table_gather().
 */
extern bool rom_task_gather(void);
extern void rom_task_gather_end(void);

/* Is the instance paused? Then a task that would become ready is parked (park.c). */
extern bool rom_task_is_paused(const pg_uuid_t *instance_id);

/* The columns that rom_task_read() reads, of table t_task as t. */
#define ROM_TASK_COLUMNS \
	"t.task_id, t.instance_id, t.kind, t.state, t.def_id, t.priority, t.attempt," \
	" t.queue, t.owner, t.activity, t.step, t.limit_key, t.input, t.retry, t.errors," \
	" t.details, t.next, t.started_at, t.due_at, t.lease_us, t.close_us, t.beat_us, t.fence," \
	" t.held_at, t.held_until, t.document"
#define ROM_TASK_NCOLUMNS 26

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

/* Row row of set, allocated in the current context. */
extern RomTask *rom_task_read(const RomRowSet *set, uint64 row);

/* A row of rom_task_table, likewise. */
extern RomTask *rom_task_of(TupleTableSlot *row);

/* Is the instance not final? *status is its status, if it is there. */
extern bool rom_task_live(const pg_uuid_t *instance_id, RomStatus *status);

/*
 * Makes the task, whose row has just become a ready one, known to programs that fetch from its queue, or to
 * executors. Its queue, priority and id count.
 */
extern void rom_task_wake(RomTask *task, Oid owner);

/* Deletes its row. */
extern void rom_task_delete(RomTask *task);

/* Is a task of that state under a lease of a program? */
static inline bool
rom_task_leased(RomTaskState state)
{
	return state == ROM_TASK_RUNNING || state == ROM_TASK_LEFT;
}

/* May an attempt have had effects outside of any transaction that no record tells of? It runs, or its process has died. */
static inline bool
rom_task_unknown(const RomTask *task)
{
	return task->fence != 0 && task->queue[0] == '\0';
}

/* Hands the outcome to whom the task is of. One of result and error is NULL. */
extern void rom_task_deliver(RomTask *task, Oid owner, Jsonb *result,
							 Jsonb *error, Jsonb *detail);

/* The attempt succeeded: the row goes, the result is handed on. */
extern void rom_task_succeed(RomTask *task, Oid owner, Jsonb *result);

/* The consequence of a failed attempt. */
typedef enum RomTaskRetry
{
	ROM_TASK_RETRY_POLICY,		/* as the policy says */
	ROM_TASK_RETRY_NAMED,		/* only where the policy names the error: the
								 * activity's own result is too large */
	ROM_TASK_RETRY_NEVER,		/* terminal */
	ROM_TASK_RETRY_AT_ONCE		/* a lost lease: without delay, while attempts
								 * are left */
} RomTaskRetry;

/*
 * The attempt (task->attempt is its number) failed: another one later, or the task is dead and its error is handed
 * on, or its instance is paused with it.
 */
extern void rom_task_fail(RomTask *task, Oid owner, const RomRetryPolicy *policy,
						  Jsonb *error, RomTaskRetry retry);

/* The policy of a task by its activity's name (as defined now) and its own retry. */
extern RomRetryPolicy rom_task_policy(RomTask *task);

/* The function that delivers the outcomes of a canvas's tasks: of frames.c, set by canvas.c. */
typedef void (*RomCanvasDeliver) (RomTask *task, Oid owner, Jsonb *result,
								  Jsonb *error, Jsonb *detail);
extern void rom_task_on_canvas(RomCanvasDeliver deliver);

/* A task that is RUNNING in its row has ended: its place is free at the commit. Does nothing for one that is not in a queue. */
extern void rom_task_ended(const RomTask *task);

#endif							/* ROM_TASK_H */
