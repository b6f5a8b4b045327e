/*-------------------------------------------------------------------------
 *
 * format.c
 *		Events as HTTP requests carry them: the formats of CloudEvents 1.0.
 *
 * The text of a JSON document is made by the server's own functions: it is what the event's data are, whatever a setting says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/jb.h"
#include "messages/message.h"
#include "outbox/format.h"

/* time_text is an instant as RFC 3339 has it, in UTC. */
static char *
time_text(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fsec);
}

/* type_of is the content type of an event's data; NULL: it has none. */
static const char *
type_of(const RomTaken *event)
{
	if (event->datacontenttype != NULL)
		return event->datacontenttype;
	return event->data != NULL ? "application/json" : event->binary != NULL ? "application/octet-stream" : NULL;
}

/* json_text is a JSON document as text; RM011 when that is far longer than the document. */
static char *
json_text(Jsonb *document)
{
	if (rom_jb_swells(document))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("the event's numbers are too long"),
				 errdetail("As text they take a multiple of its data's %d bytes.", (int) VARSIZE(document))));
	return JsonbToCString(NULL, &document->root, VARSIZE(document));
}

/* utf8 converts text of the database. */
static char *
utf8(const char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

/* member appends a member of an object that is a string; NULL: nothing. */
static void
member(StringInfo to, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(to, ",\"%s\":", name);
	escape_json(to, value);
}

/* document appends an event as a JSON document. */
static void
document(StringInfo to, const RomTaken *event)
{
	appendStringInfoString(to, "{\"specversion\":\"1.0\"");
	member(to, "id", event->id);
	member(to, "source", event->source);
	member(to, "type", event->type);
	member(to, "time", time_text(event->time));
	member(to, "subject", event->subject);
	member(to, "datacontenttype", type_of(event));
	if (event->extensions != NULL && JB_ROOT_COUNT(event->extensions) > 0)
	{
		char	   *object = json_text(event->extensions);

		/* its members: the text without its braces */
		appendStringInfoChar(to, ',');
		appendBinaryStringInfo(to, object + 1, strlen(object) - 2);
	}
	if (event->data != NULL)
		appendStringInfo(to, ",\"data\":%s", json_text(event->data));
	if (event->binary != NULL)
		member(to, "data_base64", rom_message_base64_encode(event->binary));
	appendStringInfoChar(to, '}');
}

char *
rom_format_header(const char *value)
{
	StringInfoData to;

	initStringInfo(&to);
	for (const char *p = utf8(value); *p; p++)
	{
		if (*p > 0x20 && *p < 0x7f && *p != '"' && *p != '%')
			appendStringInfoChar(&to, *p);
		else
			appendStringInfo(&to, "%%%02X", (unsigned char) *p);
	}
	return to.data;
}

/* add_header adds an attribute as a header; NULL: nothing. */
static void
add_header(RomFormatted *to, const char *name, const char *value)
{
	if (value != NULL)
		to->headers[to->nheaders++] = psprintf("ce-%s: %s", name, rom_format_header(value));
}

/* add_extensions adds extension attributes as headers. */
static void
add_extensions(RomFormatted *to, Jsonb *extensions)
{
	JsonbIterator *it = JsonbIteratorInit(&extensions->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = "";

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvString)
			add_header(to, name, pnstrdup(v.val.string.val, v.val.string.len));
		else if (token == WJB_VALUE)
			add_header(to, name, json_text(JsonbValueToJsonb(&v)));
	}
}

/* data_text is JSON data as the body of a request: of a string that is not said to be JSON, its characters. */
static char *
data_text(const RomTaken *event)
{
	JsonbValue	v;

	if (strstr(type_of(event), "json") == NULL && JB_ROOT_IS_SCALAR(event->data) &&
		JsonbExtractScalar(&event->data->root, &v) && v.type == jbvString)
		return pnstrdup(v.val.string.val, v.val.string.len);
	return json_text(event->data);
}

/* binary makes a request of one event, in the format of that name. */
static void
binary(const RomTaken *event, RomFormatted *to)
{
	to->headers = palloc_array(char *, 6 + (event->extensions ? JB_ROOT_COUNT(event->extensions) : 0));
	add_header(to, "specversion", "1.0");
	add_header(to, "id", event->id);
	add_header(to, "source", event->source);
	add_header(to, "type", event->type);
	add_header(to, "time", time_text(event->time));
	add_header(to, "subject", event->subject);
	if (event->extensions != NULL)
		add_extensions(to, event->extensions);
	to->content_type = type_of(event) ? pstrdup(type_of(event)) : NULL;
	if (event->binary != NULL)
	{
		to->length = VARSIZE_ANY_EXHDR(event->binary);
		to->body = palloc(to->length + 1);
		memcpy(to->body, VARDATA_ANY(event->binary), to->length);
		to->body[to->length] = '\0';
		return;
	}
	to->body = event->data != NULL ? utf8(data_text(event)) : "";
	to->length = strlen(to->body);
}

void
rom_format_events(RomFormat format, const RomTaken *events, int n, RomFormatted *to)
{
	StringInfoData body;

	memset(to, 0, sizeof(RomFormatted));
	if (format == ROM_FORMAT_BINARY)
	{
		binary(&events[0], to);
		return;
	}
	initStringInfo(&body);
	for (int i = 0; i < n; i++)
	{
		if (format == ROM_FORMAT_BATCH)
			appendStringInfoChar(&body, i == 0 ? '[' : ',');
		document(&body, &events[i]);
	}
	if (format == ROM_FORMAT_BATCH)
		appendStringInfoChar(&body, ']');
	to->body = utf8(body.data);
	to->length = strlen(to->body);
	to->content_type = format == ROM_FORMAT_BATCH ? "application/cloudevents-batch+json; charset=utf-8" :
		"application/cloudevents+json; charset=utf-8";
}
