/*-------------------------------------------------------------------------
 *
 * saga.c
 *		Compensations: what undoes the activities of an instance that does not
 *		complete.
 *
 * Registrations are in history: an activity's completion carries the
 * name of its compensation as its definition had it then, so it is registered in
 * the transaction of the activity, even if the definition changes later; and
 * register_compensation() is an event of its own. CompensationExecuted and
 * CompensationFailed, with the step that is undone as their activity_id, cross
 * them off, each in the transaction of the compensation itself. So after a crash
 * history alone tells how far the saga came.
 *
 * The final status and error that the saga leads to are kept in the instance's
 * wait. A compensation runs as an activity of its own step id, with the attempts,
 * timers and limits of one; it has no compensation itself, so that two
 * activities may undo each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "defs/activity_definition.h"
#include "instances/event.h"
#include "memory/slot.h"
#include "turn/carry.h"
#include "turn/context.h"
#include "turn/registry.h"
#include "turn/replay.h"
#include "turn/saga.h"

/* The end of a task wakes a canvas that waits to be undone; if that is lost, it looks after this many milliseconds. */
#define GATHER_MS 10000

static RomInFlightHook in_flight = NULL;
static const RomPrimitive *activity_primitive = NULL;

static RomStatement select_compensation = {
	"SELECT compensation FROM romancy.t_activity WHERE namespace = $2 AND name = $1",
	2, {TEXTOID, INT4OID}
};

/* A live instance that may still run an activity as a compensation; kinds: history.h. */
static RomStatement registered_in_live = {
	"SELECT 1 FROM romancy.t_instance i JOIN romancy.t_history h USING (instance_id)"
	" CROSS JOIN LATERAL unnest(romancy.t_events_unpack(h.events)) e"
	" WHERE i.wake_at IS NOT NULL AND i.namespace = $3 AND i.flags & $2 <> 0"
	" AND (e.detail ->> 'compensation' = $1 OR (e.kind = " ROM_SQL_EVENT_COMPENSATION_REGISTERED " AND e.name = $1)) LIMIT 1",
	3, {TEXTOID, INT4OID, INT4OID}
};

/* ------------------------------------------------------------ registering */

void
rom_saga_note(RomTurn *turn, RomEvent *event, const char *compensation)
{
	MemoryContext old;
	RomJb		jb;

	if (compensation == NULL)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	rom_jb_begin(&jb);
	if (event->detail != NULL)
		rom_jb_json(&jb, "retry", rom_jb_get_json(event->detail, "retry"));
	rom_jb_text(&jb, "compensation", compensation);
	event->detail = rom_jb_end(&jb);
	MemoryContextSwitchTo(old);
}

char *
rom_saga_compensation(int32 namespace, const char *name)
{
	Datum		values[2] = {CStringGetTextDatum(name), Int32GetDatum(namespace)};
	MemoryContext cxt = CurrentMemoryContext;
	char	   *compensation = NULL;
	RomEngine	engine;
	RomRowSet	set;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_compensation, values, NULL, 1) == 1)
		compensation = rom_value_text(&set, 0, 1, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return compensation;
}

/* name_of is the name of the activity whose outcome it is. */
static char *
name_of(RomEvent *event)
{
	const char *colon = strrchr(event->step, ':');

	return event->name ? event->name :
		pnstrdup(event->step, colon ? colon - event->step : strlen(event->step));
}

void
rom_saga_note_scheduled(RomTurn *turn, RomEvent *event)
{
	rom_saga_note(turn, event, rom_saga_compensation(turn->inst->namespace, name_of(event)));
}

char *
rom_saga_step_id(const char *step)
{
	return psprintf("%ccompensation_%s", ROM_STEP_ENGINE, step);
}

bool
rom_saga_registers(RomEvent *event)
{
	return rom_registry_name(event) != NULL;
}

bool
rom_saga_has_undone(RomTurn *turn, RomEvent *event)
{
	RomRegistered *r = rom_registry_of(turn, event);

	return r != NULL && r->done && !r->failed;
}

bool
rom_saga_pending(RomTurn *turn)
{
	return rom_registry_last(turn) != NULL;
}

/* ------------------------------------------------------------ the saga of an instance */

void
rom_saga_load(RomTurn *turn)
{
	MemoryContext old;
	Jsonb	   *json;
	char	   *status;

	if (turn->inst->wait == NULL)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	json = rom_jb_get_json(turn->inst->wait, "saga");
	if (json != NULL)
	{
		turn->saga = palloc0_object(RomSaga);
		status = rom_jb_get_text(json, "status");
		turn->saga->status = status ? rom_instance_status_from_name(status) : ROM_STATUS_FAILED;
		turn->saga->output = rom_jb_get_json(json, "output");
		turn->saga->bare = rom_jb_get_bool(json, "bare", false);
		turn->saga->quiet = rom_jb_get_bool(json, "quiet", false);
		turn->saga->error = rom_jb_get_json(json, "error");
		turn->saga->failed_step = rom_jb_get_json(json, "failed_step");
		turn->saga->closed = rom_jb_get_bool(json, "closed", false);
		turn->saga->in_flight = rom_jb_get_json(json, "in_flight");
		turn->inst->deadline = DT_NOEND;	/* it has been missed, or does not
											 * count any more */
	}
	MemoryContextSwitchTo(old);
}

Jsonb *
rom_saga_to_jsonb(const RomSaga *saga)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "status", rom_instance_status_name(saga->status));
	rom_jb_json(&jb, "error", saga->error);
	rom_jb_json(&jb, "failed_step", saga->failed_step);
	rom_jb_json(&jb, "output", saga->output);
	if (saga->bare)
		rom_jb_bool(&jb, "bare", true);
	if (saga->quiet)
		rom_jb_bool(&jb, "quiet", true);
	rom_jb_bool(&jb, "closed", saga->closed);
	rom_jb_json(&jb, "in_flight", saga->in_flight);
	return rom_jb_end(&jb);
}

/* undo_unknown registers the compensation of an effect that may or may not have happened: its result is null. */
static void
undo_unknown(RomTurn *turn, const char *step, const char *compensation, Jsonb *input)
{
	RomEvent   *event = rom_replay_event(turn, ROM_EVENT_COMPENSATION_REGISTERED, step);
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_json(&jb, "input", input ? input : rom_jb_null_document());
	rom_jb_null(&jb, "result");
	event->name = rom_context_copy_text(turn, compensation);
	event->input = rom_jb_end(&jb);
	turn->inst->flags |= ROM_HAS_COMPENSATIONS;
	rom_event_list_add(&turn->replay.history, event, turn->cxt);
	turn->out.changed = true;
}

void
rom_saga_undo_scheduled(RomTurn *turn, RomEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	char	   *compensation = rom_saga_compensation(turn->inst->namespace, name_of(event));

	if (compensation != NULL)
		undo_unknown(turn, event->step, compensation, event->input);
	MemoryContextSwitchTo(old);
}

/* keep_failure has the wait for an announced step hold its failure, until the step is asked for again: by then it is known what follows. */
static void
keep_failure(RomTurn *turn, RomWait *wait, RomInjected *injected)
{
	RomJb		inner;
	RomJb		jb;

	rom_jb_begin(&inner);
	rom_jb_time(&inner, "at", rom_now());
	rom_jb_json(&inner, "error", rom_error_to_jsonb(injected->error));
	if (injected->limit == ROM_LIMIT_ACTIVITY)
		rom_jb_bool(&inner, "timeout", true);
	if (rom_error_is_terminal(injected->error))
		rom_jb_bool(&inner, "terminal", true);
	if (rom_error_is_of_result(injected->error))
		rom_jb_bool(&inner, "of_result", true);
	rom_jb_begin(&jb);
	rom_jb_json(&jb, ROM_WAIT_FAILED, rom_jb_end(&inner));
	wait->detail = rom_jb_with(wait->detail, ROM_WAIT_FAILED, rom_jb_get_json(rom_jb_end(&jb), ROM_WAIT_FAILED));
	wait->kind = ROM_WAIT_FAILED;
	turn->how.injected = NULL;
	turn->out.changed = true;
}

void
rom_saga_take_injected(RomTurn *turn)
{
	RomInjected *injected = turn->how.injected;
	RomWait    *wait = turn->wait.before;
	RomEvent   *event;
	MemoryContext old;

	if (injected == NULL || wait == NULL ||
		strcmp(wait->kind, "procedure") != 0 || strcmp(wait->step, injected->step) != 0)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	if (injected->failed)
	{
		keep_failure(turn, wait, injected);
		MemoryContextSwitchTo(old);
		return;
	}
	if (wait->undoes != NULL)
	{
		/*
		 * a compensation: what it undoes is crossed off, and it has none
		 * itself
		 */
		event = rom_replay_event(turn, ROM_EVENT_COMPENSATION_EXECUTED, wait->undoes);
		turn->inst->flags |= ROM_HAS_COMPENSATED;
	}
	else
		event = rom_replay_event(turn, ROM_EVENT_ACTIVITY_COMPLETED, wait->step);
	if (wait->undoes != NULL || strncmp(wait->step, wait->name, strlen(wait->name)) != 0 ||
		wait->step[strlen(wait->name)] != ':')
		event->name = rom_context_copy_text(turn, wait->name);
	event->input = wait->detail ? rom_jb_get_json(wait->detail, "input") : NULL;
	event->result = rom_context_copy_jsonb(turn, injected->result);
	if (wait->undoes == NULL)
		rom_saga_note(turn, event, rom_saga_compensation(turn->inst->namespace, wait->name));
	rom_replay_append(turn, event);
	turn->how.injected = NULL;
	turn->wait.before = NULL;
	MemoryContextSwitchTo(old);
}

bool
rom_saga_take_before(RomTurn *turn, const char *step)
{
	RomInjected *injected = turn->how.injected;

	if (injected == NULL || injected->failed || strcmp(injected->step, step) == 0)
		return false;
	rom_saga_take_injected(turn);
	return turn->how.injected == NULL;
}

bool
rom_saga_begin(RomTurn *turn, RomStatus status, Jsonb *error)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	bool		begin;

	rom_saga_take_injected(turn);

	/*
	 * a procedure outside the transaction was announced: how far it came is
	 * not known
	 */
	if (turn->saga == NULL && turn->wait.before != NULL && turn->how.injected == NULL &&
		strcmp(turn->wait.before->kind, "procedure") == 0)
	{
		char	   *compensation = rom_saga_compensation(turn->inst->namespace, turn->wait.before->name);

		if (compensation != NULL)
			undo_unknown(turn, turn->wait.before->step, compensation,
						 turn->wait.before->detail ?
						 rom_jb_get_json(turn->wait.before->detail, "input") : NULL);
	}
	begin = turn->saga != NULL || rom_registry_last(turn) != NULL ||
		(turn->wait.before != NULL && strcmp(turn->wait.before->kind, "activity") == 0) ||
		(turn->inst->flags & ROM_HAS_TASKS) != 0;

	if (begin)
	{
		/* it was to complete: now it has to be undone */
		if (turn->saga != NULL && turn->saga->status == ROM_STATUS_COMPLETED)
		{
			turn->saga->bare = false;
			turn->saga->output = NULL;
		}
		if (turn->saga == NULL)
		{
			turn->saga = palloc0_object(RomSaga);
			turn->saga->begun = true;
			turn->saga->failed_step = turn->out.failed_step;
			turn->wait.before = NULL;
		}
		turn->saga->status = status;
		turn->saga->error = error;
		turn->out.error = error;
		turn->inst->status = ROM_STATUS_COMPENSATING;
		turn->inst->deadline = DT_NOEND;
		turn->out.status = ROM_STATUS_COMPENSATING;
		turn->out.wake_at = rom_now();
		turn->wait.now = NULL;
		turn->out.fail_error = NULL;
		turn->out.changed = true;
	}
	MemoryContextSwitchTo(old);
	return begin;
}

RomStatus
rom_saga_shown(const RomSaga *saga)
{
	return saga->status == ROM_STATUS_COMPLETED ? ROM_STATUS_RUNNING : ROM_STATUS_COMPENSATING;
}

bool
rom_saga_unsettled(RomTurn *turn)
{
	if ((turn->inst->flags & ROM_HAS_TASKS) == 0)
		return false;
	if (turn->inst->flags & ROM_IS_CANVAS)
		return true;			/* its history does not tell */
	for (int i = 0; i < turn->replay.history.count; i++)
	{
		RomEvent   *event = turn->replay.history.events[i];

		if (event->type == ROM_EVENT_ACTIVITY_SCHEDULED &&
			rom_replay_completion(turn, event->step) == NULL)
			return true;
	}
	return false;
}

bool
rom_saga_close(RomTurn *turn, RomStatus status, Jsonb *output, Jsonb *error)
{
	rom_saga_take_injected(turn);
	if ((turn->saga != NULL && turn->saga->quiet) || !rom_saga_unsettled(turn) ||
		(status == ROM_STATUS_COMPLETED && (turn->inst->flags & ROM_IS_CANVAS) != 0))
		return false;
	if (turn->saga == NULL)
	{
		turn->saga = MemoryContextAllocZero(turn->cxt, sizeof(RomSaga));
		turn->saga->begun = true;
		turn->wait.before = NULL;
	}
	turn->saga->status = status;
	turn->saga->output = output;
	turn->saga->error = error;
	turn->saga->bare = true;
	turn->out.error = error;
	turn->inst->status = rom_saga_shown(turn->saga);
	turn->inst->deadline = DT_NOEND;
	turn->out.status = rom_saga_shown(turn->saga);
	turn->out.wake_at = rom_now();
	turn->wait.now = NULL;
	turn->out.fail_error = NULL;
	turn->out.changed = true;
	return true;
}

/* compensation_input is what an activity is given to undo another: {"input": ..., "result": ...}. */
static Jsonb *
compensation_input(RomTurn *turn, RomEvent *event)
{
	RomEvent   *scheduled = rom_replay_scheduled(turn, event->step);
	Jsonb	   *input = scheduled ? scheduled->input : event->input;
	RomJb		jb;

	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED)
		return event->input;
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "input", input ? input : rom_jb_null_document());
	rom_jb_json(&jb, "result", event->result ? event->result : rom_jb_null_document());
	return rom_jb_end(&jb);
}

/* crossed_off is the history row of a compensation that ran, made of the event that its activity left. */
static RomEvent *
crossed_off(RomTurn *turn, RomRegistered *r, RomEvent *event)
{
	bool		failed = event->type == ROM_EVENT_ACTIVITY_FAILED;
	RomEvent   *done = rom_replay_event(turn, failed ? ROM_EVENT_COMPENSATION_FAILED :
										ROM_EVENT_COMPENSATION_EXECUTED,
										r->event->step);

	done->name = rom_context_copy_text(turn, r->name);
	done->input = event->input;
	done->result = event->result;
	if (event->detail != NULL)
	{
		/* not the compensation of the compensation */
		RomJb		jb;

		rom_jb_begin(&jb);
		rom_jb_json(&jb, "retry", rom_jb_get_json(event->detail, "retry"));
		done->detail = rom_jb_end(&jb);
	}
	return done;
}

/* ------------------------------------------------------------ effects under way */

void
rom_saga_on_in_flight(RomInFlightHook hook)
{
	in_flight = hook;
}

static RomGatherHook gather = NULL;

void
rom_saga_on_gather(RomGatherHook hook)
{
	gather = hook;
}

bool
rom_saga_has(RomTurn *turn, const char *step)
{
	return rom_registry_has(turn, step);
}

/* gather_canvas registers what a canvas has to undo; true while some of it still runs. */
static bool
gather_canvas(RomTurn *turn)
{
	RomEngine	engine;
	bool		running;

	if (gather == NULL || (turn->inst->flags & ROM_IS_CANVAS) == 0)
		return false;
	rom_engine_begin(&engine);
	MemoryContextSwitchTo(turn->cxt);
	running = gather(turn);
	rom_engine_end(&engine);
	return running;
}

/* is_settled: has a step that was in flight ended? Then its event is in history, and the saga undoes it. */
static bool
is_settled(RomTurn *turn, Jsonb *one)
{
	char	   *step = rom_jb_get_text(one, "step");
	RomInboxItem *item;
	RomEvent   *event;

	if (rom_replay_scheduled(turn, step) != NULL)
		return rom_replay_completion(turn, step) != NULL;
	item = rom_replay_take(turn, step);
	if (item == NULL)
		return false;
	if (item->error != NULL && rom_error_sqlstate(item->error) == ERRCODE_ROM_TIMEOUT)
	{
		/* its worker was not heard of again */
		undo_unknown(turn, step, rom_jb_get_text(one, "compensation"),
					 rom_jb_get_json(one, "input"));
		return true;
	}
	event = rom_replay_event(turn, item->error ? ROM_EVENT_ACTIVITY_FAILED :
							 ROM_EVENT_ACTIVITY_COMPLETED, step);
	event->name = rom_jb_get_text(one, "activity");
	if (rom_carry_base_length(step) == strlen(event->name) &&
		strncmp(step, event->name, strlen(event->name)) == 0)
		event->name = NULL;		/* the step's id tells it */
	event->input = rom_jb_get_json(one, "input");
	event->result = item->error ? item->error :
		item->result ? item->result : rom_jb_null_document();
	if (item->error == NULL)
		rom_saga_note(turn, event, rom_jb_get_text(one, "compensation"));
	rom_event_list_add(&turn->replay.history, event, turn->cxt);
	turn->out.changed = true;
	return true;
}

static Jsonb *
in_flight_document(const RomInFlight *f)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "step", f->step);
	rom_jb_text(&jb, "activity", f->activity);
	rom_jb_text(&jb, "compensation", f->compensation);
	rom_jb_json(&jb, "input", f->input);
	return rom_jb_end(&jb);
}

/* settling_list makes the document of what is under way. */
static Jsonb *
settling_list(List *list)
{
	Jsonb	  **all = palloc(sizeof(Jsonb *) * (list_length(list) + 1));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, list)
		all[n++] = in_flight_document(lfirst(lc));
	return rom_jb_array(all, n);
}

bool
rom_saga_settle(RomTurn *turn, TimestampTz *until)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	RomSaga    *saga = turn->saga;
	List	   *list = NIL;
	Jsonb	  **left;
	int			n = 0;
	int			count;
	ListCell   *lc;

	*until = DT_NOEND;
	if (gather_canvas(turn))
		*until = TimestampTzPlusMilliseconds(rom_now(), GATHER_MS);
	MemoryContextSwitchTo(turn->cxt);
	if (in_flight != NULL && (saga->in_flight == NULL || JB_ROOT_COUNT(saga->in_flight) > 0))
	{
		RomEngine	engine;

		rom_engine_begin(&engine);
		MemoryContextSwitchTo(turn->cxt);
		list = in_flight(turn);
		rom_engine_end(&engine);
		MemoryContextSwitchTo(turn->cxt);
	}
	if (saga->in_flight == NULL)
		saga->in_flight = settling_list(list);
	count = JB_ROOT_COUNT(saga->in_flight);
	left = palloc(sizeof(Jsonb *) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		Jsonb	   *one = JsonbValueToJsonb(getIthJsonbValueFromContainer(&saga->in_flight->root, i));
		bool		settled = is_settled(turn, one);
		bool		listed = false;

		foreach(lc, list)
		{
			RomInFlight *f = lfirst(lc);

			listed |= strcmp(f->step, rom_jb_get_text(one, "step")) == 0;

			if (settled || strcmp(f->step, rom_jb_get_text(one, "step")) != 0)
				continue;
			if (f->over)
			{
				undo_unknown(turn, f->step, f->compensation, f->input);
				settled = true;
			}
			else
				*until = *until == DT_NOEND ? f->until : Max(*until, f->until);
		}
		/* the end of a canvas's task is gathered */
		if (!listed && (turn->inst->flags & ROM_IS_CANVAS))
			settled = true;
		if (!settled)
			left[n++] = one;
	}
	saga->in_flight = rom_jb_array(left, n);
	MemoryContextSwitchTo(old);
	return n > 0 || *until != DT_NOEND;
}

RomOutcome
rom_saga_step(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	RomRegistered *last = rom_registry_last(turn);
	RomRegistered one;
	RomRegistered *r = &one;
	RomOutcome	outcome;
	RomCall		call = {0};
	RomEvent   *event;

	if (last == NULL)
	{
		MemoryContextSwitchTo(old);
		return ROM_OUTCOME_END;
	}
	one = *last;
	call.primitive = activity_primitive;
	call.name = call.step_base = r->name;
	call.step = rom_saga_step_id(r->event->step);
	call.undoes = r->event->step;
	call.input = compensation_input(turn, r->event);
	event = rom_replay_event(turn, 0, call.step);
	event->name = r->name;
	event->input = call.input;
	outcome = call.primitive->execute(turn, &call, event);
	if (rom_slot_cancelled())
		outcome = ROM_OUTCOME_AGAIN;
	if (outcome == ROM_OUTCOME_DONE)
	{
		rom_replay_append(turn, crossed_off(turn, r, event));
		turn->inst->flags |= ROM_HAS_COMPENSATED;
		turn->wait.before = NULL;
	}
	MemoryContextSwitchTo(old);
	return outcome;
}

/* in_use: does a live instance have an activity registered as a compensation? */
static bool
in_use(int32 namespace, const char *name)
{
	Datum		values[3] = {CStringGetTextDatum(name), Int32GetDatum(ROM_HAS_COMPENSATIONS), Int32GetDatum(namespace)};

	return rom_execute(&registered_in_live, values, NULL, 1) == 1;
}

void
rom_saga_init(const RomPrimitive *activity)
{
	activity_primitive = activity;
	rom_activity_definition_on_drop(in_use);
}
