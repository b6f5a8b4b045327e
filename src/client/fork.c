/*-------------------------------------------------------------------------
 *
 * fork.c
 *		New instances with a part of another's history.
 *
 * The fork gets the events that answer replay up to, not including, the named step:
 * events that a retry has superseded, and those about the old instance's own life,
 * stay behind. Compensations that have succeeded for the old instance are not
 * registered for the new one; those that failed are, for what they were to undo is
 * still there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/event.h"
#include "instances/history.h"
#include "instances/start.h"
#include "instances/steer.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_fork_workflow);

/* A key share lock keeps a delete away, and does not wait for a turn. */
static RomStatement select_original = {
	"SELECT def_id, input, labels, priority, body_hash, wait ->> 'step', workflow"
	" FROM romancy.t_instance WHERE instance_id = $1 FOR KEY SHARE SKIP LOCKED",
	1, {UUIDOID}
};

static RomStatement update_fork = {
	"UPDATE romancy.t_instance i SET last_seq = $2, body_hash = $3, flags = i.flags | $4,"
	" scheduled_at = o.scheduled_at, settings = o.settings"
	" FROM romancy.t_instance o WHERE i.instance_id = $1 AND o.instance_id = $5",
	5, {UUIDOID, INT8OID, INT8OID, INT4OID, UUIDOID}
};

/* The row of the original. */
typedef struct Original
{
	RomInstance inst;
	char	   *waits_for;		/* step, or NULL */
	RomTurn    *turn;			/* never run: its history sorted out */
} Original;

static Jsonb *
get_jsonb(const RomRowSet *set, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, 0, col, &isnull, cxt);

	return isnull ? NULL : (Jsonb *) DatumGetPointer(value);
}

/* read_original reads the row and the history of what is forked. */
static void
read_original(const pg_uuid_t *id, const RomInstanceHead *head, Original *o)
{
	MemoryContext cxt = CurrentMemoryContext;
	RomInstance *inst = &o->inst;
	Datum		values[1] = {UUIDPGetDatum(id)};
	RomEngine	engine;
	bool		isnull;
	Datum		value;
	RomRowSet	set;

	inst->id = *id;
	inst->status = head->status;
	inst->last_seq = head->last_seq;
	inst->flags = head->flags;
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_original, values, NULL, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow instance \"%s\" is being deleted", rom_uuid_text(id)),
				 errhint("Unless that is rolled back, there will be nothing to fork.")));
	inst->def_id = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	inst->input = get_jsonb(&set, 2, cxt);
	inst->labels = get_jsonb(&set, 3, cxt);
	inst->priority = DatumGetInt32(rom_value(&set, 0, 4, &isnull));
	value = rom_value(&set, 0, 5, &isnull);
	inst->body_hash = isnull ? 0 : DatumGetInt64(value);
	o->waits_for = rom_value_text(&set, 0, 6, cxt);
	inst->workflow = rom_value_text(&set, 0, 7, cxt);
	rom_engine_end(&engine);
	o->turn = rom_turn_create(inst, head->owner, cxt);
	rom_replay_load(o->turn, false);
}

/* find_step returns the place of the step in the program; the program's end for a step that the instance waits for. */
static int
find_step(const Original *o, const char *step)
{
	const RomEventList *program = &o->turn->replay.program;
	int			i;

	for (i = 0; i < program->count; i++)
		if (strcmp(program->events[i]->step, step) == 0)
			return i;
	if (o->waits_for == NULL || strcmp(o->waits_for, step) != 0 ||
		ROM_STATUS_IS_FINAL(o->inst.status))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("workflow instance \"%s\" has no activity \"%s\" in its history",
						rom_uuid_text(&o->inst.id), step),
				 errhint("romancy.get_history() shows the ids of its steps.")));
	return i;
}

/* check_ended refuses a step whose result could never arrive, because it goes to the original. */
static void
check_ended(const Original *o, RomEvent *scheduled, int64 before)
{
	RomEvent   *end = rom_replay_completion(o->turn, scheduled->step);

	if (scheduled->type != ROM_EVENT_ACTIVITY_SCHEDULED &&
		scheduled->type != ROM_EVENT_CHILD_SCHEDULED)
		return;
	if (end == NULL || end->seq >= before)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("\"%s\" had not ended where workflow instance \"%s\" is to be forked",
						scheduled->step, rom_uuid_text(&o->inst.id)),
				 errhint("Fork it from \"%s\", or from an earlier step.", scheduled->step)));
}

/* without_compensation is a copy of an event whose compensation has run. */
static RomEvent *
without_compensation(const RomEvent *event)
{
	RomEvent   *copy = palloc_object(RomEvent);
	RomJb		jb;

	*copy = *event;
	rom_jb_begin(&jb);
	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED)
		rom_jb_bool(&jb, "done", true);
	else
		rom_jb_json(&jb, "retry", rom_jb_get_json(event->detail, "retry"));
	copy->detail = rom_jb_end(&jb);
	return copy;
}

/* select_events lists what the fork takes over, in the order of the original's history. */
static void
select_events(const Original *o, int end, RomEventList *out, int32 *flags)
{
	RomTurn    *turn = o->turn;
	const RomEventList *program = &turn->replay.program;
	int64		before = end < program->count ? program->events[end]->seq : PG_INT64_MAX;
	int			next = 0;

	for (int i = 0; i < turn->replay.history.count; i++)
	{
		RomEvent   *event = turn->replay.history.events[i];
		RomEvent   *copy;

		if (next < end && program->events[next] == event)
		{
			next++;
			check_ended(o, event, before);
		}
		else if (event->step == NULL || event->seq >= before ||
				 rom_replay_completion(turn, event->step) != event)
			continue;
		copy = event;
		if (rom_saga_registers(event))
		{
			if (rom_saga_has_undone(turn, event))
				copy = without_compensation(event);
			else
				*flags |= ROM_HAS_COMPENSATIONS;
		}
		rom_event_list_add(out, copy, CurrentMemoryContext);
	}
}

/* make_instance starts the fork. Its labels are those that were set by then. */
static void
make_instance(const Original *o, Oid owner, Jsonb *input, const RomEventList *events,
			  pg_uuid_t *id)
{
	RomStart	start = {0};

	start.workflow = rom_definition_by_id(o->inst.def_id);
	start.name = o->inst.workflow;
	start.owner = owner;
	start.input = input ? input : o->inst.input;
	start.priority = o->inst.priority;
	start.labels = o->inst.labels;
	for (int i = events->count - 1; i >= 0; i--)
		if (events->events[i]->type == ROM_EVENT_LABELS_SET)
		{
			start.labels = events->events[i]->input;
			break;
		}
	(void) rom_start_instance(&start, id);
}

/* store gives the fork its history and what goes with it. */
static void
store(const Original *o, const pg_uuid_t *id, RomEventList *events, int32 flags)
{
	Datum		values[5] = {UUIDPGetDatum(id)};
	bool		nulls[5] = {false};
	RomEngine	engine;

	rom_engine_begin(&engine);
	values[1] = Int64GetDatum(rom_history_append(id, events, 0, 0));
	values[2] = Int64GetDatum(o->inst.body_hash);
	nulls[2] = o->inst.body_hash == 0;
	values[3] = Int32GetDatum(flags);
	values[4] = UUIDPGetDatum(&o->inst.id);
	rom_execute(&update_fork, values, nulls, 0);
	for (int i = 0; i < events->count; i++)
	{
		RomEvent   *event = events->events[i];

		if (event->type == ROM_EVENT_VALUE_SET)
			rom_document_set_value(id, event->name, event->input);
	}
	rom_engine_end(&engine);
}

/*
 * romancy.fork_workflow(instance_id uuid, from_activity text, input jsonb) -> uuid
 *
 * Starts a new instance of the same version, with the history of another, live or
 * finished, up to, not including, a step. input: null for the other's. Errors: RM002 unknown,
 * or another role's; RM012 no such step; RM010 when a spawned activity or child had not ended
 * there; RM004 in a workflow.
 */
Datum
romancy_fork_workflow(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *from = rom_arg_uuid(fcinfo, 0, "instance_id");
	char	   *step = rom_arg_text(fcinfo, 1, "from_activity");
	Jsonb	   *input = rom_arg_jsonb_opt(fcinfo, 2);
	pg_uuid_t  *id = palloc_object(pg_uuid_t);
	Original	o;
	RomEventList events = {0};
	RomInstanceHead head;
	int32		flags = 0;

	rom_context_refuse_handler("fork_workflow");
	memset(&o, 0, sizeof(o));
	rom_steer_head(from, true, &head);
	read_original(from, &head, &o);
	select_events(&o, find_step(&o, step), &events, &flags);
	make_instance(&o, head.owner, input, &events, id);
	store(&o, id, &events, flags);
	PG_RETURN_UUID_P(id);
}
