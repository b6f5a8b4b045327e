/*-------------------------------------------------------------------------
 *
 * sweep.c
 *		The sweeps "messages" and "channel_cleanup".
 *
 * "messages" looks at the channels that crossing.c names: late fan-out to
 * subscriptions that overlapped a publishing transaction, and waking instances
 * that wait for messages that exist. At its interval, and when asked for, it
 * looks at all waiting instances: the safety net.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/spi.h"
#include "instances/control.h"
#include "memory/crossing.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "messages/channel.h"
#include "messages/group.h"
#include "messages/guc.h"
#include "messages/message.h"
#include "messages/publish.h"
#include "messages/receive.h"
#include "messages/subscription.h"
#include "messages/sweep.h"

/* Named channels that one run looks at. */
#define CHANNELS_MAX 64

/* Number of a channel's competing messages for which a competitor each is woken at once. */
#define OPEN_MAX 100

/* Rows that a run passes over, for each that it may handle. */
#define WINDOW 10

/* wake_rows notes instances as ready: rows of instance_id, owner, priority. */
static int64
wake_rows(const RomRowSet *set, uint64 rows)
{
	int64		noted = 0;

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		rom_wake_ready(DatumGetUUIDP(rom_value(set, i, 1, &isnull)),
					   rom_channel_owner(rom_value_text(set, i, 2, CurrentMemoryContext)),
					   DatumGetInt32(rom_value(set, i, 3, &isnull)));
		noted++;
	}
	return noted;
}

/* settle_rows settles the subscriptions of rows of instance_id, channel. */
static int64
settle_rows(RomStatement *stmt, Datum *values)
{
	RomRowSet	set;
	uint64		rows = rom_execute_rows(&set, stmt, values, NULL, 0);
	int64		added = 0;

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		added += rom_subscription_settle(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)),
										 rom_value_text(&set, i, 2, CurrentMemoryContext), false);
		CHECK_FOR_INTERRUPTS();
	}
	rom_execute_free(&set);
	return added;
}

/* SQL: is there something for instance i on channel $1 that is its own? */
#define OWN_SQL \
	"(EXISTS (SELECT FROM romancy.t_delivery d WHERE d.mailbox = " ROM_MAILBOX_SQL \
	" AND d.channel = $1 AND NOT d.received OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT \
	"  AND m.mailbox = " ROM_MAILBOX_SQL " AND m.channel = $1 OFFSET 0))"

/* resolve looks at one channel. */
static int64
resolve(int32 namespace, const char *channel)
{
	static RomStatement unsettled = {
		"SELECT instance_id, channel FROM romancy.t_subscription"
		" WHERE namespace = $2 AND channel = $1 AND snapshot IS NOT NULL",
		2, {TEXTOID, INT4OID}
	};
	static RomStatement waiting = {
		"SELECT i.instance_id, i.owner, i.priority FROM romancy.t_instance i"
		" WHERE i.status = 'waiting_for_message' AND i.namespace = $2 AND i.wait ->> 'name' = $1 AND " OWN_SQL
		" UNION ALL SELECT i.instance_id, i.owner, i.priority FROM romancy.t_subscription s"
		" JOIN romancy.t_instance i USING (instance_id) WHERE s.namespace = $2 AND s.channel = $1"
		" AND s.spawned > 0 AND " ROM_AWAITING_SQL " AND " OWN_SQL,
		2, {TEXTOID, INT4OID}
	};
	static RomStatement open = {
		"SELECT 1 FROM romancy.t_message WHERE namespace = $2 AND channel = $1 AND kind = " ROM_SQL_MESSAGE_OPEN
		" ORDER BY id LIMIT $3 FOR KEY SHARE SKIP LOCKED",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	static RomStatement any = {
		"SELECT 1 FROM romancy.t_subscription WHERE namespace = $2 AND channel = $1 AND mode = 'competing' LIMIT 1",
		2, {TEXTOID, INT4OID}
	};
	Datum		values[3];
	int64		handled;
	uint64		n;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(namespace);
	handled = settle_rows(&unsettled, values);
	handled += wake_rows(&set, rom_execute_rows(&set, &waiting, values, NULL, 0));
	if (rom_execute(&any, values, NULL, 1) == 0)
		return handled;

	/*
	 * this transaction has locked the messages: a competitor that passes over
	 * them meanwhile looks again, as after a publish
	 */
	rom_crossing_send(rom_channel_key(namespace, channel), rom_messages_sweep());
	values[2] = Int32GetDatum(OPEN_MAX);
	n = rom_execute(&open, values, NULL, 0);
	if (n > 0)
		handled += wake_rows(&set, rom_channel_find_waiting(&set, namespace, channel, (int) n));
	return handled;
}

/*
 * sweep_all looks at a window of all waiting instances, the next one each time;
 * complete: at one after the other, until it has found something. *more: whether
 * there are windows left of a pass, of which this call begins one when it is
 * false.
 */
static int64
sweep_all(const RomSweepArgs *args, bool complete, bool *more)
{
	static RomStatement unsettled = {
		"SELECT instance_id, channel FROM romancy.t_subscription WHERE snapshot IS NOT NULL LIMIT $1",
		1, {INT4OID}
	};

	/* written so that index t_instance_status is the only one in this order */
	static RomStatement waiting = {
		"SELECT w.instance_id, w.owner, w.priority, w.created_at, w.arrived FROM"
		" (SELECT i.instance_id, i.owner, i.priority, i.created_at, " ROM_ARRIVED_SQL " AS arrived"
		"  FROM romancy.t_instance i WHERE romancy.t_status_name(i.status) >= 'waiting_for_message' AND romancy.t_status_name(i.status) <= 'waiting_for_message'"
		"  AND (romancy.t_status_name(i.status), i.created_at, i.instance_id) > ('waiting_for_message', $1, $2)"
		"  ORDER BY romancy.t_status_name(i.status), i.created_at, i.instance_id LIMIT $3) w",
		3, {TIMESTAMPTZOID, UUIDOID, INT4OID}
	};
	static RomStatement awaiting = {
		"SELECT i.instance_id, i.owner, i.priority FROM romancy.t_subscription s"
		" JOIN romancy.t_instance i USING (instance_id) WHERE s.spawned > 0"
		" AND i.status <> 'waiting_for_message' AND " ROM_ARRIVED_SQL " LIMIT $1",
		1, {INT4OID}
	};
	static TimestampTz pos_at = DT_NOBEGIN;
	static pg_uuid_t pos_id;
	Datum		values[3];
	uint64		rows;
	int64		handled = 0;
	int			window = args->limit * WINDOW;
	RomRowSet	set;

	if (!*more)
	{
		values[0] = Int32GetDatum(window);
		handled = settle_rows(&unsettled, values);
		values[0] = Int32GetDatum(args->limit);
		handled += wake_rows(&set, rom_execute_rows(&set, &awaiting, values, NULL, 0));
		pos_at = DT_NOBEGIN;
	}
	do
	{
		values[0] = TimestampTzGetDatum(pos_at);
		values[1] = UUIDPGetDatum(&pos_id);
		values[2] = Int32GetDatum(window);
		rows = rom_execute_rows(&set, &waiting, values, NULL, 0);
		for (uint64 i = 0; i < rows; i++)
		{
			bool		isnull;

			pos_id = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
			pos_at = DatumGetTimestampTz(rom_value(&set, i, 4, &isnull));
			if (!DatumGetBool(rom_value(&set, i, 5, &isnull)) || isnull)
				continue;
			rom_wake_ready(&pos_id, rom_channel_owner(rom_value_text(&set, i, 2, CurrentMemoryContext)),
						   DatumGetInt32(rom_value(&set, i, 3, &isnull)));
			handled++;
		}
		rom_execute_free(&set);
		CHECK_FOR_INTERRUPTS();
	} while (complete && rows >= (uint64) window && handled < args->limit);
	*more = rows >= (uint64) window;
	return handled;
}

static int64
sweep_messages(const RomSweepArgs *args)
{
	static TimestampTz last_all = 0;
	static bool more = false;	/* of the look at all waiting instances */
	char		key[ROM_CROSSING_KEY_MAX + 1];
	TimestampTz now = GetCurrentTimestamp();
	bool		all = args->manual;
	int64		handled = 0;
	int			n = 0;
	int32		namespace;
	RomEngine	engine;

	rom_engine_begin(&engine);
	while (n++ < CHANNELS_MAX && rom_crossing_take(rom_messages_sweep(), key, &all))
	{
		const char *channel = rom_channel_of_key(key, &namespace);

		handled += resolve(namespace, channel);
		CHECK_FOR_INTERRUPTS();
	}
	/* what was lost begins a new pass: it may stand where this one has been */
	if (all || args->manual)
		more = false;
	if (all || more || now - last_all > (int64) rom_guc_message_check_interval * 500)
	{
		if (!more)
			last_all = now;
		handled += sweep_all(args, all, &more);
	}
	/* each batch is a transaction of its own, and the next one comes at once */
	if (n > CHANNELS_MAX || (more && !args->manual))
		rom_wake_sweep(rom_messages_sweep(), now);
	rom_engine_end(&engine);
	return handled;
}

/* ---------------------------------------------------------------- channel_cleanup */

/* limit_before is the instant before which messages are too old; DT_NOBEGIN for never. */
static TimestampTz
limit_before(void)
{
	if (rom_guc_message_retention <= 0)
		return DT_NOBEGIN;
	return rom_now() - (int64) rom_guc_message_retention * USECS_PER_SEC;
}

/* clean_old deletes open messages without a taker, and ids of events, that are too old. */
static int64
clean_old(int limit)
{
	static RomStatement messages = {
		"DELETE FROM romancy.t_message WHERE id = ANY (ARRAY(SELECT m.id FROM romancy.t_message m"
		"  WHERE m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.published_at < $1 ORDER BY m.published_at LIMIT $2"
		"  FOR UPDATE SKIP LOCKED))",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	static RomStatement events = {
		"DELETE FROM romancy.t_received_event WHERE ctid = ANY (ARRAY("
		"SELECT e.ctid FROM romancy.t_received_event e"
		"  WHERE e.received_at < $1 ORDER BY e.received_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	TimestampTz before = limit_before();
	Datum		values[2];

	if (before == DT_NOBEGIN)
		return 0;
	values[0] = TimestampTzGetDatum(before);
	values[1] = Int32GetDatum(limit);
	return rom_execute(&messages, values, NULL, 0) +
		rom_execute(&events, values, NULL, 0);
}

/*
 * clean_channel deletes broadcast messages that all subscribers have received.
 * A subscription whose transaction was under way when a message was published is to
 * get it yet (subscription.c), so the first run only notes the snapshot; a later one,
 * when all that ran then is over, deletes what that snapshot shows.
 */
static int64
clean_channel(int32 namespace, const char *channel, int limit)
{
	static RomStatement lock = {
		"SELECT 1 FROM romancy.t_channel WHERE namespace = $3 AND channel = $1 FOR UPDATE SKIP LOCKED",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	static RomStatement clean = {
		"DELETE FROM romancy.t_message WHERE id = ANY (ARRAY("
		"SELECT m.id FROM romancy.t_message m JOIN romancy.t_channel c ON c.namespace = m.namespace AND c.channel = m.channel"
		" WHERE m.namespace = $3 AND m.channel = $1 AND m.kind = " ROM_SQL_MESSAGE_BROADCAST
		" AND pg_snapshot_xmin(pg_current_snapshot()) >= pg_snapshot_xmax(c.swept)"
		" AND pg_visible_in_snapshot(m.xid, c.swept)"
		" AND NOT EXISTS (SELECT FROM romancy.t_subscription s"
		"  WHERE s.namespace = $3 AND s.channel = $1 AND s.snapshot IS NOT NULL)"
		" AND m.id < coalesce((SELECT min(d.message_id) FROM romancy.t_subscription s,"
		"  LATERAL (SELECT x.message_id FROM romancy.t_delivery x WHERE x.mailbox = s.mailbox"
		"   AND x.channel = $1 AND NOT x.received ORDER BY x.message_id LIMIT 1) d"
		"  WHERE s.namespace = $3 AND s.channel = $1), 9223372036854775807)"
		" ORDER BY m.xid LIMIT $2 FOR UPDATE OF m SKIP LOCKED))",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	static RomStatement remove = {
		"DELETE FROM romancy.t_channel c WHERE c.namespace = $3 AND c.channel = $1"
		" AND NOT EXISTS (SELECT FROM romancy.t_subscription s"
		"  WHERE s.namespace = $3 AND s.channel = $1 AND s.mode NOT IN ('direct', 'kept'))"
		" AND NOT EXISTS (SELECT FROM romancy.t_message m WHERE m.namespace = $3 AND m.channel = $1 AND m.kind = " ROM_SQL_MESSAGE_BROADCAST " AND m.xid IS NOT NULL)",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	static RomStatement note = {
		"UPDATE romancy.t_channel c SET swept = pg_current_snapshot() WHERE c.namespace = $3 AND c.channel = $1"
		" AND (c.swept IS NULL OR pg_snapshot_xmin(pg_current_snapshot()) >= pg_snapshot_xmax(c.swept))"
		" AND EXISTS (SELECT FROM romancy.t_message m WHERE m.namespace = $3 AND m.channel = $1 AND m.kind = " ROM_SQL_MESSAGE_BROADCAST " AND m.xid IS NOT NULL)",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	Datum		values[3];
	int64		deleted;

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(limit);
	values[2] = Int32GetDatum(namespace);
	if (rom_execute(&lock, values, NULL, 1) == 0)
		return 0;
	deleted = rom_execute(&clean, values, NULL, 0);
	if (rom_execute(&remove, values, NULL, 0) == 0 && deleted < limit)
		rom_execute(&note, values, NULL, 0);
	return deleted;
}

/* clean_channels does so for a few channels, and continues behind them the next time. */
static int64
clean_channels(const RomSweepArgs *args)
{
	static RomStatement find = {
		"SELECT channel, namespace FROM romancy.t_channel WHERE (namespace, channel) > ($3, $1)"
		" ORDER BY namespace, channel LIMIT $2",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	static char after[ROM_SHORT_NAME_MAX + 1] = "";
	static int32 after_namespace = 0;
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[3];
	uint64		rows;
	char	  **names;
	int32	   *namespaces;
	int64		deleted = 0;
	RomRowSet	set;

	if (args->manual)
	{
		after_namespace = 0;
		after[0] = '\0';
	}
	values[2] = Int32GetDatum(after_namespace);
	values[0] = CStringGetTextDatum(after);
	values[1] = Int32GetDatum(args->limit);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	names = MemoryContextAlloc(cxt, sizeof(char *) * Max(rows, 1));
	namespaces = MemoryContextAlloc(cxt, sizeof(int32) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		names[i] = rom_value_text(&set, i, 1, cxt);
		namespaces[i] = DatumGetInt32(rom_value(&set, i, 2, &isnull));
	}
	for (uint64 i = 0; i < rows && deleted < args->limit; i++)
	{
		deleted += clean_channel(namespaces[i], names[i], args->limit - (int) deleted);
		if (deleted < args->limit)
		{
			after_namespace = namespaces[i];
			strlcpy(after, names[i], sizeof(after));
		}
		CHECK_FOR_INTERRUPTS();
	}
	if (rows < (uint64) args->limit && deleted < args->limit)
	{
		after_namespace = 0;
		after[0] = '\0';
	}
	return deleted;
}

/* Will instance i receive, or may it once it is retried? 128: ROM_HAS_COMPENSATED, instances/instance.h */
#define RECEIVES_SQL "(i.wake_at IS NOT NULL OR i.status = 'failed' AND i.flags & " ROM_SQL_HAS_COMPENSATED " = 0)"

/*
 * clean_direct deletes messages to instances that have ended and cannot be retried: sent by a
 * transaction that overlapped the end. A mailbox is that of a live instance if that is the first of
 * its generations, or the last of several.
 */
static int64
clean_direct(const RomSweepArgs *args)
{
	static RomStatement find = {
		"SELECT m.mailbox, m.channel, m.id,"
		" NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = m.mailbox"
		"  AND " RECEIVES_SQL " OFFSET 0)"
		" AND NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.mailbox = m.mailbox"
		"  AND i.status <> 'recurred' AND " RECEIVES_SQL " OFFSET 0)"
		" FROM (SELECT m.mailbox, m.channel, m.id FROM romancy.t_message m"
		"  WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT " AND (m.mailbox, m.channel, m.id) > ($1, $2, $3)"
		"  ORDER BY m.mailbox, m.channel, m.id LIMIT $4) m"
		" ORDER BY m.mailbox, m.channel, m.id",
		4, {UUIDOID, TEXTOID, INT8OID, INT4OID}
	};
	static RomStatement remove = {
		"DELETE FROM romancy.t_message WHERE id = ANY (ARRAY(SELECT m.id FROM romancy.t_message m WHERE m.id = $1 FOR UPDATE SKIP LOCKED))", 1, {INT8OID}
	};
	static pg_uuid_t pos_mailbox;
	static char pos_channel[ROM_SHORT_NAME_MAX + 1] = "";
	static int64 pos_id = 0;
	Datum		values[4];
	uint64		rows;
	RomRowSet	set;
	int			window = args->limit * WINDOW;
	int64		deleted = 0;

	if (args->manual)
	{
		memset(&pos_mailbox, 0, sizeof(pos_mailbox));
		pos_channel[0] = '\0';
		pos_id = 0;
	}
	values[0] = UUIDPGetDatum(&pos_mailbox);
	values[1] = CStringGetTextDatum(pos_channel);
	values[2] = Int64GetDatum(pos_id);
	values[3] = Int32GetDatum(window);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		pos_mailbox = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
		strlcpy(pos_channel, rom_value_text(&set, i, 2, CurrentMemoryContext), sizeof(pos_channel));
		pos_id = DatumGetInt64(rom_value(&set, i, 3, &isnull));
		if (!DatumGetBool(rom_value(&set, i, 4, &isnull)))
			continue;
		values[0] = Int64GetDatum(pos_id);
		deleted += (int64) rom_execute(&remove, values, NULL, 0);
	}
	if (rows < (uint64) window)
	{
		memset(&pos_mailbox, 0, sizeof(pos_mailbox));
		pos_channel[0] = '\0';
		pos_id = 0;
	}
	return deleted;
}

static int64
sweep_cleanup(const RomSweepArgs *args)
{
	RomEngine	engine;
	int64		deleted;

	if (args->part != 0)
		return 0;				/* not shared */
	rom_engine_begin(&engine);
	rom_control_own_xids();
	deleted = clean_old(args->limit);
	deleted += clean_channels(args);
	deleted += clean_direct(args);
	rom_engine_end(&engine);
	return deleted;
}

/* cleanup_next_due: when the oldest message or event id is too old; or soon, while there are broadcast ones. */
static TimestampTz
cleanup_next_due(void)
{
	static RomStatement find = {
		"SELECT least((SELECT m.published_at FROM romancy.t_message m WHERE m.kind = " ROM_SQL_MESSAGE_OPEN
		"  ORDER BY m.published_at LIMIT 1),"
		" (SELECT e.received_at FROM romancy.t_received_event e ORDER BY e.received_at LIMIT 1)),"
		" EXISTS (SELECT FROM romancy.t_channel c WHERE EXISTS (SELECT FROM romancy.t_message m"
		"  WHERE m.namespace = c.namespace AND m.channel = c.channel AND m.kind = " ROM_SQL_MESSAGE_BROADCAST " AND m.xid IS NOT NULL))",
		0, {InvalidOid}
	};
	TimestampTz due = DT_NOEND;
	RomEngine	engine;
	Datum		value;
	bool		isnull;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &find, NULL, NULL, 1);
	value = rom_value(&set, 0, 1, &isnull);
	if (!isnull && rom_guc_message_retention > 0)
		due = DatumGetTimestampTz(value) +
			(int64) rom_guc_message_retention * USECS_PER_SEC;
	if (DatumGetBool(rom_value(&set, 0, 2, &isnull)))
		due = Min(due, GetCurrentTimestamp() +
				  (int64) rom_guc_channel_cleanup_interval * 1000);
	rom_engine_end(&engine);
	return due;
}

void
rom_messages_sweep_init(void)
{
	static const RomSweep messages = {
		.name = "messages",
		.interval = &rom_guc_message_check_interval,
		.batch = sweep_messages
	};
	static const RomSweep cleanup = {
		.name = "channel_cleanup",
		.interval = &rom_guc_channel_cleanup_interval,
		.batch = sweep_cleanup,
		.next_due = cleanup_next_due
	};

	rom_sweep_register(&messages);
	rom_sweep_register(&cleanup);
}
