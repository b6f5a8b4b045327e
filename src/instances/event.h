/*-------------------------------------------------------------------------
 *
 * event.h
 *		Events, of which a history consists.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INSTANCES_EVENT_H
#define ROM_INSTANCES_EVENT_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* For SQL: ROM_SQL_EVENT_COMPENSATION_REGISTERED. */
#define ROM_SQL_EVENT_COMPENSATION_REGISTERED "35"

/* Stored in t_event.kind: numbers never change their meaning. Names in event.c. */
typedef enum RomEventType
{
	ROM_EVENT_ACTIVITY_COMPLETED = 1,
	ROM_EVENT_ACTIVITY_FAILED = 2,
	ROM_EVENT_TIMER_EXPIRED = 3,
	ROM_EVENT_MESSAGE_RECEIVED = 4, /* ChannelMessageReceived */
	ROM_EVENT_MESSAGE_TIMEOUT = 5,
	ROM_EVENT_EVENT_RECEIVED = 6,
	ROM_EVENT_COMPENSATION_EXECUTED = 7,
	ROM_EVENT_COMPENSATION_FAILED = 8,
	ROM_EVENT_WORKFLOW_COMPLETED = 9,
	ROM_EVENT_WORKFLOW_FAILED = 10,
	ROM_EVENT_WORKFLOW_CANCELLED = 11,
	ROM_EVENT_WORKFLOW_RETRIED = 12,
	ROM_EVENT_WORKFLOW_RECURRED = 13,
	ROM_EVENT_VALUE_RECORDED = 14,	/* workflow_now, workflow_random,
									 * workflow_uuid */
	ROM_EVENT_PATCHED = 15,
	ROM_EVENT_VALUE_SET = 16,
	ROM_EVENT_LABELS_SET = 17,
	ROM_EVENT_ACTIVITY_SCHEDULED = 18,	/* spawn */
	ROM_EVENT_TIMER_SCHEDULED = 19, /* spawn_timer */
	ROM_EVENT_RECEIVE_SCHEDULED = 20,	/* spawn_receive */
	ROM_EVENT_CHILD_SCHEDULED = 21, /* spawn_workflow */
	ROM_EVENT_CHILD_COMPLETED = 22,
	ROM_EVENT_CHILD_FAILED = 23,
	ROM_EVENT_AWAIT_TIMEOUT = 24,
	ROM_EVENT_SUBSCRIBED = 25,
	ROM_EVENT_UNSUBSCRIBED = 26,
	ROM_EVENT_MESSAGE_PUBLISHED = 27,
	ROM_EVENT_MESSAGE_SENT = 28,
	ROM_EVENT_EVENT_RAISED = 29,
	ROM_EVENT_GROUP_JOINED = 30,
	ROM_EVENT_GROUP_LEFT = 31,
	ROM_EVENT_OUTBOX_SENT = 32, /* send_event */
	ROM_EVENT_WORKFLOW_STARTED = 33,	/* start_workflow(s) in a handler */
	ROM_EVENT_CANCEL_REQUESTED = 34,	/* cancel_workflow in a handler */
	ROM_EVENT_COMPENSATION_REGISTERED = 35,
	ROM_EVENT_COMPENSATED = 36, /* compensate() returned */
	ROM_EVENT_WORKFLOW_PAUSED = 37,
	ROM_EVENT_WORKFLOW_RESUMED = 38,
	ROM_EVENT_STATEMENT_RECORDED = 39,	/* any other recorded call */
	ROM_EVENT_CALL_FAILED = 40, /* a call that raised an error, recorded so
								 * that replay raises it again */
	ROM_EVENT_MAX
} RomEventType;

/* One event. Pointers live in the turn's context. */
typedef struct RomEvent
{
	int64		seq;			/* 0 until it is appended */
	RomEventType type;
	char	   *step;			/* activity_id, or NULL (life-cycle events) */
	char	   *name;			/* activity, channel, ...; NULL: step without
								 * its ":n" */
	Jsonb	   *input;			/* or NULL */
	Jsonb	   *result;			/* result; of a failure, the error; or NULL */
	Jsonb	   *detail;			/* further keys of data, an object; or NULL */
	TimestampTz at;
} RomEvent;

typedef struct RomEventList
{
	RomEvent  **events;
	int			count;
	int			capacity;
} RomEventList;

extern const char *rom_event_name(RomEventType type);

/* Appends event (not copied) to a list that lives in cxt. */
extern void rom_event_list_add(RomEventList *list, RomEvent *event,
							   MemoryContext cxt);


/* The event's data as get_history shows it: {"result":..., "input":..., ...}. */
extern Jsonb *rom_event_data(const RomEvent *event);

#endif							/* ROM_INSTANCES_EVENT_H */
