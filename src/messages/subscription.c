/*-------------------------------------------------------------------------
 *
 * subscription.c
 *		Subscriptions to channels, and the messages that belong to each.
 *
 * A subscription and a publishing transaction may cross, neither seeing the
 * other: the publisher's fan-out leaves the subscriber out, and the message
 * commits after the subscription's snapshot. Publishers have their xid before
 * they look. So a message is the subscriber's if its xid was not over for the
 * subscription's snapshot, whether its publisher saw the subscription, and
 * wrote the delivery, or not. A later look adds the deliveries that are
 * missing; to be able to tell, one that was received stays as a mark meanwhile.
 * From the first look after the subscription's commit on, only transactions
 * that have begun by then (xid below bound) can have overlapped it; when all of
 * these are over, the subscription is settled: its snapshot and the marks are
 * forgotten.
 *
 * Deliveries go to the subscription's mailbox. When its instance continues in another
 * one, the subscription names that, and the mailbox stays: a publisher that sees the
 * old one delivers to where the new one looks, so that nothing is late.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/xid8.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/control.h"
#include "instances/delete.h"
#include "instances/event.h"
#include "memory/crossing.h"
#include "memory/sweep.h"
#include "messages/channel.h"
#include "messages/message.h"
#include "messages/publish.h"
#include "messages/subscription.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/hooks.h"
#include "turn/replay.h"
#include "turn/turn.h"

/* The messages m that overlapped subscription s. */
#define CROSSED_SQL \
	" ON m.namespace = s.namespace AND m.channel = s.channel AND m.kind <> " ROM_SQL_MESSAGE_DIRECT " AND m.xid >= pg_snapshot_xmin(s.snapshot)" \
	" AND (s.bound IS NULL OR m.xid < s.bound) AND m.xid <> s.xid" \
	" AND NOT pg_visible_in_snapshot(m.xid, s.snapshot)"

void
rom_subscription_find(RomTurn *turn, const char *channel, RomSubscription *sub)
{
	static RomStatement find = {
		"SELECT mode, snapshot IS NOT NULL AND bound IS NULL, snapshot IS NOT NULL,"
		" coalesce(xid = pg_current_xact_id_if_assigned(), false)"
		" FROM romancy.t_subscription WHERE instance_id = $1 AND channel = $2",
		2, {UUIDOID, TEXTOID}
	};
	Datum		values[2];
	bool		isnull;
	RomRowSet	set;

	memset(sub, 0, sizeof(RomSubscription));
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(channel);
	if (rom_execute_rows(&set, &find, values, NULL, 1) == 0)
		return;
	sub->mode = rom_mode_from_name(rom_value_text(&set, 0, 1, CurrentMemoryContext));
	sub->unsettled = DatumGetBool(rom_value(&set, 0, 2, &isnull));
	sub->marked = DatumGetBool(rom_value(&set, 0, 3, &isnull));
	sub->fresh = DatumGetBool(rom_value(&set, 0, 4, &isnull));
}

bool
rom_subscription_make(RomTurn *turn, const char *channel, RomMode mode)
{
	static RomStatement insert = {
		"WITH was AS MATERIALIZED (SELECT mode FROM romancy.t_subscription WHERE instance_id = $1 AND channel = $2),"
		" made AS (INSERT INTO romancy.t_subscription AS s (instance_id, channel, mailbox, namespace, mode, xid, snapshot)"
		"  VALUES ($1, $2, $4, $5, $3, pg_current_xact_id(),"
		"  CASE WHEN $3 = 'broadcast' THEN pg_current_snapshot() END)"
		"  ON CONFLICT (instance_id, channel) DO UPDATE SET mode = excluded.mode,"
		"  xid = excluded.xid, snapshot = excluded.snapshot, bound = NULL"
		"  WHERE s.mode <> excluded.mode RETURNING 1),"

		/*
		 * written for an earlier subscription, by a publisher that overlapped
		 * its end; but messages that it was sent before its failure can still
		 * be received
		 */
		" old AS (DELETE FROM romancy.t_delivery WHERE mailbox = $4 AND channel = $2"
		"  AND EXISTS (SELECT FROM made) AND NOT EXISTS (SELECT FROM was WHERE mode = 'kept'))"
		" SELECT 1 FROM made",
		5, {UUIDOID, TEXTOID, TEXTOID, UUIDOID, INT4OID}
	};
	Datum		values[5];

	rom_control_own_xids();
	if (mode != ROM_MODE_DIRECT)
		rom_mode_claim(turn->inst->namespace, channel, mode);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(channel);
	values[2] = CStringGetTextDatum(rom_mode_name(mode));
	values[3] = UUIDPGetDatum(&turn->inst->mailbox);
	values[4] = Int32GetDatum(turn->inst->namespace);
	turn->inst->flags |= ROM_HAS_SUBSCRIPTIONS;
	if (rom_execute(&insert, values, NULL, 0) == 0)
		return false;
	if (mode != ROM_MODE_DIRECT)
	{
		rom_crossing_enter(rom_channel_key(turn->inst->namespace, channel), false);
		turn->out.commit_now = true;
	}
	return true;
}

void
rom_subscription_restore(RomTurn *turn, const char *channel, RomMode fallback,
						 RomSubscription *sub)
{
	RomMode		mode = fallback;

	for (int i = turn->replay.history.count - 1; i >= 0; i--)
	{
		RomEvent   *event = turn->replay.history.events[i];
		char	   *name;

		if (event->name == NULL || strcmp(event->name, channel) != 0)
			continue;
		if (event->type == ROM_EVENT_UNSUBSCRIBED)
			break;
		if (event->type != ROM_EVENT_SUBSCRIBED)
			continue;
		name = rom_jb_get_text(event->input, "mode");
		if (name != NULL && rom_mode_from_name(name) != ROM_MODE_NONE)
			mode = rom_mode_from_name(name);
		break;
	}
	rom_subscription_make(turn, channel, mode);
	rom_subscription_find(turn, channel, sub);
}

/* is_listed: is name among the strings of list? */
static bool
is_listed(List *list, const char *name)
{
	ListCell   *lc;

	foreach(lc, list)
		if (strcmp(lfirst(lc), name) == 0)
		return true;
	return false;
}

/* subscribe_again subscribes, unless others have given the channel another mode meanwhile: then the next receive() says so. */
static void
subscribe_again(RomTurn *turn, const char *channel, RomMode mode)
{
	if (mode != ROM_MODE_NONE && rom_mode_of_others(turn->inst->namespace, channel, mode) == ROM_MODE_NONE)
		rom_subscription_make(turn, channel, mode);
}

/* expect_again: what a spawn_receive() in the program still expects is looked for again. */
static void
expect_again(RomTurn *turn)
{
	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];
		RomSubscription sub;

		if (event->type != ROM_EVENT_RECEIVE_SCHEDULED ||
			rom_replay_completion(turn, event->step) != NULL)
			continue;
		rom_subscription_find(turn, event->name, &sub);
		if (sub.mode == ROM_MODE_NONE)
			subscribe_again(turn, event->name, ROM_MODE_DIRECT);
		rom_subscription_spawned(turn, event->name, 1);
	}
}

/* renew: a fork, or an instance that is retried, is subscribed as the last subscribe() or wait_event() of its history says. */
static void
renew(RomTurn *turn)
{
	List	   *said = NIL;
	List	   *awaited = NIL;
	ListCell   *lc;

	for (int i = turn->replay.program.count - 1; i >= 0; i--)
	{
		RomEvent   *event = turn->replay.program.events[i];
		char	   *mode;

		if (event->name == NULL || is_listed(said, event->name))
			continue;
		if (event->type == ROM_EVENT_EVENT_RECEIVED && !is_listed(awaited, event->name))
			awaited = lappend(awaited, event->name);
		if (event->type != ROM_EVENT_SUBSCRIBED && event->type != ROM_EVENT_UNSUBSCRIBED)
			continue;
		said = lappend(said, event->name);
		mode = event->type == ROM_EVENT_SUBSCRIBED ? rom_jb_get_text(event->input, "mode") : NULL;
		if (mode != NULL)
			subscribe_again(turn, event->name, rom_mode_from_name(mode));
	}
	foreach(lc, awaited)
		if (!is_listed(said, lfirst(lc)))
		subscribe_again(turn, lfirst(lc), ROM_MODE_BROADCAST);
	expect_again(turn);
}

void
rom_subscription_spawned(RomTurn *turn, const char *channel, int change)
{
	static RomStatement update = {
		"UPDATE romancy.t_subscription SET spawned = greatest(spawned + $3, 0)"
		" WHERE instance_id = $1 AND channel = $2",
		3, {UUIDOID, TEXTOID, INT4OID}
	};
	Datum		values[3];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(channel);
	values[2] = Int32GetDatum(change);
	rom_execute(&update, values, NULL, 0);
}

int
rom_subscription_settle(const pg_uuid_t *id, const char *channel, bool wait)
{
	static RomStatement lock = {
		"SELECT 1 FROM romancy.t_subscription WHERE instance_id = $1 AND channel = $2"
		" AND snapshot IS NOT NULL FOR UPDATE",
		2, {UUIDOID, TEXTOID}
	};
	static RomStatement lock_or_skip = {
		"SELECT 1 FROM romancy.t_subscription WHERE instance_id = $1 AND channel = $2"
		" AND snapshot IS NOT NULL FOR UPDATE SKIP LOCKED",
		2, {UUIDOID, TEXTOID}
	};
	static RomStatement settle = {
		"WITH s AS MATERIALIZED (SELECT * FROM romancy.t_subscription"
		"  WHERE instance_id = $1 AND channel = $2 AND snapshot IS NOT NULL),"
		" late AS MATERIALIZED (SELECT m.id, m.kind FROM s JOIN romancy.t_message m" CROSSED_SQL "),"
		" mark AS (UPDATE romancy.t_message m SET kind = " ROM_SQL_MESSAGE_BROADCAST " FROM late"
		"  WHERE m.id = late.id AND late.kind = " ROM_SQL_MESSAGE_OPEN "),"
		" added AS (INSERT INTO romancy.t_delivery (mailbox, channel, message_id)"
		"  SELECT s.mailbox, $2, late.id FROM s, late ON CONFLICT DO NOTHING RETURNING 1),"
		" over AS (DELETE FROM romancy.t_delivery d USING s WHERE d.mailbox = s.mailbox"
		"  AND d.channel = $2 AND d.received"
		"  AND pg_snapshot_xmin(pg_current_snapshot()) >= coalesce(s.bound, $3)"
		"  AND NOT EXISTS (SELECT FROM late WHERE late.id = d.message_id)),"
		" done AS (UPDATE romancy.t_subscription u SET bound = coalesce(s.bound, $3),"
		"  snapshot = CASE WHEN pg_snapshot_xmin(pg_current_snapshot()) < coalesce(s.bound, $3)"
		"  THEN pg_current_snapshot() END"
		"  FROM s WHERE u.instance_id = s.instance_id AND u.channel = s.channel)"
		" SELECT count(*) FROM added",
		3, {UUIDOID, TEXTOID, XID8OID}
	};
	Datum		values[3];
	bool		isnull;
	RomRowSet	set;

	rom_control_own_xids();
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(channel);
	if (rom_execute(wait ? &lock : &lock_or_skip, values, NULL, 1) == 0)
		return 0;
	values[2] = FullTransactionIdGetDatum(ReadNextFullTransactionId());
	rom_execute_rows(&set, &settle, values, NULL, 0);
	return DatumGetInt64(rom_value(&set, 0, 1, &isnull));
}

/*
 * end_foreign: the rows came from another cluster, none of whose transactions can
 * still end. Messages that overlapped a subscription are in the tables: they are
 * delivered, and all is settled. (A message published here since has its
 * deliveries, for its publisher saw those subscriptions.) As xid the messages get
 * one that every snapshot shows.
 */
static void
end_foreign(void)
{
	static RomStatement deliver = {
		"WITH late AS MATERIALIZED (SELECT s.mailbox, s.channel, m.id, m.kind"
		"  FROM romancy.t_subscription s JOIN romancy.t_message m" CROSSED_SQL
		"  WHERE s.snapshot IS NOT NULL),"
		" mark AS (UPDATE romancy.t_message m SET kind = " ROM_SQL_MESSAGE_BROADCAST " FROM late"
		"  WHERE m.id = late.id AND late.kind = " ROM_SQL_MESSAGE_OPEN ")"
		" INSERT INTO romancy.t_delivery (mailbox, channel, message_id)"
		" SELECT late.mailbox, late.channel, late.id FROM late ON CONFLICT DO NOTHING",
		0, {0}
	};
	static RomStatement forget = {
		"DELETE FROM romancy.t_delivery d USING romancy.t_subscription s WHERE s.snapshot IS NOT NULL"
		" AND d.mailbox = s.mailbox AND d.channel = s.channel AND d.received",
		0, {0}
	};
	static RomStatement settle = {
		"UPDATE romancy.t_subscription SET snapshot = NULL, bound = NULL WHERE snapshot IS NOT NULL",
		0, {0}
	};
	static RomStatement end = {
		"UPDATE romancy.t_message SET xid = '3' WHERE xid IS NOT NULL", 0, {0}
	};
	static RomStatement sweep = {
		"UPDATE romancy.t_channel SET swept = NULL WHERE swept IS NOT NULL", 0, {0}
	};

	/* nor does a session's memory of a mode hold that is older than the rows */
	rom_crossing_change(NULL);
	rom_execute(&deliver, NULL, NULL, 0);
	rom_execute(&forget, NULL, NULL, 0);
	rom_execute(&settle, NULL, NULL, 0);
	rom_execute(&end, NULL, NULL, 0);
	rom_execute(&sweep, NULL, NULL, 0);
}

/* ---------------------------------------------------------------- the calls */

static RomOutcome
subscribe_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_subscription_make(turn, call->name,
						  rom_mode_from_name(rom_jb_get_text(call->input, "mode")));
	rom_engine_end(&engine);
	event->type = ROM_EVENT_SUBSCRIBED;
	return ROM_OUTCOME_DONE;
}

/* Blocking: never in an evaluation, for it may wait for the channel's lock and has the turn commit. */
static const RomPrimitive primitive_subscribe = {
	.name = "subscribe",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_SUBSCRIBED},
	.execute = subscribe_execute,
};

static RomOutcome
unsubscribe_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_subscription WHERE instance_id = $1 AND channel = $2",
		2, {UUIDOID, TEXTOID}
	};
	static RomStatement drop = {
		"DELETE FROM romancy.t_delivery WHERE mailbox = $1 AND channel = $2",
		2, {UUIDOID, TEXTOID}
	};
	RomEngine	engine;
	Datum		values[2];

	rom_engine_begin(&engine);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(call->name);
	rom_execute(&remove, values, NULL, 0);
	values[0] = UUIDPGetDatum(&turn->inst->mailbox);
	rom_execute(&drop, values, NULL, 0);
	rom_crossing_enter(rom_channel_key(turn->inst->namespace, call->name), false);
	rom_crossing_ask_later(rom_channel_key(turn->inst->namespace, call->name), rom_messages_sweep());
	rom_engine_end(&engine);
	event->type = ROM_EVENT_UNSUBSCRIBED;
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_unsubscribe = {
	.name = "unsubscribe",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_UNSUBSCRIBED},
	.execute = unsubscribe_execute,
};

PG_FUNCTION_INFO_V1(romancy_subscribe);

/*
 * romancy.subscribe(channel text, mode text)
 *
 * From now on the instance receives what is published to the channel: every message
 * (broadcast), a share of them (competing), or only what is sent to it (direct).
 * Again in the same mode: nothing changes. Errors: RM005 where the channel has live
 * subscribers of another mode, RM012 for an unknown mode, RM004 outside a handler.
 */
Datum
romancy_subscribe(PG_FUNCTION_ARGS)
{
	char	   *channel;
	char	   *mode;
	RomCall		call = {0};
	RomJb		jb;

	(void) rom_context_require("subscribe()");
	channel = rom_arg_text(fcinfo, 0, "channel");
	mode = rom_arg_text(fcinfo, 1, "mode");
	rom_arg_check_short_name(channel, "channel");
	if (rom_mode_from_name(mode) == ROM_MODE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("unknown channel mode \"%s\"", mode),
				 errhint("The modes are broadcast, competing and direct.")));
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "mode", mode);
	call.primitive = &primitive_subscribe;
	call.step_base = psprintf("subscribe_%s", channel);
	call.name = channel;
	call.input = rom_jb_end(&jb);
	(void) rom_call_step(&call);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_unsubscribe);

/*
 * romancy.unsubscribe(channel text)
 *
 * Ends the subscription, if there is one. Broadcast messages that were not received are
 * dropped, those sent to the instance are kept. RM004 outside a handler.
 */
Datum
romancy_unsubscribe(PG_FUNCTION_ARGS)
{
	char	   *channel;
	RomCall		call = {0};

	(void) rom_context_require("unsubscribe()");
	channel = rom_arg_text(fcinfo, 0, "channel");
	rom_arg_check_short_name(channel, "channel");
	call.primitive = &primitive_unsubscribe;
	call.step_base = psprintf("unsubscribe_%s", channel);
	call.name = channel;
	(void) rom_call_step(&call);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- hooks */

/* tell_others: a message may have been announced to a competitor that has ended (rows: channel, mode): then another one is woken for it. */
static void
tell_others(RomTurn *turn, const RomRowSet *set)
{
	for (uint64 i = 0; i < set->count; i++)
	{
		char	   *channel = rom_value_text(set, i, 1, CurrentMemoryContext);

		if (rom_mode_from_name(rom_value_text(set, i, 2, CurrentMemoryContext)) != ROM_MODE_COMPETING)
			continue;
		rom_crossing_enter(rom_channel_key(turn->inst->namespace, channel), false);
		rom_crossing_ask_later(rom_channel_key(turn->inst->namespace, channel), rom_messages_sweep());
	}
}

/*
 * keep: the instance has failed and may be retried. The messages that it was sent are kept for
 * that; its subscriptions receive nothing meanwhile (mode "kept"), and messages that are published
 * while it has failed are not for it.
 */
static void
keep(RomTurn *turn)
{
	static RomStatement crossed = {
		"SELECT channel FROM romancy.t_subscription WHERE instance_id = $1 AND snapshot IS NOT NULL", 1, {UUIDOID}
	};
	static RomStatement update = {
		"WITH d AS (DELETE FROM romancy.t_delivery WHERE mailbox = $2 AND received)"
		" UPDATE romancy.t_subscription u SET mode = 'kept', snapshot = NULL, bound = NULL, spawned = 0"
		" FROM romancy.t_subscription o WHERE u.instance_id = $1 AND o.instance_id = u.instance_id AND o.channel = u.channel"
		" RETURNING u.channel, o.mode",
		2, {UUIDOID, UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *channels = NIL;
	ListCell   *lc;
	Datum		values[2];
	uint64		rows;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = UUIDPGetDatum(&turn->inst->mailbox);
	rows = rom_execute_rows(&set, &crossed, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		channels = lappend(channels, rom_value_text(&set, i, 1, cxt));
	foreach(lc, channels)
		(void) rom_subscription_settle(&turn->inst->id, lfirst(lc), true);
	(void) rom_execute_rows(&set, &update, values, NULL, 0);
	tell_others(turn, &set);
}

/* at_end: subscriptions end with the instance, whatever way it ends; the mailbox, with the last generation that cannot be retried. */
static void
at_end(RomTurn *turn, RomStatus status)
{
	static RomStatement remove = {
		"WITH d AS (DELETE FROM romancy.t_delivery WHERE mailbox = $2),"
		" m AS (DELETE FROM romancy.t_message WHERE kind = " ROM_SQL_MESSAGE_DIRECT " AND mailbox = $2)"
		" DELETE FROM romancy.t_subscription WHERE instance_id = $1 RETURNING channel, mode",
		2, {UUIDOID, UUIDOID}
	};
	RomRowSet	set;
	Datum		values[2];

	if (status == ROM_STATUS_RECURRED)
		return;
	if (status == ROM_STATUS_FAILED && (turn->inst->flags & ROM_HAS_COMPENSATED) == 0)
	{
		keep(turn);
		return;
	}
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = UUIDPGetDatum(&turn->inst->mailbox);
	(void) rom_execute_rows(&set, &remove, values, NULL, 0);
	tell_others(turn, &set);
}

/*
 * at_move: the subscriptions are those of the instance that continues this one. Messages that were not received stay
 * in the mailbox, which both have.
 */
static void
at_move(RomTurn *turn, const pg_uuid_t *successor)
{
	static RomStatement move = {
		"UPDATE romancy.t_subscription SET instance_id = $2, spawned = 0 WHERE instance_id = $1",
		2, {UUIDOID, UUIDOID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = UUIDPGetDatum(successor);
	rom_execute(&move, values, NULL, 0);
}

/*
 * at_delete: messages sent to an instance that never subscribed, whose commit overlapped its end, or that were kept
 * for a retry. The mailbox of an instance that recurred belongs to its successors.
 */
static void
at_delete(Datum ids)
{
	static RomStatement remove = {
		"WITH box AS MATERIALIZED (SELECT array_agg(" ROM_MAILBOX_SQL ") AS ids FROM romancy.t_instance i"
		"  WHERE i.instance_id = ANY ($1) AND i.status <> 'recurred'),"
		" d AS (DELETE FROM romancy.t_delivery WHERE mailbox = ANY ((SELECT ids FROM box)::uuid[])),"
		" s AS (DELETE FROM romancy.t_subscription WHERE instance_id = ANY ($1))"
		" DELETE FROM romancy.t_message WHERE kind = " ROM_SQL_MESSAGE_DIRECT " AND mailbox = ANY ((SELECT ids FROM box)::uuid[])",
		1, {UUIDARRAYOID}
	};
	Datum		values[1] = {ids};

	rom_execute(&remove, values, NULL, 0);
}

void
rom_subscription_init(void)
{
	rom_hooks_on_end(ROM_HAS_SUBSCRIPTIONS, at_end);
	rom_hooks_on_move(ROM_HAS_SUBSCRIPTIONS, at_move);
	rom_hooks_on_renew(renew);
	rom_delete_on(at_delete);
	rom_control_on_foreign_xids(end_foreign);
}
