/*-------------------------------------------------------------------------
 *
 * settle.c
 *		The outcome of events that were given out: ack_outbox, nack_outbox, replay_outbox.
 *
 * A program names an event by its id, or by the token of its lease. An id may stand for several events (of other sources, or
 * on their way to other destinations); a token names one, and one lease of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "defs/retry.h"
#include "outbox/destination.h"
#include "outbox/sender.h"
#include "outbox/settle.h"
#include "outbox/state.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_ack_outbox);
PG_FUNCTION_INFO_V1(romancy_nack_outbox);
PG_FUNCTION_INFO_V1(romancy_replay_outbox);

/* Bytes that are kept of an error. */
#define ERROR_MAX 4096

/* Events of one replay. */
#define REPLAY_MAX 100000

/* The caller, and its namespace. */
typedef struct Asker
{
	int32		namespace;
	Oid			role;
} Asker;

/* May role $2 have event o: is it a member of the sender, or of the destination's owner? */
#define MAY_SQL \
	"(romancy.t_may_access(o.owner, $2, true) OR EXISTS (SELECT FROM romancy.t_destination d" \
	" WHERE d.destination_id = o.destination_id AND romancy.t_may_access(d.owner, $2, true)))"

/* It was given out, and is not final. */
#define GIVEN_SQL \
	"(o.state = " ROM_SQL_OUTBOX_TAKEN " OR o.state = " ROM_SQL_OUTBOX_PENDING " AND o.attempt > 0)"

/* ---------------------------------------------------------------- tokens */

/* A fence has at most so many digits. */
#define FENCE_DIGITS 18

int64
rom_settle_new_fence(void)
{
	uint64		random;

	/*
	 * not of a sequence: after a crash that would give again what an open
	 * transaction had
	 */
	rom_uuid_random(&random, sizeof(random));
	return (int64) (random % UINT64CONST(999999999999999999)) + 1;
}

char *
rom_settle_token(int64 outbox_id, int64 fence)
{
	return psprintf("@" INT64_FORMAT "." INT64_FORMAT, outbox_id, fence);
}

/* read_token reads a token; false when the text is none. */
static bool
read_token(const char *text, int64 *outbox_id, int64 *fence)
{
	int64		numbers[2] = {0, 0};
	int			n = 0;
	const char *p = text;

	if (*p++ != '@')
		return false;
	for (; n < 2; n++)
	{
		const char *begin = p;

		for (; *p >= '0' && *p <= '9' && p - begin < FENCE_DIGITS; p++)
			numbers[n] = numbers[n] * 10 + (*p - '0');
		if (p == begin || *p != (n == 0 ? '.' : '\0'))
			return false;
		p++;
	}
	*outbox_id = numbers[0];
	*fence = numbers[1];
	return true;
}

bool
rom_settle_is_token(const char *text)
{
	return text[0] == '@';
}

/* ---------------------------------------------------------------- finding */

/*
 * lock_event locks the event that a program means by an id or a token: one that is under a lease, or (late) was and has not
 * been given to another since. False when there is none, or others change it at the moment. RM012 where an id means several, or a token has not
 * the form of one. Engine scope needed.
 */
static bool
lock_event(const Asker *asker, const char *text, bool late, int64 *outbox_id)
{
	static RomStatement by_token = {
		"SELECT o.outbox_id, o.state FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.outbox_id = $3 AND o.fence = $4"
		" AND " GIVEN_SQL " AND " MAY_SQL " FOR UPDATE OF o SKIP LOCKED",
		4, {INT4OID, OIDOID, INT8OID, INT8OID}
	};
	static RomStatement by_id = {
		"SELECT o.outbox_id, o.state FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.id = $3"
		" AND " GIVEN_SQL " AND " MAY_SQL " FOR UPDATE OF o SKIP LOCKED",
		3, {INT4OID, OIDOID, TEXTOID}
	};

	/*
	 * in every state: a late answer about one is not to be taken for
	 * another's
	 */
	static RomStatement of_id = {
		"SELECT 1 FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.id = $3 AND o.fence > 0 AND " MAY_SQL,
		3, {INT4OID, OIDOID, TEXTOID}
	};
	Datum		values[4] = {Int32GetDatum(asker->namespace), ObjectIdGetDatum(asker->role)};
	int64		fence;
	bool		isnull;
	RomRowSet	set;
	uint64		rows;
	int16		state;

	if (rom_settle_is_token(text))
	{
		if (!read_token(text, outbox_id, &fence))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("malformed token \"%s\"", text),
					 errhint("Tokens are those that romancy.fetch_outbox() gives.")));
		values[2] = Int64GetDatum(*outbox_id);
		values[3] = Int64GetDatum(fence);
		rows = rom_execute_rows(&set, &by_token, values, NULL, 0);
	}
	else
	{
		values[2] = CStringGetTextDatum(text);
		if (rom_execute(&of_id, values, NULL, 2) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("event id \"%s\" stands for several events that were fetched", text),
					 errdetail("They have other sources or destinations."),
					 errhint("Pass the token instead, which names one of them.")));
		rows = rom_execute_rows(&set, &by_id, values, NULL, 0);
	}
	if (rows == 0)
		return false;
	state = DatumGetInt16(rom_value(&set, 0, 2, &isnull));
	*outbox_id = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	return late || state == ROM_OUTBOX_TAKEN;
}

/* finish makes an event final. Engine scope needed. */
static void
finish(int64 outbox_id, RomOutboxState state, const char *error)
{
	static RomStatement update = {
		"UPDATE romancy.t_outbox SET state = $2, due_at = $3, error = $4 WHERE outbox_id = $1",
		4, {INT8OID, INT2OID, TIMESTAMPTZOID, TEXTOID}
	};
	Datum		values[4] = {Int64GetDatum(outbox_id), Int16GetDatum(state), TimestampTzGetDatum(rom_now())};
	bool		nulls[4] = {false, false, false, error == NULL};

	if (error != NULL)
		values[3] = CStringGetTextDatum(error);
	rom_execute(&update, values, nulls, 0);
}

/*
 * romancy.ack_outbox(ids text[]) → bigint
 *
 * The events were published: they are final. ids: event ids, or tokens; nulls are nothing. Returns how many; those whose lease has ended and
 * that another call has taken since are not counted, by token. Errors: RM012 more than 1,000, an id of several events, or a malformed token; RM004 in a handler.
 */
Datum
romancy_ack_outbox(PG_FUNCTION_ARGS)
{
	Asker		asker;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int64		done = 0;
	RomEngine	engine;

	rom_context_refuse_handler("ack_outbox");
	PreventCommandIfReadOnly("romancy.ack_outbox()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"ids\" must not be null")));
	asker.namespace = rom_namespace_current();
	asker.role = GetUserId();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n > ROM_OUTBOX_CALL_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"ids\" must have at most %d elements", ROM_OUTBOX_CALL_MAX)));
	rom_engine_begin(&engine);
	for (int i = 0; i < n; i++)
	{
		int64		outbox_id;

		if (nulls[i] || !lock_event(&asker, TextDatumGetCString(elements[i]), true, &outbox_id))
			continue;
		finish(outbox_id, ROM_OUTBOX_PUBLISHED, NULL);
		done++;
	}
	rom_engine_end(&engine);
	PG_RETURN_INT64(done);
}

TimestampTz
rom_settle_next_attempt(int attempt, TimestampTz since, Jsonb *retry, TimestampTz now)
{
	RomRetryPolicy policy;
	TimestampTz at;

	rom_destination_policy(retry, &policy);
	at = now + rom_retry_delay(&policy, attempt, pg_prng_double(&pg_global_prng_state));
	if (policy.max_attempts > 0 && attempt >= policy.max_attempts)
		return DT_NOEND;
	if (policy.max_duration > 0 && at > since + policy.max_duration)
		return DT_NOEND;
	return at;
}

/* next_attempt says when an event is to be given out again after an attempt that failed; DT_NOEND: never. Engine scope needed. */
static TimestampTz
next_attempt(int64 outbox_id)
{
	static RomStatement select = {
		"SELECT o.attempt, coalesce(o.replayed_at, o.created_at), d.retry FROM romancy.t_outbox o"
		" LEFT JOIN romancy.t_destination d ON d.destination_id = o.destination_id WHERE o.outbox_id = $1",
		1, {INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(outbox_id)};
	TimestampTz since;
	int32		attempt;
	Datum		retry;
	bool		isnull;
	RomRowSet	set;

	rom_execute_rows(&set, &select, values, NULL, 1);
	attempt = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	since = DatumGetTimestampTz(rom_value(&set, 0, 2, &isnull));
	retry = rom_value_copy(&set, 0, 3, &isnull, CurrentMemoryContext);
	return rom_settle_next_attempt(attempt, since, isnull ? NULL : DatumGetJsonbP(retry), rom_now());
}

/* again has an event given out again at a time. Engine scope needed. */
static void
again(int64 outbox_id, TimestampTz at, const char *error)
{
	static RomStatement update = {
		"UPDATE romancy.t_outbox SET state = " ROM_SQL_OUTBOX_PENDING ", due_at = $2, error = $3 WHERE outbox_id = $1",
		3, {INT8OID, TIMESTAMPTZOID, TEXTOID}
	};
	Datum		values[3] = {Int64GetDatum(outbox_id), TimestampTzGetDatum(at), CStringGetTextDatum(error)};

	rom_execute(&update, values, NULL, 0);
}

/*
 * romancy.nack_outbox(id text, error text) → boolean
 *
 * An attempt failed: the event is given out again after a pause by its destination's retry policy, or is dead when no attempt is left.
 * id: the event's, or the token. error: shown in view outbox, its first 4 kB. False when the event is under no lease, or by token
 * another one. Errors: RM012 an id of several events, or a malformed token; RM004 in a handler.
 */
Datum
romancy_nack_outbox(PG_FUNCTION_ARGS)
{
	char	   *id = rom_arg_text(fcinfo, 0, "id");
	char	   *error = rom_arg_text(fcinfo, 1, "error");
	Asker		asker;
	int64		outbox_id;
	bool		found;
	RomEngine	engine;

	rom_context_refuse_handler("nack_outbox");
	PreventCommandIfReadOnly("romancy.nack_outbox()");
	asker.namespace = rom_namespace_current();
	asker.role = GetUserId();
	error[pg_mbcliplen(error, strlen(error), ERROR_MAX)] = '\0';
	rom_engine_begin(&engine);
	found = lock_event(&asker, id, false, &outbox_id);
	if (found)
	{
		TimestampTz at = next_attempt(outbox_id);

		if (at == DT_NOEND)
			finish(outbox_id, ROM_OUTBOX_DEAD, error);
		else
			again(outbox_id, at, error);
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(found);
}

/* ---------------------------------------------------------------- what the server has sent */

/* Event e of the parameters $1 and $2, ids and fences, under that lease; or late, not given out since. */
#define SENT_SQL \
	"ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e (outbox_id, fence)" \
	" JOIN romancy.t_outbox o ON o.outbox_id = e.outbox_id AND o.fence = e.fence WHERE " GIVEN_SQL

/* sent_values makes those parameters of the events that are not done; how many. */
static int
sent_values(const RomSettle *events, int n, Datum *values)
{
	Datum	   *ids = palloc_array(Datum, n);
	Datum	   *fences = palloc_array(Datum, n);
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		if (events[i].done)
			continue;
		ids[count] = Int64GetDatum(events[i].outbox_id);
		fences[count++] = Int64GetDatum(events[i].fence);
	}
	values[0] = PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = PointerGetDatum(construct_array(fences, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	return count;
}

/* mark_done marks those as done that are not left under their lease; late: nor after it. Engine scope needed. */
static void
mark_done(RomSettle *events, int n, Datum *sent, bool late)
{
	static RomStatement left = {
		.sql = "SELECT o.outbox_id FROM " SENT_SQL " AND ($3 OR o.state = " ROM_SQL_OUTBOX_TAKEN ")",
		.nargs = 3,.argtypes = {INT8ARRAYOID, INT8ARRAYOID, BOOLOID},.generic = true
	};
	Datum		values[3] = {sent[0], sent[1], BoolGetDatum(late)};
	RomRowSet	set;
	uint64		rows;
	bool		isnull;

	rows = rom_execute_rows(&set, &left, values, NULL, 0);
	for (int i = 0; i < n; i++)
	{
		bool		is_left = false;

		for (uint64 j = 0; j < rows && !is_left; j++)
			is_left = DatumGetInt64(rom_value(&set, j, 1, &isnull)) == events[i].outbox_id;
		events[i].done |= !is_left;
	}
}

/* fail_sent has an event sent again, or makes it dead. Engine scope needed. */
static void
fail_sent(int64 outbox_id, const char *error, TimestampTz not_before)
{
	TimestampTz at = next_attempt(outbox_id);

	if (at == DT_NOEND)
		finish(outbox_id, ROM_OUTBOX_DEAD, error);
	else
		again(outbox_id, Max(at, not_before), error);
}

void
rom_settle_sent(RomSettle *events, int n, RomSettled how, const char *error, TimestampTz not_before)
{
	static RomStatement publish = {
		.sql = "UPDATE romancy.t_outbox SET state = " ROM_SQL_OUTBOX_PUBLISHED ", due_at = $3, error = NULL WHERE outbox_id = ANY (ARRAY("
		"SELECT o.outbox_id FROM " SENT_SQL " FOR UPDATE OF o SKIP LOCKED))",
		.nargs = 3,.argtypes = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID},.generic = true
	};
	static RomStatement release = {
		.sql = "UPDATE romancy.t_outbox SET state = " ROM_SQL_OUTBOX_PENDING ", due_at = $3, error = $4, attempt = greatest(attempt - 1, 0) WHERE outbox_id = ANY (ARRAY("
		"SELECT o.outbox_id FROM " SENT_SQL " AND o.state = " ROM_SQL_OUTBOX_TAKEN " FOR UPDATE OF o SKIP LOCKED))",
		.nargs = 4,.argtypes = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, TEXTOID},.generic = true
	};
	static RomStatement lock = {
		.sql = "SELECT o.outbox_id FROM " SENT_SQL " AND o.state = " ROM_SQL_OUTBOX_TAKEN " FOR UPDATE OF o SKIP LOCKED",
		.nargs = 2,.argtypes = {INT8ARRAYOID, INT8ARRAYOID},.generic = true
	};
	Datum		values[4];
	bool		nulls[4] = {false, false, false, error == NULL};
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;
	bool		isnull;

	rom_engine_begin(&engine);
	if (sent_values(events, n, values) > 0)
	{
		values[2] = TimestampTzGetDatum(rom_now());
		values[3] = error != NULL ? CStringGetTextDatum(error) : (Datum) 0;
		if (how == ROM_SETTLED_PUBLISHED)
			rom_execute(&publish, values, nulls, 0);
		else if (how == ROM_SETTLED_RELEASED)
			rom_execute(&release, values, nulls, 0);
		else
		{
			rows = rom_execute_rows(&set, &lock, values, nulls, 0);
			for (uint64 i = 0; i < rows; i++)
			{
				int64		outbox_id = DatumGetInt64(rom_value(&set, i, 1, &isnull));

				if (how == ROM_SETTLED_INVALID)
					finish(outbox_id, ROM_OUTBOX_INVALID, error);
				else
					fail_sent(outbox_id, error, not_before);
			}
		}
		mark_done(events, n, values, how == ROM_SETTLED_PUBLISHED);
	}
	rom_engine_end(&engine);
}

/* ---------------------------------------------------------------- replay */

/* The keys of replay_outbox()'s filter, in the order of its statement's parameters from $3 on. */
static const char *const filter_keys[] = {"destination", "status", "type", "source", "id", "ordering_key", "sent_after", "sent_before"};

#define FILTER_TIMES 6			/* from here on they are instants */

/* check_filter raises RM012 for a filter that has no key, an unknown key, or a value that is no text. */
static void
check_filter(Jsonb *filter)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	bool		known = true;
	char	   *key = NULL;

	if (!JB_ROOT_IS_OBJECT(filter) || JB_ROOT_COUNT(filter) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"filter\" must be a JSON object with at least one key")));
	it = JsonbIteratorInit(&filter->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE && known)
	{
		if (token == WJB_KEY)
		{
			key = pnstrdup(v.val.string.val, v.val.string.len);
			known = false;
			for (int i = 0; i < lengthof(filter_keys); i++)
				known |= strcmp(key, filter_keys[i]) == 0;
		}
		else if (token == WJB_VALUE && v.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("key \"%s\" of \"filter\" must be a text", key)));
	}
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("unknown key \"%s\" in \"filter\"", key),
				 errhint("Keys are destination, status, type, source, id, ordering_key, sent_after and sent_before.")));
}

/* status_of is the number of a final status; RM012 for anything else. */
static RomOutboxState
status_of(const char *name)
{
	static const char *const names[] = {"published", "invalid", "expired", "dead"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return (RomOutboxState) (ROM_OUTBOX_PUBLISHED + i);
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("key \"status\" of \"filter\" must not be \"%s\"", name),
			 errhint("It is one of published, invalid, expired and dead.")));
}

/*
 * romancy.replay_outbox(filter jsonb) → bigint
 *
 * Final events of the session's namespace are pending again, with all their attempts; how many. Those of a dropped destination go to the one that has its name now. filter: an object of destination, status, type,
 * source, id, ordering_key (equal), sent_after (inclusive), sent_before (exclusive). Those of a role that the caller is no member of, at a
 * destination of another role's, are left out, and those that another transaction replays or deletes. Errors: RM012 the filter; RM011 more than 100,000; RM004 in a handler.
 */
Datum
romancy_replay_outbox(PG_FUNCTION_ARGS)
{
	/*
	 * An event is not too old again at once: its age counts from now. Where
	 * its destination was dropped it goes to the one that has the name now,
	 * as if it were sent again.
	 */
	static RomStatement update = {
		"UPDATE romancy.t_outbox u SET state = " ROM_SQL_OUTBOX_PENDING ", attempt = 0, fence = $13, due_at = $11, replayed_at = $11, error = NULL,"
		" destination_id = coalesce((SELECT d.destination_id FROM romancy.t_destination d WHERE d.namespace = u.namespace AND d.name = u.destination),"
		"  u.destination_id)"
		" WHERE outbox_id = ANY (ARRAY(SELECT o.outbox_id FROM romancy.t_outbox o WHERE o.namespace = $1 AND o.state >= " ROM_SQL_OUTBOX_FINAL
		" AND ($3 IS NULL OR o.destination = $3) AND ($4 IS NULL OR o.state = $4) AND ($5 IS NULL OR o.type = $5)"
		" AND ($6 IS NULL OR o.source = $6) AND ($7 IS NULL OR o.id = $7) AND ($8 IS NULL OR o.ordering_key = $8)"
		" AND ($9 IS NULL OR o.created_at >= $9) AND ($10 IS NULL OR o.created_at < $10) AND " MAY_SQL
		" LIMIT $12 FOR UPDATE OF o SKIP LOCKED)) AND state >= " ROM_SQL_OUTBOX_FINAL,
		13, {INT4OID, OIDOID, TEXTOID, INT2OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT8OID}
	};
	Jsonb	   *filter = rom_arg_jsonb(fcinfo, 0, "filter");
	Datum		values[13];
	bool		nulls[13] = {false};
	int64		count;
	RomEngine	engine;

	rom_context_refuse_handler("replay_outbox");
	PreventCommandIfReadOnly("romancy.replay_outbox()");
	check_filter(filter);
	values[0] = Int32GetDatum(rom_namespace_current());
	values[1] = ObjectIdGetDatum(GetUserId());
	for (int i = 0; i < lengthof(filter_keys); i++)
	{
		char	   *text = rom_jb_get_text(filter, filter_keys[i]);
		TimestampTz time;

		values[i + 2] = (Datum) 0;
		nulls[i + 2] = text == NULL;

		if (text == NULL)
			continue;
		if (i < FILTER_TIMES)
			values[i + 2] = i == 1 ? Int16GetDatum(status_of(text)) : CStringGetTextDatum(text);
		else if (rom_arg_input_timestamptz(text, &time))
			values[i + 2] = TimestampTzGetDatum(time);
		else
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("key \"%s\" of \"filter\" must be a time", filter_keys[i])));
	}
	values[10] = TimestampTzGetDatum(rom_now());
	values[11] = Int32GetDatum(REPLAY_MAX + 1);
	values[12] = Int64GetDatum(rom_settle_new_fence());
	rom_engine_begin(&engine);
	count = (int64) rom_execute(&update, values, nulls, 0);
	rom_engine_end(&engine);
	if (count > 0)
		rom_sender_wake();
	if (count > REPLAY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("the filter matches more than %d events", REPLAY_MAX),
				 errhint("Replay them in parts, by sent_after and sent_before.")));
	PG_RETURN_INT64(count);
}
