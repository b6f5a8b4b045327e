/*-------------------------------------------------------------------------
 *
 * cancel.h
 *		cancel_task(): the end of one task of a canvas; and whether tasks are to run at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CANCEL_H
#define ROM_CANCEL_H

#include "base/rows.h"
#include "instances/inbox.h"
#include "tasks/task.h"
#include "turn/turn.h"

/* Ends the task, whose row this transaction has locked, as failed with RM008; the request goes. Engine scope needed. */
extern void rom_cancel_end(RomTask *task, Oid owner);

/* Was it asked to end this task? */
extern bool rom_cancel_requested(const RomTask *task);

/* The same of many: rows are open by rom_cancel_open(). */
extern void rom_cancel_open(RomRows *rows);
extern bool rom_cancel_find(RomRows *rows, const RomTask *task);

/*
 * Is the task's instance about to end: was it cancelled, or is its deadline over? Its next turn ends it; a task that waits for its executor
 * must not delay that.
 */
extern bool rom_cancel_is_ending(const RomTask *task);

/*
 * Ends a task whose instance is about to end, and of which rom_task_unknown() is true: the instance undoes it (schedule.c; gather() in canvas.c),
 * as what an announced step of its own may have done. This transaction has its row. Or one by its id, if it is there. Engine scope needed.
 */
extern void rom_cancel_unknown(RomTask *task, Oid owner);
extern void rom_cancel_unknown_of(const pg_uuid_t *id, Oid owner);

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
