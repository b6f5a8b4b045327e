/*-------------------------------------------------------------------------
 *
 * sender.c
 *		What the process that sends events over HTTP needs of the outbox: where to, when, and whether the receiver is well.
 *
 * The row of a destination in t_destination_state is its breaker: failures in a row, and until when nothing is sent. Only
 * the one process that sends adds such rows. It waits for no transaction: rows that are locked it leaves as they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/spi.h"
#include "memory/roster.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "outbox/guc.h"
#include "outbox/sender.h"
#include "outbox/state.h"

/* Delay (ms) of an open breaker, and the longest. */
#define OPEN_MS 5000
#define OPEN_MAX_MS 300000

/* ---------------------------------------------------------------- waking */

/* The subtransaction that has asked for the process, in memory of the transaction. */
typedef struct Asked
{
	SubTransactionId in;
	MemoryContextCallback gone;
} Asked;

static Asked *asked = NULL;

static void
asked_gone(void *arg)
{
	asked = NULL;
}

/* tell is for the commit hook. */
static void
tell(const void *arg)
{
	rom_roster_http(MyDatabaseId, ROM_HTTP_EVENTS);
}

void
rom_sender_wake(void)
{
	if (asked == NULL)
	{
		Asked	   *a = MemoryContextAllocZero(TopTransactionContext, sizeof(Asked));

		a->gone.func = asked_gone;
		MemoryContextRegisterResetCallback(TopTransactionContext, &a->gone);
		asked = a;
	}
	/* what a subtransaction has asked for is forgotten when it is rolled back */
	if (asked->in == GetCurrentSubTransactionId())
		return;
	asked->in = GetCurrentSubTransactionId();
	rom_wake_call(tell, "", 1);
}

/* ---------------------------------------------------------------- destinations with a URL */

/* Those that are not paused: $1 romancy.outbox_url, $2 the extension's owner. */
#define RECEIVERS_SQL \
	"(SELECT d.destination_id, d.namespace, d.updated_at, d.owner, d.url, d.headers, d.signing_secret, d.format, d.batch_size, d.max_in_flight, d.rate_limit" \
	"  FROM romancy.t_destination d WHERE d.url IS NOT NULL AND d.paused_at IS NULL" \
	" UNION ALL SELECT 0, n.namespace_id, '-infinity', $2, $1, NULL, NULL, 'structured', NULL, NULL, NULL FROM romancy.t_namespace n WHERE $1 <> '')"

/* Has destination d an event that is due by now, $3, or is it perhaps the next of its key? */
#define HAS_DUE_SQL \
	"(EXISTS (SELECT FROM romancy.t_outbox o WHERE o.namespace = d.namespace AND o.destination_id = d.destination_id AND o.state < " ROM_SQL_OUTBOX_FINAL \
	"  AND o.key_hash IS NULL AND o.state = " ROM_SQL_OUTBOX_PENDING " AND o.due_at <= $3)" \
	" OR EXISTS (SELECT FROM romancy.t_outbox o WHERE o.namespace = d.namespace AND o.destination_id = d.destination_id AND o.state < " ROM_SQL_OUTBOX_FINAL \
	"  AND o.key_hash IS NOT NULL AND o.state = " ROM_SQL_OUTBOX_PENDING " AND o.due_at <= $3))"

/* The first event that waits for another attempt at a destination with a URL; $1 romancy.outbox_url, $2 now. */
static RomStatement first_waiting = {
	"SELECT o.due_at FROM romancy.t_outbox o WHERE o.state = " ROM_SQL_OUTBOX_PENDING " AND o.attempt > 0 AND o.due_at > $2"
	" AND (o.destination_id = 0 AND $1 <> '' OR EXISTS (SELECT FROM romancy.t_destination d WHERE d.destination_id = o.destination_id"
	"  AND d.url IS NOT NULL AND d.paused_at IS NULL)) ORDER BY o.due_at LIMIT 1",
	2, {TEXTOID, TIMESTAMPTZOID}
};

/* waiting runs it; DT_NOEND: there is none. Engine scope needed. */
static TimestampTz
waiting(TimestampTz now)
{
	Datum		values[2] = {CStringGetTextDatum(rom_guc_outbox_url), TimestampTzGetDatum(now)};
	RomRowSet	set;
	bool		isnull;

	if (rom_execute_rows(&set, &first_waiting, values, NULL, 1) == 0)
		return DT_NOEND;
	return DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
}

/* read_int reads a column that is null where the destination does not say. */
static int
read_int(const RomRowSet *set, uint64 row, int col, int otherwise)
{
	bool		isnull;
	Datum		value = rom_value(set, row, col, &isnull);

	return isnull ? otherwise : DatumGetInt32(value);
}

int
rom_sender_find(RomReceiver *receivers, TimestampTz *next)
{
	static RomStatement select = {
		"SELECT d.namespace, d.destination_id, d.owner, d.url, d.headers, d.signing_secret, d.format, d.batch_size, d.max_in_flight, d.rate_limit,"
		" s.failures, s.retry_at, d.updated_at FROM " RECEIVERS_SQL " d"
		" LEFT JOIN romancy.t_destination_state s ON s.namespace = d.namespace AND s.destination_id = d.destination_id WHERE " HAS_DUE_SQL
		" ORDER BY (s.retry_at > $3) IS TRUE, pg_catalog.random() LIMIT $4",
		4, {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	TimestampTz now = rom_now();
	Datum		values[4];
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;
	bool		isnull;

	values[0] = CStringGetTextDatum(rom_guc_outbox_url);
	values[1] = CStringGetTextDatum(GetUserNameFromId(rom_extension_owner(), false));
	values[2] = TimestampTzGetDatum(now);
	values[3] = Int32GetDatum(ROM_SENDER_MAX);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		RomReceiver *r = &receivers[i];
		Datum		value;

		r->namespace = DatumGetInt32(rom_value(&set, i, 1, &isnull));
		r->id = DatumGetInt32(rom_value(&set, i, 2, &isnull));
		r->owner = rom_value_text(&set, i, 3, cxt);
		r->url = rom_value_text(&set, i, 4, cxt);
		value = rom_value_copy(&set, i, 5, &isnull, cxt);
		r->headers = isnull ? NULL : DatumGetJsonbP(value);
		r->signing_secret = rom_value_text(&set, i, 6, cxt);
		r->format = rom_value_text(&set, i, 7, cxt);
		r->batch_size = read_int(&set, i, 8, rom_guc_outbox_batch_size);
		r->max_in_flight = read_int(&set, i, 9, ROM_SENDER_IN_FLIGHT);
		r->rate_limit = rom_value_text(&set, i, 10, cxt);
		r->failures = read_int(&set, i, 11, 0);
		value = rom_value(&set, i, 12, &isnull);
		r->retry_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
		r->defined_at = DatumGetTimestampTz(rom_value(&set, i, 13, &isnull));
	}
	*next = waiting(now);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return (int) rows;
}

/* ---------------------------------------------------------------- breakers */

int64
rom_sender_delay(int failures, double random)
{
	double		ms = rom_backoff(OPEN_MS, 2, Max(failures - ROM_SENDER_BREAKS, 0) + 1, OPEN_MAX_MS);

	return (int64) (ms * (0.75 + 0.5 * random) * 1000);
}

/*
 * lock_state locks the row of a destination, and reads its failures. False: another transaction has it. *there: there is one; or the other
 * transaction's. Engine scope needed.
 */
static bool
lock_state(Datum *key, bool *there, int *failures)
{
	static RomStatement lock = {
		"SELECT s.failures FROM romancy.t_destination_state s WHERE s.namespace = $1 AND s.destination_id = $2 FOR UPDATE SKIP LOCKED",
		2, {INT4OID, INT4OID}
	};
	static RomStatement look = {
		"SELECT 1 FROM romancy.t_destination_state s WHERE s.namespace = $1 AND s.destination_id = $2", 2, {INT4OID, INT4OID}
	};
	RomRowSet	set;
	bool		isnull;

	*failures = 0;
	*there = rom_execute_rows(&set, &lock, key, NULL, 1) > 0;
	if (*there)
		*failures = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	return *there || rom_execute(&look, key, NULL, 1) == 0;
}

/*
 * is_current locks a destination against changes, until the end of the transaction. False: it was dropped or defined anew since, or another transaction
 * changes it: how an earlier receiver is says nothing of it. Engine scope needed.
 */
static bool
is_current(int32 namespace, int32 id, TimestampTz defined_at)
{
	static RomStatement lock = {
		"SELECT 1 FROM romancy.t_destination d WHERE d.namespace = $1 AND d.destination_id = $2 AND d.updated_at = $3 FOR SHARE SKIP LOCKED",
		3, {INT4OID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[3] = {Int32GetDatum(namespace), Int32GetDatum(id), TimestampTzGetDatum(defined_at)};

	return id == ROM_DESTINATION_ALWAYS || rom_execute(&lock, values, NULL, 1) > 0;
}

/* pause_gone pauses a destination whose receiver is gone; one that another transaction has locked is left. Engine scope needed. */
static void
pause_gone(Datum *key)
{
	static RomStatement update = {
		"UPDATE romancy.t_destination SET paused_at = $3, paused_by = 'romancy', note = 'the receiver has answered 410 Gone'"
		" WHERE ctid = ANY (ARRAY(SELECT d.ctid FROM romancy.t_destination d WHERE d.namespace = $1 AND d.destination_id = $2 AND d.paused_at IS NULL"
		"  FOR UPDATE SKIP LOCKED)) AND paused_at IS NULL",
		3, {INT4OID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[3] = {key[0], key[1], TimestampTzGetDatum(rom_now())};

	rom_execute(&update, values, NULL, 0);
}

void
rom_sender_note(int32 namespace, int32 id, TimestampTz defined_at, RomReceived how, bool probe, TimestampTz retry_at, const char *error)
{
	static RomStatement forget = {
		"UPDATE romancy.t_destination_state SET failures = 0, retry_at = NULL, refused = NULL, error = NULL WHERE namespace = $1 AND destination_id = $2"
		" AND (failures > 0 OR retry_at IS NOT NULL OR error IS NOT NULL)",
		2, {INT4OID, INT4OID}
	};
	static RomStatement insert = {
		"INSERT INTO romancy.t_destination_state (namespace, destination_id, failures, retry_at, failed_at, error, refused) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		7, {INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, BOOLOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_destination_state SET failures = $3, retry_at = greatest($4, retry_at), failed_at = $5, error = $6, refused = $7 WHERE namespace = $1 AND destination_id = $2",
		7, {INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, BOOLOID}
	};
	Datum		values[7] = {Int32GetDatum(namespace), Int32GetDatum(id)};
	bool		nulls[7] = {false};
	TimestampTz now = rom_now();
	RomEngine	engine;
	bool		there;
	int			failures;

	rom_engine_begin(&engine);
	if (!is_current(namespace, id, defined_at) || !lock_state(values, &there, &failures))
	{
		rom_engine_end(&engine);
		return;
	}
	if (how == ROM_RECEIVED_WELL)
	{
		if (there)
			rom_execute(&forget, values, NULL, 0);
		rom_engine_end(&engine);
		return;
	}

	/*
	 * requests that were under way when the breaker opened tell nothing new;
	 * the probe does
	 */
	if (how == ROM_RECEIVED_BADLY && (failures < ROM_SENDER_BREAKS || probe))
	{
		failures++;
		if (failures >= ROM_SENDER_BREAKS)
			retry_at = Max(retry_at, now + rom_sender_delay(failures, pg_prng_double(&pg_global_prng_state)));
	}
	if (how == ROM_RECEIVED_GONE)
	{
		pause_gone(values);
		retry_at = now + rom_sender_delay(0, pg_prng_double(&pg_global_prng_state));
	}
	values[2] = Int32GetDatum(failures);
	nulls[3] = retry_at <= now;
	values[3] = TimestampTzGetDatum(retry_at);
	values[4] = TimestampTzGetDatum(now);
	nulls[5] = error == NULL;
	values[5] = error != NULL ? CStringGetTextDatum(error) : (Datum) 0;
	values[6] = BoolGetDatum(how == ROM_RECEIVED_REFUSED);
	rom_execute(there ? &update : &insert, values, nulls, 0);
	rom_engine_end(&engine);
}

void
rom_sender_allowed(void)
{
	static RomStatement update = {
		"UPDATE romancy.t_destination_state SET retry_at = NULL, refused = NULL WHERE refused",
		0, {0}
	};
	RomEngine	engine;

	rom_engine_begin(&engine);
	if (rom_execute(&update, NULL, NULL, 0) > 0)
		rom_sender_wake();
	rom_engine_end(&engine);
}

void
rom_sender_forget(int32 namespace, int32 id, bool dropped)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_destination_state WHERE namespace = $1 AND destination_id = $2", 2, {INT4OID, INT4OID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_destination_state SET failures = 0, retry_at = NULL, failed_at = NULL, refused = NULL, error = NULL WHERE namespace = $1 AND destination_id = $2",
		2, {INT4OID, INT4OID}
	};
	Datum		values[2] = {Int32GetDatum(namespace), Int32GetDatum(id)};

	rom_execute(dropped ? &delete : &update, values, NULL, 0);
}

/* ---------------------------------------------------------------- leases of a process before, and the sweep */

/* Events under leases of a process before, and how many attempts each has (0: any number): $1 romancy.outbox_url, $2 romancy.outbox_max_attempts. */
#define INHERITED_SQL \
	"SELECT o.outbox_id, coalesce((SELECT (d.retry ->> 'max_attempts')::numeric::int FROM romancy.t_destination d" \
	"  WHERE d.destination_id = o.destination_id), $2) AS most, o.fence" \
	" FROM romancy.t_outbox o WHERE o.state = " ROM_SQL_OUTBOX_TAKEN " AND o.attempt > 0 AND (o.destination_id = 0 AND $1 <> '' OR EXISTS (SELECT FROM romancy.t_destination d" \
	"  WHERE d.destination_id = o.destination_id AND d.url IS NOT NULL))"

/* Of these the ones that a call is about, $3 and $4: of these leases alone, or (null) of all. */
#define OF_SQL INHERITED_SQL " AND ($3 IS NULL OR (o.outbox_id = ANY ($3) AND o.fence = ANY ($4)))"

#define LOCKED_SQL OF_SQL " ORDER BY o.outbox_id FOR UPDATE OF o SKIP LOCKED"

/* list_of makes the arrays of a list of leases. */
static void
list_of(const RomSenderLeft *of, Datum *ids, Datum *fences)
{
	Datum	   *elements = palloc_array(Datum, 2 * of->n + 1);

	for (int i = 0; i < of->n; i++)
	{
		elements[i] = Int64GetDatum(of->leases[i].outbox_id);
		elements[of->n + i] = Int64GetDatum(of->leases[i].fence);
	}
	*ids = PointerGetDatum(construct_array(elements, of->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	*fences = PointerGetDatum(construct_array(elements + of->n, of->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

void
rom_sender_inherit(const RomSenderLeft *of, RomSenderLeft *left)
{
	/*
	 * those whose last attempt it was are left to the sweep, which makes them
	 * dead
	 */
	static RomStatement again = {
		"UPDATE romancy.t_outbox u SET state = " ROM_SQL_OUTBOX_PENDING ", due_at = $5, error = 'the process that sent it ended'"
		" FROM (" LOCKED_SQL ") t WHERE u.outbox_id = t.outbox_id AND (t.most = 0 OR u.attempt < t.most) AND u.state = " ROM_SQL_OUTBOX_TAKEN,
		5, {TEXTOID, INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}
	};
	static RomStatement over = {
		"UPDATE romancy.t_outbox u SET due_at = $5 FROM (" LOCKED_SQL ") t WHERE u.outbox_id = t.outbox_id AND u.state = " ROM_SQL_OUTBOX_TAKEN,
		5, {TEXTOID, INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}
	};

	/* what is due is the sweep's by now */
	static RomStatement held = {
		OF_SQL " AND o.due_at > $5",
		5, {TEXTOID, INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[5] = {0};
	bool		nulls[5] = {false, false, of == NULL, of == NULL, false};
	RomEngine	engine;
	RomRowSet	set;
	int			n;
	bool		isnull;

	values[0] = CStringGetTextDatum(rom_guc_outbox_url);
	values[1] = Int32GetDatum(rom_guc_outbox_max_attempts);
	if (of != NULL)
		list_of(of, &values[2], &values[3]);
	values[4] = TimestampTzGetDatum(rom_now());
	rom_engine_begin(&engine);
	rom_execute(&again, values, nulls, 0);
	if (rom_execute(&over, values, nulls, 0) > 0)
		rom_wake_sweep(rom_sweep_find("outbox"), rom_now());
	n = (int) rom_execute_rows(&set, &held, values, nulls, 0);
	left->leases = MemoryContextAllocZero(TopMemoryContext, sizeof(RomSenderLease) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		left->leases[i].outbox_id = DatumGetInt64(rom_value(&set, i, 1, &isnull));
		left->leases[i].fence = DatumGetInt64(rom_value(&set, i, 3, &isnull));
	}
	left->n = n;
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/* has_process says whether a process that sends is, or will be, in this database. */
static bool
has_process(void)
{
	RomRoster  *roster = rom_roster_get();
	bool		found = false;

	if (roster == NULL)
		return false;
	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->nworkers && !found; i++)
		found = roster->workers[i].state != ROM_WORKER_FREE && roster->workers[i].kind == ROM_WORKER_HTTP &&
			roster->workers[i].dbid == MyDatabaseId;
	SpinLockRelease(&roster->mutex);
	return found;
}

/* are_left says whether there are events that a process before had in hand: the server has ended since. Engine scope needed. */
static bool
are_left(void)
{
	static RomStatement select = {
		"SELECT 1 FROM (" INHERITED_SQL ") t", 2, {TEXTOID, INT4OID}
	};
	Datum		values[2] = {CStringGetTextDatum(rom_guc_outbox_url), Int32GetDatum(rom_guc_outbox_max_attempts)};

	return !has_process() && rom_execute(&select, values, NULL, 1) > 0;
}

/* first_time is when there is an event to send: now, later, or (DT_NOEND) never. Engine scope is entered. */
static TimestampTz
first_time(void)
{
	static RomStatement due = {
		"SELECT min(coalesce(s.retry_at, $3)) FROM " RECEIVERS_SQL " d"
		" LEFT JOIN romancy.t_destination_state s ON s.namespace = d.namespace AND s.destination_id = d.destination_id WHERE " HAS_DUE_SQL,
		3, {TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	TimestampTz now = rom_now();
	TimestampTz first = DT_NOEND;
	Datum		values[3];
	RomEngine	engine;
	RomRowSet	set;
	Datum		value;
	bool		isnull;

	values[0] = CStringGetTextDatum(rom_guc_outbox_url);
	values[1] = CStringGetTextDatum(GetUserNameFromId(rom_extension_owner(), false));
	values[2] = TimestampTzGetDatum(now);
	rom_engine_begin(&engine);
	rom_execute_rows(&set, &due, values, NULL, 1);
	value = rom_value(&set, 0, 1, &isnull);
	if (!isnull)
		first = Max(DatumGetTimestampTz(value), now);
	first = Min(first, are_left() ? now : waiting(now));
	rom_engine_end(&engine);
	return first;
}

/* sweep_wake has the process that sends come where there is something to send. */
static int64
sweep_wake(const RomSweepArgs *args)
{
	if (args->part == 0 && first_time() <= rom_now())
		rom_sender_wake();
	return 0;
}

void
rom_sender_init(void)
{
	static const RomSweep wake = {
		.name = "outbox",
		.interval = &rom_guc_outbox_interval,
		.batch = sweep_wake,
		.next_due = first_time
	};

	rom_sweep_register(&wake);
}
