/*-------------------------------------------------------------------------
 *
 * calendar.c
 *		When a rule comes on a clock that never changes: days of months, then hours,
 *		minutes, seconds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "schedules/calendar.h"

/* The calendar repeats itself after this many years. */
#define CALENDAR_YEARS 400

/* The first bit of set from bit "from" on; -1 where there is none. */
static int
first_bit(uint64 set, int from)
{
	if (from >= 64)
		return -1;
	set &= ~UINT64CONST(0) << from;
	return set == 0 ? -1 : pg_rightmost_one_pos64(set);
}

static int
days_in_month(int year, int month)
{
	return day_tab[isleap(year)][month - 1];
}

/* The weekday of a day of the month whose first one is the weekday first. */
static int
weekday_of(int first, int day)
{
	return (first + day - 1) % 7;
}

/* The day of Monday to Friday, in the same month, that is nearest to day. */
static int
nearest_workday(int day, int first, int ndays)
{
	int			weekday = weekday_of(first, day);

	if (weekday == 6)
		return day > 1 ? day - 1 : day + 2;
	if (weekday == 0)
		return day < ndays ? day + 1 : day - 2;
	return day;
}

/* The bit of a day of a month, none for a day that is not one. */
static uint32
bit_of(int day)
{
	return day >= 1 && day <= 31 ? (uint32) 1 << day : 0;
}

/* Which days of a month the field "day of month" names. */
static uint32
days_by_date(const RomCronRule *rule, int first, int ndays)
{
	uint32		days = rule->days;

	for (int n = 0; n < ndays; n++)
		if (rule->from_last & ((uint32) 1 << n))
			days |= (uint32) 1 << (ndays - n);
	if (rule->last_workday)
		days |= bit_of(nearest_workday(ndays, first, ndays));
	for (int day = 1; day <= ndays; day++)
		if (rule->nearest & ((uint32) 1 << day))
			days |= bit_of(nearest_workday(day, first, ndays));
	return days;
}

/* Which days of a month the field "day of week" names. */
static uint32
days_by_weekday(const RomCronRule *rule, int first, int ndays)
{
	uint32		days = 0;

	for (int day = 1; day <= ndays; day++)
	{
		uint8		weekday = 1 << weekday_of(first, day);

		if ((rule->weekdays | rule->nth[(day - 1) / 7] | rule->nth_last[(ndays - day) / 7]) & weekday)
			days |= (uint32) 1 << day;
	}
	return days;
}

/* The days of a month on which the rule comes. */
static uint32
days_of_month(const RomCronRule *rule, int year, int month)
{
	int			ndays = days_in_month(year, month);
	int			first;
	uint32		by_date;
	uint32		by_weekday;

	if (!(rule->months & (1 << month)))
		return 0;
	first = j2day(date2j(year, month, 1));
	by_date = days_by_date(rule, first, ndays);
	by_weekday = days_by_weekday(rule, first, ndays);
	by_date = rule->both ? by_date & by_weekday : by_date | by_weekday;
	return by_date & (uint32) ((UINT64CONST(1) << (ndays + 1)) - 1);
}

/* The first second of a day, from "from" on, that the rule names; -1 where there is none. */
static int
next_of_day(const RomCronRule *rule, int from)
{
	int			hour = first_bit(rule->hours, from / SECS_PER_HOUR);
	int			minute;
	int			second;

	if (hour < 0)
		return -1;
	if (hour > from / SECS_PER_HOUR)
		from = hour * SECS_PER_HOUR;
	minute = first_bit(rule->minutes, from / SECS_PER_MINUTE % MINS_PER_HOUR);
	if (minute == from / SECS_PER_MINUTE % MINS_PER_HOUR)
	{
		second = first_bit(rule->seconds, from % SECS_PER_MINUTE);
		if (second >= 0)
			return hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second;
		minute = first_bit(rule->minutes, minute + 1);
	}
	if (minute < 0)
	{
		hour = first_bit(rule->hours, hour + 1);
		if (hour < 0)
			return -1;
		minute = first_bit(rule->minutes, 0);
	}
	return hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + first_bit(rule->seconds, 0);
}

bool
rom_calendar_next(const RomCronRule *rule, int64 from, int64 *found)
{
	int64		days = from / SECS_PER_DAY;
	int			second = (int) (from % SECS_PER_DAY);
	int			year;
	int			month;
	int			day;
	int			last_year;

	if (second < 0)
	{
		days--;
		second += SECS_PER_DAY;
	}
	j2date((int) (days + UNIX_EPOCH_JDATE), &year, &month, &day);
	last_year = year + CALENDAR_YEARS;
	while (year <= last_year)
	{
		int			next = first_bit(days_of_month(rule, year, month), day);

		if (next == day)
		{
			int			time = next_of_day(rule, second);

			if (time >= 0)
			{
				*found = (int64) (date2j(year, month, day) - UNIX_EPOCH_JDATE) * SECS_PER_DAY + time;
				return true;
			}
			day++;
			second = 0;
		}
		else if (next > 0)
		{
			day = next;
			second = 0;
		}
		else
		{
			day = 1;
			second = 0;
			if (++month > MONTHS_PER_YEAR)
			{
				month = 1;
				year++;
			}
		}
	}
	return false;
}

bool
rom_calendar_comes(const RomCronRule *rule)
{
	int64		found;

	return rom_calendar_next(rule, 0, &found);
}
