/*-------------------------------------------------------------------------
 *
 * push.c
 *		Queues whose activities are served by a URL: the check of what is set, and the request of a task.
 *
 * The request is to a task what a fetch is: its body is the activity_task that a program would get, and the queue's owner has to be a member of the task's owner, as a
 * program's role has to (rom_queue_claim()). Both must be allowed to reach the URL: the task's owner, whose work leaves the database, and the queue's, who says where to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/jb.h"
#include "base/version.h"
#include "http/guc.h"
#include "http/library.h"
#include "http/parcel.h"
#include "http/push.h"
#include "http/reach.h"
#include "http/route.h"
#include "tasks/fetch.h"
#include "tasks/set_queue.h"
#include "tasks/token.h"

/* check is RomQueueCheck. */
static void
check(int32 namespace, const char *owner, const char *template, Jsonb *headers, const char *signing_secret)
{
	const char *why = "";
	char	   *text = rom_url_expand(template, NULL, &why);
	Oid			role = get_role_oid(owner, true);
	RomUrl		url;
	bool		private;

	if (text == NULL || !rom_url_parse(text, &url, &why))
		rom_route_wrong("push_url", why);
	rom_library_require();
	/* what an input will be in the path is not known */
	if (!OidIsValid(role) || !rom_reach_allowed(role, &url, strchr(template, '{') != NULL, &private))
		rom_error_raise(rom_reach_refusal(owner, &url));
	rom_route_check(namespace, &url, private, headers, signing_secret);
}

/* reach says whether both roles may reach the URL, and private addresses; false with *error. */
static bool
reach(const RomSource *source, const RomTask *task, const RomUrl *url, bool *private, Jsonb **error)
{
	Oid			roles[2] = {get_role_oid(task->owner, true), source->owner};

	*private = true;
	for (int i = 0; i < lengthof(roles); i++)
	{
		bool		also_private;

		if (!OidIsValid(roles[i]) || !rom_reach_allowed(roles[i], url, false, &also_private))
		{
			*error = rom_reach_refusal(i == 0 ? task->owner : GetUserNameFromId(roles[i], false), url);
			return false;
		}
		*private &= also_private;
	}
	return true;
}

/* time_limit is that of the request, in milliseconds: of the attempt, where the activity has one. */
static int
time_limit(const RomTask *task)
{
	if (task->close_us == 0)
		return rom_guc_http_timeout;
	return (int) Min(Max(task->close_us / 1000, 1), ROM_HTTP_TIMEOUT_MAX);
}

/* fill fills in what is sent; false with *why, a phrase. */
static bool
fill(const RomTask *task, const RomRoute *route, RomHttpRequest *request, const char **why)
{
	RomTransportRequest *send = &request->send;
	const char **headers = palloc_array(const char *, route->nheaders + 6 + ROM_PARCEL_SIGNED);
	char	   *key = rom_request_key(task);
	RomClaimed	claimed = {unconstify(RomTask *, task), rom_token_make(&task->id, task->attempt, task->fence)};
	const char *type;
	int			n = 0;

	send->method = "POST";
	send->url = route->url;
	send->timeout_ms = time_limit(task);
	send->max_response = rom_guc_http_max_response;
	send->private = route->private;
	send->ca_file = rom_guc_http_ca_file[0] ? rom_guc_http_ca_file : NULL;
	claimed.deadline = Min(task->due_at, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), send->timeout_ms));
	if (!rom_request_body(rom_fetch_activity(&claimed), ROM_HTTP_JSON, send, &type, why))
		return false;
	request->secrets = route->secrets;
	headers[n++] = psprintf("Idempotency-Key: %s", key);
	headers[n++] = rom_request_trace(task);
	headers[n++] = rom_request_callback(task, &request->secrets);
	for (int i = 0; i < route->nheaders; i++)
		headers[n++] = route->headers[i];
	headers[n++] = psprintf("Content-Type: %s", type);
	if (!route->has_agent)
		headers[n++] = "User-Agent: romancy/" ROM_VERSION;
	n += rom_parcel_sign(route->keys, key, send->body, send->body_length, headers + n);
	headers[n] = NULL;
	send->headers = headers;
	request->label = route->label;
	request->result = ROM_HTTP_RESULT_AUTO;
	request->expect = "2xx";
	request->callback = true;
	return true;
}

bool
rom_push_make(const RomSource *source, const RomTask *task, RomHttpRequest *request, Jsonb **error)
{
	const char *why = "";
	char	   *text = rom_url_expand(source->url, task->input ? task->input : rom_jb_null_document(), &why);
	RomRoute	route;
	RomUrl		url;
	bool		private;

	memset(request, 0, sizeof(RomHttpRequest));
	if (text == NULL || !rom_url_parse(text, &url, &why))
		return rom_request_failed(task, why, error);
	if (!reach(source, task, &url, &private, error))
		return false;
	if (!rom_route_fill(source->namespace, &url, private, source->headers, source->signing_secret, &route, &why) ||
		!fill(task, &route, request, &why))
		return rom_request_failed(task, why, error);
	return true;
}

void
rom_push_init(void)
{
	rom_set_queue_on_url(check);
}
