/*-------------------------------------------------------------------------
 *
 * describe.c
 *		An expression in English, from its bitmaps: it says what was understood,
 *		not what was written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "port/pg_bitutils.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "schedules/describe.h"

/* So many times of the day are listed; more are told as minutes and hours. */
#define TIMES_MAX 6

#define ALL_MINUTES ((UINT64CONST(1) << 60) - 1)
#define ALL_HOURS ((UINT64CONST(1) << 24) - 1)
#define ALL_DAYS (((UINT64CONST(1) << 31) - 1) << 1)
#define ALL_MONTHS (((UINT64CONST(1) << 12) - 1) << 1)
#define ALL_WEEKDAYS ((UINT64CONST(1) << 7) - 1)

static const char *const nth_names[] = {"first", "second", "third", "fourth", "fifth"};

/* A list under construction: "a", "a and b", "a, b and c". */
typedef struct Phrase
{
	StringInfoData text;		/* but for the last part */
	const char *last;
} Phrase;

static void
phrase_begin(Phrase *phrase)
{
	initStringInfo(&phrase->text);
	phrase->last = NULL;
}

static void
phrase_add(Phrase *phrase, const char *part)
{
	if (phrase->last != NULL)
		appendStringInfo(&phrase->text, "%s%s", phrase->text.len > 0 ? ", " : "", phrase->last);
	phrase->last = part;
}

static char *
phrase_end(Phrase *phrase)
{
	if (phrase->text.len > 0)
		appendStringInfoString(&phrase->text, " and ");
	if (phrase->last != NULL)
		appendStringInfoString(&phrase->text, phrase->last);
	return phrase->text.data;
}

/* How a value of a field is called. */
typedef const char *(*ValueName) (int value);

static const char *
number_name(int value)
{
	return psprintf("%d", value);
}

static const char *
month_name(int value)
{
	static const char *const names[] = {
		"January", "February", "March", "April", "May", "June", "July",
		"August", "September", "October", "November", "December"
	};

	return names[value - 1];
}

static const char *
weekday_name(int value)
{
	return days[value];
}

/* Adds the values of a set; three and more that follow each other as "a to b". */
static void
add_set(Phrase *phrase, uint64 set, ValueName name)
{
	for (int i = 0; i < 64; i++)
	{
		int			last = i;

		if (!(set & (UINT64CONST(1) << i)))
			continue;
		while (last < 63 && set & (UINT64CONST(1) << (last + 1)))
			last++;
		if (last - i < 2)
			last = i;
		phrase_add(phrase, last == i ? name(i) : psprintf("%s to %s", name(i), name(last)));
		i = last;
	}
}

static char *
set_text(uint64 set, ValueName name)
{
	Phrase		phrase;

	phrase_begin(&phrase);
	add_set(&phrase, set, name);
	return phrase_end(&phrase);
}

/* The step of a set that is every n-th of 60 values from 0 on; 0 for another set. */
static int
step_of(uint64 set)
{
	for (int step = 1; step <= 30; step++)
	{
		uint64		expected = 0;

		for (int i = 0; i < 60; i += step)
			expected |= UINT64CONST(1) << i;
		if (60 % step == 0 && set == expected)
			return step;
	}
	return 0;
}

/* The times of the day, one by one. */
static char *
clock_times(const RomCronRule *rule)
{
	Phrase		phrase;
	bool		seconds = rule->seconds != 1;

	phrase_begin(&phrase);
	for (int hour = 0; hour < 24; hour++)
		for (int minute = 0; minute < 60; minute++)
		{
			if (!(rule->hours & (1 << hour)) || !(rule->minutes & (UINT64CONST(1) << minute)))
				continue;
			phrase_add(&phrase, seconds ?
					   psprintf("%02d:%02d:%02d", hour, minute, pg_rightmost_one_pos64(rule->seconds)) :
					   psprintf("%02d:%02d", hour, minute));
		}
	return psprintf("at %s", phrase_end(&phrase));
}

/* The minutes of a rule, after "at" or "of". */
static char *
minutes_text(const RomCronRule *rule, bool after_seconds)
{
	int			step = step_of(rule->minutes);

	if (step == 1)
		return "every minute";
	if (step > 1)
		return psprintf(after_seconds ? "every %dth minute" : "every %d minutes", step);
	return psprintf(after_seconds ? "minute %s" : "at minute %s", set_text(rule->minutes, number_name));
}

static char *
time_text(const RomCronRule *rule)
{
	int			ntimes = pg_popcount64(rule->minutes) * pg_popcount64(rule->hours);
	bool		seconds = rule->seconds != 1;
	bool		all_minutes = rule->minutes == ALL_MINUTES && rule->hours == ALL_HOURS;
	StringInfoData text;
	int			step = step_of(rule->seconds);

	if (pg_popcount64(rule->seconds) == 1 && ntimes <= TIMES_MAX)
		return clock_times(rule);
	initStringInfo(&text);
	if (seconds)
	{
		if (step == 1)
			appendStringInfoString(&text, "every second");
		else if (step > 1)
			appendStringInfo(&text, "every %d seconds", step);
		else
			appendStringInfo(&text, "at second %s", set_text(rule->seconds, number_name));
		if (all_minutes && step > 0)
			return text.data;

		appendStringInfoString(&text, " of ");
	}
	appendStringInfoString(&text, minutes_text(rule, seconds));
	if (rule->hours != ALL_HOURS)
		appendStringInfo(&text, " of hour %s", set_text(rule->hours, number_name));
	else if (step_of(rule->minutes) == 0)
		appendStringInfoString(&text, " of every hour");
	return text.data;
}

/* The days of the month, or NULL for all of them. */
static char *
dates_text(const RomCronRule *rule)
{
	Phrase		phrase;

	if (rule->days == ALL_DAYS)
		return NULL;
	phrase_begin(&phrase);
	if (rule->days != 0)
		phrase_add(&phrase, psprintf("day %s", set_text(rule->days, number_name)));
	if (rule->nearest != 0)
		phrase_add(&phrase, psprintf("the workday nearest to day %s", set_text(rule->nearest, number_name)));
	for (int n = 30; n > 0; n--)
		if (rule->from_last & ((uint32) 1 << n))
			phrase_add(&phrase, psprintf("%d day%s before the last day", n, n == 1 ? "" : "s"));
	if (rule->from_last & 1)
		phrase_add(&phrase, "the last day");
	if (rule->last_workday)
		phrase_add(&phrase, "the last workday");
	return psprintf("%s of the month", phrase_end(&phrase));
}

/* The days of the week, or NULL for all of them. */
static char *
weekdays_text(const RomCronRule *rule)
{
	Phrase		phrase;
	uint64		set = rule->weekdays;

	if (set == ALL_WEEKDAYS)
		return NULL;
	phrase_begin(&phrase);
	/* a week begins on Monday, unless that would tear a range apart */
	if (set & 1 && !(set & 2))
		set = (set & ~UINT64CONST(1)) | (1 << 7);
	for (int i = 0; i < 8; i++)
	{
		int			last = i;

		if (!(set & (1 << i)))
			continue;
		while (last < 7 && set & (1 << (last + 1)))
			last++;
		if (last - i < 2)
			last = i;
		phrase_add(&phrase, last == i ? weekday_name(i % 7) :
				   psprintf("%s to %s", weekday_name(i % 7), weekday_name(last % 7)));
		i = last;
	}
	for (int n = 0; n < ROM_CRON_NTH; n++)
		if (rule->nth[n] != 0)
			phrase_add(&phrase, psprintf("the %s %s of the month", nth_names[n], set_text(rule->nth[n], weekday_name)));
	for (int n = ROM_CRON_NTH - 1; n >= 0; n--)
		if (rule->nth_last[n] != 0)
			phrase_add(&phrase, psprintf("the %s%slast %s of the month", n > 0 ? nth_names[n] : "", n > 0 ? " " : "",
										 set_text(rule->nth_last[n], weekday_name)));
	return phrase_end(&phrase);
}

static char *
rule_text(const RomCronRule *rule)
{
	StringInfoData text;
	char	   *dates = dates_text(rule);
	char	   *weekdays = weekdays_text(rule);

	initStringInfo(&text);
	appendStringInfoString(&text, time_text(rule));
	if (dates != NULL && weekdays != NULL)
		appendStringInfo(&text, rule->both ? " on %s if it is %s" : " on %s or on %s", dates, weekdays);
	else if (rule->both && (dates != NULL || weekdays != NULL))
		appendStringInfo(&text, " on %s", dates != NULL ? dates : weekdays);
	if (rule->months != ALL_MONTHS)
		appendStringInfo(&text, " in %s", set_text(rule->months, month_name));
	return text.data;
}

/* A period is told in one unit while there are fewer than so many of it, else in several. */
#define UNITS_MAX 100

/* seconds_text is a number of seconds with their fraction. */
static char *
seconds_text(int64 usec)
{
	char	   *text = psprintf(INT64_FORMAT ".%06d", usec / USECS_PER_SEC, (int) (usec % USECS_PER_SEC));
	size_t		length = strlen(text);

	while (text[length - 1] == '0')
		length--;
	if (text[length - 1] == '.')
		length--;
	text[		length] = '\0';
	return text;
}

static char *
period_text(int64 period)
{
	static const struct
	{
		int64		usec;
		const char *name;
	}			units[] = {
		{USECS_PER_DAY, "day"}, {USECS_PER_HOUR, "hour"}, {USECS_PER_MINUTE, "minute"}, {USECS_PER_SEC, "second"}
	};
	Phrase		phrase;

	for (int i = 0; i < lengthof(units); i++)
	{
		int64		n = period / units[i].usec;

		if (period % units[i].usec == 0 && n == 1)
			return psprintf("every %s", units[i].name);
		if (period % units[i].usec == 0 && (n < UNITS_MAX || i == 0))
			return psprintf("every " INT64_FORMAT " %ss", n, units[i].name);
	}
	if (period < UNITS_MAX * USECS_PER_SEC)
		return psprintf("every %s seconds", seconds_text(period));
	phrase_begin(&phrase);
	for (int i = 0; i < lengthof(units); i++)
	{
		bool		last = i == lengthof(units) - 1;
		int64		part = last ? period : period / units[i].usec * units[i].usec;

		if (part > 0)
			phrase_add(&phrase, psprintf("%s %s%s", last ? seconds_text(part) : psprintf(INT64_FORMAT, part / units[i].usec), units[i].name,
										 part == units[i].usec ? "" : "s"));
		period -= part;
	}
	return psprintf("every %s", phrase_end(&phrase));
}

char *
rom_describe_cron(const RomCron *cron)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < cron->count; i++)
	{
		const RomCronRule *rule = &cron->rules[i];

		appendStringInfo(&text, "%s%s", i > 0 ? "; " : "",
						 rule->period > 0 ? period_text(rule->period) : rule_text(rule));
	}
	return text.data;
}
