/*-------------------------------------------------------------------------
 *
 * fetch.h
 *		Claiming the tasks of a queue for a program, and what the procedures
 *		that wait have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FETCH_H
#define ROM_FETCH_H

#include "fmgr.h"
#include "funcapi.h"
#include "utils/jsonb.h"

#include "tasks/queue.h"

/* Most columns of a row that a fetch function returns. */
#define ROM_FETCH_COLUMNS 11

/* Fills in the columns of a claimed task's row; nulls begin as false. */
typedef void (*RomFetchFill) (RomClaimed *claimed, Datum *values, bool *nulls);

/* The same as an object. */
typedef Jsonb *(*RomFetchJson) (RomClaimed *claimed);

/*
 * The body of the SQL function of this name: claims tasks of a queue and returns their rows.
 * Its arguments are (queue, worker_id, max_tasks, lease). prefix: stands before the queue's
 * name as stored ("" or ROM_QUEUE_WORKFLOWS). Errors: RM012.
 */
extern void rom_fetch_rows(FunctionCallInfo fcinfo, const char *function, const char *prefix,
						   RomFetchFill fill);

/*
 * The body of the SQL procedure of this name, which has two more arguments (wait, INOUT
 * tasks): the same, waiting for work; returns an array of objects. Errors: RM012, 25001.
 */
extern Datum rom_fetch_poll(FunctionCallInfo fcinfo, const char *procedure, const char *prefix,
							RomFetchJson json);

/* A claimed activity as poll_activities gives it: the columns of type activity_task as an object. */
extern Jsonb *rom_fetch_activity(RomClaimed *claimed);

/* The result of romancy.step_key() in the activity, in the current context. */
extern char *rom_fetch_step_key(const RomTask *task);

/* Raises 25001 where a procedure was called in a place that cannot commit. */
extern void rom_fetch_wait_check(FunctionCallInfo fcinfo, const char *procedure);

/* The row that a procedure with one INOUT argument returns. */
extern Datum rom_fetch_wait_result(TupleDesc tupdesc, Jsonb *result);

#endif							/* ROM_FETCH_H */
