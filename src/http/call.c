/*-------------------------------------------------------------------------
 *
 * call.c
 *		romancy.http() and spawn_http(): a request that a handler sends without a definition.
 *
 * It is a step whose input is all of the request. Its task is in a queue of its own, ROM_QUEUE_HTTP_CALL, by which the
 * worker knows it; its activity has a name that no definition can have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "defs/activity_definition.h"
#include "defs/retry.h"
#include "http/header.h"
#include "http/library.h"
#include "http/spec.h"
#include "http/url.h"
#include "tasks/spawn.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_http);
PG_FUNCTION_INFO_V1(romancy_spawn_http);

/* request_activity fills in what stands for a definition. */
static void
request_activity(RomTurn *turn, RomActivity *activity)
{
	memset(activity, 0, sizeof(RomActivity));
	activity->namespace = turn->inst->namespace;
	activity->name = ROM_ACTIVITY_HTTP_CALL;
	activity->queue = ROM_QUEUE_HTTP_CALL;
}

static RomOutcome
http_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomActivity activity;

	request_activity(turn, &activity);
	return rom_spawn_queued(turn, call, event, &activity);
}

static const RomPrimitive primitive_http = {
	.name = "http",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
	.execute = http_execute,
};

static void
wrong(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid call of romancy.http()"),
			 errdetail("%s", detail)));
}

/* check_headers raises RM012 unless the argument is an object of headers that a request may have. */
static void
check_headers(Jsonb *headers)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;
	const char *why;

	if (!JB_ROOT_IS_OBJECT(headers))
		wrong("Argument \"headers\" is not a JSON object.");
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(v.val.string.val, v.val.string.len);
			if (!rom_spec_header_name(name))
				wrong(psprintf("A request may not have a header \"%s\" of its own.", name));
		}
		else if (token == WJB_VALUE && v.type != jbvString)
			wrong(psprintf("Header \"%s\" is not a string.", name));
		else if (token == WJB_VALUE && !rom_header_check(pnstrdup(v.val.string.val, v.val.string.len), false, &why))
			wrong(psprintf("Argument \"headers\" cannot be sent: header \"%s\": %s.", name, why));
	}
}

/* check_body raises RM012 for a body in which a secret is meant to stand: it would be sent as it is. */
static void
check_body(Jsonb *body)
{
	JsonbIterator *it = JsonbIteratorInit(&body->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvString &&
			memmem(v.val.string.val, v.val.string.len, "{{secret:", 9) != NULL)
			wrong("Argument \"body\" has a part {{secret:name}}: secrets may stand in headers only.");
}

/* make_input makes the step's input: the request. */
static Jsonb *
make_input(FunctionCallInfo fcinfo)
{
	char	   *method = rom_arg_text(fcinfo, 0, "method");
	char	   *text = rom_arg_text(fcinfo, 1, "url");
	Jsonb	   *headers = rom_arg_jsonb_opt(fcinfo, 3);
	Interval   *timeout = rom_arg_duration_opt(fcinfo, 4, "timeout");
	const char *why;
	RomUrl		url;
	RomJb		jb;
	int64		us;

	if (rom_spec_method(method) == NULL)
		wrong(psprintf("There is no method \"%s\".", method));
	if (strpbrk(text, "{}") != NULL)
		wrong("Argument \"url\" has a brace: parts in braces are filled in only in the URL of an activity's definition.");
	if (!rom_url_parse(text, &url, &why))
		wrong(psprintf("The URL cannot be sent: %s.", why));
	if (headers != NULL)
		check_headers(headers);
	if (!PG_ARGISNULL(2))
		check_body(PG_GETARG_JSONB_P(2));
	if (!PG_ARGISNULL(2) && strcmp(rom_spec_method(method), "HEAD") == 0)
		wrong("A HEAD request has no body.");
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "method", rom_spec_method(method));
	rom_jb_text(&jb, "url", rom_url_text(&url));
	rom_jb_json(&jb, "body", rom_arg_jsonb_opt(fcinfo, 2));
	rom_jb_json(&jb, "headers", headers);
	if (timeout != NULL)
	{
		if (!rom_arg_interval_usec(timeout, &us) || us < 1000 || us > ROM_HTTP_TIMEOUT_MAX * INT64CONST(1000))
			wrong("Argument \"timeout\" is not an interval from a millisecond to an hour.");
		rom_jb_int(&jb, "timeout_ms", us / 1000);
	}
	return rom_jb_end(&jb);
}

/* read_retry reads the argument retry; RM012 where it is none. May be NULL. */
static Jsonb *
read_retry(FunctionCallInfo fcinfo)
{
	Jsonb	   *retry = rom_arg_jsonb_opt(fcinfo, 6);
	RomRetryPolicy check;

	if (retry != NULL)
	{
		rom_retry_defaults(&check);
		rom_retry_overlay(&check, retry, "retry");
	}
	return retry;
}

/*
 * romancy.http(method text, url text, body jsonb, headers jsonb, timeout interval, activity_id text, retry jsonb) -> jsonb
 *
 * Sends a request, at least once, and returns {status, headers, body}. body: sent as JSON, or as text or a form where a
 * header Content-Type says so; null: none. headers: an object of strings, with secrets as {{secret:name}}. timeout (null:
 * romancy.http_timeout): of each attempt. Errors: RM004 outside a handler; RM012 for a request that cannot be sent; RM010 where the
 * server cannot send any; those of the request, after its retries.
 */
Datum
romancy_http(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("http()");
	RomCall		call = {0};
	RomEvent   *event;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	call.primitive = &primitive_http;
	call.name = call.step_base = "http";
	call.input = make_input(fcinfo);
	call.step = rom_arg_text_opt(fcinfo, 5);
	if (rom_replay_peek(turn) == NULL)
		rom_library_require();
	call.options = rom_context_copy_jsonb(turn, read_retry(fcinfo));
	event = rom_call_step(&call);
	if (event->type == ROM_EVENT_ACTIVITY_FAILED)
		rom_error_raise(event->result);
	PG_RETURN_JSONB_P(event->result);
}

/*
 * romancy.spawn_http(method text, url text, body jsonb, headers jsonb, timeout interval, activity_id text, retry jsonb) -> text
 *
 * Schedules the same request in parallel; the handle is its activity id. Errors: RM004, RM012, RM010, as of romancy.http().
 */
Datum
romancy_spawn_http(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("spawn_http()");
	RomActivity activity;
	Jsonb	   *input;
	Jsonb	   *retry;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	input = make_input(fcinfo);
	retry = read_retry(fcinfo);
	if (rom_replay_peek(turn) == NULL)
		rom_library_require();
	request_activity(turn, &activity);
	PG_RETURN_TEXT_P(cstring_to_text(rom_spawn_step(turn, &activity, "http", input, rom_arg_text_opt(fcinfo, 5), retry)));
}
