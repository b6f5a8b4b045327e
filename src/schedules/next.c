/*-------------------------------------------------------------------------
 *
 * next.c
 *		The next time of an expression.
 *
 * Two steps. rom_calendar_next() finds the next time that the fields name on a clock that
 * never changes: days of months, then hours, minutes, seconds. A zone's clock does
 * change, and there are two ways to follow it, as in Debian's cron:
 *
 * A rule that names minute and hour is meant for times of the day. Each comes once, at
 * the first instant at which the clock shows it or a later one: inside a gap
 * that is the gap's end; what comes twice counts the first time.
 *
 * A rule whose minute or hour begins with "*" follows elapsed time: it comes whenever the clock
 * shows one of its times, so twice in an overlap and not in a gap.
 *
 * Seconds are counted as the server's zone code does, from 1970; a "local" one is
 * what the clock of the zone shows, taken as if it were UTC.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "schedules/calendar.h"
#include "schedules/next.h"
#include "schedules/zone.h"

/* The first second after "after" of a rule for times of the day. */
static bool
next_of_clock(const RomCronRule *rule, pg_tz *zone, int64 after, int64 *found)
{
	/* what the clock has shown by "after" is over */
	int64		local = after + rom_zone_offset(zone, after) + 1;

	while (rom_calendar_next(rule, local, &local))
	{
		*found = rom_zone_first(zone, local);
		if (*found > after)
			return true;

		/* "after" is in an overlap, and has been through that before */
		local++;
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

/* The first second after "after" of a rule that follows elapsed time. */
static bool
next_elapsed(const RomCronRule *rule, pg_tz *zone, int64 after, int64 *found)
{
	int64		from = after + 1;

	for (;;)
	{
		int64		offset;
		int64		end = rom_zone_segment(zone, from, &offset);
		int64		local;

		if (!rom_calendar_next(rule, from + offset, &local))
			return false;
		if (local - offset < end)
		{
			*found = local - offset;
			return true;
		}
		from = end;
		CHECK_FOR_INTERRUPTS();
	}
}

/* The first multiple of the period, from anchor on, that comes after "after". */
static TimestampTz
next_period(int64 period, TimestampTz anchor, TimestampTz after)
{
	int64		n = after < anchor ? 1 : (after - anchor) / period + 1;

	return IS_VALID_TIMESTAMP(anchor + n * period) ? anchor + n * period : DT_NOEND;
}

/* The whole second that "time" is in, since 1970. */
static int64
unix_second(TimestampTz time)
{
	int64		second = time / USECS_PER_SEC;

	if (time % USECS_PER_SEC < 0)
		second--;
	return second + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

static TimestampTz
next_of_rule(const RomCronRule *rule, pg_tz *zone, TimestampTz anchor, TimestampTz after)
{
	int64		second = 0;
	TimestampTz time;

	if (rule->period > 0)
		return next_period(rule->period, anchor, after);
	if (rule->elapsed ? !next_elapsed(rule, zone, unix_second(after), &second) :
		!next_of_clock(rule, zone, unix_second(after), &second))
		return DT_NOEND;
	time = time_t_to_timestamptz(second);
	return IS_VALID_TIMESTAMP(time) ? time : DT_NOEND;
}

TimestampTz
rom_next_time(const RomCron *cron, pg_tz *zone, TimestampTz anchor, TimestampTz after)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < cron->count; i++)
		first = Min(first, next_of_rule(&cron->rules[i], zone, anchor, after));
	return first;
}
