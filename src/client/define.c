/*-------------------------------------------------------------------------
 *
 * define.c
 *		define_workflow, define_activity, drop_workflow, drop_activity.
 *
 * Transactions that define or drop the same name take turns by an advisory lock
 * of the engine's own (fourth field 3, which SQL cannot reach), held to the end
 * of the transaction; starts do not look at it. A start that overlaps a drop
 * may insert an instance whose definition was dropped: its first turn pauses it
 * (RM001).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "defs/activity_definition.h"
#include "defs/definition.h"
#include "defs/handler.h"
#include "defs/namespace.h"
#include "defs/suggest.h"
#include "steps/throttle.h"
#include "turn/context.h"
#include "turn/primitive.h"
#include "turn/replay.h"

PG_FUNCTION_INFO_V1(romancy_define_workflow);
PG_FUNCTION_INFO_V1(romancy_define_activity);
PG_FUNCTION_INFO_V1(romancy_drop_workflow);
PG_FUNCTION_INFO_V1(romancy_drop_activity);

/*
 * Kinds of the advisory locks on names, among those of SET_LOCKTAG_ADVISORY: workflows and activities have names of their own, and
 * a namespace's share no lock with another's, whatever their hash is. (Users have 1 and 2, the engine's others 3, the outbox 4.)
 */
#define LOCK_WORKFLOW	5
#define LOCK_ACTIVITY	6

/* The arguments of define_workflow; NULL where they were null. */
typedef struct WorkflowDefinition
{
	char	   *name;
	char	   *handler;
	char	   *queue;
	Interval   *execution_timeout;
	Interval   *retention;
	char	   *on_event;
	char	   *description;
	const char *search_path;
	const char *owner;
	int32		namespace;
} WorkflowDefinition;

static RomStatement select_versions = {
	"SELECT def_id, version, owner,"
	" handler IS NOT DISTINCT FROM $2 AND queue IS NOT DISTINCT FROM $3"
	" FROM romancy.t_workflow WHERE defined AND namespace = $4 AND name = $1 ORDER BY version",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement clear_current = {
	"UPDATE romancy.t_workflow SET is_current = false"
	" WHERE defined AND namespace = $3 AND name = $1 AND is_current AND def_id <> $2",
	3, {TEXTOID, INT4OID, INT4OID}
};

static RomStatement update_version = {
	"UPDATE romancy.t_workflow SET is_current = true, execution_timeout = $2,"
	" retention = $3, on_event = $4, description = $5, search_path = $6"
	" WHERE def_id = $1",
	6, {INT4OID, INTERVALOID, INTERVALOID, TEXTOID, TEXTOID, TEXTOID}
};

static RomStatement insert_version = {
	"INSERT INTO romancy.t_workflow (name, version, defined, is_current,"
	" handler, queue, execution_timeout, retention, on_event, description,"
	" search_path, owner, namespace)"
	" VALUES ($1, $2, true, true, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	11, {TEXTOID, INT4OID, TEXTOID, TEXTOID, INTERVALOID, INTERVALOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement live_of_workflow = {
	"SELECT i.instance_id FROM romancy.t_instance i"
	" WHERE i.wake_at IS NOT NULL AND i.def_id IN (SELECT w.def_id"
	" FROM romancy.t_workflow w WHERE w.defined AND w.namespace = $4 AND w.name = $1) LIMIT 1",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement delete_workflow = {
	"DELETE FROM romancy.t_workflow WHERE defined AND namespace = $4 AND name = $1",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement select_activity_owner = {
	"SELECT owner, queue FROM romancy.t_activity WHERE namespace = $2 AND name = $1",
	2, {TEXTOID, INT4OID}
};

static RomStatement upsert_activity = {
	"INSERT INTO romancy.t_activity (name, handler, queue, retry, compensation,"
	" start_to_close_timeout, schedule_to_start_timeout, heartbeat_timeout,"
	" transactional, max_concurrency, rate_limit, search_path, description,"
	" owner, namespace, http)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
	" ON CONFLICT (namespace, name) DO UPDATE SET handler = excluded.handler, http = excluded.http,"
	" queue = excluded.queue, retry = excluded.retry,"
	" compensation = excluded.compensation,"
	" start_to_close_timeout = excluded.start_to_close_timeout,"
	" schedule_to_start_timeout = excluded.schedule_to_start_timeout,"
	" heartbeat_timeout = excluded.heartbeat_timeout,"
	" transactional = excluded.transactional,"
	" max_concurrency = excluded.max_concurrency,"
	" rate_limit = excluded.rate_limit, search_path = excluded.search_path,"
	" description = excluded.description",
	16, {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INTERVALOID,
		INTERVALOID, INTERVALOID, BOOLOID, INT4OID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, INT4OID, JSONBOID}
};

/* wait: the step that the handler is blocked on. Steps that it spawned, or will call, are not known here. */
static RomStatement live_of_activity = {
	"SELECT i.instance_id FROM romancy.t_instance i"
	" WHERE i.wake_at IS NOT NULL AND romancy.t_status_name(i.status) = 'waiting_for_activity'"
	" AND i.namespace = $2 AND i.wait OPERATOR(pg_catalog.->>) 'name' = $1"
	" AND i.wait OPERATOR(pg_catalog.->>) 'await' IS NULL LIMIT 1",
	2, {TEXTOID, INT4OID}
};

static RomStatement delete_activity = {
	"DELETE FROM romancy.t_activity WHERE namespace = $2 AND name = $1",
	2, {TEXTOID, INT4OID}
};

/* lock_name lets one transaction at a time define or drop a name of a namespace. */
static void
lock_name(uint16 kind, int32 namespace, const char *name)
{
	LOCKTAG		tag;
	uint32		hash = hash_bytes((const unsigned char *) name, strlen(name));

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, namespace, hash, kind);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* check_owner raises 42501 unless role is a member of the definition's owner. Of an owner that was dropped, only a superuser is. */
static void
check_owner(Oid role, const char *owner, const char *what, const char *name)
{
	Oid			owner_oid = get_role_oid(owner, true);

	if (OidIsValid(owner_oid) ? has_privs_of_role(role, owner_oid) :
		superuser_arg(role))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of %s \"%s\"", what, name)));
}

static void
wrong_definition(const char *what, const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid definition of %s \"%s\"", what, name),
			 errdetail_internal("%s", detail)));
}

/* name_arg reads the name of what is defined or dropped. */
static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must not be empty")));
	if (strlen(name) > ROM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must not exceed %d bytes", ROM_NAME_MAX)));
	if (name[0] == ROM_STEP_ENGINE)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must not begin with \"%c\"", ROM_STEP_ENGINE),
				 errdetail("Ids that begin so are given by romancy itself.")));
	return name;
}

/* handler_args reads handler and queue, of which exactly one is given, and checks the function for the caller. */
static char *
handler_args(FunctionCallInfo fcinfo, bool procedure, const char *what,
			 const char *name, char **queue)
{
	Oid			funcid;

	*queue = rom_arg_text_opt(fcinfo, 2);
	if (PG_ARGISNULL(1) == (*queue == NULL))
		wrong_definition(what, name,
						 "It needs either a handler, to run in the database, or a queue, to run in external workers.");
	if (*queue != NULL)
	{
		if ((*queue)[0] == '\0')
			wrong_definition(what, name, "The queue's name is empty.");
		if ((*queue)[0] == '@')
			wrong_definition(what, name, "The queue's name begins with \"@\".");
		if (strlen(*queue) > ROM_NAME_MAX)
			wrong_definition(what, name, "The queue's name is too long.");
		return NULL;
	}
	if (get_fn_expr_argtype(fcinfo->flinfo, 1) == REGPROCEDUREOID)
	{
		funcid = PG_GETARG_OID(1);
		if (!OidIsValid(funcid))
			wrong_definition(what, name, "The handler is not a function.");
	}
	else
	{
		char	   *handler = text_to_cstring(PG_GETARG_TEXT_PP(1));

		char	   *why;

		funcid = rom_handler_by_text(handler, procedure, &why);
		if (!OidIsValid(funcid))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("invalid definition of %s \"%s\"", what, name),
					 why ? errdetail("The handler \"%s\" is no function's name: %s.", handler, why) :
					 errdetail("The search_path has no function \"%s\" that takes one jsonb.", handler),
					 errhint("A handler is a function(jsonb) returning jsonb, given as 'hello', 'hello(jsonb)' or 'my_schema.hello'.")));
	}
	rom_handler_check(funcid, procedure, what, name);
	rom_handler_check_execute(funcid, GetUserId());
	return rom_handler_signature(funcid);
}

static Datum
text_datum(const char *value)
{
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

/* write_version makes the version that has the definition's function the current one, and returns its number. Engine scope needed. */
static int32
write_version(const WorkflowDefinition *def, Oid role)
{
	Datum		key[4] = {text_datum(def->name), text_datum(def->handler),
	text_datum(def->queue), Int32GetDatum(def->namespace)};
	bool		key_nulls[4] = {false, def->handler == NULL, def->queue == NULL, false};
	bool		isnull;
	int32		def_id = 0;
	int32		version = 0;
	const char *owner = def->owner;
	uint64		n;
	Datum		clear[3];
	RomRowSet	set;

	n = rom_execute_rows(&set, &select_versions, key, key_nulls, 0);
	for (uint64 i = 0; i < n; i++)
	{
		int32		number = DatumGetInt32(rom_value(&set, i, 2, &isnull));

		/* a new version belongs to the owner as well, whichever role makes it */
		owner = rom_value_text(&set, i, 3, CurrentMemoryContext);
		check_owner(role, owner, "workflow", def->name);
		if (DatumGetBool(rom_value(&set, i, 4, &isnull)))
			def_id = DatumGetInt32(rom_value(&set, i, 1, &isnull));
		/* the version found, or else one more than the highest */
		if (DatumGetBool(rom_value(&set, i, 4, &isnull)))
			version = number;
		else if (def_id == 0)
			version = number + 1;
	}

	clear[0] = key[0];
	clear[1] = Int32GetDatum(def_id);
	clear[2] = Int32GetDatum(def->namespace);
	rom_execute(&clear_current, clear, NULL, 0);
	if (def_id != 0)
	{
		Datum		values[6] = {Int32GetDatum(def_id),
			IntervalPGetDatum(def->execution_timeout),
			IntervalPGetDatum(def->retention), text_datum(def->on_event),
		text_datum(def->description), text_datum(def->search_path)};
		bool		nulls[6] = {false, def->execution_timeout == NULL,
			def->retention == NULL, def->on_event == NULL,
		def->description == NULL, false};

		rom_execute(&update_version, values, nulls, 0);
	}
	else
	{
		Datum		values[11] = {key[0], Int32GetDatum(Max(version, 1)),
			key[1], key[2], IntervalPGetDatum(def->execution_timeout),
			IntervalPGetDatum(def->retention), text_datum(def->on_event),
			text_datum(def->description), text_datum(def->search_path),
		text_datum(owner), Int32GetDatum(def->namespace)};
		bool		nulls[11] = {false, false, key_nulls[1], key_nulls[2],
			def->execution_timeout == NULL, def->retention == NULL,
		def->on_event == NULL, def->description == NULL, false, false, false};

		version = Max(version, 1);
		rom_execute(&insert_version, values, nulls, 0);
	}
	rom_definition_changed("t_workflow");
	return version;
}

/*
 * romancy.define_workflow(name text, handler text or regprocedure, queue text,
 * execution_timeout interval, retention interval, on_event text, description
 * text) -> int
 *
 * Creates or replaces a definition and returns its version: that of the same
 * function (or queue) if it was defined before, or else a new one. One of handler
 * and queue is needed, all others may be null: execution_timeout (from the start,
 * longer than 0), retention (of finished instances; null: romancy.retention),
 * on_event (a CloudEvent type that starts it). Errors: RM012 for what is wrong
 * with it, 42501 where another role owns the name, the caller may not define in the namespace, or may not
 * execute the handler, RM004 in a workflow.
 */
Datum
romancy_define_workflow(PG_FUNCTION_ARGS)
{
	WorkflowDefinition def = {0};
	RomEngine	engine;
	Oid			role = GetUserId();
	int32		version;

	rom_context_refuse_handler("define_workflow");
	def.namespace = rom_namespace_require_define("define_workflow");
	def.name = name_arg(fcinfo);
	def.handler = handler_args(fcinfo, false, "workflow", def.name,
							   &def.queue);
	def.execution_timeout = rom_arg_duration_opt(fcinfo, 3, "execution_timeout");
	def.retention = rom_arg_interval_opt(fcinfo, 4, "retention");
	def.on_event = rom_arg_text_opt(fcinfo, 5);
	if (def.on_event != NULL && def.on_event[0] == '\0')
		wrong_definition("workflow", def.name, "The event type is empty.");
	if (def.on_event != NULL)
		rom_arg_check_short_name(def.on_event, "on_event");
	def.description = rom_arg_prose_opt(fcinfo, 6, "description");
	def.search_path = rom_definition_path();
	def.owner = GetUserNameFromId(role, false);

	lock_name(LOCK_WORKFLOW, def.namespace, def.name);
	rom_engine_begin(&engine);
	version = write_version(&def, role);
	rom_engine_end(&engine);
	PG_RETURN_INT32(version);
}

/* retry_arg reads a retry policy for the sake of its errors, and returns it as given. */
static Jsonb *
retry_arg(FunctionCallInfo fcinfo, int n)
{
	Jsonb	   *retry = rom_arg_jsonb_opt(fcinfo, n);
	RomRetryPolicy policy;

	rom_retry_defaults(&policy);
	rom_retry_overlay(&policy, retry, "retry");
	return retry;
}

/* limit_args checks max_concurrency (argument 9) and rate_limit (10), and returns the latter. */
static char *
limit_args(FunctionCallInfo fcinfo, const char *name)
{
	char	   *rate = rom_arg_text_opt(fcinfo, 10);
	int			count;
	int64		period;

	if (rom_arg_int32_opt(fcinfo, 9, 1) < 1)
		wrong_definition("activity", name, "max_concurrency is less than 1.");
	if (rate != NULL && !rom_activity_definition_rate(rate, &count, &period))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid rate limit \"%s\"", rate),
				 errhint("A rate limit is a number per s, m or h, such as \"100/m\".")));
	return rate;
}

/*
 * http_arg checks the definition of an activity that is an HTTP request, and returns the queue of its tasks.
 */
static char *
http_arg(FunctionCallInfo fcinfo, const char *name, Jsonb *http)
{
	if (!PG_ARGISNULL(1) || !PG_ARGISNULL(2))
		wrong_definition("activity", name, "It is an HTTP request, so it has neither a handler nor a queue.");
	if (!PG_ARGISNULL(7))
		wrong_definition("activity", name, "It is an HTTP request, which has no heartbeats.");
	rom_activity_definition_check_http(name, http);
	return ROM_QUEUE_HTTP;
}

/* write_activity checks the owner and stores the row. Engine scope needed. */
static void
write_activity(int32 namespace, const char *name, Oid role, Datum *values, bool *nulls)
{
	char	   *before = NULL;
	char	   *now = nulls[2] ? NULL : TextDatumGetCString(values[2]);

	Datum		key[2] = {values[0], Int32GetDatum(namespace)};
	RomRowSet	set;

	if (rom_execute_rows(&set, &select_activity_owner, key, NULL, 1) == 1)
	{
		before = rom_value_text(&set, 0, 2, CurrentMemoryContext);
		check_owner(role, rom_value_text(&set, 0, 1, CurrentMemoryContext),
					"activity", name);
	}
	rom_execute(&upsert_activity, values, nulls, 0);
	rom_definition_changed("t_activity");
	rom_throttle_changed(namespace, name);
	/* with other limits there may be something to fetch */
	if (before != NULL)
		rom_activity_definition_tell(namespace, before);
	if (now != NULL && (before == NULL || strcmp(before, now) != 0))
		rom_activity_definition_tell(namespace, now);
}

/* tell_missing tells of a compensation that does not exist: it may be defined next, and until then the activity pauses its instance. */
static void
tell_missing(int32 namespace, const char *name, const char *compensation)
{
	Datum		values[2] = {CStringGetTextDatum(compensation), Int32GetDatum(namespace)};
	char	   *similar;
	RomEngine	engine;
	RomRowSet	set;
	bool		found;

	if (strcmp(name, compensation) == 0)
		return;
	rom_engine_begin(&engine);
	found = rom_execute_rows(&set, &select_activity_owner, values, NULL, 1) == 1;
	rom_engine_end(&engine);
	if (found || OidIsValid(rom_handler_lookup(compensation, rom_definition_path())))
		return;
	similar = rom_suggest_name(namespace, "activity", compensation, rom_definition_path());
	ereport(NOTICE,
			(errcode(ERRCODE_ROM_UNDEFINED),
			 errmsg("activity \"%s\", the compensation of activity \"%s\", does not exist", compensation, name),
			 errdetail("Until it does, \"%s\" is not carried out, and pauses its instance.", name),
			 similar ? errhint("Did you mean \"%s\"?", similar) : 0));
}

/*
 * romancy.define_activity(name text, handler text or regprocedure, queue text, retry
 * jsonb, compensation text, start_to_close_timeout interval,
 * schedule_to_start_timeout interval, heartbeat_timeout interval, transactional
 * boolean, max_concurrency int, rate_limit text, description text, http jsonb) -> void
 *
 * Creates or replaces a definition. One of handler, queue and http (the request that it is:
 * src/http/definition.c) is needed. retry: a
 * policy, whose keys overlay the default's. compensation: an activity's name.
 * Timeouts are longer than 0. transactional (null: true): false allows a
 * procedure as the handler. max_concurrency: at least 1. rate_limit: "100/m".
 * Errors: RM012 for what is wrong with it, 42501 where another role owns the
 * name, the caller may not define in the namespace, may not execute the handler, or may not reach the URL, RM010
 * where the server cannot send requests, RM004 in a workflow.
 */
Datum
romancy_define_activity(PG_FUNCTION_ARGS)
{
	RomEngine	engine;
	Oid			role = GetUserId();
	char	   *name;
	char	   *handler;
	char	   *queue;
	char	   *compensation;
	char	   *rate;
	bool		transactional;
	Datum		values[16];
	bool		nulls[16] = {false};
	Jsonb	   *http = rom_arg_jsonb_opt(fcinfo, 12);
	int32		namespace;

	rom_context_refuse_handler("define_activity");
	namespace = rom_namespace_require_define("define_activity");
	name = name_arg(fcinfo);
	transactional = rom_arg_bool_opt(fcinfo, 8, true);
	if (http != NULL)
	{
		handler = NULL;
		queue = http_arg(fcinfo, name, http);
	}
	else
		handler = handler_args(fcinfo, !transactional, "activity", name, &queue);
	compensation = rom_arg_text_opt(fcinfo, 4);
	if (compensation != NULL && compensation[0] == '\0')
		wrong_definition("activity", name, "The compensation's name is empty.");
	rate = limit_args(fcinfo, name);

	values[0] = text_datum(name);
	values[1] = text_datum(handler);
	values[2] = text_datum(queue);
	values[3] = PointerGetDatum(retry_arg(fcinfo, 3));
	values[4] = text_datum(compensation);
	values[5] = IntervalPGetDatum(rom_arg_duration_opt(fcinfo, 5, "start_to_close_timeout"));
	values[6] = IntervalPGetDatum(rom_arg_duration_opt(fcinfo, 6, "schedule_to_start_timeout"));
	values[7] = IntervalPGetDatum(rom_arg_duration_opt(fcinfo, 7, "heartbeat_timeout"));
	values[8] = BoolGetDatum(transactional);
	values[9] = PG_GETARG_DATUM(9);
	values[10] = text_datum(rate);
	values[11] = text_datum(rom_definition_path());
	values[12] = text_datum(rom_arg_prose_opt(fcinfo, 11, "description"));
	values[13] = text_datum(GetUserNameFromId(role, false));
	for (int i = 1; i < 14; i++)
		nulls[i] = i != 8 && i != 9 && DatumGetPointer(values[i]) == NULL;
	nulls[9] = PG_ARGISNULL(9);
	values[14] = Int32GetDatum(namespace);
	values[15] = PointerGetDatum(http);
	nulls[15] = http == NULL;

	lock_name(LOCK_ACTIVITY, namespace, name);
	rom_engine_begin(&engine);
	write_activity(namespace, name, role, values, nulls);
	rom_engine_end(&engine);
	if (compensation != NULL)
		tell_missing(namespace, name, compensation);
	PG_RETURN_VOID();
}

/*
 * romancy.drop_workflow(name text) -> void
 *
 * Drops all versions of a definition. Errors: RM001 unknown, 42501 where another
 * role owns it, RM010 while a live instance needs it, RM004 in a workflow.
 */
Datum
romancy_drop_workflow(PG_FUNCTION_ARGS)
{
	RomEngine	engine;
	Oid			role = GetUserId();
	char	   *name;
	Datum		values[4] = {0};
	bool		nulls[4] = {false, true, true, false};
	int32		namespace;
	uint64		n;
	RomRowSet	set;

	rom_context_refuse_handler("drop_workflow");
	namespace = rom_namespace_require_define("drop_workflow");
	name = name_arg(fcinfo);
	values[0] = text_datum(name);
	values[3] = Int32GetDatum(namespace);
	lock_name(LOCK_WORKFLOW, namespace, name);
	rom_engine_begin(&engine);
	n = rom_execute_rows(&set, &select_versions, values, nulls, 0);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("workflow \"%s\" is not defined", name)));
	for (uint64 i = 0; i < n; i++)
		check_owner(role, rom_value_text(&set, i, 3, CurrentMemoryContext),
					"workflow", name);
	if (rom_execute(&live_of_workflow, values, NULL, 1) == 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow \"%s\" cannot be dropped while instances of it are live",
						name),
				 errhint("Wait for them to end, or cancel them with romancy.cancel_workflows.")));
	rom_execute(&delete_workflow, values, NULL, 0);
	rom_definition_changed("t_workflow");
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}

/* activity_in_use says whether a live instance waits for it, or work of another room needs it. Engine scope needed. */
static bool
activity_in_use(int32 namespace, const char *name, Datum *values)
{
	return rom_execute(&live_of_activity, values, NULL, 1) == 1 || rom_activity_definition_in_use(namespace, name);
}

/*
 * romancy.drop_activity(name text) -> void
 *
 * Drops a definition. Errors: RM001 unknown, 42501 where another role owns it,
 * RM010 while a live instance waits for it, RM004 in a workflow.
 */
Datum
romancy_drop_activity(PG_FUNCTION_ARGS)
{
	RomEngine	engine;
	Oid			role = GetUserId();
	char	   *name;
	int32		namespace;
	Datum		values[2];
	RomRowSet	set;

	rom_context_refuse_handler("drop_activity");
	namespace = rom_namespace_require_define("drop_activity");
	name = name_arg(fcinfo);
	values[0] = text_datum(name);
	values[1] = Int32GetDatum(namespace);
	lock_name(LOCK_ACTIVITY, namespace, name);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_activity_owner, values, NULL, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("activity \"%s\" is not defined", name)));
	check_owner(role, rom_value_text(&set, 0, 1, CurrentMemoryContext), "activity",
				name);
	if (activity_in_use(namespace, name, values))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("activity \"%s\" cannot be dropped while live instances wait for it",
						name),
				 errhint("Wait for them to end, or cancel them with romancy.cancel_workflows.")));
	rom_execute(&delete_activity, values, NULL, 0);
	rom_definition_changed("t_activity");
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}
