/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Sending messages: publish and send_to.
 *
 * One insert, and for a broadcast one statement more that writes a row for each
 * subscriber. It locks nothing and waits for nothing. Subscribers are read with
 * the latest snapshot, whatever the caller's isolation; subscription.c finds
 * those that were missed. If the session remembers that there are none
 * (mode.c), the insert is all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/event.h"
#include "memory/crossing.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "messages/channel.h"
#include "messages/message.h"
#include "messages/mode.h"
#include "messages/publish.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/primitive.h"

/* insert_message writes the row; returns its id. mailbox: of a direct one. */
static int64
insert_message(const RomPublish *p, int32 namespace, char kind, const pg_uuid_t *mailbox)
{
	static RomTable table = {
		"t_message", 13, {"id", "published_at", "xid", "kind", "channel", "mailbox",
		"sender", "data", "metadata", "data_binary", "event", "namespace", "publisher"}
	};
	const pg_uuid_t *sender = rom_message_sender();
	int64		id = rom_table_next_id("t_message_id_seq");
	Datum		values[13];
	bool		nulls[13] = {false};

	values[0] = Int64GetDatum(id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	nulls[2] = kind == ROM_MESSAGE_DIRECT;
	values[3] = CharGetDatum(kind);
	values[4] = CStringGetTextDatum(p->channel);
	values[5] = UUIDPGetDatum(mailbox);
	nulls[5] = mailbox == NULL;
	values[6] = PointerGetDatum(sender);
	nulls[6] = sender == NULL;
	values[7] = PointerGetDatum(p->data);
	nulls[7] = p->data == NULL;
	values[8] = PointerGetDatum(p->metadata);
	nulls[8] = p->metadata == NULL;
	values[9] = PointerGetDatum(p->binary);
	nulls[9] = p->binary == NULL;
	values[10] = PointerGetDatum(p->event);
	nulls[10] = p->event == NULL;
	values[11] = Int32GetDatum(namespace);
	values[12] = CStringGetTextDatum(GetUserNameFromId(p->publisher, false));
	rom_table_insert(&table, values, nulls);
	return id;
}

/* execute_latest runs a query with the latest snapshot, whatever the caller's isolation; the number of rows. */
static uint64
execute_latest(RomRowSet *set, RomStatement *stmt, Datum *values)
{
	Snapshot	snapshot;
	uint64		rows;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows = rom_execute_rows_at(set, stmt, values, NULL, snapshot, 0);
	UnregisterSnapshot(snapshot);
	return rows;
}

/* find_subscribers makes a uuid[] of the mailboxes of broadcast subscribers, and notes the waiting ones as ready. */
static int
find_subscribers(int32 namespace, const char *channel, Datum *mailboxes)
{
	static RomStatement find = {
		"SELECT s.instance_id, i.owner, i.priority,"
		" (s.spawned > 0 AND " ROM_AWAITING_SQL ") OR i.status = 'waiting_for_message' AND i.wait ->> 'name' = $1,"
		" s.mailbox FROM romancy.t_subscription s JOIN romancy.t_instance i USING (instance_id)"
		" WHERE s.namespace = $2 AND s.channel = $1 AND s.mode = 'broadcast'",
		2, {TEXTOID, INT4OID}
	};
	Datum		values[2];
	Datum	   *elements;
	uint64		rows;
	RomRowSet	set;
	bool		isnull;

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(namespace);
	rows = execute_latest(&set, &find, values);
	elements = palloc(sizeof(Datum) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		elements[i] = rom_value(&set, i, 5, &isnull);
		if (DatumGetBool(rom_value(&set, i, 4, &isnull)))
			rom_wake_ready(DatumGetUUIDP(rom_value(&set, i, 1, &isnull)),
						   rom_channel_owner(rom_value_text(&set, i, 2, CurrentMemoryContext)),
						   DatumGetInt32(rom_value(&set, i, 3, &isnull)));
	}
	*mailboxes = PointerGetDatum(construct_array(elements, rows, UUIDOID, UUID_LEN,
												 false, TYPALIGN_CHAR));
	return (int) rows;
}

/* fan_out writes a delivery for each subscriber. */
static void
fan_out(const char *channel, int64 id, Datum mailboxes)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_delivery (mailbox, channel, message_id)"
		" SELECT u, $2, $3 FROM unnest($1) u",
		3, {UUIDARRAYOID, TEXTOID, INT8OID}
	};
	Datum		values[3];

	values[0] = mailboxes;
	values[1] = CStringGetTextDatum(channel);
	values[2] = Int64GetDatum(id);
	rom_execute(&insert, values, NULL, 0);
}

/* publish_to_channel sends to whom it may concern. */
static int64
publish_to_channel(const RomPublish *p, int32 namespace)
{
	Datum		mailboxes = (Datum) 0;
	int			n = 0;
	int64		id;
	RomMode		mode = rom_mode_find(namespace, p->channel);

	if (mode == ROM_MODE_BROADCAST)
		n = find_subscribers(namespace, p->channel, &mailboxes);
	id = insert_message(p, namespace, n > 0 ? ROM_MESSAGE_BROADCAST : ROM_MESSAGE_OPEN, NULL);
	if (n > 0)
		fan_out(p->channel, id, mailboxes);
	else if (mode == ROM_MODE_COMPETING)
		rom_channel_wake_one(namespace, p->channel, NULL, false);
	return id;
}

/* publish_to_instance sends to one of the namespace; 0 when it is not there and missing_ok. */
static int64
publish_to_instance(const RomPublish *p, int32 namespace, bool missing_ok)
{
	static RomStatement find = {
		"SELECT i.owner, i.priority, i.status::text, i.wake_at IS NULL,"
		" i.status = 'waiting_for_message' AND i.wait ->> 'name' = $2 OR EXISTS"
		" (SELECT FROM romancy.t_subscription s WHERE s.instance_id = $1 AND s.channel = $2"
		"  AND s.spawned > 0 AND " ROM_AWAITING_SQL "), " ROM_MAILBOX_SQL
		" FROM romancy.t_instance i WHERE i.instance_id = $1 AND i.namespace = $3",
		3, {UUIDOID, TEXTOID, INT4OID}
	};
	char	   *text = rom_uuid_text(&p->target);
	Datum		values[3];
	bool		isnull;
	RomRowSet	set;
	Datum		waiting;
	pg_uuid_t	mailbox;
	Oid			owner;

	values[0] = UUIDPGetDatum(&p->target);
	values[1] = CStringGetTextDatum(p->channel);
	values[2] = Int32GetDatum(namespace);
	if (execute_latest(&set, &find, values) == 0)
	{
		if (missing_ok)
			return 0;
		ereport(ERROR,
				(errcode(ERRCODE_ROM_NO_INSTANCE),
				 errmsg("workflow instance \"%s\" does not exist", text)));
	}
	if (DatumGetBool(rom_value(&set, 0, 4, &isnull)))
	{
		if (missing_ok)
			return 0;
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow instance \"%s\" is %s and receives no messages",
						text, rom_value_text(&set, 0, 3, CurrentMemoryContext))));
	}
	mailbox = *DatumGetUUIDP(rom_value(&set, 0, 6, &isnull));
	owner = rom_channel_owner(rom_value_text(&set, 0, 1, CurrentMemoryContext));
	waiting = rom_value(&set, 0, 5, &isnull);
	if (!isnull && DatumGetBool(waiting))
		rom_wake_ready(&p->target, owner, DatumGetInt32(rom_value(&set, 0, 2, &isnull)));
	return insert_message(p, namespace, ROM_MESSAGE_DIRECT, &mailbox);
}

int64
rom_publish(RomPublish *p, bool missing_ok)
{
	RomEngine	engine;
	RomMode		mode;
	int64		id;
	int32		namespace;

	if (!rom_spi_override_read_only)
		PreventCommandIfReadOnly("romancy.publish()");
	PreventCommandIfParallelMode("romancy.publish()");
	namespace = rom_namespace_current();
	p->publisher = GetUserId();
	/* the xid before the look, see subscription.c */
	(void) GetTopTransactionId();
	rom_crossing_send(rom_channel_key(namespace, p->channel), rom_messages_sweep());
	if (!p->has_target && rom_mode_recall(namespace, p->channel, &mode) && mode == ROM_MODE_NONE)
		return insert_message(p, namespace, ROM_MESSAGE_OPEN, NULL);

	rom_engine_begin(&engine);
	id = p->has_target ? publish_to_instance(p, namespace, missing_ok) : publish_to_channel(p, namespace);
	rom_engine_end(&engine);
	return id;
}

/* ---------------------------------------------------------------- the calls */

static RomOutcome
publish_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomPublish *p = call->options;
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_int(&jb, "id", rom_publish(p, false));
	event->type = p->has_target ?
		ROM_EVENT_MESSAGE_SENT : ROM_EVENT_MESSAGE_PUBLISHED;
	event->result = rom_context_copy_jsonb(turn, rom_jb_get_json(rom_jb_end(&jb), "id"));
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_publish = {
	.name = "publish",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_MESSAGE_PUBLISHED},
	.execute = publish_execute,
};

static const RomPrimitive primitive_send_to = {
	.name = "send_to",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_MESSAGE_SENT},
	.execute = publish_execute,
};

/* step_publish records it as a step of the running handler. */
static int64
step_publish(RomPublish *p)
{
	RomTurn    *turn = rom_context_require("publish()");
	RomPublish *copy = MemoryContextAlloc(turn->cxt, sizeof(RomPublish));
	RomCall		call = {0};
	JsonbValue	v;
	RomJb		jb;

	*copy = *p;
	copy->channel = rom_context_copy_text(turn, p->channel);
	copy->data = rom_context_copy_jsonb(turn, p->data);
	copy->metadata = rom_context_copy_jsonb(turn, p->metadata);
	copy->binary = (bytea *) rom_context_copy_jsonb(turn, (Jsonb *) p->binary);
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "data", p->data);
	rom_jb_json(&jb, "metadata", p->metadata);
	if (p->binary != NULL)
		rom_jb_text(&jb, "data_binary", rom_message_base64_encode(p->binary));
	call.primitive = p->has_target ? &primitive_send_to : &primitive_publish;
	call.name = p->channel;
	if (p->has_target)
		call.step_base = psprintf("send_to_%s_%s", rom_uuid_text(&p->target), p->channel);
	else
		call.step_base = psprintf("publish_%s", p->channel);
	call.input = rom_jb_end(&jb);
	call.options = copy;
	if (!JsonbExtractScalar(&rom_call_step(&call)->result->root, &v) ||
		v.type != jbvNumeric)
		elog(ERROR, "history holds no message id for %s", primitive_publish.name);
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v.val.numeric)));
}

/* read_payload takes data, metadata and data_binary from the arguments from n on. */
static void
read_payload(FunctionCallInfo fcinfo, int n, RomPublish *p)
{
	p->data = rom_arg_jsonb_opt(fcinfo, n);
	p->metadata = rom_arg_jsonb_opt(fcinfo, n + 1);
	p->binary = PG_ARGISNULL(n + 2) ? NULL : PG_GETARG_BYTEA_P(n + 2);
	rom_arg_check_short_name(p->channel, "channel");
	rom_arg_check_payload(p->data, "data");
	rom_arg_check_payload(p->metadata, "metadata");
	rom_message_check_binary(p->binary);
}

PG_FUNCTION_INFO_V1(romancy_publish);

/*
 * romancy.publish(channel text, data jsonb, metadata jsonb, data_binary bytea) -> bigint
 *
 * Sends a message to the subscribers of a channel, each of them or one, as they
 * subscribed. Returns its id. Part of the caller's transaction; in a handler, a recorded step.
 * Errors: RM011 too large, RM012 the channel's name.
 */
Datum
romancy_publish(PG_FUNCTION_ARGS)
{
	RomPublish	p = {0};

	p.channel = rom_arg_text(fcinfo, 0, "channel");
	read_payload(fcinfo, 1, &p);
	PG_RETURN_INT64(rom_context_in_handler() ? step_publish(&p) :
					rom_publish(&p, false));
}

PG_FUNCTION_INFO_V1(romancy_send_to);

/*
 * romancy.send_to(instance_id uuid, channel text, data jsonb, metadata jsonb, data_binary bytea) -> bigint
 *
 * Sends a message to one instance, which may subscribe or begin to wait later. Errors:
 * RM002 no such instance in the namespace, RM010 a finished one, and those of publish.
 */
Datum
romancy_send_to(PG_FUNCTION_ARGS)
{
	RomPublish	p = {0};

	p.has_target = true;
	p.target = *rom_arg_uuid(fcinfo, 0, "instance_id");
	p.channel = rom_arg_text(fcinfo, 1, "channel");
	read_payload(fcinfo, 2, &p);
	PG_RETURN_INT64(rom_context_in_handler() ? step_publish(&p) :
					rom_publish(&p, false));
}
