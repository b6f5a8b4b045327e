/*-------------------------------------------------------------------------
 *
 * cloudevent.c
 *		CloudEvents as they come by HTTP, in structured or binary mode.
 *
 * A fault of an event is an answer, not an error: a sender would repeat an
 * error for ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/arg.h"
#include "base/guc.h"
#include "base/jb.h"
#include "instances/event.h"
#include "messages/event.h"
#include "messages/message.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/turn.h"

/* A request as it came. */
typedef struct Request
{
	char	   *body;			/* or NULL */
	Jsonb	   *headers;		/* or NULL */
	bytea	   *binary;			/* or NULL */
} Request;

/* The parts that are read. */
typedef struct Reading
{
	RomCloudEvent event;
	char	   *error;			/* what is wrong, or NULL */
	RomJb		extensions;
	int			nextensions;
} Reading;

/* fail notes what is wrong first. */
static bool
fail(Reading *r, char *error)
{
	if (r->error == NULL)
		r->error = error;
	return false;
}

/* is_name: may an extension be named so? */
static bool
is_name(const char *name)
{
	return name[0] != '\0' &&
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(name);
}

/* media_type is a content type in lower case without its parameters. */
static char *
media_type(const char *value)
{
	char	   *type = pstrdup(value);
	char	   *end = strchr(type, ';');

	if (end != NULL)
		*end = '\0';
	for (char *c = type; *c; c++)
		*c = tolower((unsigned char) *c);
	for (int len = strlen(type); len > 0 && isspace((unsigned char) type[len - 1]); len--)
		type[len - 1] = '\0';
	while (isspace((unsigned char) *type))
		type++;
	return type;
}

/* is_json: is data of this type a JSON document? Without a type it is. */
static bool
is_json(const char *datacontenttype)
{
	char	   *type;
	int			len;

	if (datacontenttype == NULL)
		return true;
	type = media_type(datacontenttype);
	len = strlen(type);
	return strcmp(type, "application/json") == 0 || strcmp(type, "text/json") == 0 ||
		(len > 5 && strcmp(type + len - 5, "+json") == 0);
}

static bool
is_text(const char *datacontenttype)
{
	return strncmp(media_type(datacontenttype), "text/", 5) == 0;
}

/* unquote takes a header value that is a quoted string (RFC 7230, 3.2.6) out of its quotes; any other is as it was. */
static char *
unquote(const char *value)
{
	Size		len = strlen(value);
	char	   *result = palloc(len + 1);
	char	   *to = result;

	if (len < 2 || value[0] != '"' || value[len - 1] != '"')
		return strcpy(result, value);
	for (const char *from = value + 1; from < value + len - 1; from++)
	{
		if (from[0] == '\\' && from + 1 < value + len - 1)
			from++;
		*to++ = *from;
	}
	*to = '\0';
	return result;
}

/*
 * from_utf8 is bytes that were sent in UTF-8 as text in the database's encoding; NULL if they are not UTF-8 (in SQL_ASCII, any will
 * do), have a zero byte, or hold a character that the encoding lacks.
 */
static char *
from_utf8(const char *bytes, int len)
{
	int			encoding = GetDatabaseEncoding();
	int			size = len * MAX_CONVERSION_GROWTH + 1;
	Oid			proc;
	char	   *result;

	if (memchr(bytes, '\0', len) != NULL ||
		(encoding != PG_SQL_ASCII && !pg_verify_mbstr(PG_UTF8, bytes, len, true)))
		return NULL;
	if (len == 0 || encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(bytes, len);
	proc = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(proc))
		return NULL;
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding, (unsigned char *) bytes, len,
									  (unsigned char *) result, size, true) != len)
		return NULL;
	return result;
}

/* is_escape: is there a byte written as % and two digits at p? */
static bool
is_escape(const char *p)
{
	return p[0] == '%' && isxdigit((unsigned char) p[1]) && isxdigit((unsigned char) p[2]);
}

/* percent_decode undoes the encoding of a header value; NULL if what was encoded is no text of the database. */
static char *
percent_decode(const char *value)
{
	StringInfoData result;
	char	   *bytes = palloc(strlen(value) + 1);

	initStringInfo(&result);
	while (*value)
	{
		char	   *to = bytes;
		char	   *decoded;

		/* a character has several in a row */
		for (; is_escape(value); value += 3)
		{
			char		hex[3] = {value[1], value[2], '\0'};

			*to++ = (char) strtol(hex, NULL, 16);
		}
		decoded = from_utf8(bytes, to - bytes);
		if (decoded == NULL)
			return NULL;
		appendStringInfoString(&result, decoded);
		if (*value)
			appendStringInfoChar(&result, *value++);
	}
	return result.data;
}

/* digits: are there n digits at p? */
static bool
digits(const char *p, int n)
{
	for (int i = 0; i < n; i++)
		if (!isdigit((unsigned char) p[i]))
			return false;
	return true;
}

/* is_rfc3339: is it written as a timestamp of RFC 3339? Whether there is such a day and hour is another question. */
static bool
is_rfc3339(const char *p)
{
	if (!digits(p, 4) || p[4] != '-' || !digits(p + 5, 2) || p[7] != '-' ||
		!digits(p + 8, 2) || (p[10] != 'T' && p[10] != 't') ||
		!digits(p + 11, 2) || p[13] != ':' || !digits(p + 14, 2) || p[16] != ':' ||
		!digits(p + 17, 2))
		return false;
	p += 19;
	if (p[0] == '.' && digits(p + 1, 1))
		p += 1 + strspn(p + 1, "0123456789");
	if ((p[0] == 'Z' || p[0] == 'z') && p[1] == '\0')
		return true;
	return (p[0] == '+' || p[0] == '-') && digits(p + 1, 2) && p[3] == ':' &&
		digits(p + 4, 2) && p[6] == '\0';
}

/* set_attribute takes one attribute; value is NULL for a JSON null, which counts as absent. */
static bool
set_attribute(Reading *r, const char *name, char *value, Jsonb *document)
{
	RomCloudEvent *e = &r->event;

	if (value != NULL && !pg_verifymbstr(value, strlen(value), true))
		return fail(r, psprintf("attribute \"%s\" is not valid text", name));
	if (strcmp(name, "id") == 0)
		e->id = value;
	else if (strcmp(name, "source") == 0)
		e->source = value;
	else if (strcmp(name, "type") == 0)
		e->type = value;
	else if (strcmp(name, "specversion") == 0)
		e->specversion = value;
	else if (strcmp(name, "subject") == 0)
		e->subject = value;
	else if (strcmp(name, "datacontenttype") == 0)
		e->datacontenttype = value;
	else if (strcmp(name, "time") == 0)
	{
		if (value == NULL)
			return true;
		if (!is_rfc3339(value) || !rom_arg_input_timestamptz(value, &e->time))
			return fail(r, "attribute \"time\" is not a timestamp");
		e->has_time = true;
	}
	else
	{
		if (!is_name(name))
			return fail(r, psprintf("\"%s\" is not an attribute's name", name));
		if (value == NULL && document == NULL)
			return true;
		if (strcmp(name, "romancyinstanceid") == 0)
		{
			if (value == NULL || !rom_arg_input_uuid(value, &e->target))
				return fail(r, "attribute \"romancyinstanceid\" is not a uuid");
			e->has_target = true;
		}
		if (r->nextensions++ == 0)
			rom_jb_begin(&r->extensions);
		rom_jb_json(&r->extensions, name,
					document ? document : rom_jb_string_document(value));
	}
	return true;
}

/* set_binary takes data that is no JSON. */
static bool
set_binary(Reading *r, bytea *value)
{
	if (value == NULL)
		return fail(r, "data_base64 is not base64");
	if (VARSIZE_ANY_EXHDR(value) > rom_guc_max_payload_size)
		return fail(r, psprintf("the data has more than %d bytes", rom_guc_max_payload_size));
	r->event.binary = value;
	return true;
}

/* not_json fails for a text that jsonb does not take, though it may be JSON (RFC 8259 allows U+0000 in a string). */
static bool
not_json(Reading *r, const char *text, const char *what)
{
	if (strstr(text, "\\u0000") != NULL)
		return fail(r, psprintf("%s has \\u0000, which jsonb cannot hold", what));
	return fail(r, psprintf("%s is not valid JSON", what));
}

/* set_json takes data given as the text of a JSON document. */
static bool
set_json(Reading *r, const char *text, const char *what)
{
	if (strlen(text) > (Size) rom_guc_max_payload_size)
		return fail(r, psprintf("%s has more than %d bytes", what, rom_guc_max_payload_size));
	if (!rom_arg_input_jsonb(text, &r->event.data))
		return not_json(r, text, what);
	return true;
}

/* read_structured reads an event that is a JSON document as a whole. */
static bool
read_structured(Reading *r, const char *body)
{
	Jsonb	   *document;
	Jsonb	   *data = NULL;
	char	   *base64 = NULL;
	JsonbIterator *it;
	JsonbValue	v;

	if (body == NULL)
		return fail(r, "the body is empty");
	if (strlen(body) > (Size) rom_guc_max_payload_size + 65536)
		return fail(r, psprintf("the body has more than %d bytes", rom_guc_max_payload_size));
	if (!rom_arg_input_jsonb(body, &document))
		return not_json(r, body, "the body");
	if (!JB_ROOT_IS_OBJECT(document))
		return fail(r, "the body is not a JSON object");
	it = JsonbIteratorInit(&document->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		char	   *value = NULL;

		(void) JsonbIteratorNext(&it, &v, true);
		if (strcmp(name, "data") == 0)
		{
			data = JsonbValueToJsonb(&v);
			continue;
		}
		if (v.type == jbvString)
			value = pnstrdup(v.val.string.val, v.val.string.len);
		else if (v.type == jbvBinary || ((v.type == jbvNumeric || v.type == jbvBool) &&
										 strstr(" id source type specversion subject datacontenttype time data_base64 ",
												psprintf(" %s ", name)) != NULL))
			return fail(r, psprintf("attribute \"%s\" is not a string", name));
		if (strcmp(name, "data_base64") == 0)
			base64 = value;
		else if (!set_attribute(r, name, value,
								v.type == jbvNull ? NULL : JsonbValueToJsonb(&v)))
			return false;
	}
	if (data != NULL && base64 != NULL)
		return fail(r, "the event has both data and data_base64");
	if (base64 != NULL)
	{
		bytea	   *binary = rom_message_base64_decode(base64);

		if (binary != NULL && is_json(r->event.datacontenttype) &&
			r->event.datacontenttype != NULL)
		{
			char	   *decoded = from_utf8(VARDATA_ANY(binary), VARSIZE_ANY_EXHDR(binary));

			if (decoded != NULL)
				return set_json(r, decoded, "the data");
			return fail(r, "the data is not valid JSON");
		}
		return set_binary(r, binary);
	}
	if (data != NULL && VARSIZE(data) > rom_guc_max_payload_size)
		return fail(r, psprintf("the data has more than %d bytes", rom_guc_max_payload_size));
	r->event.data = data;
	return true;
}

/* read_binary reads an event whose attributes are headers, and whose data is the body. */
static bool
read_binary(Reading *r, const Request *request)
{
	JsonbIterator *it = JsonbIteratorInit(&request->headers->root);
	JsonbValue	v;

	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		char	   *value;

		(void) JsonbIteratorNext(&it, &v, true);
		for (char *c = name; *c; c++)
			*c = tolower((unsigned char) *c);
		if (v.type != jbvString)
			continue;
		value = pnstrdup(v.val.string.val, v.val.string.len);
		if (strcmp(name, "content-type") == 0)
			r->event.datacontenttype = value;
		else if (strncmp(name, "ce-", 3) == 0)
		{
			value = percent_decode(unquote(value));
			if (value == NULL)
				return fail(r, psprintf("attribute \"%s\" is not valid text", name + 3));
			if (!set_attribute(r, name + 3, value, NULL))
				return false;
		}
	}
	if (is_json(r->event.datacontenttype))
	{
		char	   *decoded = request->body;

		if (request->binary != NULL)
		{
			decoded = from_utf8(VARDATA_ANY(request->binary), VARSIZE_ANY_EXHDR(request->binary));
			if (decoded == NULL)
				return fail(r, "the body is not valid JSON");
		}
		if (decoded == NULL || decoded[0] == '\0')
			return true;
		return set_json(r, decoded, "the body");
	}
	if (request->binary != NULL)
		return set_binary(r, request->binary);
	if (request->body == NULL || request->body[0] == '\0')
		return true;
	if (strlen(request->body) > (Size) rom_guc_max_payload_size)
		return fail(r, psprintf("the body has more than %d bytes", rom_guc_max_payload_size));
	if (is_text(r->event.datacontenttype))
		r->event.data = rom_jb_string_document(request->body);
	else
		r->event.binary = DatumGetByteaP(CStringGetTextDatum(request->body));
	return true;
}

/* check_required: are the attributes there that must be? */
static bool
check_required(Reading *r)
{
	struct
	{
		const char *name;
		const char *value;
	}			required[] = {
		{"specversion", r->event.specversion},
		{"id", r->event.id},
		{"source", r->event.source},
		{"type", r->event.type}
	};

	for (int i = 0; i < lengthof(required); i++)
		if (required[i].value == NULL || required[i].value[0] == '\0')
			return fail(r, psprintf("required attribute \"%s\" is missing", required[i].name));
	if (strcmp(r->event.specversion, "1.0") != 0)
		return fail(r, psprintf("specversion \"%s\" is not known", r->event.specversion));
	if (strlen(r->event.type) > ROM_SHORT_NAME_MAX)
		return fail(r, psprintf("attribute \"type\" has more than %d bytes", ROM_SHORT_NAME_MAX));
	if (strlen(r->event.source) > ROM_EVENT_ID_MAX || strlen(r->event.id) > ROM_EVENT_ID_MAX)
		return fail(r, psprintf("attribute \"source\" or \"id\" has more than %d bytes", ROM_EVENT_ID_MAX));
	return true;
}

/* header finds a header by its name in lower case, or NULL. */
static char *
header(Jsonb *headers, const char *wanted)
{
	JsonbIterator *it;
	JsonbValue	v;

	if (headers == NULL || !JB_ROOT_IS_OBJECT(headers))
		return NULL;
	it = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);

		(void) JsonbIteratorNext(&it, &v, true);
		if (pg_strcasecmp(name, wanted) == 0 && v.type == jbvString)
			return pnstrdup(v.val.string.val, v.val.string.len);
	}
	return NULL;
}

/* is_binary_mode: do headers hold the attributes? */
static bool
is_binary_mode(Jsonb *headers)
{
	char	   *type = header(headers, "content-type");

	if (type != NULL && strncmp(media_type(type), "application/cloudevents", 23) == 0)
		return false;
	return header(headers, "ce-specversion") != NULL ||
		header(headers, "ce-id") != NULL || header(headers, "ce-type") != NULL ||
		header(headers, "ce-source") != NULL;
}

/* handle reads an event and takes it in; returns the answer. */
static Jsonb *
handle(const Request *request)
{
	Reading		r;
	char	   *type = header(request->headers, "content-type");
	bool		ok;
	RomJb		jb;

	memset(&r, 0, sizeof(r));
	if (type != NULL && strncmp(media_type(type), "application/cloudevents-batch", 29) == 0)
		ok = fail(&r, "batches of events are not supported");
	else if (request->headers != NULL && !JB_ROOT_IS_OBJECT(request->headers))
		ok = fail(&r, "the headers are not a JSON object");
	else if (is_binary_mode(request->headers))
		ok = read_binary(&r, request);
	else
	{
		char	   *body = request->body;

		if (body == NULL && request->binary != NULL)
			body = from_utf8(VARDATA_ANY(request->binary), VARSIZE_ANY_EXHDR(request->binary));
		if (body == NULL && request->binary != NULL)
			ok = fail(&r, "the body is not valid text");
		else
			ok = read_structured(&r, body);
	}
	ok = ok && check_required(&r);
	rom_jb_begin(&jb);
	if (ok)
	{
		if (r.nextensions > 0)
			r.event.extensions = rom_jb_end(&r.extensions);
		(void) rom_event_raise(&r.event);
		rom_jb_int(&jb, "status", 202);
	}
	else
	{
		rom_jb_int(&jb, "status", 400);
		rom_jb_text(&jb, "error", r.error);
		rom_jb_bool(&jb, "retryable", false);
	}
	return rom_jb_end(&jb);
}

static RomOutcome
handle_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_STATEMENT_RECORDED;
	event->result = rom_context_copy_jsonb(turn, handle(call->options));
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_handle = {
	.name = "handle_cloudevent",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_STATEMENT_RECORDED},
	.execute = handle_execute,
};

/* step_handle records it as a step of the running handler. */
static Jsonb *
step_handle(const Request *request)
{
	RomTurn    *turn = rom_context_require("handle_cloudevent()");
	Request    *copy = MemoryContextAlloc(turn->cxt, sizeof(Request));
	RomCall		call = {0};
	RomJb		jb;

	copy->body = rom_context_copy_text(turn, request->body);
	copy->headers = rom_context_copy_jsonb(turn, request->headers);
	copy->binary = (bytea *) rom_context_copy_jsonb(turn, (Jsonb *) request->binary);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "body", request->body);
	rom_jb_json(&jb, "headers", request->headers);
	if (request->binary != NULL)
		rom_jb_text(&jb, "body_binary", rom_message_base64_encode(request->binary));
	call.primitive = &primitive_handle;
	call.step_base = "handle_cloudevent";
	call.input = rom_jb_end(&jb);
	call.options = copy;
	return rom_call_step(&call)->result;
}

PG_FUNCTION_INFO_V1(romancy_handle_cloudevent);

/*
 * romancy.handle_cloudevent(body text, headers jsonb, body_binary bytea) -> jsonb
 *
 * A CloudEvent as it was received: {"status": 202}, or {"status": 400, "error": ..., "retryable": false}
 * saying what is wrong with it. headers: an object, names in any case. body_binary: instead of
 * body where that is not text.
 */
Datum
romancy_handle_cloudevent(PG_FUNCTION_ARGS)
{
	Request		request = {0};

	request.body = rom_arg_text_opt(fcinfo, 0);
	request.headers = rom_arg_jsonb_opt(fcinfo, 1);
	request.binary = PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_P(2);
	PG_RETURN_JSONB_P(rom_context_in_handler() ? step_handle(&request) :
					  handle(&request));
}
