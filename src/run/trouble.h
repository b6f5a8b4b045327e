/*-------------------------------------------------------------------------
 *
 * trouble.h
 *		Errors of the engine itself in a turn: recorded with the instance, which is tried again with
 *		growing delays and paused in the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TROUBLE_H
#define ROM_TROUBLE_H

#include "utils/elog.h"
#include "utils/uuid.h"

/*
 * The turn of an instance, or the attempt of a task, failed outside of user code; its transaction was rolled back.
 * Writes the error into the instance's row with the number of tries, in a transaction of its own; logs it;
 * and has it tried again after a delay that grows with each try, or pauses the instance when there were enough of them. A
 * cancel from outside is no failure: then it is just run again. Allocates in rom_transaction_context(). Does not raise.
 */
extern void rom_trouble_handle(const pg_uuid_t *id, Oid owner, const ErrorData *error);

/*
 * The outcome of a step that has run outside of transactions could not be recorded. Tells it to the log and the views, and returns
 * the milliseconds after which it is to be tried again; failures: how often it was.
 */
extern int	rom_trouble_unrecorded(const pg_uuid_t *instance, const char *step, const ErrorData *error, int failures);

/*
 * It is not tried again: the instance is paused, with an error that says so. False: that failed, too. id: the
 * instance, or its task.
 */
extern bool rom_trouble_unknown(const pg_uuid_t *id, const pg_uuid_t *instance, Oid owner, const char *step, const ErrorData *error);

/* Was the error caused by pg_cancel_backend(), and is no failure? */
extern bool rom_trouble_is_cancel(const ErrorData *error);

/* A turn of it was committed: this process forgets earlier failures of it. */
extern void rom_trouble_over(const pg_uuid_t *id);

#endif							/* ROM_TROUBLE_H */
