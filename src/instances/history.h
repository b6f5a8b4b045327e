/*-------------------------------------------------------------------------
 *
 * history.h
 *		Events of an instance: types, storing, loading, showing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HISTORY_H
#define ROM_HISTORY_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Stored in t_event.kind: numbers never change their meaning. Names in history.c. */
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

/*
 * Selects rows of last_seq and events of instance $1 after number $2, at most $3
 * and in order: its history, with the events that stand in its own row once it has ended. One
 * statement, so that a retry, which moves those, cannot come in between.
 */
#define ROM_HISTORY_SELECT \
	"SELECT last_seq, events FROM (" \
	"(SELECT last_seq, events FROM romancy.t_history" \
	" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3)" \
	" UNION ALL SELECT last_seq, events FROM romancy.t_instance" \
	" WHERE instance_id = $1 AND last_seq > $2 AND events IS NOT NULL) x" \
	" ORDER BY last_seq LIMIT $3"

/*
 * Loads all history of an instance in order into list; engine scope needed. live: the
 * caller holds the row of an instance that has not ended.
 */
extern void rom_history_load(const pg_uuid_t *id, bool live, RomEventList *list,
							 MemoryContext cxt);

/* The same from the archive. */
extern void rom_history_load_archived(const pg_uuid_t *id, RomEventList *list,
									  MemoryContext cxt);

/* Stores events [from, count) of list as rows of t_history, numbered after last_seq; returns the new last_seq. Engine scope needed. */
extern int64 rom_history_append(const pg_uuid_t *id, RomEventList *list,
								int from, int64 last_seq);

/*
 * Packs events [from, count) of list, numbered after *last_seq, for the row of an instance that ends,
 * and sets *last_seq; returns 0 where they take more than limit bytes.
 */
extern Datum rom_history_pack(RomEventList *list, int from, Size limit,
							  int64 *last_seq);

/* Moves the events in the row of an instance, which is to live again, to t_history. Engine scope needed. */
extern void rom_history_move(const pg_uuid_t *id);

/* The event's data as get_history shows it: {"result":..., "input":..., ...}. */
extern Jsonb *rom_event_data(const RomEvent *event);

#endif							/* ROM_HISTORY_H */
