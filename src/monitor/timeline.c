/*-------------------------------------------------------------------------
 *
 * timeline.c
 *		timeline: a text Gantt chart of an instance.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "monitor/timeline.h"

PG_FUNCTION_INFO_V1(romancy_timeline);

#define LABEL_WIDTH	28
#define BAR_WIDTH	48

/* The span that all bars are drawn in. */
typedef struct Scale
{
	TimestampTz from;
	TimestampTz to;
} Scale;

/* column is where an instant is drawn. */
static int
column(const Scale *scale, TimestampTz at)
{
	double		share = scale->to > scale->from ?
		(double) (at - scale->from) / (double) (scale->to - scale->from) : 0;

	return Max(0, Min(BAR_WIDTH - 1, (int) (share * BAR_WIDTH)));
}

/* width is how many columns a terminal needs for s, which has no control characters. */
static int
width(const char *s)
{
	int			n = 0;

	for (; *s; s += pg_mblen(s))
		n += Max(0, pg_dsplen(s));
	return n;
}

/* put_label adds a label, cut or filled up to its width. */
static void
put_label(StringInfo out, const char *label, int indent)
{
	int			max = LABEL_WIDTH - indent;
	char	   *line = rom_picture_line(label, max);

	for (int n = max - 1; n > 3 && width(line) > max; n--)
		line = rom_picture_line(label, n);
	appendStringInfo(out, "%*s%s%*s", indent, "", line, Max(0, max - width(line)), "");
}

/* put_bar draws a step from its beginning to its end. */
static void
put_bar(StringInfo out, const Scale *scale, const RomPictureStep *step)
{
	int			first = column(scale, step->from);
	int			last = Max(first, column(scale, step->to));
	char		fill = step->kind == ROM_PICTURE_TIMER || step->kind == ROM_PICTURE_MESSAGE ? '.' :
		step->kind == ROM_PICTURE_COMPENSATION ? '~' :
		step->kind == ROM_PICTURE_CHILD ? '=' : '#';

	appendStringInfoString(out, " |");
	for (int i = 0; i < BAR_WIDTH; i++)
	{
		char		c = ' ';

		if (i >= first && i <= last)
			c = fill;
		if (i == last && step->state == ROM_PICTURE_FAILED)
			c = 'x';
		if (i == last && step->state == ROM_PICTURE_OPEN)
			c = '>';
		appendStringInfoChar(out, c);
	}
	appendStringInfo(out, "| %s", rom_picture_span(Max(0, step->to - step->from)));
	if (step->attempts > 1)
		appendStringInfo(out, ", %d attempts", step->attempts);
	if (step->state == ROM_PICTURE_FAILED)
		appendStringInfo(out, ", failed%s%s", step->note ? ": " : "",
						 step->note ? rom_picture_line(step->note, 60) : "");
	else if (step->state == ROM_PICTURE_OPEN)
		appendStringInfo(out, ", %s", step->note ? step->note : "waiting");
	appendStringInfoChar(out, '\n');
}

/* put_steps draws the steps of an instance, and below a child those of the child. */
static void
put_steps(StringInfo out, const Scale *scale, const RomPicture *picture, int indent)
{
	ListCell   *lc;

	foreach(lc, picture->steps)
	{
		RomPictureStep *step = lfirst(lc);

		put_label(out, rom_picture_label(step), indent);
		put_bar(out, scale, step);
		if (step->child != NULL)
			put_steps(out, scale, step->child, Min(indent + 2, LABEL_WIDTH - 8));
	}
	if (picture->cut)
		appendStringInfo(out, "%*s... and more\n", indent, "");
}

char *
rom_timeline_text(RomPicture *picture)
{
	Scale		scale = {picture->from, picture->to};
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "%s %s: %s", rom_picture_line(picture->workflow, 200), picture->id_text,
					 rom_instance_status_name(picture->status));
	if (picture->error != NULL)
		appendStringInfo(&out, ", %s", rom_picture_line(picture->error, 80));
	appendStringInfo(&out, "\nfrom %s, %s\n", timestamptz_to_str(picture->from),
					 rom_picture_span(picture->to - picture->from));
	put_steps(&out, &scale, picture, 0);
	return out.data;
}

/*
 * romancy.timeline(instance_id uuid) -> text
 *
 * A chart for a fixed-width font: a line for each step and its children's, with
 * "#" activities, "=" children, "." timers and messages, "~" compensations, "x" where
 * one failed and ">" where one is still open. Errors: RM002.
 */
Datum
romancy_timeline(PG_FUNCTION_ARGS)
{
	RomPicture *picture = rom_picture_read(rom_arg_uuid(fcinfo, 0, "instance_id"));

	PG_RETURN_TEXT_P(cstring_to_text(rom_timeline_text(picture)));
}
