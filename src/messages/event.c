/*-------------------------------------------------------------------------
 *
 * event.c
 *		CloudEvents: raise_event, wait_event, and starts by on_event.
 *
 * An event is a message on the channel of its type, with its attributes beside
 * the data.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/event.h"
#include "instances/history.h"
#include "instances/start.h"
#include "messages/event.h"
#include "messages/publish.h"
#include "messages/receive.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/turn.h"

/* is_new notes the event as received in the namespace; false when it was before. Waits for another transaction that receives it at the moment. */
static bool
is_new(int32 namespace, const char *source, const char *id)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_received_event (source, id, namespace) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		3, {TEXTOID, TEXTOID, INT4OID}
	};
	RomEngine	engine;
	Datum		values[3];
	bool		inserted;

	values[0] = CStringGetTextDatum(source);
	values[1] = CStringGetTextDatum(id);
	values[2] = Int32GetDatum(namespace);
	rom_engine_begin(&engine);
	inserted = rom_execute(&insert, values, NULL, 0) == 1;
	rom_engine_end(&engine);
	return inserted;
}

/* attributes_of is what is stored beside the data. */
static Jsonb *
attributes_of(const RomCloudEvent *event, const char *id)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "id", id);
	rom_jb_text(&jb, "type", event->type);
	rom_jb_text(&jb, "source", event->source);
	rom_jb_text(&jb, "specversion", event->specversion ? event->specversion : "1.0");
	if (event->has_time)
		rom_jb_time(&jb, "time", event->time);
	rom_jb_text(&jb, "subject", event->subject);
	rom_jb_text(&jb, "datacontenttype", event->datacontenttype);
	rom_jb_json(&jb, "extensions", event->extensions);
	return rom_jb_end(&jb);
}

/* write_envelope makes the event the first history row of a new instance. */
static void
write_envelope(const pg_uuid_t *id, const char *type, Jsonb *envelope)
{
	static RomStatement update = {
		"UPDATE romancy.t_instance SET last_seq = $2 WHERE instance_id = $1",
		2, {UUIDOID, INT8OID}
	};
	RomEventList list = {0};
	RomEvent	event = {0};
	RomEngine	engine;
	Datum		values[2];

	event.type = ROM_EVENT_EVENT_RECEIVED;
	event.name = (char *) type;
	event.result = envelope;
	event.at = rom_now();
	rom_engine_begin(&engine);
	rom_event_list_add(&list, &event, CurrentMemoryContext);
	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(rom_history_append(id, &list, 0, 0));
	rom_execute(&update, values, NULL, 0);
	rom_engine_end(&engine);
}

/* start_workflows starts an instance of each workflow of the namespace that is defined on the event's type. */
static void
start_workflows(int32 namespace, const RomCloudEvent *event, Jsonb *attributes)
{
	static RomStatement find = {
		"SELECT def_id, owner FROM romancy.t_workflow WHERE namespace = $2 AND on_event = $1 AND is_current"
		" ORDER BY def_id",
		2, {TEXTOID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomMessage	message = {0};
	Jsonb	   *envelope;
	RomEngine	engine;
	Datum		values[2];
	int32	   *defs;
	char	  **owners;
	uint64		rows;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(event->type);
	values[1] = Int32GetDatum(namespace);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &find, values, NULL, 0);
	defs = MemoryContextAlloc(cxt, sizeof(int32) * Max(rows, 1));
	owners = MemoryContextAlloc(cxt, sizeof(char *) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		defs[i] = DatumGetInt32(rom_value(&set, i, 1, &isnull));
		owners[i] = rom_value_text(&set, i, 2, cxt);
	}
	rom_engine_end(&engine);
	if (rows == 0)
		return;

	message.channel = event->type;
	message.data = event->data;
	message.binary = event->binary;
	message.event = attributes;
	envelope = rom_message_to_event(&message);
	for (uint64 i = 0; i < rows; i++)
	{
		RomStart	start = {0};
		pg_uuid_t	id;

		start.owner = get_role_oid(owners[i], true);
		if (!OidIsValid(start.owner))
		{
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("no workflow is started for event type \"%s\": role \"%s\" does not exist",
							event->type, owners[i])));
			continue;
		}
		start.workflow = rom_definition_by_id(defs[i]);
		start.input = event->data;
		rom_start_instance(&start, &id);
		write_envelope(&id, event->type, envelope);
	}
}

char *
rom_event_raise(const RomCloudEvent *event)
{
	RomPublish	p = {0};
	char	   *id = event->id;

	if (id == NULL)
	{
		pg_uuid_t	uuid;

		rom_uuid_v7(&uuid);
		id = rom_uuid_text(&uuid);
	}
	else if (!is_new(rom_namespace_current(), event->source, id))
		return id;
	p.channel = event->type;
	p.has_target = event->has_target;
	p.target = event->target;
	p.data = event->data;
	p.binary = event->binary;
	p.event = attributes_of(event, id);
	(void) rom_publish(&p, true);
	if (!event->has_target)
		start_workflows(rom_namespace_current(), event, p.event);
	return id;
}

void
rom_event_start(int32 namespace, const RomCloudEvent *event)
{
	start_workflows(namespace, event, attributes_of(event, event->id));
}

/* ---------------------------------------------------------------- raise_event */

static RomOutcome
raise_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_EVENT_RAISED;
	event->result = rom_context_copy_jsonb(turn,
										   rom_jb_string_document(rom_event_raise(call->options)));
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_raise = {
	.name = "raise_event",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_EVENT_RAISED},
	.execute = raise_execute,
};

/* copy_event copies an event to memory that survives the unwind. */
static RomCloudEvent *
copy_event(RomTurn *turn, const RomCloudEvent *event)
{
	RomCloudEvent *copy = MemoryContextAlloc(turn->cxt, sizeof(RomCloudEvent));

	*copy = *event;
	copy->id = rom_context_copy_text(turn, event->id);
	copy->type = rom_context_copy_text(turn, event->type);
	copy->source = rom_context_copy_text(turn, event->source);
	copy->subject = rom_context_copy_text(turn, event->subject);
	copy->datacontenttype = rom_context_copy_text(turn, event->datacontenttype);
	copy->data = rom_context_copy_jsonb(turn, event->data);
	copy->binary = (bytea *) rom_context_copy_jsonb(turn, (Jsonb *) event->binary);
	copy->extensions = rom_context_copy_jsonb(turn, event->extensions);
	return copy;
}

/* step_raise records it as a step of the running handler. */
static char *
step_raise(const RomCloudEvent *event)
{
	RomTurn    *turn = rom_context_require("raise_event()");
	RomCall		call = {0};
	JsonbValue	v;
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_json(&jb, "attributes", attributes_of(event, event->id));
	rom_jb_json(&jb, "data", event->data);
	if (event->binary != NULL)
		rom_jb_text(&jb, "data_binary", rom_message_base64_encode(event->binary));
	if (event->has_target)
		rom_jb_text(&jb, "instance_id", rom_uuid_text(&event->target));
	call.primitive = &primitive_raise;
	call.step_base = psprintf("raise_event_%s", event->type);
	call.name = event->type;
	call.input = rom_jb_end(&jb);
	call.options = copy_event(turn, event);
	if (!JsonbExtractScalar(&rom_call_step(&call)->result->root, &v) ||
		v.type != jbvString)
		elog(ERROR, "history holds no id for raise_event()");
	return pnstrdup(v.val.string.val, v.val.string.len);
}

/* check_id: RM012 for a source or id that is empty or does not fit into the index. */
static void
check_id(const char *value, const char *argument)
{
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not be empty", argument)));
	if (strlen(value) > ROM_EVENT_ID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must have at most %d bytes", argument, ROM_EVENT_ID_MAX)));
}

PG_FUNCTION_INFO_V1(romancy_raise_event);

/*
 * romancy.raise_event(type text, source text, data jsonb, id text, subject text,
 * event_time timestamptz, datacontenttype text, data_binary bytea, extensions jsonb,
 * instance_id uuid) -> text
 *
 * A CloudEvent comes in, in the caller's transaction: for instances that wait for its type (or the
 * instance named, which may begin to wait later), and for workflows that are defined on it. Returns
 * its id, a new one by default. One that came before, or for an unknown or finished instance, is
 * ignored. Errors: RM011 too large, RM012 names.
 */
Datum
romancy_raise_event(PG_FUNCTION_ARGS)
{
	RomCloudEvent event = {0};

	event.type = rom_arg_text(fcinfo, 0, "type");
	event.source = rom_arg_text(fcinfo, 1, "source");
	event.data = rom_arg_jsonb_opt(fcinfo, 2);
	event.id = rom_arg_text_opt(fcinfo, 3);
	event.subject = rom_arg_text_opt(fcinfo, 4);
	event.has_time = rom_arg_timestamp_opt(fcinfo, 5, "event_time", &event.time);
	event.datacontenttype = rom_arg_text_opt(fcinfo, 6);
	event.binary = PG_ARGISNULL(7) ? NULL : PG_GETARG_BYTEA_P(7);
	event.extensions = rom_arg_jsonb_opt(fcinfo, 8);
	event.has_target = !PG_ARGISNULL(9);
	if (event.has_target)
		event.target = *PG_GETARG_UUID_P(9);
	rom_arg_check_short_name(event.type, "type");
	check_id(event.source, "source");
	if (event.id != NULL)
		check_id(event.id, "id");
	if (event.extensions != NULL && !JB_ROOT_IS_OBJECT(event.extensions))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"extensions\" must be a JSON object")));
	rom_arg_check_payload(event.data, "data");
	rom_arg_check_payload(event.extensions, "extensions");
	rom_message_check_binary(event.binary);
	PG_RETURN_TEXT_P(cstring_to_text(rom_context_in_handler() ?
									 step_raise(&event) : rom_event_raise(&event)));
}

/* ---------------------------------------------------------------- wait_event */

static const RomPrimitive primitive_wait_event = {
	.name = "wait_event",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_EVENT_RECEIVED, ROM_EVENT_MESSAGE_TIMEOUT},
	.execute = rom_receive_execute,
};

static const RomReceive wait_event_options = {
	.fallback = ROM_MODE_BROADCAST,
	.wait_kind = "event",
	.received = ROM_EVENT_EVENT_RECEIVED,
	.show = rom_message_to_event,
};

PG_FUNCTION_INFO_V1(romancy_wait_event);

/*
 * romancy.wait_event(type text, timeout interval, activity_id text) -> event
 *
 * Waits for a CloudEvent, for up to timeout (null: for ever). Without a subscription to the
 * channel of that name it subscribes as broadcast. Errors: RM006 on timeout, RM005 where others
 * compete for the channel, RM004 outside a handler.
 */
Datum
romancy_wait_event(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("wait_event()");
	char	   *type = rom_arg_text(fcinfo, 0, "type");
	Interval   *timeout = rom_arg_interval_opt(fcinfo, 1, "timeout");

	rom_arg_check_short_name(type, "type");
	return rom_message_event_datum(fcinfo,
								   rom_receive_step(turn, &primitive_wait_event, type,
													rom_arg_text_opt(fcinfo, 2),
													timeout, &wait_event_options));
}
