/*-------------------------------------------------------------------------
 *
 * retry.h
 *		Retry policies: parse, merge, decide, delay. Pure but for the parsing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RETRY_H
#define ROM_RETRY_H

#include "utils/guc.h"
#include "utils/jsonb.h"

typedef struct RomRetryPolicy
{
	int32		max_attempts;	/* 0: no limit */
	int64		initial_interval;	/* microseconds, as all times here */
	double		backoff_coefficient;
	int64		max_interval;
	int64		max_duration;	/* from the first attempt's start; 0: none */
	double		jitter;			/* fraction either way, before the cap */
	bool		pause;			/* when it gives up: pause the instance, do
								 * not fail the step */
	Jsonb	   *retryable_errors;	/* array, or NULL: all but faults of the
									 * code */
	Jsonb	   *non_retryable_errors;	/* array, or NULL: none */
} RomRetryPolicy;

/* The check hook of romancy.default_retry: nothing, or a whole retry policy. A fault is RM012 as in a definition, and names the key. */
extern bool rom_retry_check_defaults(char **newval, void **extra,
									 GucSource source);

/* The built-in defaults, overlaid by romancy.default_retry. */
extern void rom_retry_defaults(RomRetryPolicy *policy);

/*
 * Overlays policy with the keys of a jsonb object (NULL: nothing); error RM012 naming argument
 * (e.g. "retry") and the key for an unknown key or a wrong value. Arrays point into a copy
 * in the current context.
 */
extern void rom_retry_overlay(RomRetryPolicy *policy, Jsonb *json,
							  const char *argument);

/* Grows whenever the defaults have changed: policies that were computed from them are stale. */
extern uint64 rom_retry_generation(void);

/*
 * Is an error of this SQLSTATE to be tried again, by the two lists alone? Faults of the code (classes 42, 2F and 0A, RM001 and RM004, and with of_result
 * any error: the activity's own result is larger than a limit) are where retryable_errors names them.
 */
extern bool rom_retry_matches(const RomRetryPolicy *policy, int sqlerrcode, bool of_result);

/* Delay before attempt number attempt + 1 (attempt from 1), in microseconds; seed: jitter's random number in [0,1). */
extern int64 rom_retry_delay(const RomRetryPolicy *policy, int attempt,
							 double random);

#endif							/* ROM_RETRY_H */
