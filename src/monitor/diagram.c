/*-------------------------------------------------------------------------
 *
 * diagram.c
 *		diagram: an instance as a graph, in Mermaid's or Graphviz' language.
 *
 * The steps that are not spawned are a line from the start to the end. A spawned
 * one branches off where it was spawned, and joins the line again before the
 * step that follows its end. A compensation hangs at what it undoes, and a
 * child's own graph stands in a box. The tasks of a canvas follow each other as its signature has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "monitor/picture.h"

PG_FUNCTION_INFO_V1(romancy_diagram);

#define LABEL_MAX 60

/* How both languages say things. */
typedef struct Language
{
	void		(*escape) (StringInfo out, const char *s);
	void		(*node) (StringInfo out, int indent, int id, const char *label,
						 RomPictureKind kind, const char *class);
	void		(*edge) (StringInfo out, int indent, int from, int to, bool dotted);
	void		(*box) (StringInfo out, int indent, int id, const char *label);
	const char *line_break;
	const char *begin;
	const char *box_end;
	const char *end;
} Language;

typedef struct Drawing
{
	StringInfoData out;
	const Language *language;
	int			nodes;
} Drawing;

/* ---------------------------------------------------------------- Mermaid */

/* has_meaning says whether Mermaid takes what stands at s for something, after it has read the entity codes. */
static bool
has_meaning(const char *s)
{
	return strncmp(s, "$$", 2) == 0 ||	/* a formula */
		strncmp(s, "\\n", 2) == 0 ||	/* a line break */
		strncmp(s, ":fa-", 4) == 0; /* an icon */
}

static bool
ends_word(const char *s)
{
	return *s == ' ' || *s == '\0';
}

/*
 * mermaid_escape writes text for a quoted label: entity codes for what has a meaning there.
 *
 * Some things have one even within quotes: "%%{" begins a directive, a line with "style", a colon
 * and an entity code loses its last semicolon, and one with "direction LR" is nothing but that. A
 * text that has a meaning even as an entity code is split by a space of no width. The colons of a
 * step's number and of a time are harmless and stay, as the text is read by people, too.
 */
static void
mermaid_escape(StringInfo out, const char *s)
{
	const char *begin = s;

	for (; *s; s++)
	{
		if (strchr("\"#<>&;`\\[]{}|$%", *s) != NULL ||
			(*s == ':' && !ends_word(s + 1 + strspn(s + 1, "0123456789.:+-"))) ||
			(*s == ' ' && s - begin >= 9 && pg_strncasecmp(s - 9, "direction", 9) == 0))
			appendStringInfo(out, "#%d;", (unsigned char) *s);
		else
			appendStringInfoChar(out, *s);
		if (has_meaning(s))
			appendStringInfoString(out, "#8203;");
	}
}

static void
mermaid_node(StringInfo out, int indent, int id, const char *label,
			 RomPictureKind kind, const char *class)
{
	static const char *const shapes[][2] = {
		[ROM_PICTURE_ACTIVITY] = {"[\"", "\"]"},
		[ROM_PICTURE_TIMER] = {"([\"", "\"])"},
		[ROM_PICTURE_MESSAGE] = {">\"", "\"]"},
		[ROM_PICTURE_CHILD] = {"[[\"", "\"]]"},
		[ROM_PICTURE_COMPENSATION] = {"[/\"", "\"/]"},
		[ROM_PICTURE_OTHER] = {"(\"", "\")"},
	};

	appendStringInfo(out, "%*sn%d%s%s%s:::%s\n", indent, "", id, shapes[kind][0], label,
					 shapes[kind][1], class);
}

static void
mermaid_edge(StringInfo out, int indent, int from, int to, bool dotted)
{
	appendStringInfo(out, "%*sn%d %s n%d\n", indent, "", from, dotted ? "-.->" : "-->", to);
}

static void
mermaid_box(StringInfo out, int indent, int id, const char *label)
{
	appendStringInfo(out, "%*ssubgraph s%d[\"%s\"]\n", indent, "", id, label);
}

static const Language mermaid = {
	.escape = mermaid_escape,
	.node = mermaid_node,
	.edge = mermaid_edge,
	.box = mermaid_box,
	.line_break = "<br/>",
	.begin = "flowchart TD\n",
	.box_end = "end",
	.end = "  classDef done fill:#e6f4ea,stroke:#1e8e3e\n"
	"  classDef failed fill:#fce8e6,stroke:#d93025\n"
	"  classDef open fill:#fef7e0,stroke:#f9ab00\n"
	"  classDef ends fill:#e8eaed,stroke:#5f6368\n",
};

/* ---------------------------------------------------------------- DOT */

/* dot_escape writes text for a quoted label, in which Graphviz knows HTML's entities. */
static void
dot_escape(StringInfo out, const char *s)
{
	for (; *s; s++)
	{
		if (*s == '"' || *s == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *s);
		if (*s == '&')
			appendStringInfoString(out, "amp;");
	}
}

static void
dot_node(StringInfo out, int indent, int id, const char *label, RomPictureKind kind,
		 const char *class)
{
	static const char *const shapes[] = {
		[ROM_PICTURE_ACTIVITY] = "box",
		[ROM_PICTURE_TIMER] = "ellipse",
		[ROM_PICTURE_MESSAGE] = "cds, margin=\"0.3,0.15\"", /* its arrow takes of
															 * the text's place */
		[ROM_PICTURE_CHILD] = "component",
		[ROM_PICTURE_COMPENSATION] = "parallelogram",
		[ROM_PICTURE_OTHER] = "box",
	};
	const char *color = strcmp(class, "done") == 0 ? "#e6f4ea" :
		strcmp(class, "failed") == 0 ? "#fce8e6" :
		strcmp(class, "open") == 0 ? "#fef7e0" : "#e8eaed";

	appendStringInfo(out, "%*sn%d [label=\"%s\", shape=%s, fillcolor=\"%s\"];\n", indent, "", id,
					 label, shapes[kind], color);
}

static void
dot_edge(StringInfo out, int indent, int from, int to, bool dotted)
{
	appendStringInfo(out, "%*sn%d -> n%d%s;\n", indent, "", from, to,
					 dotted ? " [style=dashed]" : "");
}

static void
dot_box(StringInfo out, int indent, int id, const char *label)
{
	appendStringInfo(out, "%*ssubgraph cluster_%d {\n%*slabel=\"%s\";\n", indent, "", id,
					 indent + 2, "", label);
}

static const Language dot = {
	.escape = dot_escape,
	.node = dot_node,
	.edge = dot_edge,
	.box = dot_box,
	.line_break = "\\n",
	.begin = "digraph romancy {\n  node [style=filled, fontname=\"sans-serif\"];\n",
	.box_end = "}",
	.end = "}\n",
};

/* ---------------------------------------------------------------- drawing */

static const char *
class_of(RomPictureState state)
{
	return state == ROM_PICTURE_DONE ? "done" : state == ROM_PICTURE_FAILED ? "failed" : "open";
}

/* add_text adds a line of a label. */
static void
add_text(Drawing *d, StringInfo label, const char *s)
{
	if (label->len > 0)
		appendStringInfoString(label, d->language->line_break);
	d->language->escape(label, rom_picture_line(s, LABEL_MAX));
}

/* step_label is what stands in a step's node. */
static char *
step_label(Drawing *d, const RomPictureStep *step)
{
	StringInfoData label;
	char	   *span = rom_picture_span(Max(0, step->to - step->from));

	initStringInfo(&label);
	add_text(d, &label, rom_picture_label(step));
	if (step->attempts > 1)
		add_text(d, &label, psprintf("%s, %d attempts", span, step->attempts));
	else
		add_text(d, &label, span);
	if (step->note != NULL)
		add_text(d, &label, step->note);
	return label.data;
}

/* undone finds the node that a compensation hangs at: the latest step of its id. */
static int
undone(const RomPicture *picture, const RomPictureStep *compensation)
{
	for (int i = list_length(picture->steps) - 1; i >= 0; i--)
	{
		RomPictureStep *step = list_nth(picture->steps, i);

		if (step != compensation && step->kind != ROM_PICTURE_COMPENSATION &&
			step->node > 0 && strcmp(step->id, compensation->id) == 0)
			return step->node;
	}
	return 0;
}

/* The nodes after which the next step of an instance's graph is drawn. */
typedef struct Front
{
	int			line;			/* the last node of the line */
	List	   *sources;		/* nodes that it hangs at */
	List	   *ended;			/* spawned ones that have ended since */
} Front;

/* join makes what has ended the sources, and the line where it went on beside that. */
static void
join(Front *front)
{
	int			first = front->line;
	ListCell   *lc;

	if (front->ended == NIL)
		return;
	foreach(lc, front->ended)
		first = Min(first, lfirst_int(lc));
	front->sources = front->ended;
	if (first < front->line)
		front->sources = lappend_int(front->sources, front->line);
	front->ended = NIL;
}

/* edges draws those that lead to a node. */
static void
edges(Drawing *d, const Front *front, int indent, int node)
{
	ListCell   *lc;

	foreach(lc, front->sources)
	{
		d->language->edge(&d->out, indent, lfirst_int(lc), node, false);
	}
}

/* draw_step adds a step's node, and the edge to a compensation from what it undoes. */
static void
draw_step(Drawing *d, RomPicture *picture, RomPictureStep *step, int indent)
{
	const Language *l = d->language;

	step->node = ++d->nodes;
	l->node(&d->out, indent, step->node, step_label(d, step), step->kind, class_of(step->state));
	if (step->kind == ROM_PICTURE_COMPENSATION && undone(picture, step) > 0)
		l->edge(&d->out, indent, undone(picture, step), step->node, true);
}

/* draw_marks adds the steps of an instance, and lists those with a graph of their own in boxes. */
static void
draw_marks(Drawing *d, RomPicture *picture, Front *front, int indent, List **boxes)
{
	ListCell   *lc;

	foreach(lc, picture->marks)
	{
		RomPictureMark *mark = lfirst(lc);
		RomPictureStep *step = mark->step;

		if (mark->begin)
		{
			draw_step(d, picture, step, indent);
			join(front);
			edges(d, front, indent, step->node);
			if (step->child != NULL)
				*boxes = lappend(*boxes, step);
			if (!step->parallel)
			{
				front->line = step->node;
				front->sources = list_make1_int(step->node);
			}
		}
		else
			front->ended = lappend_int(front->ended, step->node);
	}
}

/* draw_canvas adds the tasks of a canvas, each after those that it follows. */
static void
draw_canvas(Drawing *d, RomPicture *picture, Front *front, int indent)
{
	List	   *last = NIL;
	ListCell   *lc;

	foreach(lc, picture->steps)
	{
		RomPictureStep *step = lfirst(lc);
		ListCell   *before;

		draw_step(d, picture, step, indent);
		if (step->after == NIL && step->kind != ROM_PICTURE_COMPENSATION)
			edges(d, front, indent, step->node);
		foreach(before, step->after)
		{
			d->language->edge(&d->out, indent, ((RomPictureStep *) lfirst(before))->node, step->node, false);
		}
	}
	foreach(lc, picture->last)
	{
		last = lappend_int(last, ((RomPictureStep *) lfirst(lc))->node);
	}
	if (last != NIL)
		front->sources = last;
}

/* draw adds an instance's graph. */
static void
draw(Drawing *d, RomPicture *picture, int indent)
{
	const Language *l = d->language;
	StringInfoData label;
	List	   *boxes = NIL;	/* steps with children of their own graph */
	Front		front = {0};
	int			end;
	ListCell   *lc;

	initStringInfo(&label);
	add_text(d, &label, picture->workflow);
	add_text(d, &label, picture->id_text);
	front.line = ++d->nodes;
	front.sources = list_make1_int(front.line);
	l->node(&d->out, indent, front.line, label.data, ROM_PICTURE_TIMER, "ends");

	if (picture->canvas)
		draw_canvas(d, picture, &front, indent);
	else
		draw_marks(d, picture, &front, indent, &boxes);

	end = ++d->nodes;
	resetStringInfo(&label);
	add_text(d, &label, rom_instance_status_name(picture->status));
	if (picture->error != NULL)
		add_text(d, &label, picture->error);
	if (picture->cut)
		add_text(d, &label, "more steps are not shown");
	l->node(&d->out, indent, end, label.data, ROM_PICTURE_TIMER,
			picture->status == ROM_STATUS_FAILED || picture->status == ROM_STATUS_CANCELLED ?
			"failed" : ROM_STATUS_IS_FINAL(picture->status) ? "done" : "open");
	join(&front);
	edges(d, &front, indent, end);

	foreach(lc, boxes)
	{
		RomPictureStep *step = lfirst(lc);
		int			first = d->nodes + 1;

		resetStringInfo(&label);
		add_text(d, &label, step->id);
		l->box(&d->out, indent, step->node, label.data);
		draw(d, step->child, indent + 2);
		appendStringInfo(&d->out, "%*s%s\n", indent, "", l->box_end);
		l->edge(&d->out, indent, step->node, first, true);
	}
}

/*
 * romancy.diagram(instance_id uuid, format text) -> text
 *
 * A graph of the instance's steps and its children's. format: mermaid (default) or
 * dot. Errors: RM002, RM012 another format.
 */
Datum
romancy_diagram(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	char	   *format = rom_arg_text_opt(fcinfo, 1);
	Drawing		d = {{0}};

	if (format == NULL || strcmp(format, "mermaid") == 0)
		d.language = &mermaid;
	else if (strcmp(format, "dot") == 0)
		d.language = &dot;
	else
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("unknown format \"%s\"", format),
				 errhint("Formats are \"mermaid\" and \"dot\".")));
	initStringInfo(&d.out);
	appendStringInfoString(&d.out, d.language->begin);
	draw(&d, rom_picture_read(id), 2);
	appendStringInfoString(&d.out, d.language->end);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(d.out.data, d.out.len));
}
