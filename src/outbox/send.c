/*-------------------------------------------------------------------------
 *
 * send.c
 *		send_event: a CloudEvent is put into the outbox.
 *
 * A row for each destination, in the caller's transaction. Nothing is locked, and nothing is waited for but another
 * transaction that sends the same id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/event.h"
#include "memory/wake.h"
#include "messages/event.h"
#include "messages/message.h"
#include "outbox/destination.h"
#include "outbox/guc.h"
#include "outbox/send.h"
#include "outbox/sender.h"
#include "outbox/settle.h"
#include "outbox/state.h"
#include "outbox/sweep.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/primitive.h"

PG_FUNCTION_INFO_V1(romancy_send_event);

/* Longest subject and datacontenttype, in bytes. */
#define ATTRIBUTE_MAX 1000

/* Extension attributes of one event, and the longest name of one. */
#define EXTENSIONS_MAX 50
#define EXTENSION_NAME_MAX 64

#define SENT_COLUMNS 19

/* key_for is the ordering key of the event at a destination (NULL: the one that is always there), or NULL. */
static const char *
key_for(const RomSent *sent, const RomDestination *destination)
{
	if (destination != NULL && destination->ordered == ROM_ORDERED_ALL)
		return "";
	if (sent->ordering_key != NULL || destination == NULL)
		return sent->ordering_key;
	switch (destination->ordered)
	{
		case ROM_ORDERED_SOURCE:
			return sent->source;
		case ROM_ORDERED_SUBJECT:
			return sent->subject;
		case ROM_ORDERED_TYPE:
			return sent->type;
		default:
			return NULL;
	}
}

/* text_value and jsonb_value are values of a row that may be null. */
static Datum
text_value(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static Datum
pointer_value(const void *value, bool *isnull)
{
	*isnull = value == NULL;
	return PointerGetDatum(value);
}

/* row_values are those of an event on its way to one destination, in the order of add_row()'s columns. */
static void
row_values(const RomSent *sent, const char *id, const RomDestination *destination, Datum *values, bool *nulls)
{
	TimestampTz now = rom_now();
	const char *key = key_for(sent, destination);

	memset(nulls, 0, sizeof(bool) * SENT_COLUMNS);
	values[0] = Int64GetDatum(rom_table_next_id("t_outbox_outbox_id_seq"));
	values[1] = Int32GetDatum(sent->namespace);
	values[2] = CStringGetTextDatum(destination ? destination->name : "");
	values[3] = CStringGetTextDatum(sent->owner);
	values[4] = pointer_value(sent->instance, &nulls[4]);
	values[5] = TimestampTzGetDatum(now);
	values[6] = TimestampTzGetDatum(now);
	values[7] = Int16GetDatum(ROM_OUTBOX_PENDING);
	values[8] = Int32GetDatum(key ? (int32) hash_bytes((const unsigned char *) key, strlen(key)) : 0);
	nulls[8] = key == NULL;
	values[9] = text_value(key, &nulls[9]);
	values[10] = CStringGetTextDatum(sent->type);
	values[11] = CStringGetTextDatum(sent->source);
	values[12] = CStringGetTextDatum(id);
	values[13] = text_value(sent->subject, &nulls[13]);
	values[14] = text_value(sent->datacontenttype, &nulls[14]);
	values[15] = pointer_value(sent->data, &nulls[15]);
	values[16] = pointer_value(sent->binary, &nulls[16]);
	values[17] = pointer_value(sent->extensions, &nulls[17]);
	values[18] = Int32GetDatum(destination ? destination->id : ROM_DESTINATION_ALWAYS);
}

/* add_row adds an event with a new id. */
static void
add_row(Datum *values, bool *nulls)
{
	static RomTable table = {
		"t_outbox", SENT_COLUMNS + 2, {"outbox_id", "namespace", "destination", "owner", "instance_id", "created_at", "due_at", "state",
			"key_hash", "ordering_key", "type", "source", "id", "subject", "datacontenttype", "data", "data_binary", "extensions",
		"destination_id", "attempt", "fence"}
	};

	values[SENT_COLUMNS] = Int32GetDatum(0);
	values[SENT_COLUMNS + 1] = Int64GetDatum(0);
	nulls[SENT_COLUMNS] = nulls[SENT_COLUMNS + 1] = false;
	rom_table_insert(&table, values, nulls);
}

/* add_row_once adds an event whose sender named its id: nothing when the same role sent it before. Waits for a transaction that does it at the moment. */
static void
add_row_once(Datum *values, bool *nulls)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_outbox (outbox_id, namespace, destination, owner, instance_id, created_at, due_at, state, key_hash,"
		" ordering_key, type, source, id, subject, datacontenttype, data, data_binary, extensions, destination_id, attempt, fence) OVERRIDING SYSTEM VALUE"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 0, 0)"
		" ON CONFLICT (namespace, id, source, destination, owner) DO NOTHING",
		SENT_COLUMNS, {INT8OID, INT4OID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT2OID, INT4OID,
			TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID, JSONBOID, INT4OID
		}
	};
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_execute(&insert, values, nulls, 0);
	rom_engine_end(&engine);
}

void
rom_send_to(const RomSent *sent, const char *id, const RomDestination *destination)
{
	Datum		values[SENT_COLUMNS + 2];
	bool		nulls[SENT_COLUMNS + 2];

	row_values(sent, id, destination, values, nulls);
	if (sent->id == NULL)
		add_row(values, nulls);
	else
		add_row_once(values, nulls);
	if (destination != NULL ? destination->sent : rom_guc_outbox_url[0] != '\0')
		rom_sender_wake();
	if (rom_guc_outbox_max_age > 0)
		rom_wake_sweep(rom_outbox_sweep(), rom_now() + (int64) rom_guc_outbox_max_age * USECS_PER_SEC);
}

/* add_event puts an event of the owner's into the outbox and returns its id. */
static char *
add_event(RomSent *sent, Oid owner)
{
	char	   *id = sent->id;
	int			sent_to = 0;
	const RomDestination *list;
	int			n;

	if (!rom_spi_override_read_only)
		PreventCommandIfReadOnly("romancy.send_event()");
	PreventCommandIfParallelMode("romancy.send_event()");
	if (id == NULL)
	{
		pg_uuid_t	uuid;

		rom_uuid_v7(&uuid);
		id = rom_uuid_text(&uuid);
	}
	sent->namespace = rom_namespace_current();
	sent->owner = GetUserNameFromId(owner, false);
	sent->instance = rom_message_sender();
	list = rom_destination_list(sent->namespace, &n);
	for (int i = 0; i < n; i++)
	{
		if (sent->destination != NULL ? strcmp(list[i].name, sent->destination) != 0 : !rom_destination_wants(&list[i], sent->type))
			continue;
		rom_send_to(sent, id, &list[i]);
		sent_to++;
	}
	if (sent_to == 0 && sent->destination != NULL && sent->destination[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("destination \"%s\" does not exist", sent->destination)));
	if (sent_to == 0)
		rom_send_to(sent, id, NULL);
	return id;
}

/* ---------------------------------------------------------------- a step of a handler */

static RomOutcome
send_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_OUTBOX_SENT;
	event->result = rom_context_copy_jsonb(turn, rom_jb_string_document(add_event(call->options, turn->owner)));
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_send_event = {
	.name = "send_event",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_OUTBOX_SENT},
	.execute = send_execute,
};

/* copy_sent copies what was given to memory that survives the unwind. */
static RomSent *
copy_sent(RomTurn *turn, const RomSent *sent)
{
	RomSent    *copy = MemoryContextAlloc(turn->cxt, sizeof(RomSent));

	copy->type = rom_context_copy_text(turn, sent->type);
	copy->source = rom_context_copy_text(turn, sent->source);
	copy->data = rom_context_copy_jsonb(turn, sent->data);
	copy->id = rom_context_copy_text(turn, sent->id);
	copy->subject = rom_context_copy_text(turn, sent->subject);
	copy->datacontenttype = rom_context_copy_text(turn, sent->datacontenttype);
	copy->binary = (bytea *) rom_context_copy_jsonb(turn, (Jsonb *) sent->binary);
	copy->extensions = rom_context_copy_jsonb(turn, sent->extensions);
	copy->destination = rom_context_copy_text(turn, sent->destination);
	copy->ordering_key = rom_context_copy_text(turn, sent->ordering_key);
	return copy;
}

/* step_send records it as a step of the running handler; returns the event's id. */
static char *
step_send(const RomSent *sent)
{
	RomTurn    *turn = rom_context_require("send_event()");
	RomCall		call = {0};
	JsonbValue	v;
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "source", sent->source);
	rom_jb_json(&jb, "data", sent->data);
	rom_jb_text(&jb, "id", sent->id);
	rom_jb_text(&jb, "subject", sent->subject);
	rom_jb_text(&jb, "datacontenttype", sent->datacontenttype);
	if (sent->binary != NULL)
		rom_jb_text(&jb, "data_binary", rom_message_base64_encode(sent->binary));
	rom_jb_json(&jb, "extensions", sent->extensions);
	rom_jb_text(&jb, "destination", sent->destination);
	rom_jb_text(&jb, "ordering_key", sent->ordering_key);
	call.primitive = &primitive_send_event;
	call.step_base = psprintf("send_event_%s", sent->type);
	call.name = sent->type;
	call.input = rom_jb_end(&jb);
	call.options = copy_sent(turn, sent);
	if (!JsonbExtractScalar(&rom_call_step(&call)->result->root, &v) || v.type != jbvString)
		elog(ERROR, "history holds no id for send_event()");
	return pnstrdup(v.val.string.val, v.val.string.len);
}

/* ---------------------------------------------------------------- checking */

/*
 * check_attribute raises RM012 for an attribute that is empty or too long, or has control characters, which CloudEvents do not allow (and
 * with which a header could be made into two).
 */
static void
check_attribute(const char *value, int len, const char *what, int max)
{
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must not be empty", what)));
	if (len > max)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must have at most %d bytes", what, max)));
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		/* 0x80 to 0x9f are control characters as well, two bytes each */
		if (c < 0x20 || c == 0x7f || (utf8 && c == 0xc2 && (unsigned char) value[i + 1] < 0xa0))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"%s\" must not have control characters", what)));
	}
}

/* check_content_type raises RM012 for a text that cannot be a header's value. */
static void
check_content_type(const char *value)
{
	check_attribute(value, strlen(value), "datacontenttype", ATTRIBUTE_MAX);
	for (const char *p = value; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"datacontenttype\" must be ASCII")));
}

/* check_extension_number raises RM012 for a number that CloudEvents have no type for: theirs are whole, of 32 bits. */
static void
check_extension_number(Numeric number)
{
	bool		error = false;
	int32		whole = numeric_int4_opt_error(number, &error);

	if (error || !DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(number),
												   DirectFunctionCall1(int4_numeric, Int32GetDatum(whole)))))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("numbers in \"extensions\" must be whole and have 32 bits"),
				 errhint("Write it as a text.")));
}

/* check_extension_name raises RM012 for a name that CloudEvents do not allow, or that is another attribute's. */
static void
check_extension_name(const char *name, int len)
{
	static const char *const taken[] = {"id", "source", "type", "specversion", "time", "subject", "datacontenttype", "data"};
	bool		ok = len > 0 && len <= EXTENSION_NAME_MAX;

	for (int i = 0; i < len; i++)
		ok &= (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
	for (int i = 0; i < lengthof(taken); i++)
		ok &= strlen(taken[i]) != len || strncmp(taken[i], name, len) != 0;
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%.*s\" is no name of an extension attribute", len, name),
				 errhint("CloudEvents allow lower-case letters and digits; %d of them at most here, and no other attribute's name.",
						 EXTENSION_NAME_MAX)));
}

/* check_extensions raises RM012 for anything but an object of texts, whole numbers and booleans. */
static void
check_extensions(Jsonb *extensions)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (extensions == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(extensions))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"extensions\" must be a JSON object")));
	if (JB_ROOT_COUNT(extensions) > EXTENSIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("argument \"extensions\" has %d members, the limit is %d", (int) JB_ROOT_COUNT(extensions), EXTENSIONS_MAX)));
	it = JsonbIteratorInit(&extensions->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_extension_name(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvString)
			check_attribute(v.val.string.val, v.val.string.len, "extensions", ATTRIBUTE_MAX);
		else if (token == WJB_VALUE && v.type == jbvNumeric)
			check_extension_number(v.val.numeric);
		else if (token == WJB_VALUE && v.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("values of \"extensions\" must be texts, whole numbers or booleans")));
	}
	rom_arg_check_payload(extensions, "extensions");
}

/* check_sent raises RM012 or RM011 for what cannot be sent. */
static void
check_sent(const RomSent *sent)
{
	rom_arg_check_short_name(sent->type, "type");
	if (rom_destination_is_engine_type(sent->type))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("event types that begin with \"%s\" are the engine's own", ROM_DESTINATION_ENGINE)));
	check_attribute(sent->type, strlen(sent->type), "type", ROM_SHORT_NAME_MAX);
	check_attribute(sent->source, strlen(sent->source), "source", ROM_EVENT_ID_MAX);
	if (sent->id != NULL)
	{
		check_attribute(sent->id, strlen(sent->id), "id", ROM_EVENT_ID_MAX);
		if (rom_settle_is_token(sent->id))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"id\" must not begin with \"@\""),
					 errdetail("So begin the tokens of leases, which stand beside ids.")));
	}
	if (sent->subject != NULL)
		check_attribute(sent->subject, strlen(sent->subject), "subject", ATTRIBUTE_MAX);
	if (sent->datacontenttype != NULL)
		check_content_type(sent->datacontenttype);
	if (sent->ordering_key != NULL)
		check_attribute(sent->ordering_key, strlen(sent->ordering_key), "ordering_key", ROM_EVENT_ID_MAX);
	if (sent->destination != NULL && strlen(sent->destination) > ROM_DESTINATION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"destination\" must have at most %d bytes", ROM_DESTINATION_MAX)));
	if (sent->data != NULL && sent->binary != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("an event has \"data\" or \"data_binary\", not both")));
	rom_arg_check_payload(sent->data, "data");
	rom_message_check_binary(sent->binary);
	check_extensions(sent->extensions);
}

/*
 * romancy.send_event(type text, source text, data jsonb, id text, subject text, datacontenttype text, data_binary bytea, extensions jsonb,
 * destination text, ordering_key text) → text
 *
 * Puts a CloudEvent into the outbox, in the caller's transaction; in a handler it is a recorded step. Returns its id, a new one
 * by default; one of the same source and id for the same destination is added once, as long as the outbox has it. destination: null for each
 * one whose patterns match the type, or else "", as "" is. ordering_key: the next event of that key is given out after this one is
 * final; null: any order. Errors: RM012 an attribute that cannot be; RM011 too large; RM001 no such destination.
 */
Datum
romancy_send_event(PG_FUNCTION_ARGS)
{
	RomSent		sent;

	sent.type = rom_arg_text(fcinfo, 0, "type");
	sent.source = rom_arg_text(fcinfo, 1, "source");
	sent.data = rom_arg_jsonb_opt(fcinfo, 2);
	sent.id = rom_arg_text_opt(fcinfo, 3);
	sent.subject = rom_arg_text_opt(fcinfo, 4);
	sent.datacontenttype = rom_arg_text_opt(fcinfo, 5);
	sent.binary = PG_ARGISNULL(6) ? NULL : PG_GETARG_BYTEA_P(6);
	sent.extensions = rom_arg_jsonb_opt(fcinfo, 7);
	sent.destination = rom_arg_text_opt(fcinfo, 8);
	sent.ordering_key = rom_arg_text_opt(fcinfo, 9);
	check_sent(&sent);
	PG_RETURN_TEXT_P(cstring_to_text(rom_context_in_handler() ? step_send(&sent) : add_event(&sent, GetUserId())));
}
