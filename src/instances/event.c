/*-------------------------------------------------------------------------
 *
 * event.c
 *		Events, of which a history consists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/jb.h"
#include "instances/event.h"

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
