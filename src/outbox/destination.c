/*-------------------------------------------------------------------------
 *
 * destination.c
 *		Destinations: where the events of a namespace go.
 *
 * A sender asks for the destinations of its namespace with each event: each session keeps them until a
 * relcache invalidation of t_destination, which every change of that table sends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "defs/activity_definition.h"
#include "defs/namespace.h"
#include "outbox/destination.h"
#include "outbox/guc.h"
#include "outbox/sender.h"
#include "outbox/state.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_define_destination);
PG_FUNCTION_INFO_V1(romancy_drop_destination);
PG_FUNCTION_INFO_V1(romancy_pause_destination);
PG_FUNCTION_INFO_V1(romancy_resume_destination);

/* Patterns of one destination. */
#define TYPES_MAX 100

static const char *const ordered_names[] = {
	[ROM_ORDERED_ALL] = "all",
	[ROM_ORDERED_SOURCE] = "source",
	[ROM_ORDERED_SUBJECT] = "subject",
	[ROM_ORDERED_TYPE] = "type"
};

/* ---------------------------------------------------------------- cache */

static MemoryContext cache_cxt = NULL;
static Oid	cache_relid = InvalidOid;
static uint64 cache_changes = 1;
static uint64 cache_generation = 0; /* that it was read under; 0: never */
static int32 cache_namespace;
static RomDestination *cache = NULL;
static int	cache_count = 0;

/* relation_changed is called for each relcache invalidation; InvalidOid stands for all relations. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == cache_relid)
		cache_changes++;
}

/* changed makes every session read the destinations anew: this one at the end of the command, others after the commit. */
static void
changed(void)
{
	CacheInvalidateRelcacheByRelid(rom_relation_oid("t_destination"));
}

/* ordered_of reads what is stored, or an argument; RM012 for anything else. NULL: not ordered. */
static RomOrdered
ordered_of(const char *text)
{
	if (text == NULL)
		return ROM_ORDERED_NOT;
	for (int i = ROM_ORDERED_ALL; i < lengthof(ordered_names); i++)
		if (strcmp(text, ordered_names[i]) == 0)
			return (RomOrdered) i;
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("argument \"ordered\" must not be \"%s\"", text),
			 errhint("It is one of all, source, subject and type, or null.")));
}

/* texts_of copies the elements of a text[] without nulls; *n of them. */
static char **
texts_of(Datum array, int *n)
{
	Datum	   *elements;
	char	  **texts;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, n);
	texts = palloc_array(char *, Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = TextDatumGetCString(elements[i]);
	return texts;
}

/* prepare begins to listen to changes, of the table as it is now. */
static void
prepare(void)
{
	if (cache_cxt == NULL)
	{
		cache_cxt = AllocSetContextCreate(TopMemoryContext, "romancy destinations", ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	}
	cache_relid = rom_relation_oid("t_destination");
}

uint64
rom_destination_changes(void)
{
	prepare();
	return cache_changes;
}

/* load reads the destinations of a namespace, by name, with the latest snapshot: what is kept outlives the caller's. Without a plan, as definitions. */
static void
load(int32 namespace)
{
	static RomTable table = {
		"t_destination", 6, {"destination_id", "name", "owner", "ordered", "event_types", "url"}, true
	};
	uint64		generation;
	int			count = 0;
	int			room = 1;
	RomRows		rows;

	prepare();
	cache_generation = 0;
	generation = cache_changes;
	CommandCounterIncrement();
	rom_rows_open(&rows, &table, "t_destination_pkey", false);
	MemoryContextReset(cache_cxt);
	cache = MemoryContextAllocZero(cache_cxt, sizeof(RomDestination));
	for (bool more = rom_rows_find_int(&rows, namespace); more; more = rom_rows_next(&rows))
	{
		MemoryContext old = MemoryContextSwitchTo(cache_cxt);
		RomDestination *d;
		bool		isnull;
		Datum		types;

		if (count == room)
			cache = repalloc_array(cache, RomDestination, room *= 2);
		d = &cache[count++];
		memset(d, 0, sizeof(*d));
		d->id = DatumGetInt32(rom_rows_column(&rows, 0, &isnull));
		d->name = rom_rows_text(&rows, 1);
		d->owner = rom_rows_text(&rows, 2);
		d->ordered = ordered_of(rom_rows_text(&rows, 3));
		types = rom_rows_column(&rows, 4, &isnull);
		if (!isnull)
			d->types = texts_of(types, &d->ntypes);
		(void) rom_rows_column(&rows, 5, &isnull);
		d->sent = !isnull;
		MemoryContextSwitchTo(old);
	}
	rom_rows_close(&rows);
	cache_namespace = namespace;
	cache_count = count;
	cache_generation = generation;
}

const RomDestination *
rom_destination_list(int32 namespace, int *n)
{
	AcceptInvalidationMessages();	/* also what commits while this
									 * transaction goes on */
	if (cache_generation != cache_changes || cache_namespace != namespace)
		load(namespace);
	*n = cache_count;
	return cache;
}

const RomDestination *
rom_destination_find(int32 namespace, const char *name)
{
	int			n;
	const RomDestination *list = rom_destination_list(namespace, &n);

	for (int i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

bool
rom_destination_is_engine_type(const char *type)
{
	return strncmp(type, ROM_DESTINATION_ENGINE, strlen(ROM_DESTINATION_ENGINE)) == 0;
}

/* matches: does a pattern match? "*" and "….*" match what begins with all before the star. */
static bool
matches(const char *pattern, const char *type)
{
	size_t		len = strlen(pattern);

	if (rom_destination_is_engine_type(type) && !rom_destination_is_engine_type(pattern))
		return false;
	if (len > 0 && pattern[len - 1] == '*')
		return strncmp(pattern, type, len - 1) == 0;
	return strcmp(pattern, type) == 0;
}

bool
rom_destination_wants(const RomDestination *destination, const char *type)
{
	for (int i = 0; i < destination->ntypes; i++)
		if (matches(destination->types[i], type))
			return true;
	return false;
}

bool
rom_destination_is_owner(const RomDestination *destination, Oid role)
{
	Oid			owner;

	if (destination == NULL)
		return false;
	owner = get_role_oid(destination->owner, true);
	return OidIsValid(owner) ? has_privs_of_role(role, owner) : superuser_arg(role);
}

void
rom_destination_policy(Jsonb *retry, RomRetryPolicy *policy)
{
	rom_retry_defaults(policy);
	policy->max_attempts = rom_guc_outbox_max_attempts;
	policy->max_duration = 0;
	rom_retry_overlay(policy, retry, "retry");
}

bool
rom_destination_format(const char *name, RomFormat *format)
{
	static const char *const names[] = {
		[ROM_FORMAT_STRUCTURED] = "structured",
		[ROM_FORMAT_BINARY] = "binary",
		[ROM_FORMAT_BATCH] = "batch"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
		{
			*format = (RomFormat) i;
			return true;
		}
	return false;
}

static RomDestinationCheck check_url = NULL;

void
rom_destination_on_url(RomDestinationCheck check)
{
	check_url = check;
}

/* ---------------------------------------------------------------- the calls */

/* The arguments of define_destination(), from 0. */
enum
{
	ARG_NAME,
	ARG_URL,
	ARG_HEADERS,
	ARG_SIGNING_SECRET,
	ARG_FORMAT,
	ARG_BATCH_SIZE,
	ARG_MAX_IN_FLIGHT,
	ARG_RATE_LIMIT,
	ARG_RETRY,
	ARG_EVENT_TYPES,
	ARG_ORDERED,
	ARG_DESCRIPTION,
	ARGS
};

/* Most requests of one destination that are under way at a time. */
#define IN_FLIGHT_MAX 1000

static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("destination \"\" is always there and cannot be defined, dropped or paused"),
				 errhint("Define another destination, with the types of events that it is to get.")));
	if (strlen(name) > ROM_DESTINATION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must have at most %d bytes", ROM_DESTINATION_MAX)));
	return name;
}

/*
 * lock_row locks the row of a destination against other changes and returns its id; 0 when there is none. 42501 unless the role may do what its
 * owner may. *paused: whether it is. Engine scope needed.
 */
static int32
lock_row(int32 namespace, const char *name, Oid role, bool *paused)
{
	static RomStatement select = {
		"SELECT d.owner, d.paused_at IS NOT NULL, d.destination_id FROM romancy.t_destination d WHERE d.namespace = $1 AND d.name = $2 FOR UPDATE",
		2, {INT4OID, TEXTOID}
	};
	Datum		values[2] = {Int32GetDatum(namespace), CStringGetTextDatum(name)};
	RomDestination found = {0};
	RomRowSet	set;
	bool		isnull;

	if (rom_execute_rows(&set, &select, values, NULL, 1) == 0)
		return 0;
	found.owner = rom_value_text(&set, 0, 1, CurrentMemoryContext);
	*paused = DatumGetBool(rom_value(&set, 0, 2, &isnull));
	if (!rom_destination_is_owner(&found, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of destination \"%s\"", name)));
	return DatumGetInt32(rom_value(&set, 0, 3, &isnull));
}

/* check_types raises RM012 for an argument "event_types" that is no list of patterns. */
static void
check_types(FunctionCallInfo fcinfo, int n)
{
	ArrayType  *array;
	char	  **types;
	int			ntypes;

	if (PG_ARGISNULL(n))
		return;
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"event_types\" must be an array of one dimension without nulls")));
	types = texts_of(PointerGetDatum(array), &ntypes);
	if (ntypes < 1 || ntypes > TYPES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"event_types\" must have between 1 and %d elements", TYPES_MAX),
				 errhint("Null stands for a destination that gets only the events that name it.")));
	for (int i = 0; i < ntypes; i++)
	{
		char	   *star = strchr(types[i], '*');

		rom_arg_check_short_name(types[i], "event_types");
		if (star != NULL && (star[1] != '\0' || (star > types[i] && star[-1] != '.')))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("\"%s\" is no pattern of event types", types[i]),
					 errhint("Write a type (shop.order), the beginning of types (shop.*), or * for all.")));
	}
}

/* check_retry raises RM012 for an argument "retry" that is no policy, or has keys that mean nothing to an event. */
static void
check_retry(Jsonb *retry)
{
	static const char *const keys[] = {"max_attempts", "initial_interval", "backoff_coefficient", "max_interval", "max_duration", "jitter"};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	RomRetryPolicy policy;

	if (retry == NULL)
		return;
	it = JsonbIteratorInit(&retry->root);
	while (JB_ROOT_IS_OBJECT(retry) && (token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		known = token != WJB_KEY;

		for (int i = 0; i < lengthof(keys) && !known; i++)
			known = strlen(keys[i]) == v.val.string.len && strncmp(keys[i], v.val.string.val, v.val.string.len) == 0;
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("key \"%.*s\" of \"retry\" is not for destinations", v.val.string.len, v.val.string.val),
					 errhint("Keys are max_attempts, initial_interval, backoff_coefficient, max_interval, max_duration and jitter.")));
	}
	rom_destination_policy(retry, &policy);
	rom_arg_check_payload(retry, "retry");
}

/* check_range raises RM012 for an argument, if it is given, that is not between 1 and max. */
static void
check_range(FunctionCallInfo fcinfo, int n, const char *name, int max)
{
	if (!PG_ARGISNULL(n) && (PG_GETARG_INT32(n) < 1 || PG_GETARG_INT32(n) > max))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must be between 1 and %d", name, max)));
}

/* check_sending raises RM012 for arguments about sending that cannot be, or that mean nothing without a URL. */
static void
check_sending(FunctionCallInfo fcinfo, int32 namespace)
{
	static const char *const names[] = {
		[ARG_HEADERS] = "headers",[ARG_SIGNING_SECRET] = "signing_secret",[ARG_BATCH_SIZE] = "batch_size",
		[ARG_MAX_IN_FLIGHT] = "max_in_flight",[ARG_RATE_LIMIT] = "rate_limit"
	};
	char	   *url = rom_arg_text_opt(fcinfo, ARG_URL);
	char	   *name = rom_arg_text_opt(fcinfo, ARG_FORMAT);
	char	   *rate = rom_arg_text_opt(fcinfo, ARG_RATE_LIMIT);
	RomFormat	format = ROM_FORMAT_STRUCTURED;
	int			count;
	int64		period;

	if (name != NULL && !rom_destination_format(name, &format))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"format\" must not be \"%s\"", name),
				 errhint("It is one of structured, binary and batch.")));
	check_range(fcinfo, ARG_BATCH_SIZE, "batch_size", ROM_OUTBOX_CALL_MAX);
	check_range(fcinfo, ARG_MAX_IN_FLIGHT, "max_in_flight", IN_FLIGHT_MAX);
	if (!PG_ARGISNULL(ARG_BATCH_SIZE) && format != ROM_FORMAT_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"batch_size\" is for the format batch")));
	if (rate != NULL && !rom_activity_definition_rate(rate, &count, &period))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"rate_limit\" must not be \"%s\"", rate),
				 errhint("Write a number of requests and a period: \"100/s\", \"100/m\", \"100/h\".")));
	for (int i = 0; url == NULL && i < lengthof(names); i++)
		if (names[i] != NULL && !PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"%s\" needs a \"url\"", names[i]),
					 errhint("The events of a destination without a URL are fetched by programs.")));
	if (url == NULL)
		return;
	rom_arg_check_payload(rom_arg_jsonb_opt(fcinfo, ARG_HEADERS), "headers");
	if (check_url == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("destinations cannot have a URL")));
	check_url(namespace, url, rom_arg_jsonb_opt(fcinfo, ARG_HEADERS), rom_arg_text_opt(fcinfo, ARG_SIGNING_SECRET));
}

/*
 * romancy.define_destination(name text, url text, headers jsonb, signing_secret text, format text, batch_size int, max_in_flight int, rate_limit text, retry jsonb,
 * event_types text[], ordered text, description text) → void
 *
 * Creates or replaces a destination. url: where the server posts its events; null: programs fetch them. headers: an object of strings, {{secret:name}} in them
 * stands for a secret. signing_secret: the name of a secret that requests are signed with. format: structured (also null), binary, batch. batch_size:
 * events of a request of the last (null: romancy.outbox_batch_size). max_in_flight: requests at a time (null: 10). rate_limit: requests in a period (100/m); null:
 * any number. retry: null for the defaults. event_types: patterns of the types that it gets; null: only events that name it. ordered: what is the ordering
 * key of events that bring none (all, source, subject, type); null: nothing. A replaced one keeps its owner, its pause and its events. Errors: RM012; 42501 another
 * role's, no right to define, or a URL that must not be reached; RM010 the server cannot send; RM004 in a workflow.
 */
Datum
romancy_define_destination(PG_FUNCTION_ARGS)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_destination (namespace, name, url, headers, signing_secret, format, batch_size, max_in_flight, rate_limit, retry, event_types,"
		" ordered, description, created_at, updated_at, owner)"
		" VALUES ($13, $1, $2, $3, $4, coalesce($5, 'structured'), $6, $7, $8, $9, $10, $11, $12, $14, $14, $15) ON CONFLICT DO NOTHING",
		15, {TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, JSONBOID, TEXTARRAYOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TEXTOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_destination SET url = $2, headers = $3, signing_secret = $4, format = coalesce($5, 'structured'), batch_size = $6, max_in_flight = $7,"
		" rate_limit = $8, retry = $9, event_types = $10, ordered = $11, description = $12, updated_at = $14 WHERE namespace = $13 AND name = $1",
		14, {TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, JSONBOID, TEXTARRAYOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID}
	};
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	RomEngine	engine;
	Datum		values[ARGS + 3];
	bool		nulls[ARGS + 3] = {false};
	bool		paused;
	int32		id;

	rom_context_refuse_handler("define_destination");
	PreventCommandIfReadOnly("romancy.define_destination()");
	namespace = rom_namespace_require_define("define_destination");
	check_sending(fcinfo, namespace);
	check_retry(rom_arg_jsonb_opt(fcinfo, ARG_RETRY));
	check_types(fcinfo, ARG_EVENT_TYPES);
	(void) ordered_of(rom_arg_text_opt(fcinfo, ARG_ORDERED));
	for (int i = 0; i < ARGS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	values[ARGS] = Int32GetDatum(namespace);
	values[ARGS + 1] = TimestampTzGetDatum(rom_now());
	values[ARGS + 2] = CStringGetTextDatum(GetUserNameFromId(role, false));
	rom_engine_begin(&engine);
	while ((id = lock_row(namespace, name, role, &paused)) == 0)
	{
		if (rom_execute(&insert, values, nulls, 0) == 1)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	rom_execute(&update, values, nulls, 0);
	if (id != 0)
		rom_sender_forget(namespace, id, false);
	changed();
	rom_engine_end(&engine);
	if (!nulls[ARG_URL])
		rom_sender_wake();
	PG_RETURN_VOID();
}

/* Of destination $2 of namespace $1; one index is of events with an ordering key, the other one of those without. */
#define LIVE_SQL \
	"(SELECT o.outbox_id FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.destination_id = $2" \
	" AND o.state < " ROM_SQL_OUTBOX_FINAL " AND o.key_hash IS NULL" \
	" UNION ALL SELECT o.outbox_id FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.destination_id = $2" \
	" AND o.state < " ROM_SQL_OUTBOX_FINAL " AND o.key_hash IS NOT NULL)"

/*
 * romancy.drop_destination(name text, discard boolean) → boolean
 *
 * Drops a destination; false when there is none. Events that are not final yet are RM010, unless discard is true: they are dead then.
 * Other errors: 42501 another role's, RM004 in a workflow.
 */
Datum
romancy_drop_destination(PG_FUNCTION_ARGS)
{
	static RomStatement live = {
		"SELECT 1 FROM " LIVE_SQL " l LIMIT 1", 2, {INT4OID, INT4OID}
	};
	static RomStatement discard = {
		"UPDATE romancy.t_outbox SET state = " ROM_SQL_OUTBOX_DEAD ", due_at = $3, error = 'the destination was dropped'"
		" WHERE outbox_id = ANY (ARRAY" LIVE_SQL ") AND state < " ROM_SQL_OUTBOX_FINAL,
		3, {INT4OID, INT4OID, TIMESTAMPTZOID}
	};
	static RomStatement delete = {
		"DELETE FROM romancy.t_destination WHERE namespace = $1 AND destination_id = $2", 2, {INT4OID, INT4OID}
	};
	char	   *name = name_arg(fcinfo);
	bool		discards = rom_arg_bool_opt(fcinfo, 1, false);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[3];
	RomEngine	engine;
	bool		paused;
	int32		id;

	rom_context_refuse_handler("drop_destination");
	PreventCommandIfReadOnly("romancy.drop_destination()");
	namespace = rom_namespace_current();
	values[0] = Int32GetDatum(namespace);
	values[2] = TimestampTzGetDatum(rom_now());
	rom_engine_begin(&engine);
	id = lock_row(namespace, name, role, &paused);
	if (id != 0)
	{
		values[1] = Int32GetDatum(id);
		if (discards)
			rom_execute(&discard, values, NULL, 0);
		else if (rom_execute(&live, values, NULL, 1) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_STATE),
					 errmsg("destination \"%s\" has events that are not published yet", name),
					 errhint("Have them fetched and acknowledged, or drop it with discard => true: they are dead then.")));
		rom_execute(&delete, values, NULL, 0);
		rom_sender_forget(namespace, id, true);
		changed();
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(id != 0);
}

/* set_paused pauses a destination, or ends its pause; false when there is nothing to do. */
static bool
set_paused(FunctionCallInfo fcinfo, const char *function, bool pause)
{
	static RomStatement update = {
		"UPDATE romancy.t_destination SET paused_at = $3, paused_by = $4, note = $5 WHERE namespace = $1 AND name = $2",
		5, {INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
	};
	char	   *name = name_arg(fcinfo);
	Oid			role = GetUserId();
	int32		namespace;
	Datum		values[5];
	bool		nulls[5] = {false, false, !pause, !pause, !pause || PG_ARGISNULL(1)};
	RomEngine	engine;
	bool		paused;
	int32		id;

	rom_context_refuse_handler(function);
	PreventCommandIfReadOnly(psprintf("romancy.%s()", function));
	namespace = rom_namespace_current();
	values[0] = Int32GetDatum(namespace);
	values[1] = CStringGetTextDatum(name);
	values[2] = TimestampTzGetDatum(rom_now());
	values[3] = CStringGetTextDatum(GetUserNameFromId(role, false));
	values[4] = nulls[4] ? (Datum) 0 : PG_GETARG_DATUM(1);
	rom_engine_begin(&engine);
	id = lock_row(namespace, name, role, &paused);
	if (id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("destination \"%s\" does not exist", name)));
	if (paused != pause)
		rom_execute(&update, values, nulls, 0);
	if (paused && !pause)
		rom_sender_forget(namespace, id, false);
	rom_engine_end(&engine);
	if (paused && !pause)
		rom_sender_wake();
	return paused != pause;
}

/*
 * romancy.pause_destination(name text, note text) → boolean
 *
 * None of its events is given out any more; what is under a lease goes on. note, for others to read, may be null. False when it is
 * paused. Errors: RM001, 42501, RM004 in a workflow.
 */
Datum
romancy_pause_destination(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(set_paused(fcinfo, "pause_destination", true));
}

/* romancy.resume_destination(name text) → boolean: ends a pause; false when it is not paused. Errors: RM001, 42501, RM004 in a workflow. */
Datum
romancy_resume_destination(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(set_paused(fcinfo, "resume_destination", false));
}
