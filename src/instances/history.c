/*-------------------------------------------------------------------------
 *
 * history.c
 *		Events of an instance: storing, loading, showing.
 *
 * A row of t_history holds the events that one turn added, packed (pack.c).
 * One row and one index entry per turn instead of one per event is most of what
 * makes a turn cheap in WAL. The events of the turn that ends an instance are written with
 * its row, which is changed anyway, unless they are large; retry_workflow moves them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/errors.h"
#include "base/insert.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/history.h"
#include "instances/pack.h"

/* Events per row at the most, and bytes (about) after which a row is closed. */
#define CHUNK_EVENTS	128
#define CHUNK_BYTES		(256 * 1024)

/* Rows that are read at a time. */
#define LOAD_ROWS		64

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

/* load reads all rows of an instance by a statement of (id, after, limit). */
static void
load(RomStatement *stmt, const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	Datum		values[3];
	int64		after = 0;

	/* by pages, so that the result of one query stays small */
	for (;;)
	{
		uint64		n;

		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(after);
		values[2] = Int64GetDatum(LOAD_ROWS);
		n = rom_execute(stmt, values, NULL, 0);
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			after = DatumGetInt64(rom_value(i, 1, &isnull));
			rom_pack_read(rom_value(i, 2, &isnull), after, list, cxt);
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < LOAD_ROWS)
			break;
	}
}

void
rom_history_load(const pg_uuid_t *id, bool live, RomEventList *list,
				 MemoryContext cxt)
{
	static RomStatement of_live = {
		"SELECT last_seq, events FROM romancy.t_history"
		" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
		3, {UUIDOID, INT8OID, INT8OID}
	};
	static RomStatement all = {ROM_HISTORY_SELECT, 3, {UUIDOID, INT8OID, INT8OID}};

	load(live ? &of_live : &all, id, list, cxt);
}

void
rom_history_load_archived(const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	static RomStatement stmt = {
		"SELECT last_seq, events FROM romancy.t_history_archive"
		" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
		3, {UUIDOID, INT8OID, INT8OID}
	};

	load(&stmt, id, list, cxt);
}

int64
rom_history_append(const pg_uuid_t *id, RomEventList *list, int from,
				   int64 last_seq)
{
	static RomTable table = {
		"t_history", 3, {"instance_id", "last_seq", "events"}
	};

	while (from < list->count)
	{
		RomPack		pack;
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		rom_pack_begin(&pack);
		while (from < list->count && pack.count < CHUNK_EVENTS &&
			   pack.buf.len < CHUNK_BYTES)
		{
			RomEvent   *event = list->events[from++];

			event->seq = ++last_seq;
			rom_pack_add(&pack, event);
		}
		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(last_seq);
		values[2] = rom_pack_end(&pack);
		rom_table_insert(&table, values, nulls);
	}
	return last_seq;
}

Datum
rom_history_pack(RomEventList *list, int from, Size limit, int64 *last_seq)
{
	RomPack		pack;
	int64		seq = *last_seq;

	rom_pack_begin(&pack);
	for (int i = from; i < list->count; i++)
	{
		list->events[i]->seq = ++seq;
		rom_pack_add(&pack, list->events[i]);
		if (pack.buf.len > limit)
			return (Datum) 0;
	}
	*last_seq = seq;
	return rom_pack_end(&pack);
}

void
rom_history_move(const pg_uuid_t *id)
{
	static RomStatement copy = {
		"INSERT INTO romancy.t_history (instance_id, last_seq, events)"
		" SELECT instance_id, last_seq, events FROM romancy.t_instance"
		" WHERE instance_id = $1 AND events IS NOT NULL",
		1, {UUIDOID}
	};
	Datum		values[1] = {UUIDPGetDatum(id)};

	rom_execute(&copy, values, NULL, 0);
}

Jsonb *
rom_event_data(const RomEvent *event)
{
	RomJb		jb;
	bool		failed = event->type == ROM_EVENT_ACTIVITY_FAILED ||
		event->type == ROM_EVENT_COMPENSATION_FAILED ||
		event->type == ROM_EVENT_CHILD_FAILED ||
		event->type == ROM_EVENT_CALL_FAILED ||
		event->type == ROM_EVENT_MESSAGE_TIMEOUT ||
		event->type == ROM_EVENT_AWAIT_TIMEOUT ||
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
