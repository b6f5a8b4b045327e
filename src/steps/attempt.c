/*-------------------------------------------------------------------------
 *
 * attempt.c
 *		Attempts at an activity: counting failures, deciding about another one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "steps/attempt.h"

void
rom_attempts_init(RomAttempts *a)
{
	memset(a, 0, sizeof(RomAttempts));
	a->attempt = 1;
	a->started = rom_now();
}

void
rom_attempts_load(RomAttempts *a, const char *kind, Jsonb *detail)
{
	rom_attempts_init(a);
	if (detail == NULL || strcmp(kind, ROM_WAIT_EXHAUSTED) == 0)
		return;

	/*
	 * a procedure that was announced and whose outcome is not known runs
	 * again as the same attempt
	 */
	a->attempt = rom_jb_get_int(detail, "attempt", 0) +
		(strcmp(kind, "retry") == 0 ? 1 : 0);
	a->started = rom_jb_get_time(detail, "started");
	rom_attempts_read_errors(a, rom_jb_get_json(detail, "errors"));
}

Jsonb *
rom_attempts_detail(RomAttempts *a)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_int(&jb, "attempt", a->attempt);
	rom_jb_time(&jb, "started", a->started);
	rom_jb_json(&jb, "errors", rom_attempts_errors(a));
	return rom_jb_end(&jb);
}

void
rom_attempts_read_errors(RomAttempts *a, Jsonb *errors)
{
	uint32		n;

	if (errors == NULL || !JB_ROOT_IS_ARRAY(errors))
		return;
	n = JsonContainerSize(&errors->root);
	for (uint32 i = 0; i < n && a->nerrors < ROM_ERRORS_KEPT; i++)
		a->errors[a->nerrors++] =
			JsonbValueToJsonb(getIthJsonbValueFromContainer(&errors->root, i));
}

Jsonb *
rom_attempts_errors(RomAttempts *a)
{
	return rom_jb_array(a->errors, a->nerrors);
}

/* failed_at is when the attempt under way failed. */
static TimestampTz
failed_at(const RomAttempts *a)
{
	return a->failed_at != 0 ? a->failed_at : rom_now();
}

/* note_attempt adds the failure of the attempt under way to the list, dropping the oldest. */
static void
note_attempt(RomAttempts *a, Jsonb *error)
{
	RomJb		jb;

	if (a->nerrors == ROM_ERRORS_KEPT)
	{
		memmove(&a->errors[0], &a->errors[1], sizeof(Jsonb *) * (ROM_ERRORS_KEPT - 1));
		a->nerrors--;
	}
	rom_jb_begin(&jb);
	rom_jb_int(&jb, "attempt", a->attempt);
	rom_jb_text(&jb, "sqlstate", rom_jb_get_text(error, "sqlstate"));
	rom_jb_text(&jb, "message", rom_jb_get_text(error, "message"));
	rom_jb_time(&jb, "at", failed_at(a));
	a->errors[a->nerrors++] = rom_jb_end(&jb);
}

bool
rom_attempts_fail(RomAttempts *a, const RomRetryPolicy *policy, Jsonb *error,
				  bool terminal, TimestampTz *next)
{
	int64		delay = rom_retry_delay(policy, a->attempt,
										pg_prng_double(&pg_global_prng_state));
	bool		retryable = !terminal &&
		rom_retry_matches(policy, rom_error_sqlstate(error), a->of_result);

	*next = failed_at(a) + delay;
	a->exhausted = retryable &&
		((policy->max_attempts > 0 && a->attempt >= policy->max_attempts) ||
		 (policy->max_duration > 0 && *next - a->started > policy->max_duration));
	note_attempt(a, error);
	return retryable && !a->exhausted;
}

Jsonb *
rom_attempts_summary(RomAttempts *a)
{
	RomJb		inner;
	RomJb		jb;

	rom_jb_begin(&inner);
	rom_jb_int(&inner, "total_attempts", a->attempt);
	rom_jb_int(&inner, "total_duration_ms", (rom_now() - a->started) / 1000);
	rom_jb_bool(&inner, "exhausted", a->exhausted);
	rom_jb_json(&inner, "errors", rom_attempts_errors(a));
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "retry", rom_jb_end(&inner));
	return rom_jb_end(&jb);
}

Jsonb *
rom_attempt_error(const char *name, Jsonb *error, RomLimitKind limit)
{
	if (limit == ROM_LIMIT_ACTIVITY)
		return rom_error_timeout(error,
								 psprintf("activity \"%s\" exceeded its start_to_close_timeout", name));
	return rom_error_catchable(error, psprintf("activity \"%s\" was interrupted", name));
}
