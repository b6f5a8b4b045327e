/*-------------------------------------------------------------------------
 *
 * take.c
 *		Giving events out, under a lease: fetch_outbox.
 *
 * Both indexes of live events begin with the destination and the sender, so events that a caller may not have cost it nothing, however many they
 * are. Events without an ordering key are a range for each sender, oldest due first. Of those with a key only the first live one
 * of each key can be taken, and only while no other one of the key is under way: the index of keys is read
 * from key to key, beginning anywhere, so that a thousand events of one key cost what one costs, and no key comes always last.
 *
 * Two takers could both find a key free, each seeing but one of two events whose transactions ended in the other order
 * than they sent. So a taker of a key locks the key, without waiting, looks again with a new snapshot, and keeps the lock
 * until its commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/spi.h"
#include "defs/namespace.h"
#include "memory/wake.h"
#include "outbox/destination.h"
#include "outbox/guc.h"
#include "outbox/settle.h"
#include "outbox/state.h"
#include "outbox/sweep.h"
#include "outbox/take.h"
#include "tasks/lease.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_fetch_outbox);

/* Kind of the locks on keys, among those of SET_LOCKTAG_ADVISORY: users have 1 and 2, the engine's others 3. */
#define KEY_LOCK_KIND 4

/* Locks of one destination: keys whose hashes agree in this remainder share one, so that no number of takers fills the server's table of locks. */
#define KEY_LOCKS 1024

/* A take under way, of one destination. */
typedef struct Taking
{
	const RomTake *take;
	RomTaken   *taken;
	int			count;
	MemoryContext cxt;			/* of what is taken */
	TimestampTz now;
	TimestampTz oldest;			/* events that were sent before are too old */
	int64		fence;			/* of all leases of this call */
	int32		destination;	/* its id */
	bool		owns;			/* the caller may have every event of it */
	Datum		senders;		/* text[]: all that have sent what lives there */
	Datum		allowed;		/* text[]: of whom the caller may have events */
	Datum	   *names;			/* its elements */
	int			nnames;
} Taking;

#define TAKE_COLUMNS \
	"t.outbox_id, t.fence, t.attempt, t.created_at, t.destination, t.ordering_key, t.owner, t.type, t.source, t.id, t.subject," \
	" t.datacontenttype, t.data, t.data_binary, t.extensions"

#define TAKE_SQL \
	"UPDATE romancy.t_outbox u SET state = " ROM_SQL_OUTBOX_TAKEN ", attempt = u.attempt + 1"

/* $1 namespace, $2 destination, $3 now, $4 oldest, $5 limit, $6 senders, $7 end of the lease, $8 fence */
static RomStatement take_plain = {
	.sql = "WITH t AS (" TAKE_SQL ", fence = $8, due_at = $7"
	" WHERE u.outbox_id = ANY (ARRAY(SELECT c.outbox_id FROM pg_catalog.unnest($6) w (owner), LATERAL (SELECT o.outbox_id, o.due_at FROM romancy.t_outbox o"
	"  WHERE o.namespace = $1 AND o.destination_id = $2 AND o.owner = w.owner AND o.state < " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_PENDING
	"  AND o.key_hash IS NULL AND o.due_at <= $3 AND coalesce(o.replayed_at, o.created_at) > $4"
	"  ORDER BY o.due_at, o.outbox_id LIMIT $5 FOR UPDATE SKIP LOCKED) c ORDER BY c.due_at, c.outbox_id LIMIT $5))"
	" AND u.state = " ROM_SQL_OUTBOX_PENDING " RETURNING u.*) SELECT " TAKE_COLUMNS " FROM t ORDER BY t.outbox_id",
	.nargs = 8,
	.argtypes = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTARRAYOID, TIMESTAMPTZOID, INT8OID},
	.generic = true
};

#define KEY_COLUMNS "o.key_hash, o.ordering_key, o.outbox_id, o.state, o.due_at, o.created_at, o.replayed_at"

/* Events with a key that live, of destination $2. */
#define KEYED_SQL \
	"o.namespace = $1 AND o.destination_id = $2 AND o.state < " ROM_SQL_OUTBOX_FINAL " AND o.key_hash IS NOT NULL"

/*
 * Is an event of key k under way, or does an earlier one of any sender ($6) live? OFFSET 0: each is a look into an index, and never a join with
 * all that is under way.
 */
#define BUSY_SQL \
	"(EXISTS (SELECT FROM romancy.t_outbox p WHERE p.namespace = $1 AND p.destination_id = $2 AND p.state = " ROM_SQL_OUTBOX_TAKEN \
	" AND p.key_hash = k.key_hash AND p.ordering_key = k.ordering_key OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_outbox o WHERE " KEYED_SQL " AND o.owner = ANY ($6) AND o.key_hash = k.key_hash" \
	" AND o.ordering_key = k.ordering_key AND o.outbox_id < k.outbox_id OFFSET 0))"

/* The first live event of sender $8 of each key from hash $7 on, where it can be taken. */
static RomStatement find_keys = {
	.sql = "WITH RECURSIVE k AS ((SELECT " KEY_COLUMNS " FROM romancy.t_outbox o WHERE " KEYED_SQL " AND o.owner = $8 AND o.key_hash >= $7"
	"  ORDER BY o.key_hash, o.ordering_key, o.outbox_id LIMIT 1)"
	" UNION ALL SELECT n.* FROM k, LATERAL (SELECT " KEY_COLUMNS " FROM romancy.t_outbox o WHERE " KEYED_SQL " AND o.owner = $8"
	"  AND (o.key_hash, o.ordering_key) > (k.key_hash, k.ordering_key) ORDER BY o.key_hash, o.ordering_key, o.outbox_id LIMIT 1) n)"
	" SELECT k.outbox_id, k.key_hash FROM k WHERE k.state = " ROM_SQL_OUTBOX_PENDING
	" AND k.due_at <= $3 AND coalesce(k.replayed_at, k.created_at) > $4 AND NOT " BUSY_SQL " LIMIT $5",
	.nargs = 8,
	.argtypes = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTARRAYOID, INT4OID, TEXTOID},
	.generic = true
};

/* Takes those of events $5 that can still be taken, now that their keys are locked. $3: now, $4: end of the lease, $7: fence */
static RomStatement take_keyed = {
	.sql = "WITH t AS (" TAKE_SQL ", fence = $7, due_at = $4"
	" WHERE u.outbox_id = ANY (ARRAY(SELECT k.outbox_id FROM romancy.t_outbox k WHERE k.outbox_id = ANY ($5)"
	"  AND k.state = " ROM_SQL_OUTBOX_PENDING " AND k.due_at <= $3 AND NOT " BUSY_SQL " FOR UPDATE OF k SKIP LOCKED))"
	" AND u.state = " ROM_SQL_OUTBOX_PENDING " RETURNING u.*) SELECT " TAKE_COLUMNS " FROM t ORDER BY t.outbox_id",
	.nargs = 7,
	.argtypes = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID, TEXTARRAYOID, INT8OID},
	.generic = true
};

/* Reads column c of both indexes of live events from value to value, as "found (x)". where: what stands before the column. */
#define SKIP_SQL(name, c, where, keyed) \
	name " (x) AS ((SELECT o." c " FROM romancy.t_outbox o WHERE " where " AND o.state < " ROM_SQL_OUTBOX_FINAL " AND o.key_hash IS " keyed "NULL" \
	"  ORDER BY o." c " LIMIT 1) UNION ALL SELECT (SELECT o." c " FROM romancy.t_outbox o WHERE " where " AND o.state < " ROM_SQL_OUTBOX_FINAL \
	"  AND o.key_hash IS " keyed "NULL AND o." c " > " name ".x ORDER BY o." c " LIMIT 1) FROM " name " WHERE " name ".x IS NOT NULL)"
#define FOUND_SQL(c, where) \
	"WITH RECURSIVE " SKIP_SQL("a", c, where, "") ", " SKIP_SQL("b", c, where, "NOT ") \
	", found (x) AS (SELECT a.x FROM a WHERE a.x IS NOT NULL UNION SELECT b.x FROM b WHERE b.x IS NOT NULL)"

/* Destinations with live events that are not paused, of namespace $1; owner: null where it has none; has it a URL? $2: only this one */
static RomStatement find_destinations = {
	FOUND_SQL("destination_id", "o.namespace = $1")
	" SELECT f.x, d.owner, d.url IS NOT NULL FROM found f LEFT JOIN romancy.t_destination d ON d.destination_id = f.x"
	" WHERE ($2 IS NULL OR f.x = $2) AND d.paused_at IS NULL ORDER BY 1",
	2, {INT4OID, INT4OID}
};

/* The senders of live events of destination $2, and whether the caller ($3, null: it may have all) may have theirs. */
static RomStatement find_senders = {
	.sql = FOUND_SQL("owner", "o.namespace = $1 AND o.destination_id = $2")
	" SELECT f.x, $3 IS NULL OR romancy.t_may_access(f.x, $3, true) FROM found f",
	.nargs = 3,
	.argtypes = {INT4OID, INT4OID, OIDOID},
	.generic = true
};

/* execute_latest runs a statement with the latest snapshot, whatever the caller's isolation; the number of rows. */
static uint64
execute_latest(RomRowSet *set, RomStatement *stmt, Datum *values, const bool *nulls)
{
	Snapshot	snapshot;
	uint64		rows;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows = rom_execute_rows_at(set, stmt, values, nulls, snapshot, 0);
	UnregisterSnapshot(snapshot);
	return rows;
}

/* copied copies a value that may be null. */
static void *
copied(const RomRowSet *set, uint64 row, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, cxt);

	return isnull ? NULL : DatumGetPointer(value);
}

/* keep copies rows of TAKE_COLUMNS to what is taken. */
static void
keep(Taking *t, const RomRowSet *set)
{
	bool		isnull;

	for (uint64 i = 0; i < set->count; i++)
	{
		RomTaken   *taken = &t->taken[t->count++];

		taken->outbox_id = DatumGetInt64(rom_value(set, i, 1, &isnull));
		taken->fence = DatumGetInt64(rom_value(set, i, 2, &isnull));
		taken->attempt = DatumGetInt32(rom_value(set, i, 3, &isnull));
		taken->time = DatumGetTimestampTz(rom_value(set, i, 4, &isnull));
		taken->destination = rom_value_text(set, i, 5, t->cxt);
		taken->ordering_key = rom_value_text(set, i, 6, t->cxt);
		taken->owner = rom_value_text(set, i, 7, t->cxt);
		taken->type = rom_value_text(set, i, 8, t->cxt);
		taken->source = rom_value_text(set, i, 9, t->cxt);
		taken->id = rom_value_text(set, i, 10, t->cxt);
		taken->subject = rom_value_text(set, i, 11, t->cxt);
		taken->datacontenttype = rom_value_text(set, i, 12, t->cxt);
		taken->data = copied(set, i, 13, t->cxt);
		taken->binary = copied(set, i, 14, t->cxt);
		taken->extensions = copied(set, i, 15, t->cxt);
	}
}

/* plain takes up to limit events without a key. */
static void
plain(Taking *t, int limit)
{
	Datum		values[8];
	RomRowSet	set;

	values[0] = Int32GetDatum(t->take->namespace);
	values[1] = Int32GetDatum(t->destination);
	values[2] = TimestampTzGetDatum(t->now);
	values[3] = TimestampTzGetDatum(t->oldest);
	values[4] = Int32GetDatum(limit);
	values[5] = t->allowed;
	values[6] = TimestampTzGetDatum(t->take->deadline);
	values[7] = Int64GetDatum(t->fence);
	execute_latest(&set, &take_plain, values, NULL);
	keep(t, &set);
}

/* lock_key locks a key of the destination, and those that share its lock, until the end of the transaction; false when another transaction has it. */
static bool
lock_key(Taking *t, int32 key_hash)
{
	LOCKTAG		tag;
	uint32		place = hash_combine(hash_bytes_uint32((uint32) t->take->namespace), hash_bytes_uint32((uint32) t->destination));

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, place, (uint32) key_hash % KEY_LOCKS, KEY_LOCK_KIND);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* keyed_of takes one event each, of a sender, of up to limit keys whose hash is at least from. */
static void
keyed_of(Taking *t, Datum sender, int limit, int32 from)
{
	Datum		values[8];
	RomRowSet	set;
	Datum	   *ids = palloc_array(Datum, limit);
	int			found;
	int			n = 0;
	bool		isnull;

	values[0] = Int32GetDatum(t->take->namespace);
	values[1] = Int32GetDatum(t->destination);
	values[2] = TimestampTzGetDatum(t->now);
	values[3] = TimestampTzGetDatum(t->oldest);
	values[4] = Int32GetDatum(limit);
	values[5] = t->senders;
	values[6] = Int32GetDatum(from);
	values[7] = sender;
	found = (int) execute_latest(&set, &find_keys, values, NULL);
	for (int i = 0; i < found; i++)
	{
		int64		id = DatumGetInt64(rom_value(&set, i, 1, &isnull));
		int32		hash = DatumGetInt32(rom_value(&set, i, 2, &isnull));

		if (lock_key(t, hash))
			ids[n++] = Int64GetDatum(id);
	}
	if (n == 0)
		return;
	values[3] = TimestampTzGetDatum(t->take->deadline);
	values[4] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[6] = Int64GetDatum(t->fence);
	execute_latest(&set, &take_keyed, values, NULL);
	keep(t, &set);
}

/* keyed takes one event each of up to limit keys whose hash is at least from, of the senders one after the other. */
static void
keyed(Taking *t, int limit, int32 from)
{
	int			end = t->count + limit;
	int			first = (int) pg_prng_uint64_range(&pg_global_prng_state, 0, t->nnames - 1);

	for (int i = 0; i < t->nnames && t->count < end; i++)
		keyed_of(t, t->names[(first + i) % t->nnames], end - t->count, from);
}

/* find_allowed fills in the senders, and those of whom the caller may have events. False: of none. */
static bool
find_allowed(Taking *t)
{
	Datum		values[3] = {Int32GetDatum(t->take->namespace), Int32GetDatum(t->destination), ObjectIdGetDatum(t->take->caller)};
	bool		nulls[3] = {false, false, t->owns};
	RomRowSet	set;
	int			n = (int) execute_latest(&set, &find_senders, values, nulls);
	Datum	   *senders = palloc_array(Datum, Max(n, 1));
	bool		isnull;

	t->names = palloc_array(Datum, Max(n, 1));
	t->nnames = 0;
	for (int i = 0; i < n; i++)
	{
		senders[i] = rom_value(&set, i, 1, &isnull);
		if (DatumGetBool(rom_value(&set, i, 2, &isnull)))
			t->names[t->nnames++] = senders[i];
	}
	t->senders = PointerGetDatum(construct_array(senders, n, TEXTOID, -1, false, TYPALIGN_INT));
	t->allowed = PointerGetDatum(construct_array(t->names, t->nnames, TEXTOID, -1, false, TYPALIGN_INT));
	return t->nnames > 0;
}

/* one_destination takes up to limit events of a destination: of those with a key and those without, if there are, half and half. */
static void
one_destination(Taking *t, int limit)
{
	int			end = t->count + limit;
	int32		from = (int32) pg_prng_uint32(&pg_global_prng_state);

	if (!find_allowed(t))
		return;
	keyed(t, (limit + 1) / 2, from);
	if (t->count < end)
		plain(t, end - t->count);
	if (t->count < end)
		keyed(t, end - t->count, PG_INT32_MIN);
}

/* is_sent says whether the server sends the events of a destination (NULL: the one that is always there), so that no program gets them. */
static bool
is_sent(const RomDestination *destination)
{
	return destination != NULL ? destination->sent : rom_guc_outbox_url[0] != '\0';
}

/* Where events may be taken from. */
typedef struct Place
{
	int32		destination;
	char	   *owner;			/* NULL: it has none, or was dropped */
	bool		owns;
} Place;

/*
 * place_of_server is the destination that the server takes from, unless it was paused, dropped or defined anew, or is at the moment:
 * its events go where this definition says, and nowhere else. False: nothing is taken.
 */
static bool
place_of_server(const RomTake *take, Place *place)
{
	static RomStatement lock = {
		"SELECT 1 FROM romancy.t_destination d WHERE d.namespace = $1 AND d.destination_id = $2 AND d.updated_at = $3"
		" AND d.url IS NOT NULL AND d.paused_at IS NULL FOR SHARE SKIP LOCKED",
		3, {INT4OID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[3] = {Int32GetDatum(take->namespace), Int32GetDatum(take->id), TimestampTzGetDatum(take->defined_at)};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	RomRowSet	set;
	bool		found = true;

	if (take->id != ROM_DESTINATION_ALWAYS)
	{
		rom_engine_begin(&engine);
		found = execute_latest(&set, &lock, values, NULL) > 0;
		rom_engine_end(&engine);
		MemoryContextSwitchTo(cxt);
	}
	place->destination = take->id;
	place->owner = NULL;
	place->owns = true;
	return found;
}

/* find_places lists the destinations to take from; *n of them, in the current context. */
static Place *
find_places(const RomTake *take, int *n)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[2] = {Int32GetDatum(take->namespace)};
	bool		nulls[2] = {false, take->destination == NULL};
	Place	   *places;
	int			rows;
	RomRowSet	set;
	RomEngine	engine;
	bool		isnull;

	*n = 0;
	if (!OidIsValid(take->caller))
	{
		places = palloc_object(Place);
		*n = place_of_server(take, places) ? 1 : 0;
		return places;
	}
	if (take->destination != NULL && take->destination[0] != '\0')
	{
		const RomDestination *destination = rom_destination_find(take->namespace, take->destination);

		if (destination == NULL)
			return NULL;
		values[1] = Int32GetDatum(destination->id);
	}
	else
		values[1] = Int32GetDatum(ROM_DESTINATION_ALWAYS);
	rom_engine_begin(&engine);
	rows = (int) execute_latest(&set, &find_destinations, values, nulls);
	places = MemoryContextAllocZero(cxt, sizeof(Place) * Max(rows, 1));
	for (int i = 0; i < rows; i++)
	{
		places[*n].destination = DatumGetInt32(rom_value(&set, i, 1, &isnull));
		places[*n].owner = rom_value_text(&set, i, 2, cxt);
		if (DatumGetBool(rom_value(&set, i, 3, &isnull)) || (places[*n].destination == ROM_DESTINATION_ALWAYS && is_sent(NULL)))
			continue;			/* the server sends them */
		(*n)++;
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	for (int i = 0; i < *n; i++)
	{
		RomDestination destination = {.owner = places[i].owner};

		places[i].owns = places[i].owner != NULL && rom_destination_is_owner(&destination, take->caller);
	}
	return places;
}

int
rom_take_events(const RomTake *take, RomTaken *taken)
{
	Taking		t = {.take = take,.taken = taken,.cxt = CurrentMemoryContext,.now = rom_now()};
	int			n;
	Place	   *places = find_places(take, &n);
	int			first;
	RomEngine	engine;

	t.oldest = rom_guc_outbox_max_age > 0 ? t.now - (int64) rom_guc_outbox_max_age * USECS_PER_SEC : DT_NOBEGIN;
	t.fence = rom_settle_new_fence();
	/* begins with any of them, so that none comes always last */
	first = n > 0 ? (int) pg_prng_uint64_range(&pg_global_prng_state, 0, n - 1) : 0;
	rom_engine_begin(&engine);
	for (int i = 0; i < n && t.count < take->max; i++)
	{
		t.destination = places[(first + i) % n].destination;
		t.owns = places[(first + i) % n].owns;
		one_destination(&t, take->max - t.count);
		CHECK_FOR_INTERRUPTS();
	}
	rom_engine_end(&engine);
	if (t.count > 0)
		rom_wake_sweep(rom_outbox_sweep(), take->deadline);
	return t.count;
}

/* put_row puts a row of type outbox_event into the result. */
static void
put_row(ReturnSetInfo *rsinfo, const RomTaken *taken, TimestampTz deadline)
{
	const char *texts[] = {taken->id, taken->type, taken->source, "1.0", NULL, taken->subject, taken->datacontenttype};
	Datum		values[15];
	bool		nulls[15] = {false};

	for (int i = 0; i < lengthof(texts); i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	values[4] = TimestampTzGetDatum(taken->time);
	nulls[4] = false;
	values[7] = PointerGetDatum(taken->data);
	nulls[7] = taken->data == NULL;
	values[8] = PointerGetDatum(taken->binary);
	nulls[8] = taken->binary == NULL;
	values[9] = PointerGetDatum(taken->extensions);
	nulls[9] = taken->extensions == NULL;
	values[10] = CStringGetTextDatum(taken->destination);
	nulls[11] = taken->ordering_key == NULL;
	values[11] = taken->ordering_key ? CStringGetTextDatum(taken->ordering_key) : (Datum) 0;
	values[12] = Int32GetDatum(taken->attempt);
	values[13] = TimestampTzGetDatum(deadline);
	values[14] = CStringGetTextDatum(rom_settle_token(taken->outbox_id, taken->fence));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * romancy.fetch_outbox(max_events int, lease interval, destination text) → setof outbox_event
 *
 * Takes up to max_events (1 to 1,000) events, of each destination the oldest first, for lease (null: romancy.lock_timeout): of destination, or (null) of all of the
 * session's namespace. The caller gets the events that it or a role that it is a member of has sent, and all events of its own destinations. Errors:
 * RM001 no such destination, RM012, RM004 in a handler.
 */
Datum
romancy_fetch_outbox(PG_FUNCTION_ARGS)
{
	RomTake		take = {0};
	RomTaken   *taken;
	int			n;

	rom_context_refuse_handler("fetch_outbox");
	PreventCommandIfReadOnly("romancy.fetch_outbox()");
	take.namespace = rom_namespace_current();
	take.max = rom_arg_int32_opt(fcinfo, 0, 0);
	take.destination = rom_arg_text_opt(fcinfo, 2);
	take.caller = GetUserId();
	if (take.max < 1 || take.max > ROM_OUTBOX_CALL_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"max_events\" must be between 1 and %d", ROM_OUTBOX_CALL_MAX)));
	if (take.destination != NULL && take.destination[0] != '\0' && rom_destination_find(take.namespace, take.destination) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("destination \"%s\" does not exist", take.destination)));
	if (take.destination != NULL && is_sent(rom_destination_find(take.namespace, take.destination)))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("the events of destination \"%s\" are sent by the server", take.destination),
				 errdetail("It has a URL.")));
	take.deadline = rom_now() + rom_lease_arg(fcinfo, 1, "lease");
	InitMaterializedSRF(fcinfo, 0);
	taken = palloc_array(RomTaken, take.max);
	n = rom_take_events(&take, taken);
	for (int i = 0; i < n; i++)
		put_row((ReturnSetInfo *) fcinfo->resultinfo, &taken[i], take.deadline);
	return (Datum) 0;
}
