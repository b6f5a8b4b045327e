/*-------------------------------------------------------------------------
 *
 * outside.c
 *		Workflows whose code runs in a program outside: the executor's side.
 *
 * The instance has a task (kind ROM_TASK_WORKFLOW) in its workflow's queue
 * for as long as it lives. The program that claims it reads the history, runs
 * its code, records the activities that it ran itself, and gives the instance
 * back with a command: sleep, receive, run an activity, complete, fail.
 *
 * romancy.t_outside() takes the place of a handler. It carries the command out in
 * the executor with the calls that any handler has, and then makes the task
 * ready again. So all that holds for handlers (waits, cancel, pause,
 * compensations, time limits) holds for these as well; only the replay is not
 * checked, which is left to the program.
 *
 * The program's calls are program.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/event.h"
#include "outside/command.h"
#include "tasks/notify.h"
#include "tasks/queue.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/turn.h"

/* The instance's task. */
typedef struct Outside
{
	bool		found;
	pg_uuid_t	task_id;
	RomTaskState state;
	Jsonb	   *command;
} Outside;

/* read_task reads it, in the current context. */
static void
read_task(const pg_uuid_t *id, Outside *o)
{
	static RomStatement select = {
		"SELECT task_id, state, " ROM_SQL_VALUE("input", "document") " FROM romancy.t_task WHERE instance_id = $1 AND kind = " ROM_SQL_TASK_WORKFLOW,
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[1];
	RomRowSet	set;

	memset(o, 0, sizeof(Outside));
	values[0] = UUIDPGetDatum(id);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
	{
		bool		isnull;
		Datum		value;

		o->found = true;
		o->task_id = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
		o->state = DatumGetInt16(rom_value(&set, 0, 2, &isnull));
		value = rom_value_copy(&set, 0, 3, &isnull, cxt);
		o->command = isnull ? NULL : DatumGetJsonbP(value);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/*
 * superseded lists the numbers of events that retry_workflow has taken back: what is left of the
 * history without them is what the program is to see. NULL when there are none.
 */
static Jsonb *
superseded(RomTurn *turn)
{
	RomJb		jb;
	int			next = 0;
	int			count = 0;

	/* the program is what replay has left of the history, in its order */
	rom_jb_begin(&jb);
	rom_jb_begin_array(&jb, "superseded");
	for (int i = 0; i < turn->replay.stored; i++)
	{
		RomEvent   *event = turn->replay.history.events[i];

		if (next < turn->replay.program.count && turn->replay.program.events[next] == event)
			next++;
		else if (!rom_replay_is_life_cycle(event))
		{
			JsonbValue	v;

			v.type = jbvNumeric;
			v.val.numeric = int64_to_numeric(event->seq);
			rom_jb_element(&jb, JsonbValueToJsonb(&v));
			count++;
		}
	}
	rom_jb_end_array(&jb);
	return count > 0 ? rom_jb_end(&jb) : NULL;
}

/*
 * worker_execute hands the instance to a program: makes its task, or makes it ready again, and waits. It goes by what the task was when
 * romancy_outside() read it: a program that gives its command since, which waits for no turn, has it carried out by the next turn.
 */
static RomOutcome
worker_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomTask		task = {0};
	const Outside *o = call->options;
	RomEngine	engine;

	task.id = o->task_id;
	task.instance_id = turn->inst->id;
	task.kind = ROM_TASK_WORKFLOW;
	task.def_id = turn->inst->def_id;
	task.priority = turn->inst->priority;
	task.queue = psprintf("%s%s", ROM_QUEUE_WORKFLOWS,
						  rom_notify_queue_stored(turn->inst->namespace, turn->workflow->queue));
	task.owner = turn->inst->owner_name;
	task.activity = turn->inst->workflow;
	task.step = "";
	if (!o->found)
		task.next = superseded(turn);
	rom_engine_begin(&engine);
	if (!o->found)
		rom_task_insert(&task, turn->owner, DT_NOEND);
	else if (o->state == ROM_TASK_COMMAND && rom_state_carried_out(&o->task_id, &task.priority))
		rom_task_wake(&task, turn->owner);
	rom_engine_end(&engine);
	turn->inst->flags |= ROM_HAS_TASKS;
	return rom_call_wait(turn, call, ROM_STATUS_RUNNING, "worker", DT_NOEND, NULL);
}

static const RomPrimitive primitive_worker = {
	.name = "worker",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {0},
	.execute = worker_execute,
	.ignore_input = true,
};

/* is_recorded: has the step ended? */
static bool
is_recorded(RomTurn *turn, const char *step)
{
	for (int i = turn->replay.program.count - 1; i >= 0; i--)
		if (turn->replay.program.events[i]->step != NULL &&
			strcmp(turn->replay.program.events[i]->step, step) == 0)
			return true;
	return false;
}

/* carry_out makes the call that the command asks for. It comes back when the step is over. */
static void
carry_out(Jsonb *command, const char *what, const char *step)
{
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	if (strcmp(what, "timer") == 0)
	{
		Oid			types[] = {TIMESTAMPTZOID, TEXTOID};

		values[0] = TimestampTzGetDatum(rom_jb_get_time(command, "until"));
		values[1] = CStringGetTextDatum(step);
		rom_command_sql("SELECT romancy.sleep_until($1, $2)", 2, types, values, nulls);
	}
	else if (strcmp(what, "receive") == 0)
	{
		Oid			types[] = {TEXTOID, INTERVALOID, TEXTOID};
		Interval   *timeout = palloc0_object(Interval);

		timeout->time = rom_jb_get_int(command, "timeout_us", 0);
		values[0] = CStringGetTextDatum(rom_jb_get_text(command, "name"));
		values[1] = IntervalPGetDatum(timeout);
		nulls[1] = rom_jb_get_int(command, "timeout_us", -1) < 0 ? 'n' : ' ';
		values[2] = CStringGetTextDatum(step);
		rom_command_sql("SELECT romancy.receive($1, $2, $3)", 3, types, values, nulls);
	}
	else
	{
		Oid			types[] = {TEXTOID, JSONBOID, TEXTOID};
		Jsonb	   *input = rom_jb_get_json(command, "input");

		values[0] = CStringGetTextDatum(rom_jb_get_text(command, "name"));
		values[1] = PointerGetDatum(input);
		nulls[1] = input == NULL ? 'n' : ' ';
		values[2] = CStringGetTextDatum(step);
		rom_command_sql("SELECT romancy.activity($1, $2, $3)", 3, types, values, nulls);
	}
}

PG_FUNCTION_INFO_V1(romancy_outside);

/* romancy.t_outside(input jsonb) -> jsonb: the handler of workflows with a queue. RM004 elsewhere. */
Datum
romancy_outside(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("t_outside()");
	RomCall		call = {0};
	Outside    *o;

	if (turn->workflow->queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.t_outside() is for workflows with a queue")));
	/* what history holds answers the program's calls, not ours */
	turn->replay.cursor = turn->replay.program.count;
	for (int i = 0; i < turn->wait.ninbox; i++)
		if (turn->wait.inbox[i].kind == ROM_INBOX_SIGNAL && turn->wait.inbox[i].step == NULL)
			turn->wait.inbox[i].taken = true;
	/* (to the end of the turn) */
	o = MemoryContextAlloc(rom_context_memory(), sizeof(Outside));
	read_task(&turn->inst->id, o);
	if (o->found && o->state == ROM_TASK_COMMAND)
	{
		char	   *what = rom_jb_get_text(o->command, "do");
		char	   *step = rom_jb_get_text(o->command, "step");

		if (strcmp(what, "complete") == 0)
		{
			Jsonb	   *output = rom_jb_get_json(o->command, "output");

			PG_RETURN_JSONB_P(output ? output : rom_jb_null_document());
		}
		if (strcmp(what, "fail") == 0)
			rom_error_raise(rom_jb_get_json(o->command, "error"));
		if (strcmp(what, "pause") == 0)
		{
			/* resumed: the program begins anew */
			if (!turn->wait.was_paused)
				rom_command_pause(turn, rom_jb_get_json(o->command, "error"));
		}
		else if (strcmp(what, "suspend") == 0)
			(void) rom_command_carry_out(turn, o->command);
		else if (!is_recorded(turn, step))
		{
			MemoryContext cxt = CurrentMemoryContext;

			/*
			 * A failed activity or a timeout is recorded, and the program
			 * finds it in history: here the evaluation just continues. No
			 * subtransaction is needed, since the error is raised right after
			 * the event was found.
			 */
			carry_out(o->command, what, step);
			MemoryContextSwitchTo(cxt);
		}
	}
	call.primitive = &primitive_worker;
	call.step = call.step_base = ROM_OUTSIDE_STEP;
	call.name = "worker";
	call.options = o;
	rom_call_block(turn, &call);
	PG_RETURN_NULL();
}
