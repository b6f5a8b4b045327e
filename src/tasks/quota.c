/*-------------------------------------------------------------------------
 *
 * quota.c
 *		Limits of queues and activities.
 *
 * What runs is counted in the table, what a rate limit has left stands in
 * t_bucket; both under a lock that those who claim from a limited queue hold to
 * their commit. So a limit is never exceeded, whatever dies, and a claim that is rolled
 * back costs nothing. Queues without limits pay one look at t_queue.
 *
 * With per_key the queue's limits hold for each key, and keys take turns: a fetch
 * begins after the key that was served last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/front.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/wake.h"
#include "engine/define.h"
#include "engine/instance.h"
#include "tasks/notify.h"
#include "tasks/quota.h"

/* Class of the advisory locks. */
#define LOCK_QUEUE 0x726f6d51	/* "romQ" */

/* Keys that one fetch looks at. */
#define KEYS_MAX 500

/* A queue's row. */
typedef struct Limits
{
	bool		found;
	bool		paused;
	char	   *owner;
	char	   *per_key;
	char	   *last_key;
	int			max_concurrency;	/* 0: none */
	int			rate;			/* 0: none */
	int64		period;
} Limits;

/* An activity with limits. */
typedef struct ActivityLimit
{
	char	   *name;
	int			max_concurrency;
	int			rate;
	int64		period;
} ActivityLimit;

/* read_queue reads a queue's row. */
static void
read_queue(const char *queue, Limits *l)
{
	static RomStatement select = {
		"SELECT owner, max_concurrency, rate_limit, per_key, paused, last_key FROM romancy.t_queue WHERE name = $1",
		1, {TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	Datum		value;
	bool		isnull;
	char	   *rate;

	memset(l, 0, sizeof(Limits));
	values[0] = CStringGetTextDatum(queue[0] == '@' ? queue + 1 : queue);
	if (rom_execute(&select, values, NULL, 1) == 0)
		return;
	l->found = true;
	l->owner = rom_value_text(0, 1, cxt);
	value = rom_value(0, 2, &isnull);
	l->max_concurrency = isnull ? 0 : DatumGetInt32(value);
	rate = rom_value_text(0, 3, cxt);
	if (rate != NULL)
		(void) rom_rate_parse(rate, &l->rate, &l->period);
	l->per_key = rom_value_text(0, 4, cxt);
	l->paused = DatumGetBool(rom_value(0, 5, &isnull));
	l->last_key = rom_value_text(0, 6, cxt);
}

/* read_activities reads the limited activities of a queue. */
static int
read_activities(const char *queue, ActivityLimit **list)
{
	static RomStatement select = {
		"SELECT name, max_concurrency, rate_limit FROM romancy.t_activity"
		" WHERE queue = $1 AND (max_concurrency IS NOT NULL OR rate_limit IS NOT NULL)",
		1, {TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;

	values[0] = CStringGetTextDatum(queue);
	rows = rom_execute(&select, values, NULL, 0);
	*list = MemoryContextAllocZero(cxt, sizeof(ActivityLimit) * (rows + 1));
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		value = rom_value(i, 2, &isnull);
		char	   *rate = rom_value_text(i, 3, cxt);

		(*list)[i].name = rom_value_text(i, 1, cxt);
		(*list)[i].max_concurrency = isnull ? 0 : DatumGetInt32(value);
		if (rate != NULL)
			(void) rom_rate_parse(rate, &(*list)[i].rate, &(*list)[i].period);
	}
	return rows;
}

/* value_at is the text at a dotted path of input; "" when there is none. */
static char *
value_at(Jsonb *input, const char *path)
{
	char	   *rest = pstrdup(path);
	char	   *part;

	while ((part = strsep(&rest, ".")) != NULL)
	{
		if (input == NULL || !JB_ROOT_IS_OBJECT(input))
			return "";
		input = rom_jb_get_json(input, part);
	}
	if (input == NULL || !JB_ROOT_IS_SCALAR(input))
		return "";
	{
		JsonbValue *v = getIthJsonbValueFromContainer(&input->root, 0);

		if (v->type == jbvString)
			return pnstrdup(v->val.string.val, Min(v->val.string.len, 500));
		return JsonbToCString(NULL, &input->root, 0);
	}
}

char *
rom_quota_key_of(const char *queue, const char *activity, Jsonb *input)
{
	static RomStatement limited = {
		"SELECT 1 FROM romancy.t_activity WHERE name = $1 AND (max_concurrency IS NOT NULL OR rate_limit IS NOT NULL)",
		1, {TEXTOID}
	};
	Limits		l;
	Datum		values[1];

	if (queue[0] == '\0')
		return NULL;
	read_queue(queue, &l);
	if (l.per_key != NULL)
		return value_at(input, l.per_key);
	if (l.max_concurrency > 0 || l.rate > 0)
		return "";
	values[0] = CStringGetTextDatum(activity);
	return rom_execute(&limited, values, NULL, 1) > 0 ? "" : NULL;
}

RomQuotaKind
rom_quota_of(const char *queue)
{
	static RomTable queues = {
		"t_queue", 3, {"paused", "max_concurrency", "rate_limit"}, true
	};
	static RomTable activities = {
		"t_activity", 1, {"name"}, true
	};
	RomQuotaKind kind = ROM_QUOTA_NONE;
	RomRows		rows;
	bool		none[3];

	rom_rows_open(&rows, &queues, "t_queue_pkey", false);
	if (rom_rows_find_text(&rows, queue[0] == '@' ? queue + 1 : queue))
	{
		bool		paused = DatumGetBool(rom_rows_column(&rows, 0, &none[0]));

		(void) rom_rows_column(&rows, 1, &none[1]);
		(void) rom_rows_column(&rows, 2, &none[2]);
		if (paused)
			kind = ROM_QUOTA_PAUSED;
		else if (!none[1] || !none[2])
			kind = ROM_QUOTA_LIMITED;
	}
	rom_rows_close(&rows);
	if (kind != ROM_QUOTA_NONE || queue[0] == '@')
		return kind;
	rom_rows_open(&rows, &activities, "t_activity_limited", false);
	if (rom_rows_find_text(&rows, queue))
		kind = ROM_QUOTA_LIMITED;
	rom_rows_close(&rows);
	return kind;
}

/* running counts what runs of a queue: of a key (NULL: all), of an activity (NULL: all). */
static int64
running(const char *queue, const char *key, const char *activity)
{
	static RomStatement count = {
		"SELECT count(*) FROM romancy.t_task WHERE queue = $1 AND state = 1 AND limit_key IS NOT NULL"
		" AND ($2 IS NULL OR limit_key = $2) AND ($3 IS NULL OR activity = $3)",
		3, {TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[3];
	bool		nulls[3] = {false, key == NULL, activity == NULL};
	bool		isnull;

	values[0] = CStringGetTextDatum(queue);
	values[1] = key ? CStringGetTextDatum(key) : (Datum) 0;
	values[2] = activity ? CStringGetTextDatum(activity) : (Datum) 0;
	rom_execute(&count, values, nulls, 0);
	return DatumGetInt64(rom_value(0, 1, &isnull));
}

/* bucket gives how many tokens there are now; take: takes one. *next: when there will be one. */
static double
bucket(const char *scope, const char *key, int rate, int64 period, bool take,
	   TimestampTz *next)
{
	static RomStatement select = {
		"SELECT tokens, at FROM romancy.t_bucket WHERE scope = $1 AND key = $2",
		2, {TEXTOID, TEXTOID}
	};
	static RomStatement upsert = {
		"INSERT INTO romancy.t_bucket (scope, key, tokens, at) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (scope, key) DO UPDATE SET tokens = excluded.tokens, at = excluded.at",
		4, {TEXTOID, TEXTOID, FLOAT8OID, TIMESTAMPTZOID}
	};
	TimestampTz now = rom_now();
	double		tokens = rate;
	Datum		values[4];
	bool		isnull;

	values[0] = CStringGetTextDatum(scope);
	values[1] = CStringGetTextDatum(key);
	if (rom_execute(&select, values, NULL, 1) > 0)
	{
		TimestampTz at = DatumGetTimestampTz(rom_value(0, 2, &isnull));

		tokens = DatumGetFloat8(rom_value(0, 1, &isnull));
		tokens = Min(rate, tokens + (double) (now - at) * rate / period);
	}
	if (take)
	{
		tokens -= 1;
		values[2] = Float8GetDatum(tokens);
		values[3] = TimestampTzGetDatum(now);
		rom_execute(&upsert, values, NULL, 0);
	}
	if (tokens < 1 && next != NULL)
		*next = Min(*next, now + (TimestampTz) ((1 - tokens) * period / rate) + 1000);
	return tokens;
}

/* text_array makes a text[]. */
static Datum
text_array(List *list)
{
	Datum	   *elems = palloc_array(Datum, list_length(list) + 1);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, list)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* uuid_array makes a uuid[]. */
static Datum
uuid_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elems = palloc_array(Datum, n + 1);

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* A choice under way. */
typedef struct Choice
{
	RomClaim   *claim;
	Oid			caller;
	Limits		limits;
	ActivityLimit *activities;
	int			nactivities;
	List	   *blocked;		/* names of activities that have reached a
								 * limit */
	pg_uuid_t  *ids;
	int			count;
} Choice;

/* block_activities lists the activities that have reached a limit. */
static void
block_activities(Choice *c)
{
	c->blocked = NIL;
	for (int i = 0; i < c->nactivities; i++)
	{
		ActivityLimit *a = &c->activities[i];

		if ((a->max_concurrency > 0 && running(c->claim->queue, NULL, a->name) >= a->max_concurrency) ||
			(a->rate > 0 && bucket(psprintf("activity:%s", a->name), "", a->rate, a->period, false,
								   &c->claim->retry_at) < 1))
			c->blocked = lappend(c->blocked, a->name);
	}
}

/* next_key is the next key after key that has ready tasks; NULL when there is none. */
static char *
next_key(Choice *c, const char *key)
{
	static RomStatement select = {
		"SELECT limit_key FROM romancy.t_task WHERE queue = $1 AND state = 0 AND limit_key IS NOT NULL"
		" AND ($2 IS NULL OR limit_key > $2) ORDER BY queue, limit_key LIMIT 1",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2];
	bool		nulls[2] = {false, key == NULL};

	values[0] = CStringGetTextDatum(c->claim->queue);
	values[1] = key ? CStringGetTextDatum(key) : (Datum) 0;
	if (rom_execute(&select, values, nulls, 1) == 0)
		return NULL;
	return rom_value_text(0, 1, CurrentMemoryContext);
}

/* pick takes the best ready task of a key (NULL: of any) that no limit holds back. */
static bool
pick(Choice *c, const char *key)
{
	static RomStatement select = {
		"SELECT task_id, activity FROM romancy.t_task WHERE queue = $1 AND state = 0"
		" AND ($2 IS NULL OR (limit_key = $2 AND limit_key IS NOT NULL)) AND activity <> ALL ($3) AND task_id <> ALL ($4)"
		" AND romancy.may_access(owner, $5, true)"
		" ORDER BY (- priority::bigint), task_id LIMIT 1 FOR UPDATE SKIP LOCKED",
		5, {TEXTOID, TEXTOID, TEXTARRAYOID, UUIDARRAYOID, OIDOID}
	};
	Limits	   *l = &c->limits;
	const char *scope = psprintf("queue:%s", c->claim->queue);
	const char *bucket_key = key ? key : "";
	char	   *activity;
	Datum		values[5];
	bool		nulls[5] = {false, key == NULL, false, false, false};
	bool		isnull;
	int64		mine = 0;

	/* what this fetch has chosen does not run yet */
	for (int i = 0; l->max_concurrency > 0 && key == NULL && i < c->count; i++)
		mine++;
	if (l->max_concurrency > 0 &&
		running(c->claim->queue, key, NULL) + mine >= l->max_concurrency)
		return false;
	if (l->rate > 0 && bucket(scope, bucket_key, l->rate, l->period, false, &c->claim->retry_at) < 1)
		return false;
	values[0] = CStringGetTextDatum(c->claim->queue);
	values[1] = key ? CStringGetTextDatum(key) : (Datum) 0;
	values[2] = text_array(c->blocked);
	values[3] = uuid_array(c->ids, c->count);
	values[4] = ObjectIdGetDatum(c->caller);
	if (rom_execute(&select, values, nulls, 1) == 0)
		return false;
	c->ids[c->count++] = *DatumGetUUIDP(rom_value(0, 1, &isnull));
	activity = rom_value_text(0, 2, CurrentMemoryContext);
	if (l->rate > 0)
		(void) bucket(scope, bucket_key, l->rate, l->period, true, NULL);
	for (int i = 0; i < c->nactivities; i++)
		if (c->activities[i].rate > 0 && strcmp(c->activities[i].name, activity) == 0)
			(void) bucket(psprintf("activity:%s", activity), "", c->activities[i].rate,
						  c->activities[i].period, true, NULL);
	return true;
}

/* served remembers the key that was served last. */
static void
served(Choice *c, const char *key)
{
	static RomStatement update = {
		"UPDATE romancy.t_queue SET last_key = $2 WHERE name = $1",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(c->claim->queue);
	values[1] = CStringGetTextDatum(key);
	rom_execute(&update, values, NULL, 0);
}

int
rom_quota_candidates(RomClaim *claim, Oid caller, int max, pg_uuid_t *ids)
{
	LOCKTAG		tag;
	Choice		c = {0};
	char	   *key;
	char	   *first = NULL;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_QUEUE,
						 hash_bytes((unsigned char *) claim->queue, strlen(claim->queue)), 3);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	c.claim = claim;
	c.caller = caller;
	c.ids = ids;
	read_queue(claim->queue, &c.limits);
	c.nactivities = read_activities(claim->queue, &c.activities);

	/*
	 * One at a time, for each is counted before the next is chosen: what is
	 * chosen here runs only after the caller's update.
	 */
	block_activities(&c);
	if (c.limits.per_key == NULL)
	{
		(void) pick(&c, NULL);
		return c.count;
	}
	key = c.limits.last_key;
	for (int i = 0; i < KEYS_MAX; i++)
	{
		key = next_key(&c, key);
		if (key == NULL)
		{
			key = next_key(&c, NULL);	/* from the beginning */
			if (key == NULL)
				return 0;
		}
		if (first == NULL)
			first = key;
		else if (strcmp(first, key) == 0)
			return 0;			/* all round */
		if (pick(&c, key))
		{
			served(&c, key);
			return c.count;
		}
	}
	/* more keys than one fetch looks at: the next goes on from here */
	served(&c, key);
	claim->retry_at = Min(claim->retry_at, rom_now() + 10000);
	return 0;
}

/* ---------------------------------------------------------------- set_queue */

/* check_name reads a queue's name. */
static char *
check_name(FunctionCallInfo fcinfo)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0' || strlen(name) > ROM_QUEUE_NAME_MAX || name[0] == '@')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("a queue's name must have between 1 and %d bytes and not begin with \"@\"",
						ROM_QUEUE_NAME_MAX)));
	return name;
}

/* check_owner raises 42501 unless the current user may change the queue; returns who is to own its row. */
static char *
check_owner(const char *name)
{
	RomEngine	engine;
	Limits		l;

	rom_engine_begin(&engine);
	read_queue(name, &l);
	rom_engine_end(&engine);
	if (l.found && !rom_may_steer(l.owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", name)));
	return l.found ? l.owner : GetUserNameFromId(GetUserId(), false);
}

/* relabel gives the queue's waiting tasks the key that its new limits ask for. */
static void
relabel(const char *name)
{
	static RomStatement select = {
		"SELECT task_id, activity, input FROM romancy.t_task WHERE queue = $1 AND state IN (0, 2) FOR UPDATE SKIP LOCKED",
		1, {TEXTOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_task SET limit_key = $2 WHERE task_id = $1 AND limit_key IS DISTINCT FROM $2",
		2, {UUIDOID, TEXTOID}
	};
	Datum		values[2];
	uint64		rows;
	SPITupleTable *table;
	TupleDesc	desc;

	values[0] = CStringGetTextDatum(name);
	rows = rom_execute(&select, values, NULL, 0);
	table = SPI_tuptable;
	desc = table->tupdesc;
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		bool		nulls[2] = {false, false};
		char	   *key;
		Datum		input = SPI_getbinval(table->vals[i], desc, 3, &isnull);
		Jsonb	   *json = isnull ? NULL : DatumGetJsonbP(input);

		key = rom_quota_key_of(name, SPI_getvalue(table->vals[i], desc, 2), json);
		values[0] = SPI_getbinval(table->vals[i], desc, 1, &isnull);
		nulls[1] = key == NULL;
		values[1] = key ? CStringGetTextDatum(key) : (Datum) 0;
		rom_execute(&update, values, nulls, 0);
	}
	rom_front_reset(name);
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
	static RomStatement forget = {
		"DELETE FROM romancy.t_bucket WHERE scope = $1",
		1, {TEXTOID}
	};
	char	   *name = check_name(fcinfo);
	char	   *rate = rom_arg_text_opt(fcinfo, 2);
	char	   *per_key = rom_arg_text_opt(fcinfo, 3);
	char	   *notify = rom_arg_text_opt(fcinfo, 4);
	char	   *owner;
	int			count;
	int64		period;
	RomEngine	engine;
	Datum		values[6];
	bool		nulls[6] = {false, false, PG_ARGISNULL(1), rate == NULL, per_key == NULL, notify == NULL};

	rom_refuse_in_handler("set_queue");
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"max_concurrency\" must be greater than zero"),
				 errhint("Use romancy.pause_queue() to stop a queue.")));
	if (rate != NULL && !rom_rate_parse(rate, &count, &period))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid rate limit \"%s\"", rate),
				 errhint("Write a number and a unit, such as \"100/m\"; the units are s, m and h.")));
	if (per_key != NULL &&
		(per_key[0] == '\0' || strlen(per_key) > ROM_QUEUE_NAME_MAX ||
		 per_key[0] == '.' || per_key[strlen(per_key) - 1] == '.' || strstr(per_key, "..") != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"per_key\" must be a path into the input, such as \"tenant.id\"")));
	if (notify != NULL && (notify[0] == '\0' || strlen(notify) >= NAMEDATALEN))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"notify\" must be a channel's name of 1 to %d bytes", NAMEDATALEN - 1),
				 errhint("Programs LISTEN to it; the payload is the queue's name.")));
	owner = check_owner(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = nulls[2] ? (Datum) 0 : PG_GETARG_DATUM(1);
	values[3] = rate ? CStringGetTextDatum(rate) : (Datum) 0;
	values[4] = per_key ? CStringGetTextDatum(per_key) : (Datum) 0;
	values[5] = notify ? CStringGetTextDatum(notify) : (Datum) 0;
	rom_engine_begin(&engine);
	rom_execute(&upsert, values, nulls, 0);
	rom_notify_forget();
	rom_notify_ask(name);
	values[0] = CStringGetTextDatum(psprintf("queue:%s", name));
	rom_execute(&forget, values, NULL, 0);
	relabel(name);
	rom_engine_end(&engine);
	rom_wake_key(rom_task_queue_key(name));
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
	char	   *name = check_name(fcinfo);
	char	   *owner;
	RomEngine	engine;
	Datum		values[3];

	rom_refuse_in_handler(paused ? "pause_queue" : "resume_queue");
	owner = check_owner(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(owner);
	values[2] = BoolGetDatum(paused);
	rom_engine_begin(&engine);
	rom_execute(&upsert, values, NULL, 0);
	if (!paused)
		rom_notify_ask(name);
	rom_engine_end(&engine);
	rom_wake_key(rom_task_queue_key(name));
	rom_wake_key(rom_task_queue_key(psprintf("@%s", name)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_pause_queue);

/* romancy.pause_queue(name text): nobody fetches from it until resume_queue; what runs goes on */
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
