/*-------------------------------------------------------------------------
 *
 * times.c
 *		The meaning of an expression: schedule_times and describe_schedule.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/compat.h"
#include "base/errors.h"
#include "schedules/cron.h"
#include "schedules/describe.h"
#include "schedules/next.h"
#include "schedules/zone.h"

PG_FUNCTION_INFO_V1(romancy_schedule_times);
PG_FUNCTION_INFO_V1(romancy_describe_schedule);

/* Times that one call may ask for: a million takes seconds. */
#define TIMES_MAX 100000

/*
 * romancy.schedule_times(cron text, timezone text, after timestamptz, n int) -> setof timestamptz
 *
 * The n times after "after" (null: now) in the zone; fewer where a timestamp cannot hold more. Periods of @every begin at "after",
 * and H stands for the hash of an empty name. Errors: RM012 for an expression, a zone or a time that
 * cannot be, and for more than 100,000; 22023 for an n below zero.
 */
Datum
romancy_schedule_times(PG_FUNCTION_ARGS)
{
	char	   *text = rom_arg_text(fcinfo, 0, "cron");
	char	   *zone_name = PG_ARGISNULL(1) ? "UTC" : rom_arg_text(fcinfo, 1, "timezone");
	int			n = rom_arg_int32_opt(fcinfo, 3, 10);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz after;
	TimestampTz time;
	RomCron		cron;
	pg_tz	   *zone;

	if (!rom_arg_timestamp_opt(fcinfo, 2, "after", &after))
		after = GetCurrentTransactionStartTimestamp();
	if (n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"n\" must not be negative")));
	if (n > TIMES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"n\" must not be greater than %d", TIMES_MAX)));
	rom_cron_parse(text, "", &cron);
	zone = rom_zone_find(zone_name);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	time = after;
	for (int i = 0; i < n; i++)
	{
		Datum		values[1];
		bool		nulls[1] = {false};

		time = rom_next_time(&cron, zone, after, time);
		if (time == DT_NOEND)
			break;
		values[0] = TimestampTzGetDatum(time);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_NULL();
}

/* romancy.describe_schedule(cron text) -> text: the expression in English. RM012 where it is none. */
Datum
romancy_describe_schedule(PG_FUNCTION_ARGS)
{
	RomCron		cron;

	rom_cron_parse(rom_arg_text(fcinfo, 0, "cron"), "", &cron);
	PG_RETURN_TEXT_P(cstring_to_text(rom_describe_cron(&cron)));
}
