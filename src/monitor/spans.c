/*-------------------------------------------------------------------------
 *
 * spans.c
 *		spans: an instance as a trace, in OTLP's JSON encoding.
 *
 * An instance is a trace, with the instance's id as its own; its steps are the spans below that of the
 * instance, and where a step had several attempts, these are the spans below the step. HTTP requests
 * name the same ids in traceparent. OTLP has no open spans: what has not ended is left out, and the ids are the
 * same when the instance is exported again. Inputs and results are not shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/arg.h"
#include "base/jb.h"
#include "base/trace.h"
#include "base/version.h"
#include "monitor/picture.h"

PG_FUNCTION_INFO_V1(romancy_spans);

#define MESSAGE_MAX 2000

/* SpanKind and StatusCode of OTLP. */
#define KIND_INTERNAL 1
#define CODE_OK 1
#define CODE_ERROR 2

/* The spans of a trace under construction. */
typedef struct Trace
{
	RomPicture *picture;
	char	   *id;				/* 32 hexadecimal digits */
	uint64		root;
	HTAB	   *used;			/* uint64: the ids that were given */
	List	  **spans;			/* Jsonb, of all traces */
} Trace;

/* A list of attributes. */
typedef struct Attributes
{
	Jsonb	   *list[10];
	int			n;
} Attributes;

static void
add_attribute(Attributes *to, const char *key, const char *type, Jsonb *value)
{
	RomJb		inner;
	RomJb		jb;

	Assert(to->n < lengthof(to->list));
	rom_jb_begin(&inner);
	rom_jb_json(&inner, type, value);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "key", key);
	rom_jb_json(&jb, "value", rom_jb_end(&inner));
	to->list[to->n++] = rom_jb_end(&jb);
}

static void
add_text(Attributes *to, const char *key, const char *value)
{
	if (value != NULL)
		add_attribute(to, key, "stringValue", rom_jb_string_document(value));
}

/* add_int: OTLP writes 64-bit integers as strings. */
static void
add_int(Attributes *to, const char *key, int64 value)
{
	add_attribute(to, key, "intValue", rom_jb_string_document(psprintf(INT64_FORMAT, value)));
}

static char *
span_text(uint64 span)
{
	return psprintf("%016llx", (unsigned long long) span);
}

/* trace_text is the id of an instance's trace: its uuid without the hyphens. */
static char *
trace_text(const char *uuid)
{
	StringInfoData to;

	initStringInfo(&to);
	for (const char *p = uuid; *p; p++)
		if (*p != '-')
			appendStringInfoChar(&to, *p);
	return to.data;
}

/* nanoseconds since 1970, as OTLP writes them. */
static char *
nanoseconds(TimestampTz at)
{
	int64		usec = at + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return psprintf(INT64_FORMAT "000", Max(usec, 0));
}

/* own_span is the id of the span that is an attempt of a step: the one that HTTP requests name, but for a step that stands in history again. */
static uint64
own_span(Trace *t, const char *step, int attempt)
{
	uint64		span = rom_trace_span(step, attempt);
	bool		found;

	hash_search(t->used, &span, HASH_ENTER, &found);
	while (found)
	{
		span = span == PG_UINT64_MAX ? 1 : span + 1;
		hash_search(t->used, &span, HASH_ENTER, &found);
	}
	return span;
}

/* link_to adds a link to a span of another instance. */
static Jsonb *
link_to(const char *uuid, uint64 span, const char *relation)
{
	Attributes	attributes = {{NULL}, 0};
	RomJb		jb;

	add_text(&attributes, "romancy.relation", relation);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "traceId", trace_text(uuid));
	rom_jb_text(&jb, "spanId", span_text(span));
	rom_jb_json(&jb, "attributes", rom_jb_array(attributes.list, attributes.n));
	return rom_jb_end(&jb);
}

/* add_span adds a span. parent 0: none. error: NULL where it succeeded. links: of Jsonb. */
static void
add_span(Trace *t, uint64 span, uint64 parent, const char *name, TimestampTz from, TimestampTz to,
		 const Attributes *attributes, const char *error, bool failed, List *links)
{
	Jsonb	  **linked = palloc_array(Jsonb *, list_length(links) + 1);
	RomJb		status;
	RomJb		jb;
	ListCell   *lc;
	int			n = 0;

	foreach(lc, links)
	{
		linked[n++] = lfirst(lc);
	}
	rom_jb_begin(&status);
	rom_jb_int(&status, "code", failed ? CODE_ERROR : CODE_OK);
	if (failed && error != NULL)
		rom_jb_text(&status, "message", rom_picture_line(error, MESSAGE_MAX));
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "traceId", t->id);
	rom_jb_text(&jb, "spanId", span_text(span));
	if (parent != 0)
		rom_jb_text(&jb, "parentSpanId", span_text(parent));
	rom_jb_text(&jb, "name", name);
	rom_jb_int(&jb, "kind", KIND_INTERNAL);
	rom_jb_text(&jb, "startTimeUnixNano", nanoseconds(from));
	rom_jb_text(&jb, "endTimeUnixNano", nanoseconds(Max(from, to)));
	rom_jb_json(&jb, "attributes", rom_jb_array((Jsonb **) attributes->list, attributes->n));
	if (n > 0)
		rom_jb_json(&jb, "links", rom_jb_array(linked, n));
	rom_jb_json(&jb, "status", rom_jb_end(&status));
	*t->spans = lappend(*t->spans, rom_jb_end(&jb));
}

/* add_attempts adds the attempts of a step that had several: those whose errors were kept, and the last. */
static void
add_attempts(Trace *t, const RomPictureStep *step, const char *name, uint64 parent)
{
	int			n = step->errors != NULL && JB_ROOT_IS_ARRAY(step->errors) ? JB_ROOT_COUNT(step->errors) : 0;
	TimestampTz from = step->from;
	int			last = 0;

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *error = JsonbValueToJsonb(getIthJsonbValueFromContainer(&step->errors->root, i));
		TimestampTz at = rom_jb_get_time(error, "at");
		Attributes	attributes = {{NULL}, 0};

		last = (int) rom_jb_get_int(error, "attempt", last + 1);
		if (TIMESTAMP_NOT_FINITE(at))
			continue;
		add_text(&attributes, "romancy.step", step->id);
		add_int(&attributes, "romancy.attempt", last);
		add_text(&attributes, "error.type", rom_jb_get_text(error, "sqlstate"));
		add_span(t, own_span(t, step->id, last), parent, name, Min(from, at), at, &attributes,
				 rom_jb_get_text(error, "message"), true, NIL);
		from = Max(from, at);
	}
	if (last < step->attempts)
	{
		Attributes	attributes = {{NULL}, 0};

		add_text(&attributes, "romancy.step", step->id);
		add_int(&attributes, "romancy.attempt", step->attempts);
		add_span(t, own_span(t, step->id, step->attempts), parent, name, from, step->to, &attributes,
				 step->note, step->state == ROM_PICTURE_FAILED, NIL);
	}
}

/* root_span is the id of the span that an instance itself is. */
static uint64
root_span(const char *uuid)
{
	return rom_trace_span(uuid, 0);
}

/* add_step adds a step that has ended. */
static void
add_step(Trace *t, const RomPictureStep *step)
{
	static const char *const kinds[] = {
		[ROM_PICTURE_ACTIVITY] = "activity",
		[ROM_PICTURE_TIMER] = "timer",
		[ROM_PICTURE_MESSAGE] = "message",
		[ROM_PICTURE_CHILD] = "workflow",
		[ROM_PICTURE_COMPENSATION] = "compensation",
		[ROM_PICTURE_OTHER] = "call",
	};
	char	   *name = rom_picture_line(rom_picture_label(step), MESSAGE_MAX);
	Attributes	attributes = {{NULL}, 0};
	List	   *links = NIL;
	uint64		span;

	if (step->kind == ROM_PICTURE_COMPENSATION)
		span = own_span(t, psprintf("undo %s", step->id), 1);
	else
		span = own_span(t, step->id, step->attempts > 1 ? 0 : 1);
	add_text(&attributes, "romancy.step", step->id);
	add_text(&attributes, "romancy.kind", kinds[step->kind]);
	add_text(&attributes, "romancy.name", step->name);
	add_int(&attributes, "romancy.attempts", step->attempts);
	if (step->child != NULL)
	{
		add_text(&attributes, "romancy.child_id", step->child->id_text);
		links = lappend(links, link_to(step->child->id_text, root_span(step->child->id_text), "child"));
	}
	add_span(t, span, t->root, name, step->from, step->to, &attributes, step->note,
			 step->state == ROM_PICTURE_FAILED, links);
	if (step->attempts > 1)
		add_attempts(t, step, name, span);
}

/* add_trace adds the spans of an instance, and those of its children. */
static void
add_trace(RomPicture *picture, List **spans)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64),.hcxt = CurrentMemoryContext};
	Attributes	attributes = {{NULL}, 0};
	Trace		t = {0};
	List	   *links = NIL;
	bool		found;
	ListCell   *lc;

	check_stack_depth();
	t.picture = picture;
	t.id = trace_text(picture->id_text);
	t.root = root_span(picture->id_text);
	t.used = hash_create("romancy spans", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	t.spans = spans;
	hash_search(t.used, &t.root, HASH_ENTER, &found);
	if (ROM_STATUS_IS_FINAL(picture->status))
	{
		add_text(&attributes, "romancy.instance_id", picture->id_text);
		add_text(&attributes, "romancy.workflow", picture->workflow);
		add_text(&attributes, "romancy.owner", picture->owner);
		add_text(&attributes, "romancy.status", rom_instance_status_name(picture->status));
		if (picture->cut)
			add_text(&attributes, "romancy.cut", "there are more steps");
		if (picture->parent != NULL)
			links = lappend(links, link_to(picture->parent, picture->parent_step ? rom_trace_span(picture->parent_step, 1) :
										   root_span(picture->parent), "parent"));
		if (picture->continued_from != NULL)
			links = lappend(links, link_to(picture->continued_from, root_span(picture->continued_from), "continued_from"));
		add_span(&t, t.root, 0, rom_picture_line(picture->workflow, MESSAGE_MAX), picture->from, picture->to, &attributes, picture->error,
				 picture->status == ROM_STATUS_FAILED || picture->status == ROM_STATUS_CANCELLED, links);
	}
	foreach(lc, picture->steps)
	{
		RomPictureStep *step = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (step->state != ROM_PICTURE_OPEN)
			add_step(&t, step);
		if (step->child != NULL)
			add_trace(step->child, spans);
	}
	hash_destroy(t.used);
}

/* one_of makes an object of one member, an array of one element. */
static Jsonb *
one_of(const char *key, Jsonb *element)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_json(&jb, key, rom_jb_array(&element, 1));
	return rom_jb_end(&jb);
}

/*
 * romancy.spans(instance_id uuid) -> jsonb
 *
 * The steps that have ended, of the instance and its children, as an ExportTraceServiceRequest of OTLP, to be sent to a collector
 * (POST /v1/traces) as it is. Errors: RM002.
 */
Datum
romancy_spans(PG_FUNCTION_ARGS)
{
	RomPicture *picture = rom_picture_read(rom_arg_uuid(fcinfo, 0, "instance_id"));
	Attributes	resource = {{NULL}, 0};
	List	   *spans = NIL;
	Jsonb	  **list;
	RomJb		scope;
	RomJb		inner;
	RomJb		jb;
	ListCell   *lc;
	int			n = 0;

	add_trace(picture, &spans);
	list = palloc_array(Jsonb *, list_length(spans) + 1);
	foreach(lc, spans)
	{
		list[n++] = lfirst(lc);
	}
	rom_jb_begin(&scope);
	rom_jb_text(&scope, "name", "romancy");
	rom_jb_text(&scope, "version", ROM_VERSION);
	rom_jb_begin(&inner);
	rom_jb_json(&inner, "scope", rom_jb_end(&scope));
	rom_jb_json(&inner, "spans", rom_jb_array(list, n));

	add_text(&resource, "service.name", "romancy");
	add_text(&resource, "service.version", ROM_VERSION);
	add_text(&resource, "db.system.name", "postgresql");
	add_text(&resource, "db.namespace", get_database_name(MyDatabaseId));
	rom_jb_begin(&scope);
	rom_jb_json(&scope, "attributes", rom_jb_array(resource.list, resource.n));
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "resource", rom_jb_end(&scope));
	{
		Jsonb	   *scoped = rom_jb_end(&inner);

		rom_jb_json(&jb, "scopeSpans", rom_jb_array(&scoped, 1));
	}
	PG_RETURN_JSONB_P(one_of("resourceSpans", rom_jb_end(&jb)));
}
