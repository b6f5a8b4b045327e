/*-------------------------------------------------------------------------
 *
 * retry.c
 *		Retry policies: parse, merge, decide, delay.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/arg.h"
#include "base/backoff.h"
#include "base/errors.h"
#include "defs/condition.h"
#include "defs/guc.h"
#include "defs/retry.h"

static const RomRetryPolicy built_in = {
	.max_attempts = 5,
	.initial_interval = 1 * INT64CONST(1000000),
	.backoff_coefficient = 2.0,
	.max_interval = 60 * INT64CONST(1000000),
	.max_duration = 300 * INT64CONST(1000000),
	.jitter = 0.1
};

/* The value of romancy.default_retry that was read last. */
static RomRetryPolicy defaults;
static char *defaults_text = NULL;
static uint64 defaults_generation = 0;

/* The faults of a policy, and where they are: for the messages. */
typedef struct PolicyKey
{
	const char *argument;
	const char *key;
} PolicyKey;

static void wrong_value(const PolicyKey *where, const char *expected) pg_attribute_noreturn();

static void
wrong_value(const PolicyKey *where, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid value for key \"%s\" of \"%s\"",
					where->key, where->argument),
			 errdetail("It has to be %s.", expected)));
}

static double
read_number(const JsonbValue *v, const PolicyKey *where, double least,
			const char *expected)
{
	double		number;

	if (v->type != jbvNumeric)
		wrong_value(where, expected);
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(v->val.numeric)));
	if (isnan(number) || isinf(number) || number < least)
		wrong_value(where, expected);
	return number;
}

static int64
read_interval(const JsonbValue *v, const PolicyKey *where,
			  const char *expected)
{
	Interval	interval;
	int64		usec;

	if (v->type != jbvString ||
		!rom_arg_input_interval(pnstrdup(v->val.string.val, v->val.string.len),
								&interval) ||
		!rom_arg_interval_usec(&interval, &usec) || usec < 0)
		wrong_value(where, expected);
	return usec;
}

/* read_conditions checks a list of error names and returns a copy of it. */
static Jsonb *
read_conditions(const JsonbValue *v, const PolicyKey *where)
{
	static const char *const expected =
		"an array of SQLSTATEs, classes of them or condition names";
	Jsonb	   *list;
	JsonbIterator *it;
	JsonbValue	item;
	JsonbIteratorToken token;

	if (v->type != jbvBinary ||
		!JsonContainerIsArray(v->val.binary.data) ||
		JsonContainerIsScalar(v->val.binary.data))
		wrong_value(where, expected);
	list = JsonbValueToJsonb(unconstify(JsonbValue *, v));
	it = JsonbIteratorInit(&list->root);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (item.type != jbvString ||
			!rom_condition_known(pnstrdup(item.val.string.val,
										  item.val.string.len)))
			wrong_value(where, expected);
	}
	return list;
}

/* is_string: is v this string? */
static bool
is_string(const JsonbValue *v, const char *text)
{
	return v->type == jbvString && v->val.string.len == strlen(text) &&
		strncmp(v->val.string.val, text, v->val.string.len) == 0;
}

/* read_key stores the value of one key of a policy. */
static void
read_key(RomRetryPolicy *policy, const PolicyKey *where, const JsonbValue *v)
{
	const char *key = where->key;

	if (strcmp(key, "max_attempts") == 0)
	{
		static const char *const expected = "a whole number, 0 for no limit";
		double		number = read_number(v, where, 0, expected);

		if (number != floor(number) || number > PG_INT32_MAX)
			wrong_value(where, expected);
		policy->max_attempts = (int32) number;
	}
	else if (strcmp(key, "initial_interval") == 0)
		policy->initial_interval =
			read_interval(v, where, "an interval such as \"1s\"");
	else if (strcmp(key, "backoff_coefficient") == 0)
		policy->backoff_coefficient =
			read_number(v, where, 1, "a number that is at least 1");
	else if (strcmp(key, "max_interval") == 0)
		policy->max_interval =
			read_interval(v, where, "an interval such as \"60s\"");
	else if (strcmp(key, "max_duration") == 0)
	{
		static const char *const expected =
			"an interval such as \"300s\", or null for no limit";

		policy->max_duration = 0;
		if (v->type != jbvNull)
		{
			policy->max_duration = read_interval(v, where, expected);
			if (policy->max_duration == 0)
				wrong_value(where, expected);
		}
	}
	else if (strcmp(key, "jitter") == 0)
	{
		static const char *const expected = "a fraction from 0 to 1";

		policy->jitter = read_number(v, where, 0, expected);
		if (policy->jitter > 1)
			wrong_value(where, expected);
	}
	else if (strcmp(key, "on_exhausted") == 0)
	{
		bool		fail = is_string(v, "fail");

		if (!fail && !is_string(v, "pause"))
			wrong_value(where, "\"fail\" or \"pause\"");
		policy->pause = !fail;
	}
	else if (strcmp(key, "retryable_errors") == 0)
		policy->retryable_errors =
			v->type == jbvNull ? NULL : read_conditions(v, where);
	else if (strcmp(key, "non_retryable_errors") == 0)
		policy->non_retryable_errors =
			v->type == jbvNull ? NULL : read_conditions(v, where);
	else
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("unknown key \"%s\" in \"%s\"", key, where->argument),
				 errhint("Keys of a retry policy are max_attempts, initial_interval, backoff_coefficient, max_interval, max_duration, jitter, on_exhausted, retryable_errors and non_retryable_errors.")));
}

void
rom_retry_overlay(RomRetryPolicy *policy, Jsonb *json, const char *argument)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	PolicyKey	where = {argument, NULL};

	if (json == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%s\" must be a JSON object", argument)));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			where.key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && where.key != NULL)
			read_key(policy, &where, &v);
	}
}

/* read_defaults overlays the built-in policy with text, a value of romancy.default_retry; RM012 where that is no retry policy. */
static void
read_defaults(const char *text, RomRetryPolicy *policy)
{
	Jsonb	   *json;

	*policy = built_in;
	if (text[strspn(text, " \t\n\r")] == '\0')
		return;
	if (!rom_arg_input_jsonb(text, &json))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("setting \"romancy.default_retry\" is not valid JSON")));
	rom_retry_overlay(policy, json, "romancy.default_retry");
}

/*
 * The error is caught outside any transaction, maybe in the postmaster: what is
 * called holds nothing but memory, and needs no catalog.
 */
bool
rom_retry_check_defaults(char **newval, void **extra, GucSource source)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "romancy retry check",
											  ALLOCSET_SMALL_SIZES);
	volatile bool ok = true;

	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		RomRetryPolicy policy;

		read_defaults(*newval, &policy);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		if (geterrcode() != ERRCODE_ROM_DEFINITION)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		GUC_check_errcode(ERRCODE_ROM_DEFINITION);
		GUC_check_errmsg("%s", edata->message);
		if (edata->detail)
			GUC_check_errdetail("%s", edata->detail);
		if (edata->hint)
			GUC_check_errhint("%s", edata->hint);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return ok;
}

void
rom_retry_defaults(RomRetryPolicy *policy)
{
	const char *text = rom_guc_default_retry ? rom_guc_default_retry : "";

	if (defaults_text == NULL || strcmp(defaults_text, text) != 0)
	{
		/*
		 * policies that were handed out point into the old one: it stays, and
		 * settings change rarely
		 */
		MemoryContext cxt = AllocSetContextCreate(TopMemoryContext,
												  "romancy default retry",
												  ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		defaults_text = NULL;
		read_defaults(text, &defaults);
		defaults_text = pstrdup(text);
		MemoryContextSwitchTo(old);
		defaults_generation++;
	}
	*policy = defaults;
}

uint64
rom_retry_generation(void)
{
	RomRetryPolicy policy;

	rom_retry_defaults(&policy);
	return defaults_generation;
}

/* list_includes says whether one of the names in a list of conditions includes the SQLSTATE. */
static bool
list_includes(Jsonb *list, int sqlerrcode)
{
	JsonbIterator *it = JsonbIteratorInit(&list->root);
	JsonbValue	item;
	JsonbIteratorToken token;
	bool		found = false;

	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && !found)
		{
			char	   *name = pnstrdup(item.val.string.val,
										item.val.string.len);

			found = rom_condition_includes(name, sqlerrcode);
			pfree(name);
		}
	}
	return found;
}

/* is_fault: a fault of the code, which another attempt meets again: a name that is not there, a wrong call, what is not implemented. */
static bool
is_fault(int sqlerrcode)
{
	static const int classes[] = {
		ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,	/* 42 */
		ERRCODE_SQL_ROUTINE_EXCEPTION,	/* 2F */
		ERRCODE_FEATURE_NOT_SUPPORTED	/* 0A */
	};

	for (int i = 0; i < lengthof(classes); i++)
		if (ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TO_CATEGORY(classes[i]))
			return true;
	return sqlerrcode == ERRCODE_ROM_UNDEFINED || sqlerrcode == ERRCODE_ROM_CONTEXT;
}

bool
rom_retry_matches(const RomRetryPolicy *policy, int sqlerrcode, bool of_result)
{
	if (policy->non_retryable_errors &&
		list_includes(policy->non_retryable_errors, sqlerrcode))
		return false;
	if (policy->retryable_errors == NULL)
		return !of_result && !is_fault(sqlerrcode);
	return list_includes(policy->retryable_errors, sqlerrcode);
}

int64
rom_retry_delay(const RomRetryPolicy *policy, int attempt, double random)
{
	double		base = (double) policy->initial_interval * (1.0 + policy->jitter * (2.0 * random - 1.0));
	double		delay = rom_backoff(base, policy->backoff_coefficient, attempt, (double) policy->max_interval);

	/* a double may be more than the cap that it was made of */
	return delay >= (double) policy->max_interval ? policy->max_interval : (int64) delay;
}
