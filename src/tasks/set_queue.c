/*-------------------------------------------------------------------------
 *
 * set_queue.c
 *		What is set for a queue: limits, pauses, a URL that serves it, and a channel to notify.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "defs/activity_definition.h"
#include "defs/namespace.h"
#include "instances/instance.h"
#include "memory/wake.h"
#include "tasks/notify.h"
#include "tasks/queue.h"
#include "tasks/quota.h"
#include "tasks/set_queue.h"
#include "turn/context.h"

/* Queues of a namespace that may be served by a URL: the HTTP worker looks at each. */
#define PUSHED_MAX 1000

static RomQueueCheck check_url = NULL;

void
rom_set_queue_on_url(RomQueueCheck check)
{
	check_url = check;
}

/* check_name reads the name of a queue of the namespace, and gives it as it is stored. */
static char *
check_name(FunctionCallInfo fcinfo, int32 namespace)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0' || strlen(name) > ROM_NAME_MAX || name[0] == '@')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("a queue's name must have between 1 and %d bytes and not begin with \"@\"",
						ROM_NAME_MAX)));
	return rom_notify_queue_stored(namespace, name);
}

/*
 * check_owner raises 42501 unless the current user may change the queue; returns the owner for its row.
 * *per_key is the path that it has now, or NULL.
 */
static char *
check_owner(const char *name, char **per_key)
{
	static RomStatement select = {
		"SELECT owner, per_key FROM romancy.t_queue WHERE name = $1",
		1, {TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	int32		namespace;
	RomEngine	engine;
	Datum		values[1];
	char	   *owner = NULL;
	RomRowSet	set;

	*per_key = NULL;
	values[0] = CStringGetTextDatum(name);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
	{
		owner = rom_value_text(&set, 0, 1, cxt);
		*per_key = rom_value_text(&set, 0, 2, cxt);
	}
	rom_engine_end(&engine);
	if (owner != NULL && !rom_instance_may_steer(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", rom_notify_queue_name(name, &namespace))));
	return owner ? owner : GetUserNameFromId(GetUserId(), false);
}

/* save writes a queue's row of the owner that check_owner() gave; an error where another role has made the queue meanwhile. */
static void
save(RomStatement *upsert, Datum *values, const bool *nulls, const char *name)
{
	int32		namespace;

	if (rom_execute(upsert, values, nulls, 0) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("queue \"%s\" was set by another role meanwhile", rom_notify_queue_name(name, &namespace)),
				 errhint("Try again.")));
}

/* note_unused tells of a queue that nothing is defined for: its name may be mistyped. Engine scope needed. */
static void
note_unused(const char *stored)
{
	static RomStatement select = {
		"SELECT 1 WHERE EXISTS (SELECT FROM romancy.t_activity WHERE namespace = $2 AND queue = $1)"
		" OR EXISTS (SELECT FROM romancy.t_workflow WHERE namespace = $2 AND queue = $1)",
		2, {TEXTOID, INT4OID}
	};
	int32		namespace;
	const char *name = rom_notify_queue_name(stored, &namespace);
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = Int32GetDatum(namespace);
	if (rom_execute(&select, values, NULL, 1) == 0)
		ereport(NOTICE,
				(errmsg("no activity and no workflow is defined for queue \"%s\"", name)));
}

/* drop_default deletes the row of a queue that says nothing: no row means the same. Engine scope needed. */
static void
drop_default(const char *name)
{
	static RomStatement stmt = {
		"DELETE FROM romancy.t_queue WHERE name = $1 AND NOT paused AND max_concurrency IS NULL"
		" AND rate_limit IS NULL AND per_key IS NULL AND notify IS NULL AND push_url IS NULL",
		1, {TEXTOID}
	};
	Datum		value = CStringGetTextDatum(name);

	rom_execute(&stmt, &value, NULL, 0);
}

/* check_pushed raises RM011 where the namespace of the queue has too many others that are served by a URL. Engine scope needed. */
static void
check_pushed(const char *stored)
{
	static RomStatement select = {
		"SELECT count(*) FROM romancy.t_queue WHERE push_url IS NOT NULL AND name <> $1"
		" AND pg_catalog.split_part(name, '/', 1) = pg_catalog.split_part($1, '/', 1)",
		1, {TEXTOID}
	};
	Datum		value = CStringGetTextDatum(stored);
	RomRowSet	set;
	bool		isnull;

	rom_execute_rows(&set, &select, &value, NULL, 1);
	if (DatumGetInt64(rom_value(&set, 0, 1, &isnull)) >= PUSHED_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("too many queues of the namespace are served by a URL"),
				 errdetail("There may be %d of them.", PUSHED_MAX)));
}

/* The arguments of set_queue(), from 0, which are the columns of t_queue, too. */
enum
{
	ARG_NAME,
	ARG_MAX_CONCURRENCY,
	ARG_RATE_LIMIT,
	ARG_PER_KEY,
	ARG_PUSH_URL,
	ARG_NOTIFY,
	ARG_HEADERS,
	ARG_SIGNING_SECRET,
	ARGS
};

/* check_push checks the URL, and what there is only with one. */
static void
check_push(FunctionCallInfo fcinfo, int32 namespace, const char *owner)
{
	char	   *url = rom_arg_text_opt(fcinfo, ARG_PUSH_URL);

	if (url != NULL)
		check_url(namespace, owner, url, rom_arg_jsonb_opt(fcinfo, ARG_HEADERS), rom_arg_text_opt(fcinfo, ARG_SIGNING_SECRET));
	else if (!PG_ARGISNULL(ARG_HEADERS) || !PG_ARGISNULL(ARG_SIGNING_SECRET))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" needs \"push_url\"", PG_ARGISNULL(ARG_HEADERS) ? "signing_secret" : "headers")));
}

PG_FUNCTION_INFO_V1(romancy_set_queue);

/*
 * romancy.set_queue(name text, max_concurrency int, rate_limit text, per_key text, push_url text, notify text, headers jsonb, signing_secret text)
 *
 * Replaces the queue's limits, the URL that its activities are sent to, with the headers and the signature of these requests, and the channel that is notified
 * when there is something to fetch. Errors: RM012; 42501 not the queue's owner, or the owner may not reach the URL; RM011 too many queues with a URL; RM010 no
 * libcurl; RM004 in a handler.
 */
Datum
romancy_set_queue(PG_FUNCTION_ARGS)
{
	static RomStatement upsert = {
		"INSERT INTO romancy.t_queue (name, max_concurrency, rate_limit, per_key, push_url, notify, headers, signing_secret, owner)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
		" ON CONFLICT (name) DO UPDATE SET max_concurrency = excluded.max_concurrency, rate_limit = excluded.rate_limit, per_key = excluded.per_key,"
		" push_url = excluded.push_url, notify = excluded.notify, headers = excluded.headers, signing_secret = excluded.signing_secret"
		" WHERE t_queue.owner = excluded.owner",
		ARGS + 1, {TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID}
	};
	char	   *name;
	char	   *rate = rom_arg_text_opt(fcinfo, ARG_RATE_LIMIT);
	char	   *per_key = rom_arg_text_opt(fcinfo, ARG_PER_KEY);
	char	   *notify = rom_arg_text_opt(fcinfo, ARG_NOTIFY);
	char	   *before;
	char	   *owner;
	int			count;
	int64		period;
	int32		namespace;
	RomEngine	engine;
	Datum		values[ARGS + 1];
	bool		nulls[ARGS + 1] = {0};

	rom_context_refuse_handler("set_queue");
	namespace = rom_namespace_require_define("set_queue");
	name = check_name(fcinfo, namespace);
	if (!PG_ARGISNULL(ARG_MAX_CONCURRENCY) && PG_GETARG_INT32(ARG_MAX_CONCURRENCY) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"max_concurrency\" must be greater than zero"),
				 errhint("Use romancy.pause_queue() to stop a queue.")));
	if (rate != NULL && !rom_activity_definition_rate(rate, &count, &period))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid rate limit \"%s\"", rate),
				 errhint("Write a number and a unit, such as \"100/m\"; the units are s, m and h.")));
	if (per_key != NULL &&
		(per_key[0] == '\0' || strlen(per_key) > ROM_NAME_MAX ||
		 per_key[0] == '.' || per_key[strlen(per_key) - 1] == '.' || strstr(per_key, "..") != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"per_key\" must be a path into the input, such as \"tenant.id\"")));
	if (notify != NULL && (notify[0] == '\0' || strlen(notify) >= NAMEDATALEN))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"notify\" must be a channel's name of 1 to %d bytes", NAMEDATALEN - 1),
				 errhint("Programs LISTEN to it; the payload is the queue's name.")));
	owner = check_owner(name, &before);
	check_push(fcinfo, namespace, owner);
	for (int i = ARG_MAX_CONCURRENCY; i < ARGS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_GETARG_DATUM(i);
	}
	values[ARG_NAME] = CStringGetTextDatum(name);
	values[ARGS] = CStringGetTextDatum(owner);
	rom_engine_begin(&engine);
	if (!nulls[ARG_PUSH_URL])
		check_pushed(name);
	save(&upsert, values, nulls, name);
	drop_default(name);
	note_unused(name);
	rom_notify_forget();
	rom_notify_changed(name);
	if (per_key != NULL && (before == NULL || strcmp(per_key, before) != 0))
		(void) rom_quota_label(name, true, 0);
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}

/* set_paused pauses a queue, or takes that back. */
static Datum
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	static RomStatement upsert = {
		"INSERT INTO romancy.t_queue (name, owner, paused) VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE SET paused = excluded.paused WHERE t_queue.owner = excluded.owner",
		3, {TEXTOID, TEXTOID, BOOLOID}
	};
	char	   *name;
	char	   *per_key;
	char	   *owner;
	RomEngine	engine;
	Datum		values[3];

	rom_context_refuse_handler(paused ? "pause_queue" : "resume_queue");
	name = check_name(fcinfo, rom_namespace_require_define(paused ? "pause_queue" : "resume_queue"));
	owner = check_owner(name, &per_key);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = BoolGetDatum(paused);
	rom_engine_begin(&engine);
	save(&upsert, values, NULL, name);
	drop_default(name);
	note_unused(name);
	if (!paused)
		rom_notify_ask(name);
	rom_engine_end(&engine);
	rom_wake_key(rom_notify_key(name));
	rom_wake_key(rom_notify_key(psprintf("@%s", name)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_pause_queue);

/* romancy.pause_queue(name text): no program fetches from it until resume_queue; running tasks continue */
Datum
romancy_pause_queue(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, true);
}

PG_FUNCTION_INFO_V1(romancy_resume_queue);

/* romancy.resume_queue(name text) */
Datum
romancy_resume_queue(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, false);
}
