/*-------------------------------------------------------------------------
 *
 * arg.c
 *		Arguments of SQL-callable functions as C values, with errors that name
 *		the argument.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"

static void
check_given(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

char *
rom_arg_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	check_given(fcinfo, n, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
rom_arg_text_opt(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
rom_arg_prose_opt(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *text = rom_arg_text_opt(fcinfo, n);

	if (text !=NULL && strlen(text) > ROM_PROSE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not exceed %d bytes", name, ROM_PROSE_MAX)));
	return text;
}

pg_uuid_t *
rom_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name)
{
	check_given(fcinfo, n, name);
	return PG_GETARG_UUID_P(n);
}

Jsonb *
rom_arg_jsonb(FunctionCallInfo fcinfo, int n, const char *name)
{
	check_given(fcinfo, n, name);
	return PG_GETARG_JSONB_P(n);
}

Jsonb *
rom_arg_jsonb_opt(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n);
}

int32
rom_arg_int32_opt(FunctionCallInfo fcinfo, int n, int32 value)
{
	return PG_ARGISNULL(n) ? value : PG_GETARG_INT32(n);
}

int64
rom_arg_int64_opt(FunctionCallInfo fcinfo, int n, int64 value)
{
	return PG_ARGISNULL(n) ? value : PG_GETARG_INT64(n);
}

bool
rom_arg_bool_opt(FunctionCallInfo fcinfo, int n, bool value)
{
	return PG_ARGISNULL(n) ? value : PG_GETARG_BOOL(n);
}

Interval *
rom_arg_interval_opt(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval   *interval;
	int64		usec;

	if (PG_ARGISNULL(n))
		return NULL;
	interval = PG_GETARG_INTERVAL_P(n);
	if (!rom_arg_interval_usec(interval, &usec))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" is out of range", name)));
	if (usec < 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not be negative", name)));
	return interval;
}

Interval *
rom_arg_duration_opt(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval   *interval = rom_arg_interval_opt(fcinfo, n, name);
	int64		usec;

	if (interval != NULL && rom_arg_interval_usec(interval, &usec) && usec == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must be longer than nothing", name)));
	return interval;
}

TimestampTz
rom_arg_until(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval   *interval;
	TimestampTz until = DT_NOEND;
	int64		usec;
	bool		exact;

	check_given(fcinfo, n, name);
	interval = PG_GETARG_INTERVAL_P(n);
	exact = rom_arg_interval_usec(interval, &usec);
	if (exact)
		until = rom_arg_timestamp_plus(rom_now(), interval);
	if (!TIMESTAMP_NOT_FINITE(until))
		return until;
	if (exact ? usec < 0 : (int64) interval->month * DAYS_PER_MONTH + interval->day < 0)
		return rom_now();		/* before any calendar */
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("argument \"%s\" is out of range", name)));
}

bool
rom_arg_timestamp_opt(FunctionCallInfo fcinfo, int n, const char *name,
					  TimestampTz *value)
{
	if (PG_ARGISNULL(n))
		return false;
	*value = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(*value))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not be infinite", name)));
	return true;
}

void
rom_arg_check_short_name(const char *name, const char *what)
{
	if (name[0] == '\0' || strlen(name) > ROM_SHORT_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must have between 1 and %d bytes",
						what, ROM_SHORT_NAME_MAX)));
}

void
rom_arg_check_key(const char *key, const char *what)
{
	if (key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not be empty", what),
				 errhint("Null stands for no key.")));
	if (strlen(key) > ROM_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not exceed %d bytes", what, ROM_KEY_MAX),
				 errhint("Use a hash of it, such as md5().")));
}

char *
rom_arg_key_opt(FunctionCallInfo fcinfo, int n)
{
	char	   *key = rom_arg_text_opt(fcinfo, n);

	if (key != NULL)
		rom_arg_check_key(key, "idempotency_key");
	return key;
}

static bool (*is_step) (void) = NULL;

void
rom_arg_on_step(bool (*hook) (void))
{
	is_step = hook;
}

bool
rom_arg_is_step(void)
{
	return is_step != NULL && is_step();
}

bool
rom_arg_payload_fits(const Jsonb *jb)
{
	return jb == NULL || VARSIZE(jb) <= rom_guc_max_payload_size;
}

void
rom_arg_check_payload(const Jsonb *jb, const char *argument)
{
	if (rom_arg_payload_fits(jb) || rom_arg_is_step())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ROM_LIMIT),
			 errmsg("payload \"%s\" is too large", argument),
			 errdetail("It has %zu bytes, the limit is %d.",
					   (Size) VARSIZE(jb), rom_guc_max_payload_size),
			 errhint("Pass a reference to the data instead, or raise romancy.max_payload_size.")));
}

/*
 * try_input calls an input function, and returns false where that raises a
 * data exception. No subtransaction: the input functions it is used with (of
 * dates, intervals and JSON) hold nothing but memory when they raise.
 */
static bool
try_input(PGFunction input, const char *text, Datum *result)
{
	MemoryContext cxt = CurrentMemoryContext;
	volatile bool ok = false;
	volatile Datum value = (Datum) 0;

	PG_TRY();
	{
		value = DirectFunctionCall3(input, CStringGetDatum(text),
									ObjectIdGetDatum(InvalidOid),
									Int32GetDatum(-1));
		ok = true;
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		MemoryContextSwitchTo(cxt);
		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(code) != ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
		/* a Unicode escape in a database whose encoding is SQL_ASCII */
			code != ERRCODE_FEATURE_NOT_SUPPORTED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	*result = value;
	return ok;
}

bool
rom_arg_input_interval(const char *text, Interval *value)
{
	Datum		datum;

	if (!try_input(interval_in, text, &datum))
		return false;
	*value = *DatumGetIntervalP(datum);
	return true;
}

bool
rom_arg_input_timestamptz(const char *text, TimestampTz *value)
{
	Datum		datum;

	if (!try_input(timestamptz_in, text, &datum))
		return false;
	*value = DatumGetTimestampTz(datum);
	return true;
}

bool
rom_arg_input_jsonb(const char *text, Jsonb **value)
{
	Datum		datum;

	if (!try_input(jsonb_in, text, &datum))
		return false;
	*value = DatumGetJsonbP(datum);
	return true;
}

bool
rom_arg_input_uuid(const char *text, pg_uuid_t *value)
{
	Datum		datum;

	if (!try_input(uuid_in, text, &datum))
		return false;
	*value = *DatumGetUUIDP(datum);
	return true;
}

bool
rom_arg_interval_usec(const Interval *interval, int64 *usec)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64		product;

	return !pg_mul_s64_overflow(days, USECS_PER_DAY, &product) &&
		!pg_add_s64_overflow(product, interval->time, usec);
}

TimestampTz
rom_arg_timestamp_plus(TimestampTz now, const Interval *interval)
{
	int64		usec;
	TimestampTz sum;

	/* far beyond any calendar: no need to be exact, or to raise */
	if (!rom_arg_interval_usec(interval, &usec) ||
		pg_add_s64_overflow(now, usec, &sum) || !IS_VALID_TIMESTAMP(sum))
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(interval)));
}

char *
rom_arg_interval_text(const Interval *interval)
{
	int			style = IntervalStyle;
	char	   *text;

	IntervalStyle = INTSTYLE_POSTGRES;
	text = DatumGetCString(DirectFunctionCall1(interval_out,
											   IntervalPGetDatum(interval)));

	IntervalStyle = style;
	return text;
}
