/*-------------------------------------------------------------------------
 *
 * receive.c
 *		Receiving messages: receive and spawn_receive.
 *
 * A message is consumed in the receiver's turn: its row, or the delivery's,
 * goes in the transaction that writes history. The oldest comes first: of the
 * messages that can be seen, the one with the lowest id. Competitors pass over
 * a message that another one is taking.
 *
 * A turn that finds nothing waits. A message whose commit overlaps that of the
 * turn is found by memory/crossing.c. A turn that takes a competing message
 * looks whether there are more, and wakes the next competitor at once, because
 * its own turn may be long.
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
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/event.h"
#include "memory/crossing.h"
#include "messages/channel.h"
#include "messages/publish.h"
#include "messages/receive.h"
#include "messages/subscription.h"
#include "turn/arrival.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/schedule.h"

#define NO_ID PG_INT64_MAX

/* The oldest of what is in the instance's mailbox. */
typedef struct Own
{
	int64		delivery;		/* message_id; NO_ID for none, as the next */
	int64		direct;
} Own;

/*
 * find_own looks for what was broadcast and sent to the instance of that mailbox. (As the next ones it has a generic plan: with a LIMIT
 * one for the values seems cheaper each time, and is made each time.)
 */
static void
find_own(const pg_uuid_t *mailbox, const char *channel, Own *own)
{
	static RomStatement find = {
		"SELECT (SELECT d.message_id FROM romancy.t_delivery d"
		"  WHERE d.mailbox = $1 AND d.channel = $2 AND NOT d.received ORDER BY d.message_id LIMIT 1),"
		" (SELECT m.id FROM romancy.t_message m"
		"  WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT " AND m.mailbox = $1 AND m.channel = $2 ORDER BY m.id LIMIT 1)",
		2, {UUIDOID, TEXTOID},.generic = true
	};
	Datum		values[2];
	bool		isnull;
	Datum		value;
	RomRowSet	set;

	values[0] = UUIDPGetDatum(mailbox);
	values[1] = CStringGetTextDatum(channel);
	rom_execute_rows(&set, &find, values, NULL, 1);
	value = rom_value(&set, 0, 1, &isnull);
	own->delivery = isnull ? NO_ID : DatumGetInt64(value);
	value = rom_value(&set, 0, 2, &isnull);
	own->direct = isnull ? NO_ID : DatumGetInt64(value);
}

/* take runs a statement that deletes or reads a message, and reads the row into cxt. */
static bool
take(RomStatement *stmt, Datum *values, MemoryContext cxt, RomMessage *message)
{
	MemoryContext old;
	RomRowSet	set;

	if (rom_execute_rows(&set, stmt, values, NULL, 0) == 0)
		return false;
	old = MemoryContextSwitchTo(cxt);
	rom_message_read(&set, 0, message);
	MemoryContextSwitchTo(old);
	return true;
}

/* take_open takes the oldest open message below limit that no other transaction is taking. */
static bool
take_open(RomTurn *turn, const char *channel, int64 limit, MemoryContext cxt,
		  RomMessage *message)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_message WHERE id = (SELECT m.id FROM romancy.t_message m"
		"  WHERE m.namespace = $3 AND m.channel = $1 AND m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.id < $2 ORDER BY m.id LIMIT 1"
		"  FOR UPDATE SKIP LOCKED)"
		" RETURNING " ROM_MESSAGE_COLUMNS,
		3, {TEXTOID, INT8OID, INT4OID},.generic = true
	};
	static RomStatement more = {
		"SELECT 1 FROM romancy.t_message WHERE namespace = $3 AND channel = $1 AND kind = " ROM_SQL_MESSAGE_OPEN " ORDER BY id LIMIT 1",
		3, {TEXTOID, INT8OID, INT4OID},.generic = true
	};
	Datum		values[3];

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int64GetDatum(limit);
	values[2] = Int32GetDatum(turn->inst->namespace);
	if (!take(&remove, values, cxt, message))
		return false;

	/*
	 * publishers that counted on this instance look for another one from now
	 * on
	 */
	rom_crossing_enter(rom_channel_key(turn->inst->namespace, channel), true);
	if (rom_execute(&more, values, NULL, 1) > 0)
		rom_channel_wake_one(turn->inst->namespace, channel, &turn->inst->id, true);
	return true;
}

/* take_direct takes a message that was sent to the instance. */
static bool
take_direct(int64 id, MemoryContext cxt, RomMessage *message)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_message WHERE id = $1 RETURNING " ROM_MESSAGE_COLUMNS,
		1, {INT8OID}
	};
	Datum		values[1];

	values[0] = Int64GetDatum(id);
	return take(&remove, values, cxt, message);
}

/* take_delivery takes a message that was broadcast. */
static bool
take_delivery(RomTurn *turn, const char *channel, const RomSubscription *sub,
			  int64 id, MemoryContext cxt, RomMessage *message)
{
	static RomStatement mark = {
		"UPDATE romancy.t_delivery SET received = true"
		" WHERE mailbox = $1 AND channel = $2 AND message_id = $3",
		3, {UUIDOID, TEXTOID, INT8OID}
	};
	static RomStatement remove = {
		"DELETE FROM romancy.t_delivery WHERE mailbox = $1 AND channel = $2 AND message_id = $3",
		3, {UUIDOID, TEXTOID, INT8OID}
	};
	static RomStatement read = {
		"SELECT " ROM_MESSAGE_COLUMNS " FROM romancy.t_message WHERE id = $1",
		1, {INT8OID}
	};
	Datum		values[3];

	values[0] = UUIDPGetDatum(&turn->inst->mailbox);
	values[1] = CStringGetTextDatum(channel);
	values[2] = Int64GetDatum(id);
	rom_execute(sub->marked ? &mark : &remove, values, NULL, 0);
	values[0] = Int64GetDatum(id);
	return take(&read, values, cxt, message);
}

/* consume takes the oldest message of channel for the instance. Engine scope needed; what it reads goes to cxt. */
static bool
consume(RomTurn *turn, const char *channel, const RomSubscription *sub,
		MemoryContext cxt, RomMessage *message)
{
	for (;;)
	{
		Own			own;

		CHECK_FOR_INTERRUPTS();
		find_own(&turn->inst->mailbox, channel, &own);
		if (sub->mode == ROM_MODE_COMPETING &&
			take_open(turn, channel, Min(own.delivery, own.direct), cxt, message))
			return true;
		if (own.delivery == NO_ID && own.direct == NO_ID)
			return false;
		if (own.direct < own.delivery ?
			take_direct(own.direct, cxt, message) :
			take_delivery(turn, channel, sub, own.delivery, cxt, message))
			return true;
	}
}

/* look subscribes if needed, and takes a message if there is one. *seen: for rom_crossing_wait(). */
static bool
look(RomTurn *turn, const char *channel, RomMode fallback, uint64 *seen,
	 RomMessage *message)
{
	MemoryContext cxt = CurrentMemoryContext;
	RomSubscription sub;
	RomEngine	engine;
	bool		found;

	*seen = rom_crossing_look(rom_channel_key(turn->inst->namespace, channel));
	rom_engine_begin(&engine);
	rom_subscription_find(turn, channel, &sub);
	if (sub.mode == ROM_MODE_NONE)
		rom_subscription_restore(turn, channel, fallback, &sub);
	if (sub.unsettled && !sub.fresh)
		rom_subscription_settle(&turn->inst->id, channel, true);
	found = consume(turn, channel, &sub, cxt, message);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return found;
}

/* timeout_error is the error of a receive whose timeout expired. */
static Jsonb *
timeout_error(const char *channel, const char *kind)
{
	return rom_error_make(ERRCODE_ROM_TIMEOUT,
						  psprintf("no %s came on channel \"%s\" in time", kind, channel),
						  NULL, NULL, NULL);
}

RomOutcome
rom_receive_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomReceive *receive = call->options;
	RomWait    *before = rom_call_waited(turn, call);
	TimestampTz until = receive->until;
	RomMessage	message;
	uint64		seen;
	RomJb		jb;

	/* also where the step's own id is the channel's name: a fork looks for it */
	event->name = rom_context_copy_text(turn, call->name);
	if (before != NULL)
		until = before->detail ? rom_jb_get_time(before->detail, "until") :
			before->until;

	if (look(turn, call->name, receive->fallback, &seen, &message))
	{
		event->type = receive->received;
		event->result = rom_context_copy_jsonb(turn, receive->show(&message));
		return ROM_OUTCOME_DONE;
	}

	/*
	 * a subscription made just now is committed first: a message that
	 * overlapped it is found after that
	 */
	if (turn->out.commit_now && !turn->how.in_block)
	{
		rom_jb_begin(&jb);
		rom_jb_time(&jb, "until", until);
		return rom_call_wait(turn, call, ROM_STATUS_RUNNING, receive->wait_kind,
							 rom_now(), rom_jb_end(&jb));
	}
	if (until <= rom_now())
	{
		event->type = ROM_EVENT_MESSAGE_TIMEOUT;
		event->result = rom_context_copy_jsonb(turn, timeout_error(call->name, receive->wait_kind));
		return ROM_OUTCOME_DONE;
	}
	rom_crossing_wait(rom_channel_key(turn->inst->namespace, call->name), seen, &turn->inst->id, turn->owner,
					  turn->inst->priority);
	return rom_call_wait(turn, call, ROM_STATUS_WAITING_MESSAGE,
						 receive->wait_kind, until, NULL);
}

Jsonb *
rom_receive_step(RomTurn *turn, const RomPrimitive *primitive,
				 const char *channel, const char *step, const Interval *timeout,
				 const RomReceive *receive)
{
	RomCall		call = {0};
	RomReceive *copy = MemoryContextAlloc(turn->cxt, sizeof(RomReceive));
	RomEvent   *event;

	*copy = *receive;
	copy->until = timeout ? rom_arg_timestamp_plus(rom_now(), timeout) : DT_NOEND;
	call.primitive = primitive;
	call.step_base = psprintf("receive_%s", channel);
	call.name = channel;
	call.step = step;
	call.options = copy;
	event = rom_call_step(&call);
	if (event->type == ROM_EVENT_MESSAGE_TIMEOUT)
		rom_error_raise(event->result);
	return event->result;
}

static const RomPrimitive primitive_receive = {
	.name = "receive",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_MESSAGE_RECEIVED, ROM_EVENT_MESSAGE_TIMEOUT},
	.execute = rom_receive_execute,
};

static const RomReceive receive_options = {
	.fallback = ROM_MODE_DIRECT,
	.wait_kind = "message",
	.received = ROM_EVENT_MESSAGE_RECEIVED,
	.show = rom_message_to_jsonb,
};

PG_FUNCTION_INFO_V1(romancy_receive);

/*
 * romancy.receive(channel text, timeout interval, activity_id text) -> message
 *
 * The oldest message of the channel that this instance did not receive yet, waited for up to
 * timeout (null: for ever). Without a subscription it subscribes as direct. Errors: RM006 on
 * timeout, RM004 outside a handler.
 */
Datum
romancy_receive(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("receive()");
	char	   *channel = rom_arg_text(fcinfo, 0, "channel");
	Interval   *timeout = rom_arg_interval_opt(fcinfo, 1, "timeout");

	rom_arg_check_short_name(channel, "channel");
	return rom_message_datum(fcinfo,
							 rom_receive_step(turn, &primitive_receive, channel,
											  rom_arg_text_opt(fcinfo, 2),
											  timeout, &receive_options));
}

/* ---------------------------------------------------------------- spawn_receive */

static RomOutcome
spawn_receive_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomSubscription sub;
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_subscription_find(turn, call->name, &sub);
	if (sub.mode == ROM_MODE_NONE)
		rom_subscription_restore(turn, call->name, ROM_MODE_DIRECT, &sub);
	rom_subscription_spawned(turn, call->name, 1);
	rom_engine_end(&engine);
	event->type = ROM_EVENT_RECEIVE_SCHEDULED;
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_spawn_receive = {
	.name = "spawn_receive",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_RECEIVE_SCHEDULED},
	.execute = spawn_receive_execute,
};

PG_FUNCTION_INFO_V1(romancy_spawn_receive);

/*
 * romancy.spawn_receive(channel text) -> text
 *
 * A handle for the next message of the channel: its await() gives the message as JSON. It takes the
 * message when it is awaited, alone or among others; a handle that was not the first in await_any
 * stays, can be awaited again, and ends with the instance.
 */
Datum
romancy_spawn_receive(PG_FUNCTION_ARGS)
{
	char	   *channel;
	RomCall		call = {0};

	(void) rom_context_require("spawn_receive()");
	channel = rom_arg_text(fcinfo, 0, "channel");
	rom_arg_check_short_name(channel, "channel");
	call.primitive = &primitive_spawn_receive;
	call.step_base = psprintf("receive_%s", channel);
	call.name = channel;
	PG_RETURN_TEXT_P(cstring_to_text(rom_call_step(&call)->step));
}

/* poll_receive takes a message for a pending receive. */
static RomEvent *
poll_receive(RomTurn *turn, RomEvent *scheduled, TimestampTz *due)
{
	RomMessage	message;
	RomEvent   *outcome;
	RomEngine	engine;
	uint64		seen;

	if (!look(turn, scheduled->name, ROM_MODE_DIRECT, &seen, &message))
	{
		if (turn->out.commit_now && !turn->how.in_block)
			*due = rom_now();
		else
			rom_crossing_wait(rom_channel_key(turn->inst->namespace, scheduled->name), seen, &turn->inst->id,
							  turn->owner, turn->inst->priority);
		return NULL;
	}
	rom_engine_begin(&engine);
	rom_subscription_spawned(turn, scheduled->name, -1);
	rom_engine_end(&engine);
	outcome = rom_replay_event(turn, ROM_EVENT_MESSAGE_RECEIVED, scheduled->step);
	outcome->name = rom_context_copy_text(turn, scheduled->name);
	outcome->result = rom_context_copy_jsonb(turn, rom_message_to_jsonb(&message));
	return outcome;
}

static Jsonb *
receive_value(RomTurn *turn, RomEvent *outcome)
{
	return outcome->result;
}

static const RomScheduleKind schedule_receive = {
	.scheduled = ROM_EVENT_RECEIVE_SCHEDULED,
	.waiting = ROM_STATUS_WAITING_MESSAGE,
	.wait_kind = "receive",
	.poll = poll_receive,
	.value = receive_value,
};

/* ---------------------------------------------------------------- for the engine */

/* in_vain: a receive was woken, and there is nothing to receive. Then it need not be replayed. */
static bool
in_vain(RomTurn *turn)
{
	static RomStatement find = {
		"SELECT (SELECT s.mode = 'competing' AND EXISTS (SELECT FROM romancy.t_message m"
		"  WHERE m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.namespace = s.namespace AND m.channel = $2) FROM romancy.t_subscription s"
		"  WHERE s.instance_id = $1 AND s.channel = $2),"
		" EXISTS (SELECT FROM romancy.t_delivery d WHERE d.mailbox = $3 AND d.channel = $2"
		"  AND NOT d.received)"
		" OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT " AND m.mailbox = $3"
		"  AND m.channel = $2)",
		3, {UUIDOID, TEXTOID, UUIDOID}
	};
	RomWait    *wait = turn->wait.before;
	RomEngine	engine;
	Datum		values[3];
	bool		isnull;
	bool		found;
	Datum		competing;
	RomRowSet	set;

	if (wait == NULL || wait->name == NULL ||
		(strcmp(wait->kind, "message") != 0 && strcmp(wait->kind, "event") != 0))
		return false;
	rom_engine_begin(&engine);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = CStringGetTextDatum(wait->name);
	values[2] = UUIDPGetDatum(&turn->inst->mailbox);
	rom_execute_rows(&set, &find, values, NULL, 1);
	competing = rom_value(&set, 0, 1, &isnull);
	found = !isnull && DatumGetBool(competing);
	found |= DatumGetBool(rom_value(&set, 0, 2, &isnull));
	rom_engine_end(&engine);
	return !found;
}

/*
 * pass_on: the instance had a turn and received nothing. It may have been woken for a competing
 * message: then another waiting competitor is woken for that.
 */
static void
pass_on(RomTurn *turn)
{
	static RomStatement find = {
		"SELECT s.channel FROM romancy.t_subscription s WHERE s.instance_id = $1"
		" AND s.mode = 'competing' AND EXISTS (SELECT FROM romancy.t_message m"
		"  WHERE m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.namespace = s.namespace AND m.channel = s.channel)",
		1, {UUIDOID}
	};
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	RomRowSet	set;

	for (int i = turn->replay.stored; i < turn->replay.history.count; i++)
		if (turn->replay.history.events[i]->type == ROM_EVENT_MESSAGE_RECEIVED ||
			turn->replay.history.events[i]->type == ROM_EVENT_EVENT_RECEIVED)
			return;

	rom_engine_begin(&engine);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_crossing_ask_later(rom_channel_key(turn->inst->namespace, rom_value_text(&set, i, 1, CurrentMemoryContext)),
							   rom_messages_sweep());
	rom_engine_end(&engine);
}

/* find_arrived finds waiting instances of an owner for which there is something. */
static int
find_arrived(const char *owner, pg_uuid_t *ids, int max)
{
	static RomStatement find = {
		"SELECT i.instance_id FROM romancy.t_instance i"
		" WHERE i.owner = $1 AND romancy.t_status_name(i.status) IN ('waiting_for_message', 'waiting_for_timer',"
		"  'waiting_for_activity', 'waiting_for_workflow')"
		" AND i.flags & $3 <> 0 AND " ROM_ARRIVED_SQL
		" ORDER BY i.created_at, i.instance_id LIMIT $2",
		3, {TEXTOID, INT4OID, INT4OID}
	};
	Datum		values[3];
	uint64		rows;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(owner);
	values[1] = Int32GetDatum(max);
	values[2] = Int32GetDatum(ROM_HAS_SUBSCRIPTIONS);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
	}
	return (int) rows;
}

/* scan_arrived has the sweep look at all waiting instances. */
static void
scan_arrived(void)
{
	rom_crossing_ask_all(rom_messages_sweep());
}

static const RomArrival arrival = {
	.in_vain = in_vain,
	.pass_on = pass_on,
	.find = find_arrived,
	.scan = scan_arrived,
};

void
rom_receive_init(void)
{
	rom_kinds_register(&schedule_receive);
	rom_arrival_register(&arrival);
}
