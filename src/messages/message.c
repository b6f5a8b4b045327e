/*-------------------------------------------------------------------------
 *
 * message.c
 *		A message, as it is stored, shown in history and given to a handler.
 *
 * A handler gets what history holds, the first time as well: so a replay
 * gives the same to the last digit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "memory/sweep.h"
#include "messages/message.h"
#include "turn/context.h"
#include "turn/primitive.h"

char *
rom_message_base64_encode(const bytea *value)
{
	char	   *result;
	char	   *to;

	result = TextDatumGetCString(DirectFunctionCall2(binary_encode,
													 PointerGetDatum(value),
													 CStringGetTextDatum("base64")));
	to = result;
	for (char *from = result; *from; from++)
		if (*from != '\n')
			*to++ = *from;
	*to = '\0';
	return result;
}

bytea *
rom_message_base64_decode(const char *text)
{
	MemoryContext cxt = CurrentMemoryContext;
	bytea	   *volatile value = NULL;

	/* the decoder holds nothing but memory when it raises */
	PG_TRY();
	{
		value = DatumGetByteaPP(DirectFunctionCall2(binary_decode,
													CStringGetTextDatum(text),
													CStringGetTextDatum("base64")));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
	}
	PG_END_TRY();
	return value;
}

void
rom_message_check_binary(const bytea *value)
{
	if (value == NULL || VARSIZE_ANY(value) <= rom_guc_max_payload_size || rom_arg_is_step())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ROM_LIMIT),
			 errmsg("payload \"data_binary\" is too large"),
			 errdetail("It has %zu bytes, the limit is %d.",
					   (Size) VARSIZE_ANY_EXHDR(value),
					   rom_guc_max_payload_size),
			 errhint("Pass a reference to the data instead, or raise romancy.max_payload_size.")));
}

const pg_uuid_t *
rom_message_sender(void)
{
	const RomRunning *running = rom_context_find();

	return running ? &running->id : NULL;
}

/* get_jsonb and get_bytea copy a column, NULL for null. */
static void *
get_varlena(const RomRowSet *set, uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, CurrentMemoryContext);

	return isnull ? NULL : DatumGetPointer(value);
}

void
rom_message_read(const RomRowSet *set, uint64 row, RomMessage *message)
{
	bool		isnull;

	message->id = DatumGetInt64(rom_value(set, row, 1, &isnull));
	message->channel = rom_value_text(set, row, 2, CurrentMemoryContext);
	message->data = get_varlena(set, row, 3);
	message->binary = get_varlena(set, row, 4);
	message->metadata = get_varlena(set, row, 5);
	message->event = get_varlena(set, row, 6);
	message->sender = get_varlena(set, row, 7);
	message->published_at = DatumGetTimestampTz(rom_value(set, row, 8, &isnull));
	message->publisher = rom_value_text(set, row, 9, CurrentMemoryContext);
}

Jsonb *
rom_message_to_jsonb(const RomMessage *message)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_int(&jb, "id", message->id);
	rom_jb_text(&jb, "channel", message->channel);
	rom_jb_json(&jb, "data", message->data);
	if (message->binary != NULL)
		rom_jb_text(&jb, "data_binary", rom_message_base64_encode(message->binary));

	/*
	 * a handler that receives an event as a message finds its attributes
	 * there
	 */
	rom_jb_json(&jb, "metadata",
				message->metadata ? message->metadata : message->event);
	if (message->sender != NULL)
		rom_jb_text(&jb, "sender", rom_uuid_text(message->sender));
	rom_jb_text(&jb, "publisher", message->publisher);
	rom_jb_time(&jb, "published_at", message->published_at);
	return rom_jb_end(&jb);
}

Jsonb *
rom_message_to_event(const RomMessage *message)
{
	static const char *const attributes[] = {
		"id", "type", "source", "specversion", "time", "subject",
		"datacontenttype", "extensions"
	};
	RomJb		jb;

	rom_jb_begin(&jb);
	if (message->event != NULL)
	{
		for (int i = 0; i < lengthof(attributes); i++)
			rom_jb_json(&jb, attributes[i],
						rom_jb_get_json(message->event, attributes[i]));
	}
	else
	{
		/* published, not raised: it has no envelope */
		rom_jb_text(&jb, "id", psprintf(INT64_FORMAT, message->id));
		rom_jb_text(&jb, "type", message->channel);
		rom_jb_text(&jb, "source", message->sender ?
					psprintf("/romancy/instances/%s", rom_uuid_text(message->sender)) :
					"/romancy");
		rom_jb_text(&jb, "specversion", "1.0");
		rom_jb_time(&jb, "time", message->published_at);
		rom_jb_json(&jb, "extensions", message->metadata);
	}
	rom_jb_json(&jb, "data", message->data);
	if (message->binary != NULL)
		rom_jb_text(&jb, "data_binary", rom_message_base64_encode(message->binary));
	return rom_jb_end(&jb);
}

/* set_text, set_json, set_time and set_binary put a member of a document into a tuple's column. */
static void
set_text(Jsonb *jb, const char *key, int i, Datum *values, bool *nulls)
{
	char	   *text = rom_jb_get_text(jb, key);

	nulls[i] = text == NULL;
	values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
set_json(Jsonb *jb, const char *key, int i, Datum *values, bool *nulls)
{
	Jsonb	   *value = rom_jb_get_json(jb, key);

	nulls[i] = value == NULL;
	values[i] = PointerGetDatum(value);
}

static void
set_time(Jsonb *jb, const char *key, int i, Datum *values, bool *nulls)
{
	TimestampTz value = rom_jb_get_time(jb, key);

	nulls[i] = value == DT_NOEND;
	values[i] = TimestampTzGetDatum(value);
}

static void
set_binary(Jsonb *jb, const char *key, int i, Datum *values, bool *nulls)
{
	char	   *text = rom_jb_get_text(jb, key);

	nulls[i] = text == NULL;
	values[i] = text ? PointerGetDatum(rom_message_base64_decode(text)) : (Datum) 0;
}

/* make_tuple makes a row of the function's type, which is looked up once for each place that calls it. */
static Datum
make_tuple(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc = fcinfo->flinfo->fn_extra;

	if (tupdesc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		tupdesc = BlessTupleDesc(CreateTupleDescCopy(tupdesc));
		MemoryContextSwitchTo(old);
		fcinfo->flinfo->fn_extra = tupdesc;
	}
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

Datum
rom_message_datum(FunctionCallInfo fcinfo, Jsonb *message)
{
	Datum		values[8];
	bool		nulls[8] = {false};
	char	   *sender = rom_jb_get_text(message, "sender");

	values[0] = Int64GetDatum(rom_jb_get_int(message, "id", 0));
	set_text(message, "channel", 1, values, nulls);
	set_json(message, "data", 2, values, nulls);
	set_binary(message, "data_binary", 3, values, nulls);
	set_json(message, "metadata", 4, values, nulls);
	nulls[5] = sender == NULL;
	values[5] = sender ?
		DirectFunctionCall1(uuid_in, CStringGetDatum(sender)) : (Datum) 0;
	set_text(message, "publisher", 6, values, nulls);
	set_time(message, "published_at", 7, values, nulls);
	return make_tuple(fcinfo, values, nulls);
}

Datum
rom_message_event_datum(FunctionCallInfo fcinfo, Jsonb *event)
{
	Datum		values[10];
	bool		nulls[10] = {false};

	set_text(event, "id", 0, values, nulls);
	set_text(event, "type", 1, values, nulls);
	set_text(event, "source", 2, values, nulls);
	set_text(event, "specversion", 3, values, nulls);
	set_time(event, "time", 4, values, nulls);
	set_text(event, "subject", 5, values, nulls);
	set_text(event, "datacontenttype", 6, values, nulls);
	set_json(event, "data", 7, values, nulls);
	set_binary(event, "data_binary", 8, values, nulls);
	set_json(event, "extensions", 9, values, nulls);
	return make_tuple(fcinfo, values, nulls);
}

int
rom_messages_sweep(void)
{
	static int	number = -1;

	if (number < 0)
		number = rom_sweep_find("messages");
	return number;
}
