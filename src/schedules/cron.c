/*-------------------------------------------------------------------------
 *
 * cron.c
 *		Reading the expressions of schedules.
 *
 * A field is a list of terms, separated by commas:
 *
 *		*   5   5-10   MON-FRI   H   H(0-29)    each with or without a step /n
 *		L   L-3   LW   15W                      in the day of the month
 *		5L   1#2   1#-1                         in the day of the week
 *
 * "5/10" is every tenth value from 5 on. As in Debian's cron a rule whose two day
 * fields are both restricted matches when either does; a field that begins with "*"
 * is not restricted in this sense, so that with "*" and a step both must match.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/arg.h"
#include "base/errors.h"
#include "schedules/calendar.h"
#include "schedules/cron.h"

typedef struct Field
{
	const char *name;
	int			min;
	int			max;
	const char *names;			/* of its values, three letters each, or NULL */
	int			hashed_max;		/* the last value that H may stand for */
} Field;

enum
{
	SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS
};

static const Field fields[FIELDS] = {
	[SECOND] = {"second", 0, 59, NULL, 59},
	[MINUTE] = {"minute", 0, 59, NULL, 59},
	[HOUR] = {"hour", 0, 23, NULL, 23},
	[DAY] = {"day of month", 1, 31, NULL, 28},
	[MONTH] = {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", 12},
	[WEEKDAY] = {"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT", 6}
};

static const struct
{
	const char *name;
	const char *fields;
}			macros[] = {
	{"@hourly", "0 * * * *"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@weekly", "0 0 * * 0"},
	{"@monthly", "0 0 1 * *"},
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"}
};

/* The state of the reader. */
typedef struct Reader
{
	const char *text;			/* the whole expression */
	const char *at;				/* what comes next */
	const char *end;			/* of the field */
	const char *name;			/* the schedule's */
	const Field *field;			/* NULL: none in particular */
} Reader;

uint64
rom_cron_hash(const char *value, uint64 seed)
{
	uint64		hash = UINT64CONST(14695981039346656037) ^ seed;

	for (; *value != '\0'; value++)
		hash = (hash ^ (uint8) *value) * UINT64CONST(1099511628211);
	/* the low bits of that depend on few of the input's */
	hash ^= hash >> 33;
	hash *= UINT64CONST(0xff51afd7ed558ccd);
	return hash ^ (hash >> 33);
}

static void fail(const Reader *reader, const char *place, const char *what, const char *hint) pg_attribute_noreturn();

/* fail raises the error: what is wrong at place. hint may be NULL. */
static void
fail(const Reader *reader, const char *place, const char *what, const char *hint)
{
	int			position = pg_mbstrlen_with_len(reader->text, place - reader->text) + 1;

	if (reader->field != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid cron expression \"%s\": %s, in the %s field at position %d",
						reader->text, what, reader->field->name, position),
				 hint ? errhint("%s", hint) : 0));
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid cron expression \"%s\": %s, at position %d", reader->text, what, position),
			 hint ? errhint("%s", hint) : 0));
}

static bool
next_is(const Reader *reader, char c)
{
	return reader->at < reader->end && *reader->at == c;
}

/* take skips c, if that is what comes next. */
static bool
take(Reader *reader, char c)
{
	if (!next_is(reader, c))
		return false;
	reader->at++;
	return true;
}

/* read_number reads digits; -1 where there are none. A number beyond any field is 1000. */
static int
read_number(Reader *reader)
{
	const char *start = reader->at;
	int			value = 0;

	while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
	{
		value = Min(value * 10 + (*reader->at - '0'), 1000);
		reader->at++;
	}
	return reader->at == start ? -1 : value;
}

/* read_value reads a value of the field: a number, or a name. */
static int
read_value(Reader *reader)
{
	const Field *field = reader->field;
	const char *start = reader->at;
	int			value = read_number(reader);

	if (value < 0 && field->names != NULL && reader->end - start >= 3)
	{
		for (int i = 0; field->names[i * 3] != '\0'; i++)
			if (pg_strncasecmp(start, field->names + i * 3, 3) == 0)
			{
				reader->at += 3;
				value = field->min + i;
			}
	}
	if (value < 0)
		fail(reader, start,
			 start == reader->end || *start == ',' ? "a value is missing" :
			 *start == '?' ? "\"?\" is not known" : "what stands there is no value",
			 start < reader->end && *start == '?' ? "Write \"*\" for any value." : NULL);
	if (value < field->min || value > field->max)
		fail(reader, start,
			 psprintf("%.*s is not between %d and %d", (int) (reader->at - start), start, field->min, field->max), NULL);
	return value;
}

/* read_step reads what may follow a range: "/n". 1 where nothing does. */
static int
read_step(Reader *reader)
{
	const char *start;
	int			step;

	if (!take(reader, '/'))
		return 1;
	start = reader->at;
	step = read_number(reader);
	if (step < 0)
		fail(reader, start, "the step must be a number", NULL);
	if (step == 0)
		fail(reader, start, "a step of 0 is not possible", NULL);
	return step;
}

static uint64
bits(int first, int last, int step)
{
	uint64		result = 0;

	for (int i = first; i <= last; i += step)
		result |= UINT64CONST(1) << i;
	return result;
}

/* read_hashed reads what follows an H: a range in parentheses, a step. */
static uint64
read_hashed(Reader *reader)
{
	int			first = reader->field->min;
	int			last = reader->field->hashed_max;
	uint64		hash = rom_cron_hash(reader->name, reader->field - fields);
	int			step;

	if (take(reader, '('))
	{
		const char *start = reader->at;

		first = read_value(reader);
		if (!take(reader, '-'))
			fail(reader, reader->at, "\"-\" is missing", "The range of H is written H(0-29).");
		last = read_value(reader);
		if (last < first)
			fail(reader, start, "the range ends before it begins", NULL);
		if (!take(reader, ')'))
			fail(reader, reader->at, "\")\" is missing", NULL);
	}
	if (!next_is(reader, '/'))
		return UINT64CONST(1) << (first + hash % (last - first + 1));
	step = read_step(reader);
	return bits(first + hash % Min(step, last - first + 1), last, step);
}

/* read_day reads a term that only the day of the month has; false when it is none. */
static bool
read_day(Reader *reader, RomCronRule *rule)
{
	const char *start = reader->at;

	if (take(reader, 'L') || take(reader, 'l'))
	{
		if (take(reader, 'W') || take(reader, 'w'))
			rule->last_workday = true;
		else if (take(reader, '-'))
		{
			const char *number = reader->at;
			int			n = read_number(reader);

			if (n < 1 || n > 30)
				fail(reader, number, "L- must be followed by a number between 1 and 30", NULL);
			rule->from_last |= 1 << n;
		}
		else
			rule->from_last |= 1;
		return true;
	}
	if (read_number(reader) >= 0 && (next_is(reader, 'W') || next_is(reader, 'w')))
	{
		reader->at = start;
		rule->nearest |= (uint32) 1 << read_value(reader);
		reader->at++;
		return true;
	}
	reader->at = start;
	return false;
}

/* read_weekday reads what may follow a value of the day of the week: false when it is neither L nor #n. */
static bool
read_weekday(Reader *reader, RomCronRule *rule, int value)
{
	const char *start;
	bool		from_end;
	int			n;

	if (take(reader, 'L') || take(reader, 'l'))
	{
		rule->nth_last[0] |= 1 << (value % 7);
		return true;
	}
	if (!take(reader, '#'))
		return false;
	start = reader->at;
	from_end = take(reader, '-');
	n = read_number(reader);
	if (n < 1 || n > ROM_CRON_NTH)
		fail(reader, start, "# must be followed by a number between 1 and 5, or -1 and -5", NULL);
	if (from_end)
		rule->nth_last[n - 1] |= 1 << (value % 7);
	else
		rule->nth[n - 1] |= 1 << (value % 7);
	return true;
}

/* read_term reads a term: its values, or what it adds to rule. */
static uint64
read_term(Reader *reader, RomCronRule *rule)
{
	const Field *field = reader->field;
	const char *start = reader->at;
	int			first;
	int			last;

	if (take(reader, '*'))
		return bits(field->min, field->max, read_step(reader));
	if (take(reader, 'H') || take(reader, 'h'))
		return read_hashed(reader);
	if (field == &fields[DAY] && read_day(reader, rule))
		return 0;
	first = read_value(reader);
	if (field == &fields[WEEKDAY] && read_weekday(reader, rule, first))
		return 0;
	if (take(reader, '-'))
	{
		last = read_value(reader);
		if (last < first)
			fail(reader, start, "the range ends before it begins",
				 field == &fields[WEEKDAY] && last == 0 ? "At the end of a range Sunday is 7." :
				 "Write it as two ranges, separated by a comma.");
	}
	else
		last = next_is(reader, '/') ? field->max : first;
	return bits(first, last, read_step(reader));
}

/* read_field reads a field, from reader->at to reader->end. */
static uint64
read_field(Reader *reader, RomCronRule *rule)
{
	uint64		result = 0;

	for (;;)
	{
		result |= read_term(reader, rule);
		if (reader->at == reader->end)
			return result;
		if (!take(reader, ','))
			fail(reader, reader->at,
				 psprintf("\"%.*s\" is not expected", pg_mblen(reader->at), reader->at), NULL);
	}
}

/* check_comes raises the error for a rule whose date never comes. */
static void
check_comes(Reader *reader, const RomCronRule *rule, const char *const *starts)
{
	if (rom_calendar_comes(rule))
		return;
	reader->field = &fields[*starts[DAY] == '*' ? WEEKDAY : DAY];
	fail(reader, starts[reader->field - fields], "the date never comes", NULL);
}

/* read_fields reads five or six fields between reader->at and reader->end. */
static void
read_fields(Reader *reader, RomCronRule *rule)
{
	const char *starts[FIELDS + 1];
	const char *ends[FIELDS + 1];
	const char *rule_end = reader->end;
	uint64		values[FIELDS];
	int			n = 0;
	int			shift;

	for (const char *p = reader->at; n <= FIELDS;)
	{
		p += strspn(p, " \t\r\n");
		if (p >= rule_end)
			break;
		starts[n] = p;
		p = Min(p + strcspn(p, " \t\r\n"), rule_end);
		ends[n++] = p;
	}
	if (n < FIELDS - 1)
		fail(reader, reader->at, psprintf("there are %d fields, not five or six", n), NULL);
	if (n > FIELDS)
		fail(reader, starts[FIELDS], "there are more than six fields", NULL);
	shift = FIELDS - n;
	memmove(&starts[shift], starts, n * sizeof(starts[0]));
	memmove(&ends[shift], ends, n * sizeof(ends[0]));

	values[SECOND] = 1;
	for (int i = shift; i < FIELDS; i++)
	{
		reader->field = &fields[i];
		reader->at = starts[i];
		reader->end = ends[i];
		if (i == DAY && take(reader, '&'))
			rule->both = true;
		values[i] = read_field(reader, rule);
	}
	rule->seconds = values[SECOND];
	rule->minutes = values[MINUTE];
	rule->hours = (uint32) values[HOUR];
	rule->days = (uint32) values[DAY];
	rule->months = (uint32) values[MONTH];
	rule->weekdays = (uint8) ((values[WEEKDAY] | (values[WEEKDAY] >> 7)) & 0x7F);
	if (*starts[DAY] == '*' || *starts[WEEKDAY] == '*')
		rule->both = true;
	rule->elapsed = *starts[MINUTE] == '*' || *starts[HOUR] == '*';
	check_comes(reader, rule, starts);
	reader->field = NULL;
	reader->end = rule_end;
}

/* read_period reads what follows "@every". */
static void
read_period(Reader *reader, RomCronRule *rule)
{
	int			style = IntervalStyle;
	Interval	interval;
	char	   *text;
	volatile bool ok = false;

	reader->at += strspn(reader->at, " \t");
	text = pnstrdup(reader->at, Max(reader->end - reader->at, 0));

	/*
	 * a session that reads it later may have another setting, and a sign has
	 * to mean the same
	 */
	IntervalStyle = INTSTYLE_POSTGRES;
	PG_TRY();
	{
		ok = rom_arg_input_interval(text, &interval);
	}
	PG_FINALLY();
	{
		IntervalStyle = style;
	}
	PG_END_TRY();
	if (!ok)
		fail(reader, reader->at, "@every must be followed by a duration, such as 90s, 15min or 1 day", NULL);
	if (interval.month != 0)
		fail(reader, reader->at, "the duration of @every cannot have months", "Write @monthly, or fields.");
	if (!rom_arg_interval_usec(&interval, &rule->period) || rule->period < USECS_PER_SEC)
		fail(reader, reader->at, "the duration of @every must be a second at least", NULL);
}

/* read_rule reads a rule between reader->at and reader->end. */
static void
read_rule(Reader *reader, RomCronRule *rule)
{
	static const char every[] = "@every";
	int			len = reader->end - reader->at;

	memset(rule, 0, sizeof(*rule));
	if (len == 0)
		fail(reader, reader->at, "there is nothing", NULL);
	if (*reader->at != '@')
	{
		read_fields(reader, rule);
		return;
	}
	if (len > (int) strlen(every) && pg_strncasecmp(reader->at, every, strlen(every)) == 0 &&
		strchr(" \t", reader->at[strlen(every)]) != NULL)
	{
		reader->at += strlen(every);
		read_period(reader, rule);
		return;
	}
	for (int i = 0; i < lengthof(macros); i++)
	{
		Reader		inner = *reader;

		if (len != (int) strlen(macros[i].name) || pg_strncasecmp(reader->at, macros[i].name, len) != 0)
			continue;
		inner.text = inner.at = macros[i].fields;
		inner.end = inner.at + strlen(inner.at);
		read_fields(&inner, rule);
		return;
	}
	fail(reader, reader->at, psprintf("\"%.*s\" is not known", len, reader->at),
		 "There are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, and @every with a duration.");
}

void
rom_cron_parse(const char *expression, const char *name, RomCron *cron)
{
	Reader		reader = {expression, expression, NULL, name, NULL};
	const char *p = expression;

	if (strlen(expression) > ROM_CRON_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("the cron expression is longer than %d bytes", ROM_CRON_TEXT)));
	cron->count = 0;
	for (;;)
	{
		const char *end = p + strcspn(p, "|");

		if (cron->count == ROM_CRON_RULES)
			fail(&reader, p, psprintf("more than %d expressions are joined", ROM_CRON_RULES), NULL);
		reader.at = p + Min(strspn(p, " \t\r\n"), (size_t) (end - p));
		reader.end = end;
		while (reader.end > reader.at && strchr(" \t\r\n", reader.end[-1]) != NULL)
			reader.end--;
		read_rule(&reader, &cron->rules[cron->count++]);
		if (*end == '\0')
			break;
		p = end + 1;
	}
}
