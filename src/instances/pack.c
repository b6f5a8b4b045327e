/*-------------------------------------------------------------------------
 *
 * pack.c
 *		Events as they are stored: type romancy.t_events.
 *
 * The events of a turn are one value. As an array of composites each would
 * carry a tuple header and paddings, about 50 bytes of WAL; here it is
 *
 *		kind (1 byte), which fields follow (1 byte), time, step, name, input, result, detail
 *
 * where a number has seven bits in a byte, lowest first; the time is the
 * difference to that of the event before (zigzag); a text or a jsonb begins with its
 * length, the jsonb without its own header; and an input or a result that
 * equals the last one is not repeated; of a large one it is the id of a document (document.c), as 16 bytes. In front stand a version of this format and the
 * number of events (2 bytes, lowest first).
 *
 * A jsonb's bytes depend on the machine, so the type's text form, in which it
 * is dumped, is that of an array of romancy.t_event. There is no binary form to
 * receive: only values that this file wrote are read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/spi.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/pack.h"

PG_FUNCTION_INFO_V1(romancy_t_events_in);
PG_FUNCTION_INFO_V1(romancy_t_events_out);
PG_FUNCTION_INFO_V1(romancy_events_pack);
PG_FUNCTION_INFO_V1(romancy_events_unpack);

#define FORMAT			1
#define HEADER_BYTES	3
#define EVENT_COLUMNS	7

/* Fields of an event that follow. */
#define HAS_AT			0x01
#define HAS_STEP		0x02
#define HAS_NAME		0x04
#define HAS_INPUT		0x08
#define HAS_RESULT		0x10
#define HAS_DETAIL		0x20
#define SAME_INPUT		0x40	/* as the last one */
#define SAME_RESULT		0x80
#define DOCUMENT_INPUT	(HAS_INPUT | SAME_INPUT)	/* the id of a document */
#define DOCUMENT_RESULT	(HAS_RESULT | SAME_RESULT)

/*
 * In the text form, and nowhere else, a kind with one of these says that the input, or the result, is the id of a
 * document: who dumps or replicates history has t_document, too, and may be where no table can be read.
 */
#define TEXT_INPUT_ID	0x100
#define TEXT_RESULT_ID	0x200
#define TEXT_KIND		0xFF
#define TEXT_KINDS		(TEXT_KIND | TEXT_INPUT_ID | TEXT_RESULT_ID)

/* ---------------------------------------------------------------- writing */

void
rom_pack_begin(RomPack *pack, const pg_uuid_t *id)
{
	memset(pack, 0, sizeof(RomPack));
	pack->id = id;
	initStringInfo(&pack->buf);
	appendStringInfoSpaces(&pack->buf, VARHDRSZ + HEADER_BYTES);
}

static void
put_number(StringInfo buf, uint64 n)
{
	while (n >= 0x80)
	{
		appendStringInfoCharMacro(buf, (char) (n | 0x80));
		n >>= 7;
	}
	appendStringInfoCharMacro(buf, (char) n);
}

static void
put_bytes(StringInfo buf, const char *data, Size len)
{
	put_number(buf, len);
	appendBinaryStringInfo(buf, data, len);
}

static void
put_jsonb(StringInfo buf, Jsonb *json)
{
	put_bytes(buf, VARDATA(json), VARSIZE(json) - VARHDRSZ);
}

/* text_of is an id as a document; id_text is the other way round. */
static Jsonb *
text_of(const pg_uuid_t *id)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = rom_uuid_text(id);
	value.val.string.len = strlen(value.val.string.val);
	return JsonbValueToJsonb(&value);
}

static char *
id_text(Jsonb *json)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_SCALAR(json) || !JsonbExtractScalar(&json->root, &value) || value.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the id of a document of an event must be a string")));
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* same: do two documents have the same bytes? b may be NULL. */
static bool
same(Jsonb *a, Jsonb *b)
{
	return a == b || (b != NULL && VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0);
}

/* put_value puts an input or a result: fields says how. */
static void
put_value(RomPack *pack, Jsonb *value, bool is_id, bool document)
{
	pg_uuid_t	id;

	if (!document)
	{
		put_jsonb(&pack->buf, value);
		return;
	}
	if (is_id)
		id = rom_uuid_from_text(id_text(value));
	else
	{
		rom_document_put(pack->id, value, &id);
		pack->documents += VARSIZE(value);
	}
	appendBinaryStringInfo(&pack->buf, (char *) &id, sizeof(id));
}

/* fields_of says how an input or a result goes into the pack; last: the one before. */
static int
fields_of(const RomPack *pack, Jsonb *value, Jsonb *last, bool is_id, int has, int is_same)
{
	if (value == NULL)
		return 0;
	if (is_id)
		return has | is_same;
	if (same(value, last))
		return is_same;
	return pack->id != NULL && ROM_DOCUMENT_IS_LARGE(value) ? has | is_same : has;
}

void
rom_pack_add(RomPack *pack, const RomEvent *event)
{
	StringInfo	buf = &pack->buf;
	int64		delta = event->at - pack->at;
	int			fields = 0;
	bool		input_is_id = (event->type & TEXT_INPUT_ID) != 0;
	bool		result_is_id = (event->type & TEXT_RESULT_ID) != 0;

	Assert(pack->count < PG_UINT16_MAX);
	if (event->at != 0)
		fields |= HAS_AT;
	if (event->step != NULL)
		fields |= HAS_STEP;
	if (event->name != NULL)
		fields |= HAS_NAME;
	fields |= fields_of(pack, event->input, pack->input, input_is_id, HAS_INPUT, SAME_INPUT);
	fields |= fields_of(pack, event->result, pack->result, result_is_id, HAS_RESULT, SAME_RESULT);
	if (event->detail != NULL)
		fields |= HAS_DETAIL;

	appendStringInfoCharMacro(buf, (char) (event->type & TEXT_KIND));
	appendStringInfoCharMacro(buf, (char) fields);
	if (fields & HAS_AT)
	{
		put_number(buf, delta < 0 ? ~((uint64) delta << 1) : (uint64) delta << 1);
		pack->at = event->at;
	}
	if (event->step != NULL)
		put_bytes(buf, event->step, strlen(event->step));
	if (event->name != NULL)
		put_bytes(buf, event->name, strlen(event->name));
	if (event->input != NULL && (fields & HAS_INPUT))
	{
		put_value(pack, event->input, input_is_id, (fields & SAME_INPUT) != 0);
		pack->input = input_is_id ? NULL : event->input;
	}
	if (event->result != NULL && (fields & HAS_RESULT))
	{
		put_value(pack, event->result, result_is_id, (fields & SAME_RESULT) != 0);
		pack->result = result_is_id ? NULL : event->result;
	}
	if (event->detail != NULL)
		put_jsonb(buf, event->detail);
	pack->count++;
}

Datum
rom_pack_end(RomPack *pack)
{
	char	   *header = pack->buf.data + VARHDRSZ;

	header[0] = FORMAT;
	header[1] = (char) (pack->count & 0xFF);
	header[2] = (char) (pack->count >> 8);
	SET_VARSIZE(pack->buf.data, pack->buf.len);
	return PointerGetDatum(pack->buf.data);
}

/* ---------------------------------------------------------------- reading */

/* The part that is left to read. */
typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

static void
corrupted(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("stored events of a workflow instance cannot be read")));
}

static int
get_byte(Reader *r)
{
	if (r->at >= r->end)
		corrupted();
	return (unsigned char) *r->at++;
}

static uint64
get_number(Reader *r)
{
	uint64		n = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		int			byte = get_byte(r);

		n |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return n;
	}
	corrupted();
	return 0;
}

/* get_bytes gives a field and its length. */
static const char *
get_bytes(Reader *r, Size *len)
{
	const char *data;

	*len = get_number(r);
	if (*len > r->end - r->at)
		corrupted();
	data = r->at;
	r->at += *len;
	return data;
}

static char *
get_text(Reader *r)
{
	Size		len;
	const char *data = get_bytes(r, &len);

	return pnstrdup(data, len);
}

static Jsonb *
get_jsonb(Reader *r)
{
	Size		len;
	const char *data = get_bytes(r, &len);
	Jsonb	   *json = palloc(VARHDRSZ + len);

	SET_VARSIZE(json, VARHDRSZ + len);
	memcpy(VARDATA(json), data, len);
	return json;
}

/* How documents are read. */
typedef enum Documents
{
	DOCUMENTS_GET,				/* for the engine */
	DOCUMENTS_SHOW,				/* for the current user, who has to be allowed
								 * to see the instance */
	DOCUMENTS_IDS				/* their ids, for the text form */
} Documents;

/* get_document gives the value of a document, or its id. */
static Jsonb *
get_document(Reader *r, Documents how)
{
	pg_uuid_t	id;

	if (r->end - r->at < (int) sizeof(id))
		corrupted();
	memcpy(&id, r->at, sizeof(id));
	r->at += sizeof(id);
	if (how == DOCUMENTS_IDS)
		return text_of(&id);
	return how == DOCUMENTS_SHOW ? rom_document_show(&id) : rom_document_get(&id);
}

/* read_events is rom_pack_read(). */
static void
read_events(Datum events, int64 last_seq, RomEventList *list, MemoryContext cxt, Documents how)
{
	struct varlena *packed = PG_DETOAST_DATUM_PACKED(events);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Reader		r = {VARDATA_ANY(packed), VARDATA_ANY(packed) + VARSIZE_ANY_EXHDR(packed)};
	TimestampTz at = 0;
	Jsonb	   *input = NULL;
	Jsonb	   *result = NULL;
	int			input_id = 0;
	int			result_id = 0;
	int			n;

	if (get_byte(&r) != FORMAT)
		corrupted();
	n = get_byte(&r);
	n |= get_byte(&r) << 8;
	for (int i = 0; i < n; i++)
	{
		RomEvent   *event = palloc0_object(RomEvent);
		int			fields;

		event->seq = last_seq - n + 1 + i;
		event->type = (RomEventType) get_byte(&r);
		fields = get_byte(&r);
		if (fields & HAS_AT)
		{
			uint64		delta = get_number(&r);

			at += (int64) ((delta >> 1) ^ (~(delta & 1) + 1));
			event->at = at;
		}
		if (fields & HAS_STEP)
			event->step = get_text(&r);
		if (fields & HAS_NAME)
			event->name = get_text(&r);
		if (fields & HAS_INPUT)
		{
			bool		document = (fields & SAME_INPUT) != 0;

			input = document ? get_document(&r, how) : get_jsonb(&r);
			input_id = document && how == DOCUMENTS_IDS ? TEXT_INPUT_ID : 0;
		}
		if (fields & HAS_RESULT)
		{
			bool		document = (fields & SAME_RESULT) != 0;

			result = document ? get_document(&r, how) : get_jsonb(&r);
			result_id = document && how == DOCUMENTS_IDS ? TEXT_RESULT_ID : 0;
		}
		if (fields & HAS_DETAIL)
			event->detail = get_jsonb(&r);
		if (fields & (HAS_INPUT | SAME_INPUT))
		{
			event->input = input;
			event->type |= input_id;
		}
		if (fields & (HAS_RESULT | SAME_RESULT))
		{
			event->result = result;
			event->type |= result_id;
		}
		rom_event_list_add(list, event, cxt);
	}
	MemoryContextSwitchTo(old);
}

void
rom_pack_read(Datum events, int64 last_seq, RomEventList *list, MemoryContext cxt)
{
	read_events(events, last_seq, list, cxt, DOCUMENTS_GET);
}

int
rom_pack_documents(Datum events, pg_uuid_t *ids)
{
	RomEventList list = {0};
	int			n = 0;

	read_events(events, 0, &list, CurrentMemoryContext, DOCUMENTS_IDS);
	for (int i = 0; i < list.count; i++)
	{
		const RomEvent *event = list.events[i];

		if (event->type & TEXT_INPUT_ID)
			ids[n++] = rom_uuid_from_text(id_text(event->input));
		if (event->type & TEXT_RESULT_ID)
			ids[n++] = rom_uuid_from_text(id_text(event->result));
	}
	return n;
}

int
rom_pack_count(Datum events)
{
	struct varlena *packed = PG_DETOAST_DATUM_PACKED(events);
	Reader		r = {VARDATA_ANY(packed), VARDATA_ANY(packed) + VARSIZE_ANY_EXHDR(packed)};
	int			n;

	if (get_byte(&r) != FORMAT)
		corrupted();
	n = get_byte(&r);
	return n | get_byte(&r) << 8;
}

/* ---------------------------------------------------------------- arrays of romancy.t_event */

/* from_tuple makes an event of a composite value. */
static RomEvent *
from_tuple(HeapTupleHeader header, TupleDesc tupdesc)
{
	RomEvent   *event = palloc0_object(RomEvent);
	HeapTupleData tuple;
	Datum		values[EVENT_COLUMNS];
	bool		isnull[EVENT_COLUMNS];

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, tupdesc, values, isnull);
	if (isnull[0] || DatumGetInt16(values[0]) < 0 || DatumGetInt16(values[0]) > TEXT_KINDS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kind of an event must be between 0 and %d", TEXT_KINDS)));
	event->type = (RomEventType) DatumGetInt16(values[0]);
	event->step = isnull[1] ? NULL : TextDatumGetCString(values[1]);
	event->name = isnull[2] ? NULL : TextDatumGetCString(values[2]);
	if (((event->type & TEXT_INPUT_ID) != 0 && isnull[3]) || ((event->type & TEXT_RESULT_ID) != 0 && isnull[4]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event of kind %d must have the id of a document", (int) event->type)));
	event->input = isnull[3] ? NULL : DatumGetJsonbP(values[3]);
	event->result = isnull[4] ? NULL : DatumGetJsonbP(values[4]);
	event->detail = isnull[5] ? NULL : DatumGetJsonbP(values[5]);
	event->at = isnull[6] ? 0 : DatumGetTimestampTz(values[6]);
	return event;
}

/* from_array packs an array of romancy.t_event. */
static Datum
from_array(ArrayType *array)
{
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(ARR_ELEMTYPE(array), -1);
	RomPack		pack;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elems, &nulls, &n);
	if (n > PG_UINT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d events in one value", PG_UINT16_MAX)));
	rom_pack_begin(&pack, NULL);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("an event must not be null")));
		rom_pack_add(&pack, from_tuple(DatumGetHeapTupleHeader(elems[i]), tupdesc));
	}
	ReleaseTupleDesc(tupdesc);
	return rom_pack_end(&pack);
}

/* to_tuple is the composite value of an event. */
static Datum
to_tuple(const RomEvent *event, TupleDesc tupdesc)
{
	Datum		values[EVENT_COLUMNS] = {0};
	bool		nulls[EVENT_COLUMNS] = {0};

	values[0] = Int16GetDatum((int16) event->type);
	nulls[1] = event->step == NULL;
	if (event->step)
		values[1] = CStringGetTextDatum(event->step);
	nulls[2] = event->name == NULL;
	if (event->name)
		values[2] = CStringGetTextDatum(event->name);
	values[3] = PointerGetDatum(event->input);
	nulls[3] = event->input == NULL;
	values[4] = PointerGetDatum(event->result);
	nulls[4] = event->result == NULL;
	values[5] = PointerGetDatum(event->detail);
	nulls[5] = event->detail == NULL;
	values[6] = TimestampTzGetDatum(event->at);
	nulls[6] = event->at == 0;
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

/* to_array is the array of romancy.t_event that a stored value stands for. */
static Datum
to_array(Datum events, Documents how)
{
	Oid			type = rom_type_oid("t_event");
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(type, -1);
	RomEventList list = {0};
	Datum	   *elems;

	read_events(events, 0, &list, CurrentMemoryContext, how);
	elems = palloc_array(Datum, Max(list.count, 1));
	for (int i = 0; i < list.count; i++)
		elems[i] = to_tuple(list.events[i], tupdesc);
	ReleaseTupleDesc(tupdesc);
	return PointerGetDatum(construct_array(elems, list.count, type, -1, false,
										   TYPALIGN_DOUBLE));
}

/* array_type is the type romancy.t_event[]. */
static Oid
array_type(void)
{
	return get_array_type(rom_type_oid("t_event"));
}

/* romancy.t_events_in(cstring) -> t_events: reads the text form of t_event[]. */
Datum
romancy_t_events_in(PG_FUNCTION_ARGS)
{
	Oid			function;
	Oid			param;
	Datum		array;

	getTypeInputInfo(array_type(), &function, &param);
	array = OidInputFunctionCall(function, PG_GETARG_CSTRING(0), param, -1);
	PG_RETURN_DATUM(from_array(DatumGetArrayTypeP(array)));
}

/* romancy.t_events_out(t_events) -> cstring: the text form of t_event[]. */
Datum
romancy_t_events_out(PG_FUNCTION_ARGS)
{
	Oid			function;
	bool		is_varlena;

	getTypeOutputInfo(array_type(), &function, &is_varlena);
	PG_RETURN_CSTRING(OidOutputFunctionCall(function, to_array(PG_GETARG_DATUM(0), DOCUMENTS_IDS)));
}

/* romancy.t_events_pack(events t_event[]) -> t_events. Errors: 22023, 22004 an event that cannot be one. */
Datum
romancy_events_pack(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(from_array(PG_GETARG_ARRAYTYPE_P(0)));
}

/* romancy.t_events_unpack(events t_events) -> t_event[]. Errors: XX001; 42501 a large value of an instance that the caller may not see. */
Datum
romancy_events_unpack(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(to_array(PG_GETARG_DATUM(0), DOCUMENTS_SHOW));
}
