/*-------------------------------------------------------------------------
 *
 * zone.c
 *		Time zones of schedules.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"

#include "base/errors.h"
#include "schedules/zone.h"

/* No zone's clock differs by more from UTC, nor was set back by more at once. */
#define OFFSET_MAX (2 * SECS_PER_DAY)

/* Names without a "/" that are abbreviations elsewhere in SQL, with another meaning or without summer time. */
static const char *const abbreviations[] = {
	"CET", "EET", "EST", "HST", "MET", "MST", "WET"
};

/* Names with digits that are zones; any other one is read as a POSIX rule. */
static bool
has_known_digits(const char *name)
{
	static const char *const names[] = {
		"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "Etc/GMT0"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	if (pg_strncasecmp(name, "Etc/", 4) == 0)
		name += 4;
	if (pg_strncasecmp(name, "GMT", 3) != 0 || strchr("+-", name[3]) == NULL)
		return false;
	return strlen(name + 4) <= 2 && atoi(name + 4) <= (name[3] == '-' ? 14 : 12);
}

/* zone_or_null finds a zone; NULL where the name is none. *abbreviation: it is one of those. */
static pg_tz *
zone_or_null(const char *name, bool *abbreviation)
{
	pg_tz	   *zone;

	*abbreviation = strlen(name) <= 5 && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(name);
	for (int i = 0; i < lengthof(abbreviations); i++)
		if (pg_strcasecmp(name, abbreviations[i]) == 0)
		{
			*abbreviation = true;
			return NULL;
		}
	if (name[0] == '\0' || strpbrk(name, "<>,") != NULL ||
		(strpbrk(name, "0123456789") != NULL && !has_known_digits(name)))
		return NULL;
	zone = pg_tzset(name);
	return zone != NULL && pg_tz_acceptable(zone) ? zone : NULL;
}

pg_tz *
rom_zone_find(const char *name)
{
	bool		abbreviation;
	pg_tz	   *zone = zone_or_null(name, &abbreviation);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("timezone \"%.*s\" is not the name of a time zone", pg_mbcliplen(name, strlen(name), TZ_STRLEN_MAX), name),
				 abbreviation ? errdetail("An abbreviation does not tell when its clock changes.") : 0,
				 errhint("Use a name of view pg_timezone_names, such as Europe/Berlin.")));
	return zone;
}

pg_tz *
rom_zone_find_opt(const char *name)
{
	bool		abbreviation;

	return zone_or_null(name, &abbreviation);
}

int64
rom_zone_segment(pg_tz *zone, int64 from, int64 *offset)
{
	pg_time_t	time = from;
	pg_time_t	boundary;
	long		before;
	long		after;
	int			before_dst;
	int			after_dst;
	int			result = pg_next_dst_boundary(&time, &before, &before_dst, &boundary,
											  &after, &after_dst, zone);

	*offset = before;
	if (result == 1)
		return boundary;
	if (result < 0)
		elog(ERROR, "could not look up time zone \"%s\"", pg_get_timezone_name(zone));
	return PG_INT64_MAX;
}

int64
rom_zone_offset(pg_tz *zone, int64 second)
{
	int64		offset;

	(void) rom_zone_segment(zone, second, &offset);
	return offset;
}

int64
rom_zone_first(pg_tz *zone, int64 local)
{
	int64		from = local - OFFSET_MAX;

	for (;;)
	{
		int64		offset;
		int64		end = rom_zone_segment(zone, from, &offset);

		if (local - offset < end)
			return Max(local - offset, from);
		from = end;
	}
}
