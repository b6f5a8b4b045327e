/*-------------------------------------------------------------------------
 *
 * lifecycle.c
 *		The engine's own events: starts and ends of workflows and activities, for destinations and on_event workflows that ask for it.
 *
 * They are written with the turn that they tell of. A process remembers for each namespace which types are asked for, so
 * that a turn whose events are not asked for costs one lookup.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "messages/event.h"
#include "outbox/destination.h"
#include "outbox/lifecycle.h"
#include "outbox/send.h"
#include "turn/hooks.h"

typedef enum Kind
{
	WORKFLOW_STARTED,
	WORKFLOW_COMPLETED,
	WORKFLOW_FAILED,
	WORKFLOW_CANCELLED,
	WORKFLOW_PAUSED,
	WORKFLOW_RECURRED,
	ACTIVITY_COMPLETED,
	ACTIVITY_FAILED,
	ACTIVITY_RETRIED,
	KINDS
} Kind;

static const char *const types[KINDS] = {
	[WORKFLOW_STARTED] = ROM_DESTINATION_ENGINE "workflow.started",
	[WORKFLOW_COMPLETED] = ROM_DESTINATION_ENGINE "workflow.completed",
	[WORKFLOW_FAILED] = ROM_DESTINATION_ENGINE "workflow.failed",
	[WORKFLOW_CANCELLED] = ROM_DESTINATION_ENGINE "workflow.cancelled",
	[WORKFLOW_PAUSED] = ROM_DESTINATION_ENGINE "workflow.paused",
	[WORKFLOW_RECURRED] = ROM_DESTINATION_ENGINE "workflow.recurred",
	[ACTIVITY_COMPLETED] = ROM_DESTINATION_ENGINE "activity.completed",
	[ACTIVITY_FAILED] = ROM_DESTINATION_ENGINE "activity.failed",
	[ACTIVITY_RETRIED] = ROM_DESTINATION_ENGINE "activity.retried"
};

/* The kinds that a namespace asks for: bit 1 << kind is set. */
typedef struct Asked
{
	int32		namespace;
	uint64		destinations;	/* rom_destination_changes(), and */
	uint64		definitions;	/* rom_definition_count(), when it was read */
	uint32		sent;			/* a destination does */
	uint32		starts;			/* a workflow is defined on it */
} Asked;

/* By namespace, in this place or nowhere. */
static Asked asked[64];

/* The workflows that are defined on an event: index t_workflow_on_event has the current versions alone. */
static RomTable listeners = {"t_workflow", 1, {"on_event"}, true};

/* type_array is all types as a text[]. */
static Datum
type_array(void)
{
	Datum		elements[KINDS];

	for (int i = 0; i < KINDS; i++)
		elements[i] = CStringGetTextDatum(types[i]);
	return PointerGetDatum(construct_array(elements, KINDS, TEXTOID, -1, false, TYPALIGN_INT));
}

/* look reads who asks in the namespace, without a plan: each executor does so at the end of its first turn. */
static void
look(Asked *a, int32 namespace)
{
	uint64		destinations = rom_destination_changes();
	uint64		definitions = rom_definition_count();
	const RomDestination *list;
	RomRows		rows;
	int			n;

	a->namespace = ROM_NAMESPACE_NONE;
	a->sent = a->starts = 0;
	rom_rows_open_select(&rows, &listeners, "t_workflow_on_event", false);
	for (int i = 0; i < KINDS; i++)
		if (rom_rows_find_int_text(&rows, namespace, types[i]))
			a->starts |= 1 << i;
	rom_rows_close(&rows);
	list = rom_destination_list(namespace, &n);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < KINDS; k++)
			if (rom_destination_wants(&list[i], types[k]))
				a->sent |= 1 << k;
	a->destinations = destinations;
	a->definitions = definitions;
	a->namespace = namespace;
}

/* who_asks says who asks in the namespace. Engine scope needed. */
static const Asked *
who_asks(int32 namespace)
{
	Asked	   *a = &asked[(uint32) namespace % lengthof(asked)];

	if (a->namespace != namespace || a->destinations != rom_destination_changes() || a->definitions != rom_definition_count())
		look(a, namespace);
	return a;
}

/* brief is an error without what may hold data: its state and message. */
static Jsonb *
brief(Jsonb *error)
{
	RomJb		jb;

	if (error == NULL || !JB_ROOT_IS_OBJECT(error))
		return NULL;
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", rom_jb_get_text(error, "sqlstate"));
	rom_jb_text(&jb, "code", rom_jb_get_text(error, "code"));
	rom_jb_text(&jb, "message", rom_jb_get_text(error, "message"));
	return rom_jb_end(&jb);
}

/* The step that an event is about. */
typedef struct Step
{
	const char *name;			/* the activity; NULL: it is not about one */
	const char *id;
	int64		attempt;
} Step;

/* data_of is the data of an event about the turn's instance. */
static Jsonb *
data_of(RomTurn *turn, const Step *step, Jsonb *error)
{
	RomInstance *inst = turn->inst;
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "namespace", rom_namespace_name(inst->namespace));
	rom_jb_text(&jb, "workflow", inst->workflow);
	rom_jb_text(&jb, "instance_id", rom_uuid_text(&inst->id));
	if (inst->has_parent)
		rom_jb_text(&jb, "parent_id", rom_uuid_text(&inst->parent_id));
	rom_jb_json(&jb, "labels", turn->out.labels ? turn->out.labels : inst->labels);
	if (step->name != NULL)
	{
		rom_jb_text(&jb, "activity", step->name);
		rom_jb_text(&jb, "step", step->id);
		rom_jb_int(&jb, "attempt", step->attempt);
	}
	rom_jb_json(&jb, "error", brief(error));
	return rom_jb_end(&jb);
}

/*
 * is_listener says whether the turn's instance is of a workflow that is defined on one of these events, or was started by one: its own
 * start nothing, for it would start itself without end. Engine scope needed.
 */
static bool
is_listener(RomTurn *turn)
{
	static RomStatement select = {
		"SELECT 1 FROM romancy.t_workflow w WHERE w.namespace = $1 AND w.on_event = ANY ($2) AND w.is_current AND w.name = $3",
		3, {INT4OID, TEXTARRAYOID, TEXTOID}
	};
	Datum		values[3] = {Int32GetDatum(turn->inst->namespace), type_array(), CStringGetTextDatum(turn->inst->workflow)};
	const RomEventList *history = &turn->replay.history;

	if (history->count > 0 && history->events[0]->type == ROM_EVENT_EVENT_RECEIVED && history->events[0]->name != NULL &&
		rom_destination_is_engine_type(history->events[0]->name))
		return true;
	return rom_execute(&select, values, NULL, 1) > 0;
}

/*
 * start starts the workflows that are defined on the event. An error in that (a definition whose owner may not run it any more) is another
 * role's matter: it is logged, and the turn goes on. One that passes by itself has the turn tried again.
 */
static void
start(RomTurn *turn, const RomSent *sent, const char *id)
{
	RomCloudEvent event = {.id = (char *) id,.type = sent->type,.source = sent->source,.has_time = true,.time = rom_now(),
	.subject = sent->subject,.datacontenttype = sent->datacontenttype,.data = sent->data};
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		rom_event_start(turn->inst->namespace, &event);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (rom_error_is_passing(edata->sqlerrcode))
			ReThrowError(edata);
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("no workflow was started by event \"%s\" of instance %s: %s", sent->type, sent->subject, edata->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
}

/* tell writes an event of a kind, if it is asked for. */
static void
tell(RomTurn *turn, const Asked *a, Kind kind, const Step *step, Jsonb *error)
{
	RomInstance *inst = turn->inst;
	bool		sends = (a->sent & (1 << kind)) != 0;
	bool		starts = (a->starts & (1 << kind)) != 0 && !is_listener(turn);
	RomSent		sent = {0};
	const RomDestination *list;
	pg_uuid_t	uuid;
	char	   *id;
	int			n;

	if (!sends && !starts)
		return;
	rom_uuid_v7(&uuid);
	id = rom_uuid_text(&uuid);
	sent.type = (char *) types[kind];
	sent.source = psprintf("/romancy/%s", rom_uuid_text(&inst->id));
	sent.subject = rom_uuid_text(&inst->id);
	sent.ordering_key = sent.subject;
	sent.datacontenttype = "application/json";
	sent.data = data_of(turn, step, error);
	sent.namespace = inst->namespace;
	sent.owner = inst->owner_name;
	sent.instance = &inst->id;
	if (sends)
	{
		list = rom_destination_list(inst->namespace, &n);
		for (int i = 0; i < n; i++)
			if (rom_destination_wants(&list[i], sent.type))
				rom_send_to(&sent, id, &list[i]);
	}
	if (starts)
		start(turn, &sent, id);
}

/* tell_step tells of a new event in history, if it is the end of an activity. */
static void
tell_step(RomTurn *turn, const Asked *a, const RomEvent *event)
{
	Step		step = {event->name, event->step, 1};
	Jsonb	   *retry = event->detail ? rom_jb_get_json(event->detail, "retry") : NULL;

	if (event->type != ROM_EVENT_ACTIVITY_COMPLETED && event->type != ROM_EVENT_ACTIVITY_FAILED)
		return;
	if (step.name == NULL && event->step != NULL)
	{
		/* the step without its ":n" */
		char	   *name = pstrdup(event->step);
		char	   *colon = strrchr(name, ':');

		if (colon != NULL)
			*colon = '\0';
		step.name = name;
	}
	if (retry != NULL)
		step.attempt = rom_jb_get_int(retry, "total_attempts", 1);
	if (event->type == ROM_EVENT_ACTIVITY_COMPLETED)
		tell(turn, a, ACTIVITY_COMPLETED, &step, NULL);
	else
		tell(turn, a, ACTIVITY_FAILED, &step, event->result);
}

/* tell_retry tells of an attempt that failed and is followed by another one, which the turn has come to wait for. */
static void
tell_retry(RomTurn *turn, const Asked *a)
{
	RomWait    *now = turn->wait.now;
	RomWait    *before = turn->wait.before;
	Step		step;
	Jsonb	   *errors;
	Jsonb	   *last = NULL;
	uint32		n;

	if (now == NULL || now->detail == NULL || strcmp(now->kind, "retry") != 0)
		return;
	step.name = now->name;
	step.id = now->step;
	step.attempt = rom_jb_get_int(now->detail, "attempt", 1);
	if (before != NULL && before->detail != NULL && strcmp(before->kind, "retry") == 0 && strcmp(before->step, now->step) == 0 &&
		rom_jb_get_int(before->detail, "attempt", 0) == step.attempt)
		return;					/* it waits for the same one still */
	errors = rom_jb_get_json(now->detail, "errors");
	if (errors != NULL && JB_ROOT_IS_ARRAY(errors) && (n = JB_ROOT_COUNT(errors)) > 0)
		last = JsonbValueToJsonb(getIthJsonbValueFromContainer(&errors->root, n - 1));
	tell(turn, a, ACTIVITY_RETRIED, &step, last);
}

/* on_save tells of what a turn is about to save. */
static void
on_save(RomTurn *turn)
{
	const Asked *found = who_asks(turn->inst->namespace);
	const RomEventList *history = &turn->replay.history;
	Asked		a;
	Step		none = {0};
	Jsonb	   *error = turn->out.error;
	bool		paused = !turn->wait.was_paused;	/* or was, and went on,
													 * and is again */

	if ((found->sent | found->starts) == 0)
		return;
	a = *found;
	if (turn->out.first)
		tell(turn, &a, WORKFLOW_STARTED, &none, NULL);
	for (int i = turn->replay.stored; i < history->count; i++)
	{
		paused |= history->events[i]->type == ROM_EVENT_WORKFLOW_PAUSED;
		tell_step(turn, &a, history->events[i]);
	}
	switch (turn->out.status)
	{
		case ROM_STATUS_COMPLETED:
			tell(turn, &a, WORKFLOW_COMPLETED, &none, NULL);
			break;
		case ROM_STATUS_FAILED:
			tell(turn, &a, WORKFLOW_FAILED, &none, error);
			break;
		case ROM_STATUS_CANCELLED:
			tell(turn, &a, WORKFLOW_CANCELLED, &none, error);
			break;
		case ROM_STATUS_RECURRED:
			tell(turn, &a, WORKFLOW_RECURRED, &none, NULL);
			break;
		case ROM_STATUS_PAUSED:
			if (paused)
				tell(turn, &a, WORKFLOW_PAUSED, &none, error);
			break;
		default:
			tell_retry(turn, &a);
	}
}

void
rom_lifecycle_init(void)
{
	rom_hooks_on_save(on_save);
}
