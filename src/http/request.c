/*-------------------------------------------------------------------------
 *
 * request.c
 *		A request, made of a task: of the definition of its activity and its input, or of a call of romancy.http().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/trace.h"
#include "base/version.h"
#include "defs/activity_definition.h"
#include "http/guc.h"
#include "http/header.h"
#include "http/reach.h"
#include "http/request.h"
#include "messages/message.h"
#include "tasks/fetch.h"
#include "tasks/notify.h"
#include "tasks/token.h"

/* ---------------------------------------------------------------- parts of a request */

/* to_utf8 is text as it is sent. */
static char *
to_utf8(const char *string)
{
	return pg_server_to_any(string, strlen(string), PG_UTF8);
}

/* form appends an object's members as forms send them. */
static bool
form(StringInfo to, Jsonb *object, const char **why)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	*why = "the body of a form is not an object of strings, numbers and booleans";
	if (!JB_ROOT_IS_OBJECT(object))
		return false;
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *key;
		Jsonb	   *value;
		char	   *string;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(v.val.string.val, v.val.string.len);
		value = rom_jb_get_json(object, key);
		if (value == NULL || rom_jb_is_null(value))
			continue;
		string = JB_ROOT_IS_SCALAR(value) ? JsonbToCString(NULL, &value->root, 0) : NULL;
		if (string != NULL && string[0] == '"')
			string = rom_jb_get_text(object, key);
		if (string == NULL)
			return false;
		if (to->len > 0)
			appendStringInfoChar(to, '&');
		rom_url_encode(to, key);
		appendStringInfoChar(to, '=');
		rom_url_encode(to, string);
	}
	return true;
}

/* string_of is a document that is a string; NULL for any other. */
static char *
string_of(Jsonb *value)
{
	JsonbValue	scalar;

	if (!JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &scalar) || scalar.type != jbvString)
		return NULL;
	return pnstrdup(scalar.val.string.val, scalar.val.string.len);
}

bool
rom_request_body(Jsonb *value, RomHttpEncoding encoding, RomTransportRequest *send, const char **type, const char **why)
{
	StringInfoData to;
	char	   *string;
	bytea	   *bytes;

	send->has_body = 1;
	if (rom_jb_swells(value))
	{
		*why = "the body's numbers are too long as text";
		return false;
	}
	switch (encoding)
	{
		case ROM_HTTP_JSON:
			*type = "application/json";
			string = JsonbToCString(NULL, &value->root, VARSIZE(value));
			break;
		case ROM_HTTP_FORM:
			*type = "application/x-www-form-urlencoded";
			initStringInfo(&to);
			if (!form(&to, value, why))
				return false;
			string = to.data;
			break;
		default:
			*type = encoding == ROM_HTTP_TEXT ? "text/plain; charset=utf-8" : "application/octet-stream";
			string = string_of(value);
			if (string == NULL)
			{
				*why = "the body is not a string";
				return false;
			}
			break;
	}
	if (encoding == ROM_HTTP_BASE64)
	{
		bytes = rom_message_base64_decode(string);
		if (bytes == NULL)
		{
			*why = "the body is not base64";
			return false;
		}
		send->body = VARDATA_ANY(bytes);
		send->body_length = VARSIZE_ANY_EXHDR(bytes);
		return true;
	}
	send->body = to_utf8(string);
	send->body_length = strlen(send->body);
	return true;
}

/* The step's name may be anything that a user gave. */
char *
rom_request_key(const RomTask *task)
{
	StringInfoData to;

	initStringInfo(&to);
	for (const char *p = to_utf8(rom_fetch_step_key(task)); *p; p++)
	{
		if (*p > 0x20 && *p < 0x7f && *p != '%')
			appendStringInfoChar(&to, *p);
		else
			appendStringInfo(&to, "%%%02X", (unsigned char) *p);
	}
	return to.data;
}

char *
rom_request_trace(const RomTask *task)
{
	StringInfoData to;

	initStringInfo(&to);
	appendStringInfoString(&to, "traceparent: 00-");
	for (int i = 0; i < UUID_LEN; i++)
		appendStringInfo(&to, "%02x", task->instance_id.data[i]);
	appendStringInfo(&to, "-%016llx-01", (unsigned long long) rom_trace_span(task->step, task->attempt));
	return to.data;
}

char *
rom_request_callback(const RomTask *task, List **secrets)
{
	char	   *token = rom_token_make(&task->id, task->attempt, task->fence);

	*secrets = lappend(*secrets, token);
	return psprintf("Romancy-Callback: %s", token);
}

/* add_headers makes the request's headers. */
static bool
add_headers(const RomTask *task, const RomHttpSpec *spec, const char *type, RomHeaderFilling *with, RomTransportRequest *send)
{
	const char **headers = palloc_array(const char *, spec->nheaders + 7);
	bool		has_type = false;
	bool		has_agent = false;
	int			n = 0;

	headers[n++] = psprintf("Idempotency-Key: %s", rom_request_key(task));
	headers[n++] = rom_request_trace(task);
	if (spec->callback)
		headers[n++] = rom_request_callback(task, with->secrets);
	for (int i = 0; i < spec->nheaders; i++)
	{
		char	   *value = rom_header_fill(spec->values[i], with);

		if (value == NULL)
		{
			*with->why = psprintf("header \"%s\": %s", spec->names[i], *with->why);
			return false;
		}

		/*
		 * libcurl takes a name with nothing behind the colon for one to leave
		 * out
		 */
		headers[n++] = to_utf8(value[0] ? psprintf("%s: %s", spec->names[i], value) : psprintf("%s;", spec->names[i]));
		has_type |= pg_strcasecmp(spec->names[i], "content-type") == 0;
		has_agent |= pg_strcasecmp(spec->names[i], "user-agent") == 0;
	}
	if (send->has_body && !has_type)
		headers[n++] = psprintf("Content-Type: %s", type);
	if (!has_agent)
		headers[n++] = "User-Agent: romancy/" ROM_VERSION;
	headers[n] = NULL;
	send->headers = headers;
	return true;
}

/* ---------------------------------------------------------------- the whole */

/* find_definition reads what the activity is defined by now; NULL: it is no HTTP request any more. */
static Jsonb *
find_definition(int32 namespace, const char *name)
{
	static RomStatement select = {
		"SELECT http FROM romancy.t_activity WHERE namespace = $1 AND name = $2 AND http IS NOT NULL",
		2, {INT4OID, TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2] = {Int32GetDatum(namespace), CStringGetTextDatum(name)};
	RomEngine	engine;
	RomRowSet	set;
	Jsonb	   *http = NULL;
	bool		isnull;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, values, NULL, 1) == 1)
		http = DatumGetJsonbP(rom_value_copy(&set, 0, 1, &isnull, cxt));
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return http;
}

/* call_spec makes the spec of a call of romancy.http(), whose input is all of it. */
static bool
call_spec(Jsonb *call, RomHttpSpec *spec, Jsonb **body, const char **why)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "method", rom_jb_get_text(call, "method"));
	rom_jb_text(&jb, "url", rom_jb_get_text(call, "url"));
	rom_jb_text(&jb, "result", "full");
	if (!rom_spec_read(rom_jb_end(&jb), spec, why))
		return false;
	*body = rom_jb_get_json(call, "body");
	spec->has_body = *body != NULL;
	spec->timeout_ms = (int) rom_jb_get_int(call, "timeout_ms", 0);
	if (rom_jb_get_json(call, "headers") != NULL)
	{
		Jsonb	   *headers = rom_jb_get_json(call, "headers");
		JsonbIterator *it = JsonbIteratorInit(&headers->root);
		JsonbIteratorToken token;
		JsonbValue	v;

		spec->names = palloc_array(char *, JB_ROOT_COUNT(headers) + 1);
		spec->values = palloc_array(char *, JB_ROOT_COUNT(headers) + 1);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				spec->names[spec->nheaders] = pnstrdup(v.val.string.val, v.val.string.len);
			else if (token == WJB_VALUE && v.type == jbvString)
				spec->values[spec->nheaders++] = pnstrdup(v.val.string.val, v.val.string.len);
		}
	}
	for (int i = 0; i < spec->nheaders; i++)
		if (pg_strcasecmp(spec->names[i], "content-type") == 0 && strstr(spec->values[i], "json") == NULL)
			spec->encoding = strncmp(spec->values[i], "application/x-www-form-urlencoded", 33) == 0 &&
				spec->has_body && JB_ROOT_IS_OBJECT(*body) ? ROM_HTTP_FORM :
				spec->has_body && string_of(*body) != NULL ? ROM_HTTP_TEXT : ROM_HTTP_JSON;
	return true;
}

bool
rom_request_failed(const RomTask *task, const char *why, Jsonb **error)
{
	*error = rom_error_make(ERRCODE_ROM_DEFINITION,
							psprintf("the HTTP request of step \"%s\" cannot be made", task->step),
							psprintf("The reason: %s.", why), NULL, NULL);
	return false;
}

/* to_send fills in what is sent; false with *why. */
static bool
to_send(const RomTask *task, const RomHttpSpec *spec, Jsonb *body, bool call, const RomUrl *url, bool private,
		int32 namespace, RomHttpRequest *request, const char **why)
{
	RomTransportRequest *send = &request->send;
	Jsonb	   *input = task->input ? task->input : rom_jb_null_document();
	RomHeaderFilling with = {!call, input, namespace, url, private, &request->secrets, why};
	const char *type = NULL;
	int			timeout_ms = spec->timeout_ms > 0 ? spec->timeout_ms : rom_guc_http_timeout;

	send->method = spec->method;
	send->url = rom_url_text(url);
	if (spec->has_body && !call)
	{
		body = spec->body != NULL ? rom_url_value(input, spec->body) : input;
		if (body == NULL)
		{
			*why = psprintf("the input has no \"%s\"", spec->body);
			return false;
		}
	}
	if (spec->has_body && !rom_request_body(body, spec->encoding, send, &type, why))
		return false;
	if (!add_headers(task, spec, type, &with, send))
		return false;
	if (task->close_us > 0)
		timeout_ms = (int) Min(timeout_ms, Max(task->close_us / 1000, 1));
	send->timeout_ms = timeout_ms;
	send->max_response = rom_guc_http_max_response;
	send->private = private;
	send->ca_file = rom_guc_http_ca_file[0] ? rom_guc_http_ca_file : NULL;
	request->label = psprintf("%s %s", send->method, pnstrdup(send->url, strcspn(send->url, "?")));
	request->result = spec->result;
	request->expect = spec->expect;
	request->callback = spec->callback;
	return true;
}

bool
rom_request_make(const RomTask *task, RomHttpRequest *request, Jsonb **error)
{
	int32		namespace;
	bool		call = strcmp(rom_notify_queue_name(task->queue, &namespace), ROM_QUEUE_HTTP_CALL) == 0;
	Oid			owner = get_role_oid(task->owner, true);
	Jsonb	   *body = NULL;
	Jsonb	   *http;
	RomHttpSpec spec;
	RomUrl		url;
	char	   *string;
	bool		private;
	const char *why = NULL;

	memset(request, 0, sizeof(RomHttpRequest));
	http = call ? NULL : find_definition(namespace, task->activity);
	if (!call && http == NULL)
		return rom_request_failed(task, "the activity is not defined as an HTTP request any more", error);
	if (call ? !call_spec(task->input, &spec, &body, &why) : !rom_spec_read(http, &spec, &why))
		return rom_request_failed(task, why, error);
	string = call ? spec.url : rom_url_expand(spec.url, task->input ? task->input : rom_jb_null_document(), &why);
	if (string == NULL || !rom_url_parse(string, &url, &why))
		return rom_request_failed(task, why, error);
	if (!OidIsValid(owner) || !rom_reach_allowed(owner, &url, false, &private))
	{
		*error = rom_reach_refusal(task->owner, &url);
		return false;
	}
	if (!to_send(task, &spec, body, call, &url, private, namespace, request, &why))
		return rom_request_failed(task, why, error);
	return true;
}

void
rom_request_copy(RomHttpRequest *to, const RomHttpRequest *from, MemoryContext cargo)
{
	RomTransportRequest *send = &to->send;
	const char **headers;
	MemoryContext old;
	int			n = 0;
	ListCell   *lc;

	*to = *from;
	to->label = pstrdup(from->label);
	to->expect = pstrdup(from->expect);
	to->secrets = NIL;
	foreach(lc, from->secrets)
	{
		to->secrets = lappend(to->secrets, pstrdup(lfirst(lc)));
	}
	old = MemoryContextSwitchTo(cargo);
	send->method = pstrdup(send->method);
	send->url = pstrdup(send->url);
	while (send->headers[n] != NULL)
		n++;
	headers = palloc_array(const char *, n + 1);
	for (int i = 0; i < n; i++)
		headers[i] = pstrdup(send->headers[i]);
	headers[n] = NULL;
	send->headers = headers;
	if (send->body_length > 0)
		send->body = memcpy(palloc(send->body_length), send->body, send->body_length);
	MemoryContextSwitchTo(old);
}
