/*-------------------------------------------------------------------------
 *
 * context.c
 *		Which turn, instance and activity this backend runs something of.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "memory/slot.h"
#include "turn/context.h"

/* Raises that a handler may swallow before it is torn out of its interpreter. */
#define SWALLOWED_MAX	200

RomTurn    *rom_context_turn = NULL;
RomActivityRun *rom_context_activity = NULL;
sigjmp_buf *rom_context_tear_out = NULL;

/* The instance whose activity this backend runs outside a turn (a procedure, a task). */
static RomRunning running_outside;
static bool is_running_outside = false;

void
rom_context_set(const RomRunning *running)
{
	is_running_outside = running != NULL;
	if (running != NULL)
		running_outside = *running;
}

const RomRunning *
rom_context_find(void)
{
	static RomRunning current;
	RomTurn    *turn = rom_context_turn;

	if (turn != NULL)
	{
		current.id = turn->inst->id;
		current.workflow = turn->inst->workflow;
		current.namespace = turn->inst->namespace;
		return &current;
	}
	return is_running_outside ? &running_outside : NULL;
}

/* running_namespace is the running instance's, or ROM_NAMESPACE_NONE. */
static int32
running_namespace(void)
{
	const RomRunning *running = rom_context_find();

	return running ? running->namespace : ROM_NAMESPACE_NONE;
}

void
rom_context_init(void)
{
	rom_namespace_on_running(running_namespace);
	rom_arg_on_step(rom_context_in_handler);
}

const RomRunning *
rom_context_get(const char *function)
{
	const RomRunning *running = rom_context_find();

	if (running == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s can only be called from a running workflow or activity", function)));
	return running;
}

void
rom_context_step(const pg_uuid_t *instance, const char *workflow, const char *step)
{
	char text[	ROM_SLOT_STEP * 2 + 64];

	rom_slot_step(instance, step);
	if (MyBgworkerEntry == NULL || !pgstat_track_activities)
		return;
	if (step != NULL)
		snprintf(text, sizeof(text), "romancy: workflow \"%.*s\", step \"%.*s\"",
				 ROM_SLOT_STEP, workflow, ROM_SLOT_STEP, step);
	else
		snprintf(text, sizeof(text), "romancy: workflow \"%.*s\"", ROM_SLOT_STEP, workflow);
	pgstat_report_activity(STATE_RUNNING, text);
}

/* tell_context adds the line. */
static void
tell_context(void *arg)
{
	RomUserCode *code = arg;
	char	   *id = rom_uuid_text(code->instance);

	if (code->step != NULL)
		errcontext(ROM_CONTEXT_MARK "\"%s\", instance %s, step \"%s\"", code->workflow, id, code->step);
	else
		errcontext(ROM_CONTEXT_MARK "\"%s\", instance %s", code->workflow, id);
}

void
rom_context_tell_step(RomTurn *turn, const char *step, ErrorData *edata)
{
	char	   *context = rom_error_own_context(edata->context);

	edata->context = psprintf("%s%sstep \"%s\" of workflow \"%s\", instance %s", context ? context : "",
							  context ? "\n" : "", step, turn->inst->workflow, rom_uuid_text(&turn->inst->id));
}

void
rom_context_push(RomUserCode *code, const pg_uuid_t *instance, const char *workflow, const char *step)
{
	code->instance = instance;
	code->workflow = workflow;
	code->step = step;
	code->outer = error_context_stack;
	code->callback.callback = tell_context;
	code->callback.arg = code;
	code->callback.previous = NULL;
	error_context_stack = &code->callback;
}

void
rom_context_pop(RomUserCode *code)
{
	error_context_stack = code->outer;
}

RomTurn *
rom_context_require(const char *function)
{
	RomTurn    *turn = rom_context_turn;

	if (rom_context_activity != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s cannot be called from an activity", function),
				 errhint("Call it in the workflow's handler, which may call several activities.")));
	if (turn == NULL || !turn->eval.active)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s can only be called from a running workflow", function),
				 errhint("Call it in a workflow's handler, and start that with romancy.start_workflow().")));
	return turn;
}

bool
rom_context_in_handler(void)
{
	return rom_context_turn != NULL && rom_context_turn->eval.active &&
		rom_context_activity == NULL;
}

void
rom_context_refuse_handler(const char *function)
{
	if (rom_context_in_handler())
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s cannot be called in a workflow", function),
				 errhint("Call it in an activity.")));
}

void
rom_context_end(RomTurn *turn, RomEvaluation why)
{
	turn->eval.end = Max(turn->eval.end, why);
	turn->eval.unwinding = true;
}

void
rom_context_end_pause(RomTurn *turn, Jsonb *error)
{
	turn->out.pause_error = rom_context_copy_jsonb(turn, error);
	rom_context_end(turn, ROM_EVAL_PAUSE);
}

void
rom_context_end_fail(RomTurn *turn, Jsonb *error)
{
	turn->out.fail_error = rom_context_copy_jsonb(turn, error);
	rom_context_end(turn, ROM_EVAL_FAIL);
}

void
rom_context_unwind(RomTurn *turn)
{
	turn->eval.unwinding = true;
	if (turn->eval.swallowed++ > SWALLOWED_MAX)
	{
		/*
		 * The handler catches this error without end. Go past its exception
		 * handlers, to the evaluation's own; the abort of its subtransaction
		 * cleans up, but the language's interpreter may keep stale state.
		 */
		turn->out.tainted = true;
		rom_context_end_fail(turn,
							 rom_error_make(ERRCODE_ROM_LIMIT,
											"the workflow's handler does not let itself be unwound",
											"It caught the error that ends an evaluation more than 200 times.",
											"Do not catch query_canceled (57014) in a handler.",
											NULL));
		PG_exception_stack = rom_context_tear_out;
		error_context_stack = NULL;
	}
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("romancy unwinds the handler of workflow \"%s\"",
					turn->inst->workflow),
			 errdetail("The handler waits, or its step is carried out outside the evaluation."),
			 errhint("Do not catch query_canceled in a workflow's handler; \"when others\" does not.")));
}

MemoryContext
rom_context_memory(void)
{
	return rom_context_turn->cxt;
}

Jsonb *
rom_context_copy_jsonb(RomTurn *turn, Jsonb *jb)
{
	Jsonb	   *copy;

	if (jb == NULL)
		return NULL;
	copy = MemoryContextAlloc(turn->cxt, VARSIZE(jb));
	memcpy(copy, jb, VARSIZE(jb));
	return copy;
}

char *
rom_context_copy_text(RomTurn *turn, const char *s)
{
	return s ? MemoryContextStrdup(turn->cxt, s) : NULL;
}
