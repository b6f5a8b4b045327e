/*-------------------------------------------------------------------------
 *
 * report.c
 *		The parts of html_report(): tables and charts, escaped.
 *
 * The report itself is a function in SQL, over the views, so that it shows a role what these show it. All
 * text comes here to be escaped: nothing that a user has named can be markup, whatever
 * the browser takes the page's encoding for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/spi.h"
#include "monitor/timeline.h"

PG_FUNCTION_INFO_V1(romancy_report_escape);
PG_FUNCTION_INFO_V1(romancy_report_table);
PG_FUNCTION_INFO_V1(romancy_report_chart);
PG_FUNCTION_INFO_V1(romancy_report_live);

#define CELL_MAX 500

/* Instances that are looked at: of each kind of trouble, and of those that go on first. */
#define LIVE_MAX 100

/* put_character writes a character that is not ASCII, as a reference; one that changes what the reader sees of others, as a replacement. */
static void
put_character(StringInfo out, pg_wchar c)
{
	bool		deceives = (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
		(c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF ||
		(c >= 0xD800 && c <= 0xDFFF) || (c & 0xFFFE) == 0xFFFE || c > 0x10FFFF;

	appendStringInfo(out, "&#%u;", deceives ? 0xFFFD : (unsigned int) c);
}

/*
 * put_escaped writes text as it may stand in an element or in a quoted attribute. In UTF8, and in SQL_ASCII where it looks like that, all
 * is ASCII; in other encodings the characters stay as they are.
 */
static void
put_escaped(StringInfo out, const char *s)
{
	int			encoding = GetDatabaseEncoding();
	bool		known = encoding == PG_UTF8 || encoding == PG_SQL_ASCII;
	const char *end = s + strlen(s);

	while (s < end)
	{
		unsigned char c = (unsigned char) *s;
		int			n = 1;

		if (c >= 0x80 && known)
		{
			n = pg_utf_mblen((const unsigned char *) s);
			if (n > end - s || n > 4 || !pg_utf8_islegal((const unsigned char *) s, n))
			{
				n = 1;
				put_character(out, 0xFFFD);
			}
			else
				put_character(out, utf8_to_unicode((const unsigned char *) s));
		}
		else if (c >= 0x80)
		{
			n = Min(pg_mblen(s), (int) (end - s));
			appendBinaryStringInfo(out, s, n);
		}
		else if (c == 0x7F || (c < ' ' && c != '\n' && c != '\t'))
			put_character(out, 0xFFFD);
		else if (strchr("<>&\"'`=", c) != NULL && c != '\0')
			appendStringInfo(out, "&#%d;", c);
		else
			appendStringInfoChar(out, c);
		s += n;
	}
}

/*
 * romancy.t_report_escape(text) -> text
 *
 * Text for an HTML page.
 */
Datum
romancy_report_escape(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	initStringInfo(&out);
	put_escaped(&out, rom_picture_line(text_to_cstring(PG_GETARG_TEXT_PP(0)), CELL_MAX));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* texts_of reads an array of texts; *n: of all of its elements. */
static void
texts_of(ArrayType *array, Datum **values, bool **nulls, int *n)
{
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, values, nulls, n);
}

/*
 * romancy.t_report_table(title text, columns text[], cells text[]) -> text
 *
 * A heading and a table of as many columns; cells in the order of rows, NULL where there are none. A null cell is empty.
 */
Datum
romancy_report_table(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	Datum	   *values = NULL;
	bool	   *nulls = NULL;
	int			columns = 0;
	int			n = 0;

	initStringInfo(&out);
	appendStringInfoString(&out, "<h2>");
	put_escaped(&out, rom_arg_text(fcinfo, 0, "title"));
	appendStringInfoString(&out, "</h2>\n");
	if (!PG_ARGISNULL(1))
		texts_of(PG_GETARG_ARRAYTYPE_P(1), &values, &nulls, &columns);
	if (columns == 0 || PG_ARGISNULL(2))
	{
		appendStringInfoString(&out, "<p>None.</p>\n");
		PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
	}
	appendStringInfoString(&out, "<table>\n<tr>");
	for (int i = 0; i < columns; i++)
	{
		appendStringInfoString(&out, "<th>");
		put_escaped(&out, nulls[i] ? "" : TextDatumGetCString(values[i]));
		appendStringInfoString(&out, "</th>");
	}
	appendStringInfoString(&out, "</tr>\n");
	texts_of(PG_GETARG_ARRAYTYPE_P(2), &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i % columns == 0)
			appendStringInfoString(&out, "<tr>");
		appendStringInfoString(&out, "<td>");
		if (!nulls[i])
			put_escaped(&out, rom_picture_line(TextDatumGetCString(values[i]), CELL_MAX));
		appendStringInfoString(&out, "</td>");
		if (i % columns == columns - 1)
			appendStringInfoString(&out, "</tr>\n");
	}
	appendStringInfoString(&out, "</table>\n");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/*
 * romancy.t_report_chart(instance_id uuid) -> text
 *
 * The instance's timeline, to be unfolded; NULL where there is none any more, or the current user may not see it.
 */
Datum
romancy_report_chart(PG_FUNCTION_ARGS)
{
	RomPicture *picture = rom_picture_find(rom_arg_uuid(fcinfo, 0, "instance_id"));
	StringInfoData out;

	if (picture == NULL)
		PG_RETURN_NULL();
	initStringInfo(&out);
	appendStringInfoString(&out, "<details><summary>");
	put_escaped(&out, psprintf("%s %s: %s", rom_picture_line(picture->workflow, CELL_MAX), picture->id_text,
							   rom_instance_status_name(picture->status)));
	appendStringInfoString(&out, "</summary>\n<pre>");
	put_escaped(&out, rom_timeline_text(picture));
	appendStringInfoString(&out, "</pre></details>\n");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/*
 * romancy.t_report_live() -> uuid[]
 *
 * The live instances, of those that the current user may see, that a report shows: those that are tried again after errors of the engine's,
 * that are paused or compensate, and that are to go on first.
 */
Datum
romancy_report_live(PG_FUNCTION_ARGS)
{
	static RomStatement select = {
		"SELECT pg_catalog.array_agg(instance_id) FROM ("
		"(SELECT i.instance_id FROM romancy.t_instance i WHERE i.error ? 'tries' AND i.wake_at IS NOT NULL AND romancy.t_may_access(i.owner, $1, false) LIMIT $2)"
		" UNION (SELECT i.instance_id FROM romancy.t_instance i WHERE romancy.t_status_name(i.status) = 'paused' AND romancy.t_may_access(i.owner, $1, false) ORDER BY i.created_at DESC LIMIT $2)"
		" UNION (SELECT i.instance_id FROM romancy.t_instance i WHERE romancy.t_status_name(i.status) = 'compensating' AND romancy.t_may_access(i.owner, $1, false) ORDER BY i.created_at DESC LIMIT $2)"
		" UNION (SELECT i.instance_id FROM romancy.t_instance i WHERE i.wake_at IS NOT NULL AND romancy.t_may_access(i.owner, $1, false) ORDER BY i.wake_at, i.instance_id LIMIT $2)"
		") live",
		2, {OIDOID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2] = {ObjectIdGetDatum(GetUserId()), Int32GetDatum(LIVE_MAX)};
	RomEngine	engine;
	RomRowSet	set;
	Datum		ids;
	bool		isnull;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, values, NULL, 0);
	ids = rom_value_copy(&set, 0, 1, &isnull, cxt);
	rom_engine_end(&engine);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(ids);
}
