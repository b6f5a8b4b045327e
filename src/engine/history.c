/*-------------------------------------------------------------------------
 *
 * history.c
 *		Events of an instance: storing, loading, showing.
 *
 * A row of t_history holds the events that one turn added, as an array of the
 * composite type t_event. One row and one index entry per turn instead of one
 * per event is most of what makes a turn cheap in WAL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/errors.h"
#include "base/insert.h"
#include "base/jb.h"
#include "base/spi.h"
#include "engine/history.h"

/* Events per row at the most, and bytes (about) after which a row is closed. */
#define CHUNK_EVENTS	128
#define CHUNK_BYTES		(256 * 1024)

#define EVENT_COLUMNS	7

static const char *const event_names[ROM_EVENT_MAX] = {
	[ROM_EVENT_ACTIVITY_COMPLETED] = "ActivityCompleted",
	[ROM_EVENT_ACTIVITY_FAILED] = "ActivityFailed",
	[ROM_EVENT_TIMER_EXPIRED] = "TimerExpired",
	[ROM_EVENT_MESSAGE_RECEIVED] = "ChannelMessageReceived",
	[ROM_EVENT_MESSAGE_TIMEOUT] = "MessageTimeout",
	[ROM_EVENT_EVENT_RECEIVED] = "EventReceived",
	[ROM_EVENT_COMPENSATION_EXECUTED] = "CompensationExecuted",
	[ROM_EVENT_COMPENSATION_FAILED] = "CompensationFailed",
	[ROM_EVENT_WORKFLOW_COMPLETED] = "WorkflowCompleted",
	[ROM_EVENT_WORKFLOW_FAILED] = "WorkflowFailed",
	[ROM_EVENT_WORKFLOW_CANCELLED] = "WorkflowCancelled",
	[ROM_EVENT_WORKFLOW_RETRIED] = "WorkflowRetried",
	[ROM_EVENT_WORKFLOW_RECURRED] = "WorkflowRecurred",
	[ROM_EVENT_VALUE_RECORDED] = "ValueRecorded",
	[ROM_EVENT_PATCHED] = "Patched",
	[ROM_EVENT_VALUE_SET] = "ValueSet",
	[ROM_EVENT_LABELS_SET] = "LabelsSet",
	[ROM_EVENT_ACTIVITY_SCHEDULED] = "ActivityScheduled",
	[ROM_EVENT_TIMER_SCHEDULED] = "TimerScheduled",
	[ROM_EVENT_RECEIVE_SCHEDULED] = "ReceiveScheduled",
	[ROM_EVENT_CHILD_SCHEDULED] = "ChildWorkflowScheduled",
	[ROM_EVENT_CHILD_COMPLETED] = "ChildWorkflowCompleted",
	[ROM_EVENT_CHILD_FAILED] = "ChildWorkflowFailed",
	[ROM_EVENT_AWAIT_TIMEOUT] = "AwaitTimeout",
	[ROM_EVENT_SUBSCRIBED] = "ChannelSubscribed",
	[ROM_EVENT_UNSUBSCRIBED] = "ChannelUnsubscribed",
	[ROM_EVENT_MESSAGE_PUBLISHED] = "MessagePublished",
	[ROM_EVENT_MESSAGE_SENT] = "MessageSent",
	[ROM_EVENT_EVENT_RAISED] = "EventRaised",
	[ROM_EVENT_GROUP_JOINED] = "GroupJoined",
	[ROM_EVENT_GROUP_LEFT] = "GroupLeft",
	[ROM_EVENT_OUTBOX_SENT] = "EventSent",
	[ROM_EVENT_WORKFLOW_STARTED] = "WorkflowStarted",
	[ROM_EVENT_CANCEL_REQUESTED] = "CancelRequested",
	[ROM_EVENT_COMPENSATION_REGISTERED] = "CompensationRegistered",
	[ROM_EVENT_COMPENSATED] = "Compensated",
	[ROM_EVENT_WORKFLOW_PAUSED] = "WorkflowPaused",
	[ROM_EVENT_WORKFLOW_RESUMED] = "WorkflowResumed",
	[ROM_EVENT_STATEMENT_RECORDED] = "CallRecorded",
	[ROM_EVENT_CALL_FAILED] = "CallFailed",
};

/* rom_event_name returns the name of an event type as users see it. */
const char *
rom_event_name(RomEventType type)
{
	if (type <= 0 || type >= ROM_EVENT_MAX || event_names[type] == NULL)
		return "Unknown";
	return event_names[type];
}

/* rom_event_list_add appends event to list, whose array lives in cxt. */
void
rom_event_list_add(RomEventList *list, RomEvent *event, MemoryContext cxt)
{
	if (list->count == list->capacity)
	{
		int			capacity = list->capacity ? list->capacity * 2 : 16;
		RomEvent  **events = MemoryContextAllocHuge(cxt, sizeof(RomEvent *) * capacity);

		if (list->count > 0)
		{
			memcpy(events, list->events, sizeof(RomEvent *) * list->count);
			pfree(list->events);
		}
		list->events = events;
		list->capacity = capacity;
	}
	list->events[list->count++] = event;
}

/* get_text returns a field of a decoded tuple as a C string in cxt, or NULL. */
static char *
get_text(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

/* get_jsonb returns a field as an own, detoasted copy, or NULL. */
static Jsonb *
get_jsonb(Datum value, bool isnull)
{
	return isnull ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(value);
}

void
rom_history_decode(Datum events, int64 last_seq, RomEventList *list,
				   MemoryContext cxt)
{
	ArrayType  *array = DatumGetArrayTypeP(events);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	TupleDesc	tupdesc;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elems, &nulls, &n);
	tupdesc = lookup_rowtype_tupdesc(ARR_ELEMTYPE(array), -1);
	for (int i = 0; i < n; i++)
	{
		HeapTupleHeader header = DatumGetHeapTupleHeader(elems[i]);
		HeapTupleData tuple;
		Datum		values[EVENT_COLUMNS];
		bool		isnull[EVENT_COLUMNS];
		RomEvent   *event = palloc0_object(RomEvent);

		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = header;
		heap_deform_tuple(&tuple, tupdesc, values, isnull);
		event->seq = last_seq - n + 1 + i;
		event->type = (RomEventType) DatumGetInt16(values[0]);
		event->step = get_text(values[1], isnull[1]);
		event->name = get_text(values[2], isnull[2]);
		event->input = get_jsonb(values[3], isnull[3]);
		event->result = get_jsonb(values[4], isnull[4]);
		event->detail = get_jsonb(values[5], isnull[5]);
		event->at = isnull[6] ? 0 : DatumGetTimestampTz(values[6]);
		rom_event_list_add(list, event, cxt);
	}
	ReleaseTupleDesc(tupdesc);
	pfree(elems);
	pfree(nulls);
	MemoryContextSwitchTo(old);
}

/* load reads all rows of an instance by a statement of (id, after). */
static void
load(RomStatement *stmt, const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	Datum		values[2];
	int64		after = 0;

	/* pages of 64 rows, so that the result of one query stays small */
	for (;;)
	{
		uint64		n;

		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(after);
		n = rom_execute(stmt, values, NULL, 64);
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			after = DatumGetInt64(rom_value(i, 1, &isnull));
			rom_history_decode(rom_value(i, 2, &isnull), after, list, cxt);
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < 64)
			break;
	}
}

void
rom_history_load(const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	static RomStatement stmt = {
		"SELECT last_seq, events FROM romancy.t_history"
		" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq",
		2, {UUIDOID, INT8OID}
	};

	load(&stmt, id, list, cxt);
}

void
rom_history_load_archived(const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	static RomStatement stmt = {
		"SELECT last_seq, events FROM romancy.t_history_archive"
		" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq",
		2, {UUIDOID, INT8OID}
	};

	load(&stmt, id, list, cxt);
}

/* encode forms the composite datum of one event and counts its size. */
static Datum
encode(RomEvent *event, TupleDesc tupdesc, Size *size)
{
	Datum		values[EVENT_COLUMNS];
	bool		nulls[EVENT_COLUMNS] = {0};
	HeapTuple	tuple;

	values[0] = Int16GetDatum((int16) event->type);
	if (event->step)
		values[1] = CStringGetTextDatum(event->step);
	else
		nulls[1] = true;
	if (event->name)
		values[2] = CStringGetTextDatum(event->name);
	else
		nulls[2] = true;
	values[3] = PointerGetDatum(event->input);
	nulls[3] = event->input == NULL;
	values[4] = PointerGetDatum(event->result);
	nulls[4] = event->result == NULL;
	values[5] = PointerGetDatum(event->detail);
	nulls[5] = event->detail == NULL;
	values[6] = TimestampTzGetDatum(event->at);
	tuple = heap_form_tuple(tupdesc, values, nulls);
	*size += tuple->t_len;
	return HeapTupleGetDatum(tuple);
}

int64
rom_history_append(const pg_uuid_t *id, RomEventList *list, int from,
				   int64 last_seq)
{
	static RomTable table = {
		"t_history", 3, {"instance_id", "last_seq", "events"}
	};
	Oid			type = rom_type_oid("t_event");
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(type, -1);
	Datum		chunk[CHUNK_EVENTS];

	while (from < list->count)
	{
		Size		size = 0;
		int			n = 0;
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		while (from < list->count && n < CHUNK_EVENTS && size < CHUNK_BYTES)
		{
			RomEvent   *event = list->events[from++];

			event->seq = ++last_seq;
			chunk[n++] = encode(event, tupdesc, &size);
		}
		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(last_seq);
		values[2] = PointerGetDatum(construct_array(chunk, n, type, -1, false,
													TYPALIGN_DOUBLE));
		rom_table_insert(&table, values, nulls);
	}
	ReleaseTupleDesc(tupdesc);
	return last_seq;
}

Jsonb *
rom_event_data(const RomEvent *event)
{
	RomJb		jb;
	bool		failed = event->type == ROM_EVENT_ACTIVITY_FAILED ||
		event->type == ROM_EVENT_COMPENSATION_FAILED ||
		event->type == ROM_EVENT_CHILD_FAILED ||
		event->type == ROM_EVENT_CALL_FAILED ||
		event->type == ROM_EVENT_WORKFLOW_FAILED ||
		event->type == ROM_EVENT_WORKFLOW_CANCELLED ||
		event->type == ROM_EVENT_WORKFLOW_PAUSED;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "name", event->name);
	if (event->detail && JB_ROOT_IS_OBJECT(event->detail))
	{
		JsonbIterator *it = JsonbIteratorInit(&event->detail->root);
		JsonbValue	v;

		(void) JsonbIteratorNext(&it, &v, true);
		while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
		{
			pushJsonbValue(&jb.state, WJB_KEY, &v);
			(void) JsonbIteratorNext(&it, &v, true);
			pushJsonbValue(&jb.state, WJB_VALUE, &v);
		}
	}
	if (event->input == NULL && (event->type == ROM_EVENT_ACTIVITY_COMPLETED ||
								 event->type == ROM_EVENT_ACTIVITY_FAILED))
		rom_jb_null(&jb, "input");
	rom_jb_json(&jb, "input", event->input);
	rom_jb_json(&jb, failed ? "error" : "result", event->result);
	return rom_jb_end(&jb);
}
