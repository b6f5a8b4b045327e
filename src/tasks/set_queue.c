/*-------------------------------------------------------------------------
 *
 * set_queue.c
 *		What is set for a queue: limits, pauses, and a channel to notify.
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
#include "turn/context.h"

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
		" AND rate_limit IS NULL AND per_key IS NULL AND notify IS NULL",
		1, {TEXTOID}
	};
	Datum		value = CStringGetTextDatum(name);

	rom_execute(&stmt, &value, NULL, 0);
}

PG_FUNCTION_INFO_V1(romancy_set_queue);

/*
 * romancy.set_queue(name text, max_concurrency int, rate_limit text, per_key text, notify text)
 *
 * Replaces the queue's limits and the channel that is notified when there is something to fetch. Errors:
 * RM012; 42501 not the queue's owner; RM004 in a handler.
 */
Datum
romancy_set_queue(PG_FUNCTION_ARGS)
{
	static RomStatement upsert = {
		"INSERT INTO romancy.t_queue (name, owner, max_concurrency, rate_limit, per_key, notify) VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (name) DO UPDATE SET max_concurrency = excluded.max_concurrency,"
		" rate_limit = excluded.rate_limit, per_key = excluded.per_key, notify = excluded.notify",
		6, {TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID}
	};
	char	   *name;
	char	   *rate = rom_arg_text_opt(fcinfo, 2);
	char	   *per_key = rom_arg_text_opt(fcinfo, 3);
	char	   *notify = rom_arg_text_opt(fcinfo, 4);
	char	   *before;
	char	   *owner;
	int			count;
	int64		period;
	RomEngine	engine;
	Datum		values[6];
	bool		nulls[6] = {false, false, PG_ARGISNULL(1), rate == NULL, per_key == NULL, notify == NULL};

	rom_context_refuse_handler("set_queue");
	name = check_name(fcinfo, rom_namespace_require_define("set_queue"));
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
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
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = nulls[2] ? (Datum) 0 : PG_GETARG_DATUM(1);
	values[3] = rate ? CStringGetTextDatum(rate) : (Datum) 0;
	values[4] = per_key ? CStringGetTextDatum(per_key) : (Datum) 0;
	values[5] = notify ? CStringGetTextDatum(notify) : (Datum) 0;
	rom_engine_begin(&engine);
	rom_execute(&upsert, values, nulls, 0);
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
		" ON CONFLICT (name) DO UPDATE SET paused = excluded.paused",
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
	rom_execute(&upsert, values, NULL, 0);
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
