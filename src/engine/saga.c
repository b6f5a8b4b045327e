/*-------------------------------------------------------------------------
 *
 * saga.c
 *		Compensations: what undoes the activities of an instance that does not
 *		complete.
 *
 * What is registered stands in history: an activity's completion carries the
 * name of its compensation as its definition had it then, so it is registered in
 * the transaction of the activity, whatever becomes of the definition; and
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
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "engine/activity.h"
#include "engine/define.h"
#include "engine/life.h"
#include "engine/saga.h"
#include "engine/turn.h"

PG_FUNCTION_INFO_V1(romancy_register_compensation);
PG_FUNCTION_INFO_V1(romancy_compensate);

/* One that is registered. */
typedef struct Registered
{
	RomEvent   *event;
	char	   *name;			/* of the compensating activity */
	bool		done;
} Registered;

static RomStatement select_compensation = {
	"select compensation from romancy.t_activity where name = $1",
	1, {TEXTOID}
};

/* A live instance that may still run an activity as a compensation; kinds: history.h. */
static RomStatement registered_in_live = {
	"select 1 from romancy.t_instance i join romancy.t_history h using (instance_id)"
	" cross join lateral unnest(h.events) e"
	" where i.wake_at is not null and i.flags & $2 <> 0"
	" and (e.detail ->> 'compensation' = $1 or (e.kind = 35 and e.name = $1)) limit 1",
	2, {TEXTOID, INT4OID}
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

void
rom_saga_note_scheduled(RomTurn *turn, RomEvent *event)
{
	const char *colon = strrchr(event->step, ':');
	char	   *name = event->name ? event->name :
		pnstrdup(event->step, colon ? colon - event->step : strlen(event->step));
	Datum		values[1] = {CStringGetTextDatum(name)};
	MemoryContext cxt = CurrentMemoryContext;
	char	   *compensation = NULL;
	RomEngine	engine;

	rom_engine_begin(&engine);
	if (rom_execute(&select_compensation, values, NULL, 1) == 1)
		compensation = rom_value_text(0, 1, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	rom_saga_note(turn, event, compensation);
}

char *
rom_saga_step_id(const char *step)
{
	return psprintf("compensation_%s", step);
}

/* registered_name says what an event registers, or NULL. */
static char *
registered_name(RomEvent *event)
{
	if (event->type == ROM_EVENT_ACTIVITY_COMPLETED && event->detail != NULL)
		return rom_jb_get_text(event->detail, "compensation");
	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED)
		return event->name;
	return NULL;
}

/*
 * registered lists what history registers, in order, in the current context. A
 * step that was run again after retry_workflow stands there twice; the latest is
 * crossed off first, as it ran first.
 */
static Registered *
registered(RomTurn *turn, int *count)
{
	RomEventList *history = &turn->history;
	Registered *list = palloc(sizeof(Registered) * Max(history->count, 1));
	int			n = 0;

	for (int i = 0; i < history->count; i++)
	{
		RomEvent   *event = history->events[i];
		char	   *name = registered_name(event);

		if (name != NULL)
		{
			list[n].event = event;
			list[n].name = name;
			list[n++].done = false;
		}
		else if (event->type == ROM_EVENT_COMPENSATION_EXECUTED ||
				 event->type == ROM_EVENT_COMPENSATION_FAILED)
		{
			for (int j = n - 1; j >= 0; j--)
				if (!list[j].done && event->step != NULL &&
					strcmp(list[j].event->step, event->step) == 0)
				{
					list[j].done = true;
					break;
				}
		}
	}
	*count = n;
	return list;
}

/* next_registered is the last one that has not run, or NULL. */
static Registered *
next_registered(RomTurn *turn)
{
	int			n;
	Registered *list = registered(turn, &n);

	for (int i = n - 1; i >= 0; i--)
		if (!list[i].done)
			return &list[i];
	return NULL;
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
		turn->saga->status = status && strcmp(status, "cancelled") == 0 ?
			ROM_STATUS_CANCELLED : ROM_STATUS_FAILED;
		turn->saga->error = rom_jb_get_json(json, "error");
		turn->inst->deadline = DT_NOEND;	/* it has been missed, or does not count any more */
	}
	MemoryContextSwitchTo(old);
}

Jsonb *
rom_saga_to_jsonb(const RomSaga *saga)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "status", rom_status_name(saga->status));
	rom_jb_json(&jb, "error", saga->error);
	return rom_jb_end(&jb);
}

bool
rom_saga_begin(RomTurn *turn, RomStatus status, Jsonb *error)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	bool		begin = turn->saga != NULL || next_registered(turn) != NULL;

	if (begin)
	{
		if (turn->saga == NULL)
		{
			turn->saga = palloc0_object(RomSaga);
			turn->saga->begun = true;
			turn->wait_before = NULL;
		}
		turn->saga->status = status;
		turn->saga->error = error;
		turn->error = error;
		turn->inst->status = ROM_STATUS_COMPENSATING;
		turn->inst->deadline = DT_NOEND;
		turn->status = ROM_STATUS_COMPENSATING;
		turn->wake_at = rom_now();
		turn->wait = NULL;
		turn->fail_error = NULL;
		turn->changed = true;
	}
	MemoryContextSwitchTo(old);
	return begin;
}

/* compensation_input is what an activity is given to undo another: {"input": ..., "result": ...}. */
static Jsonb *
compensation_input(RomEvent *event)
{
	RomJb		jb;

	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED)
		return event->input;
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "input", event->input ? event->input : rom_jb_null_document());
	rom_jb_json(&jb, "result", event->result ? event->result : rom_jb_null_document());
	return rom_jb_end(&jb);
}

/* crossed_off is the history row of a compensation that ran, made of the event that its activity left. */
static RomEvent *
crossed_off(RomTurn *turn, Registered *r, RomEvent *event)
{
	bool		failed = event->type == ROM_EVENT_ACTIVITY_FAILED;
	RomEvent   *done = rom_turn_event(turn, failed ? ROM_EVENT_COMPENSATION_FAILED :
									  ROM_EVENT_COMPENSATION_EXECUTED,
									  r->event->step);

	done->name = rom_turn_copy_text(turn, r->name);
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

RomSagaStep
rom_saga_step(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	Registered *r = next_registered(turn);
	RomSagaStep result = ROM_SAGA_RAN;
	RomCall		call = {0};
	RomEvent   *event;

	if (r == NULL)
	{
		MemoryContextSwitchTo(old);
		return ROM_SAGA_NONE;
	}
	call.primitive = &rom_primitive_activity;
	call.name = call.step_base = r->name;
	call.step = rom_saga_step_id(r->event->step);
	call.input = compensation_input(r->event);
	event = rom_turn_event(turn, 0, call.step);
	event->name = r->name;
	event->input = call.input;
	switch (call.primitive->execute(turn, &call, event))
	{
		case ROM_OUTCOME_WAIT:
			result = ROM_SAGA_WAIT;
			break;
		case ROM_OUTCOME_DONE:
			if (turn->pause_error || turn->cancelled || turn->fail_error)
				break;			/* it did not run, or not to its end */
			rom_turn_append(turn, crossed_off(turn, r, event));
			turn->inst->flags |= ROM_HAS_COMPENSATED;
			turn->wait_before = NULL;
			break;
		default:
			result = ROM_SAGA_SOLO;
			break;
	}
	MemoryContextSwitchTo(old);
	return result;
}

/* in_use: does a live instance have an activity registered as a compensation? */
static bool
in_use(const char *name)
{
	Datum		values[2] = {CStringGetTextDatum(name), Int32GetDatum(ROM_HAS_COMPENSATIONS)};

	return rom_execute(&registered_in_live, values, NULL, 1) == 1;
}

void
rom_saga_init(void)
{
	rom_activity_on_drop(in_use);
}

/* ------------------------------------------------------------ in a handler */

static RomOutcome
register_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_COMPENSATION_REGISTERED;
	event->name = rom_turn_copy_text(turn, call->name);
	return ROM_OUTCOME_DONE;
}

const RomPrimitive rom_primitive_register_compensation = {
	.name = "register_compensation",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_COMPENSATION_REGISTERED},
	.execute = register_execute,
};

/*
 * romancy.register_compensation(activity text, input jsonb) → void
 *
 * In a workflow: has activity run with input if the instance does not complete.
 * Errors: 22004 no name, RM004 outside a handler. An activity that does not exist
 * pauses the instance (RM001), as in activity().
 */
Datum
romancy_register_compensation(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_turn_require("register_compensation()");
	RomCall		call = {0};

	call.primitive = &rom_primitive_register_compensation;
	call.step_base = "register_compensation";
	call.name = rom_arg_text(fcinfo, 0, "activity");
	call.input = rom_arg_jsonb_opt(fcinfo, 1);
	if (call.input == NULL)
		call.input = rom_jb_null_document();
	if (!turn->unwinding && rom_turn_peek(turn) == NULL)
		rom_life_require_activity(turn, call.name);
	(void) rom_turn_step(&call);
	PG_RETURN_VOID();
}

/* How many compensations a compensate() ran so far: those executed since its step began, kept in history. */
static int
executed_since(RomTurn *turn)
{
	int			n = 0;

	for (int i = turn->history.count - 1; i >= 0; i--)
	{
		RomEventType type = turn->history.events[i]->type;

		if (type == ROM_EVENT_COMPENSATION_EXECUTED)
			n++;
		else if (type == ROM_EVENT_COMPENSATED || registered_name(turn->history.events[i]) != NULL)
			break;
	}
	return n;
}

/*
 * compensate_execute runs what is registered, one after another. It yields like a
 * turn that works step by step does: the history rows tell the next turn where
 * it was.
 */
static RomOutcome
compensate_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	int			subxacts = turn->subxacts;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		switch (rom_saga_step(turn))
		{
			case ROM_SAGA_NONE:
				event->type = ROM_EVENT_COMPENSATED;
				event->result = rom_life_number(executed_since(turn));
				return ROM_OUTCOME_DONE;
			case ROM_SAGA_WAIT:
				return ROM_OUTCOME_WAIT;
			case ROM_SAGA_SOLO:
				return ROM_OUTCOME_SOLO;
			case ROM_SAGA_RAN:
				if (turn->fail_error)
					return ROM_OUTCOME_LOOK;
				if (turn->pause_error || turn->cancelled)
					return ROM_OUTCOME_DONE;
				if (turn->commit_now || turn->subxacts - subxacts > 10)
					return rom_turn_wait(turn, call, ROM_STATUS_RUNNING, "compensate",
										 rom_now(), NULL);
				break;
		}
	}
}

const RomPrimitive rom_primitive_compensate = {
	.name = "compensate",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_COMPENSATED},
	.execute = compensate_execute,
	.own_subxact = true,
};

/*
 * romancy.compensate() → int
 *
 * In a workflow: runs the compensations that are registered now, last in first
 * out, and returns how many succeeded; one that fails for good is in history. Errors:
 * RM004 outside a handler.
 */
Datum
romancy_compensate(PG_FUNCTION_ARGS)
{
	RomCall		call = {0};
	RomEvent   *event;

	(void) rom_turn_require("compensate()");
	call.primitive = &rom_primitive_compensate;
	call.step_base = "compensate";
	event = rom_turn_step(&call);
	PG_RETURN_INT32(rom_life_to_int(event->result));
}
