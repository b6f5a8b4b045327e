/*-------------------------------------------------------------------------
 *
 * limit.h
 *		Time limits of running user code, which the caller arms and disarms.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LIMIT_H
#define ROM_LIMIT_H

#include "datatype/timestamp.h"

typedef enum RomLimitKind
{
	ROM_LIMIT_NONE,
	ROM_LIMIT_EVALUATION,		/* romancy.evaluation_timeout: the handler
								 * does not reach a step */
	ROM_LIMIT_EXECUTION,		/* the instance's execution_timeout */
	ROM_LIMIT_ACTIVITY,			/* start_to_close_timeout */
	ROM_LIMIT_BATCH,			/* others' uncommitted work waits in the same
								 * transaction */
	ROM_LIMIT_CANCEL			/* the turn was cancelled or interrupted, and
								 * the code has caught that */
} RomLimitKind;

typedef struct RomLimit
{
	RomLimitKind kind;
	TimestampTz at;				/* DT_NOEND: no limit */
} RomLimit;

/*
 * Arms the earliest of the given limits and returns what was armed before;
 * rom_limit_restore() arms that again. When it is over, the running statement is
 * cancelled (SQLSTATE 57014) every 100 ms until it is disarmed.
 */
extern RomLimit rom_limit_arm(const RomLimit *limits, int n);
extern void rom_limit_restore(RomLimit before);

/*
 * Around code that is to be cancelled until it ends: when the turn has been cancelled and an error is
 * raised, which the code may catch, the cancel comes again as a limit does. heed's argument lives until unheed. interrupts:
 * also when its executor was interrupted (rom_slot_interrupted()), for code that is run again in that case.
 */
extern void rom_limit_heed_cancel(ErrorContextCallback *callback, bool interrupts);
extern void rom_limit_heed_outside(ErrorContextCallback *callback); /* notes cancels from
																	 * outside only */
extern void rom_limit_unheed_cancel(const ErrorContextCallback *callback);

/* Disarms, forgets what fired, and clears a cancel that is still pending because of it. */
extern void rom_limit_reset(void);

/* The limits that have fired since the last reset. */
extern RomLimitKind rom_limit_fired(void);

/* How often it fired: a handler that catches query_canceled is torn out after some. */
extern int	rom_limit_fired_count(void);

/* Has it fired so often that the code was torn out of its language's interpreter, or is about to be? */
extern bool rom_limit_torn(void);

/*
 * Was user code interrupted from outside (pg_cancel_backend, Ctrl-C, statement_timeout), whatever it made of that?
 * edata: the error that it ended with, or NULL. User code may raise 57014 by itself: that is none.
 */
extern bool rom_limit_is_outside(const ErrorData *edata);

/* Was the error raised for a signal or a timeout (57014), and not by user code? */
extern bool rom_limit_is_interrupt(const ErrorData *edata);

/* That interruption as an error, in the current context: edata, or in a session the cancel that the code has caught. */
extern ErrorData *rom_limit_outside_error(ErrorData *edata);

/* Where errors go when code keeps swallowing cancels: the catch of the evaluation or the attempt; NULL outside one. */
extern sigjmp_buf *rom_limit_tear_out;

#endif							/* ROM_LIMIT_H */
