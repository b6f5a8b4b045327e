/*-------------------------------------------------------------------------
 *
 * attempt.h
 *		Attempts at an activity: counting failures, deciding about another one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ATTEMPT_H
#define ROM_ATTEMPT_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "defs/retry.h"
#include "turn/limit.h"

/* Errors of earlier attempts kept in history. */
#define ROM_ERRORS_KEPT		20

typedef struct RomAttempts
{
	int			attempt;		/* the one under way, from 1 */
	TimestampTz started;		/* of the first */
	TimestampTz failed_at;		/* the one under way: 0, now */
	bool		exhausted;		/* it failed, could be tried again, and is not */
	bool		of_result;		/* set by the caller of rom_attempts_fail():
								 * its own result is larger than a limit */
	Jsonb	   *errors[ROM_ERRORS_KEPT];
	int			nerrors;
} RomAttempts;

/* The first attempt, beginning now. */
extern void rom_attempts_init(RomAttempts *a);

/*
 * The state of attempts that an instance's wait holds (kind and detail; NULL: the first attempt begins). Of the
 * kinds, "retry" stands for an attempt that has failed and was counted, ROM_WAIT_EXHAUSTED for the last one of an instance that
 * was paused instead: after that the count begins anew.
 */
#define ROM_WAIT_EXHAUSTED "exhausted"

extern void rom_attempts_load(RomAttempts *a, const char *kind, Jsonb *detail);
extern Jsonb *rom_attempts_detail(RomAttempts *a);

/* Errors of earlier attempts, as rom_attempts_errors() made them (NULL: none). */
extern void rom_attempts_read_errors(RomAttempts *a, Jsonb *errors);
extern Jsonb *rom_attempts_errors(RomAttempts *a);

/*
 * The attempt under way failed with error: true, and *next, when another one follows.
 * terminal: the activity asked not to be tried again.
 */
extern bool rom_attempts_fail(RomAttempts *a, const RomRetryPolicy *policy,
							  Jsonb *error, bool terminal, TimestampTz *next);

/* {"retry": {...}} of an event. */
extern Jsonb *rom_attempts_summary(RomAttempts *a);

/*
 * The error that the handler gets for one (as of rom_error_to_jsonb()). A cancel or an assertion failure would get past
 * "when others", so they become RM006 with the original in the detail. limit: what fired.
 */
extern Jsonb *rom_attempt_error(const char *name, Jsonb *error, RomLimitKind limit);

#endif							/* ROM_ATTEMPT_H */
