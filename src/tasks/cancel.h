/*-------------------------------------------------------------------------
 *
 * cancel.h
 *		cancel_task(): the end of one task of a canvas.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CANCEL_H
#define ROM_CANCEL_H

#include "instances/inbox.h"
#include "tasks/task.h"
#include "turn/turn.h"

/*
 * For a statement that reads t_task as t: was it asked to end this task? (boolean) Not with EXISTS, which the planner of 18 turns
 * into a hash of all of t_inbox.
 */
#define ROM_CANCEL_REQUESTED \
	"(t.kind = " ROM_SQL_TASK_CANVAS " AND (SELECT true FROM romancy.t_inbox b WHERE b.instance_id = t.instance_id" \
	" AND b.kind = " ROM_SQL_INBOX_CANCEL_TASK " AND b.step = t.step LIMIT 1) IS NOT NULL)"

/* Ends the task, whose row this transaction has locked, as failed with RM008; the request goes. Engine scope needed. */
extern void rom_cancel_end(RomTask *task, Oid owner);

/* The same question for one task now. Engine scope needed. */
extern bool rom_cancel_requested(const RomTask *task);

/* The tasks that this process runs in the transaction under way (n 0: none any more): a request for one of them is not carried out at once. */
extern void rom_cancel_claimed(const pg_uuid_t *ids, int n);

/* Number of requests that this process has made. */
extern uint64 rom_cancel_made(void);

/*
 * A canvas's turn: ends the tasks that it was asked to end, if no other transaction has them; otherwise sees to it
 * that they are looked at again. revived: the requests were for an earlier run. Engine scope needed.
 */
extern void rom_cancel_apply(RomTurn *turn, bool revived);

#endif							/* ROM_CANCEL_H */
