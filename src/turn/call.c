/*-------------------------------------------------------------------------
 *
 * call.c
 *		A call of a running handler: its step's id, its answer from history, or how it
 *		is executed and waits.
 *
 * The n-th call with the same name has the id name:n, unless the handler gives
 * one. The next event of the program has to be the answer to the same call; if
 * it answers another call, the instance is paused. A call that history does not
 * answer is executed inside the evaluation if possible; else the call is kept
 * in memory that survives the unwind, and turn.c carries it out after that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "defs/handler.h"
#include "instances/event.h"
#include "turn/ahead.h"
#include "turn/call.h"
#include "turn/carry.h"
#include "turn/context.h"
#include "turn/guc.h"
#include "turn/quiet.h"
#include "turn/replay.h"

/* Bytes of an input that a message shows. */
#define SHOWN_INPUT 1000

typedef struct CounterEntry
{
	char		base[ROM_STEP_KEY];
	int			n;
} CounterEntry;

/* check_length raises RM012 for an empty or a too long name or activity_id, and for a name that only the engine may use. */
static void
check_length(const char *what, const char *text)
{
	if (strlen(text) > ROM_STEP_MAX || text[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s \"%s\" must have between 1 and %d bytes", what, text, ROM_STEP_MAX)));
	if (text[0] == ROM_STEP_ENGINE)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s \"%s\" must not begin with \"%c\"", what, text, ROM_STEP_ENGINE),
				 errdetail("Ids that begin so are given by romancy itself.")));
}

void
rom_call_check_name(const char *name)
{
	check_length("name", name);
}

/* numbered is base:n. */
static char *
numbered(const char *base, int n)
{
	int			len = strlen(base);
	char	   *step = palloc(len + 13);

	memcpy(step, base, len + 1);
	step[len] = ':';
	pg_ltoa(n, step + len + 1);
	return step;
}

/* next_step names the step of a call: the given activity_id, or base:n. */
static char *
next_step(RomTurn *turn, RomCall *call)
{
	bool		found;
	const char *base;

	/*
	 * the calls that stand for a program's commands (outside/command.c) bring
	 * their id
	 */
	if (turn->eval.given_step != NULL)
	{
		call->step = turn->eval.given_step;
		turn->eval.given_step = NULL;
	}
	base = call->step ? call->step : call->step_base;

	check_length(call->step ? "activity_id" : "name", base);
	if (call->step != NULL)
	{
		const char *colon = strrchr(call->step, ':');

		if (turn->eval.used == NULL)
			turn->eval.used = rom_replay_make_table("romancy ids", sizeof(CounterEntry), turn->cxt);
		(void) hash_search(turn->eval.used, call->step, HASH_ENTER, &found);
		if (!found && colon != NULL && turn->eval.counters != NULL)
		{
			/* it may collide with an id given by the engine */
			CounterEntry *entry;
			char		key[ROM_STEP_KEY];

			strlcpy(key, call->step, Min(sizeof(key), colon - call->step + 1));
			entry = hash_search(turn->eval.counters, key, HASH_FIND, NULL);
			found = entry != NULL && atoi(colon + 1) >= 1 &&
				atoi(colon + 1) <= entry->n;
		}
		if (found)
		{
			char	   *message = psprintf("activity_id \"%s\" is used twice in workflow \"%s\"",
										   call->step, turn->inst->workflow);

			rom_context_end_pause(turn,
								  rom_error_make(ERRCODE_ROM_REPLAY, message, NULL,
												 "Give each step an activity_id of its own, or none.",
												 NULL));
			rom_context_unwind(turn);
		}
		return rom_context_copy_text(turn, call->step);
	}
	else
	{
		CounterEntry *entry;
		char	   *step;

		if (turn->eval.counters == NULL)
			turn->eval.counters = rom_replay_make_table("romancy counters", sizeof(CounterEntry), turn->cxt);
		entry = hash_search(turn->eval.counters, base, HASH_ENTER, &found);
		if (!found)
			entry->n = 0;
		do
		{
			step = numbered(base, ++entry->n);
		} while (turn->eval.used != NULL && hash_search(turn->eval.used, step, HASH_FIND, NULL));
		return rom_context_copy_text(turn, step);
	}
}

char *
rom_call_next_step(RomTurn *turn, RomCall *call)
{
	return next_step(turn, call);
}

void
rom_call_pause(RomTurn *turn, const char *step_base, char *activity_id)
{
	RomCall		call = {.step_base = step_base,.step = activity_id};
	ErrorData  *edata;

	if (geterrcode() == ERRCODE_QUERY_CANCELED)
		PG_RE_THROW();
	MemoryContextSwitchTo(turn->cxt);
	edata = rom_error_take();

	/*
	 * the evaluation is rolled back, so what the error left behind goes with
	 * it
	 */
	rom_context_tell_step(turn, next_step(turn, &call), edata);
	rom_context_end_pause(turn, rom_error_to_jsonb(edata));
	rom_context_unwind(turn);
}

void
rom_call_skip(RomTurn *turn, const char *step_base)
{
	RomCall		call = {0};

	call.step_base = step_base;
	(void) next_step(turn, &call);
}

/* name_matches: was the event recorded for this name? An event keeps its name only where its step id does not tell it. */
static bool
name_matches(RomEvent *event, const char *name)
{
	int			len;

	if (name == NULL)
		return true;
	if (event->name != NULL)
		return strcmp(event->name, name) == 0;
	len = rom_carry_base_length(event->step);
	return strlen(name) == len && strncmp(event->step, name, len) == 0;
}

void
rom_call_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what, const char *held)
{
	int64		hash = OidIsValid(turn->workflow->handler_oid) ?
		rom_handler_body_hash(turn->workflow->handler_oid) : 0;
	bool		changed = turn->inst->body_hash != 0 && hash != turn->inst->body_hash;
	char	   *message = psprintf("replay of workflow \"%s\" does not match its history at position %lld: %s",
								   turn->inst->workflow, (long long) event->seq, what);
	char	   *detail = psprintf("The handler asks for %s; history holds %s \"%s\"%s. The body of %s %s since the instance ran first.",
								  asked, rom_event_name(event->type),
								  event->step ? event->step : "", held,
								  turn->workflow->handler ? turn->workflow->handler : "the handler",
								  changed ? "has changed" : "has not changed");

	turn->out.differs_at = event->seq;
	turn->out.asked = rom_context_copy_text(turn, asked);
	turn->out.recorded = rom_context_copy_text(turn, psprintf("%s \"%s\"%s", rom_event_name(event->type),
															  event->step ? event->step : "", held));
	rom_context_end_pause(turn,
						  rom_error_make(ERRCODE_ROM_REPLAY, message, detail,
										 changed ?
										 "Put the former function back, or guard the change with romancy.patched(); then call romancy.resume_workflow()." :
										 "A handler must ask for the same steps in every replay: use romancy.workflow_now(), workflow_random() and activities for what may change; then call romancy.resume_workflow().",
										 NULL));
}

/* shown_input writes an input behind the step that it is of, its first 1,000 bytes. */
static char *
shown_input(Jsonb *input)
{
	char	   *text = input == NULL ? "null" : JsonbToCString(NULL, &input->root, VARSIZE(input));
	int			len = strlen(text);
	int			cut = len > SHOWN_INPUT ? pg_mbcliplen(text, len, SHOWN_INPUT) : len;

	return psprintf(" with input %.*s%s", cut, text, cut < len ? "..." : "");
}

/* check_replay: does the recorded event answer this call? */
static void
check_replay(RomTurn *turn, RomCall *call, const char *step, RomEvent *event)
{
	const RomPrimitive *primitive = call->primitive;
	const char *name = call->name ? call->name : call->step_base;
	const char *what = NULL;
	bool		other_input = false;
	bool		kind = false;

	for (int i = 0; primitive->events[i] != 0; i++)
		kind |= primitive->events[i] == event->type;
	if (event->type == ROM_EVENT_CALL_FAILED)
		kind = true;
	if (!kind)
		what = "another kind of step";
	else if (event->step == NULL || strcmp(event->step, step) != 0)
		what = "another step";
	else if (!name_matches(event, name))
		what = "another name";
	else if (!primitive->ignore_input && !rom_carry_left_out(event) &&
			 !rom_carry_same_jsonb(event->input, call->input))
	{
		what = "another input";
		other_input = true;
	}
	if (what != NULL)
	{
		rom_call_mismatch(turn, psprintf("%s \"%s\"%s%s", primitive->name, step,
										 call->step ? psprintf(" (%s)", name) : "",
										 other_input ? shown_input(call->input) : ""),
						  event, what, other_input ? shown_input(event->input) : "");
		rom_context_unwind(turn);
	}
}

/* keep_call copies a call to memory that survives the unwind: it ends the evaluation. */
static void
keep_call(RomTurn *turn, RomCall *call)
{
	RomCall    *copy = MemoryContextAlloc(turn->cxt, sizeof(RomCall));

	*copy = *call;
	copy->step_base = rom_context_copy_text(turn, call->step_base);
	copy->name = rom_context_copy_text(turn, call->name);
	copy->input = rom_context_copy_jsonb(turn, call->input);
	copy->detail = rom_context_copy_jsonb(turn, call->detail);
	turn->eval.call = copy;
	rom_context_end(turn, turn->eval.inlined ? ROM_EVAL_ABANDONED : ROM_EVAL_CALL);
}

void
rom_call_block(RomTurn *turn, RomCall *call)
{
	if (rom_replay_peek(turn) != NULL)
	{
		rom_call_mismatch(turn, psprintf("%s \"%s\"", call->primitive->name, call->step),
						  rom_replay_peek(turn), "another step", "");
		rom_context_unwind(turn);
	}
	call->step = rom_context_copy_text(turn, call->step);
	keep_call(turn, call);
	rom_context_unwind(turn);
}

RomEvent *
rom_call_step(RomCall *call)
{
	RomTurn    *turn = rom_context_require(call->primitive->name);
	RomEvent   *event;
	Jsonb	   *detail;
	char	   *step;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	step = next_step(turn, call);

	event = rom_replay_peek(turn);
	if (event != NULL)
	{
		check_replay(turn, call, step, event);
		turn->replay.cursor++;
		rom_quiet_move(turn);
		if (event->type == ROM_EVENT_CALL_FAILED)
			rom_error_raise(event->result);
		return event;
	}

	call->step = step;
	if (turn->how.checks)
	{
		rom_context_end(turn, ROM_EVAL_CALL);
		rom_context_unwind(turn);
	}
	/* a limit that is lowered while the step waits is not for it */
	if (turn->inst->last_seq + turn->replay.history.count - turn->replay.stored >= rom_guc_max_history_events &&
		rom_call_waited(turn, call) == NULL)
	{
		rom_context_end_fail(turn,
							 rom_error_make(ERRCODE_ROM_LIMIT,
											psprintf("history of workflow \"%s\" would exceed %d events",
													 turn->inst->workflow, rom_guc_max_history_events),
											NULL,
											"Let the workflow continue with romancy.recur(), or raise romancy.max_history_events.",
											NULL));
		rom_context_unwind(turn);
	}
	if (call->input != NULL && VARSIZE(call->input) > rom_guc_max_payload_size &&
		rom_call_waited(turn, call) == NULL)
	{
		/*
		 * an error that history has to hold: the limit may be another one in
		 * the next replay
		 */
		call->too_large = true;
		keep_call(turn, call);
		rom_context_unwind(turn);
	}
	if (call->primitive->kind == ROM_PRIMITIVE_PURE)
	{
		event = rom_carry_new_event(turn, call);
		detail = event->detail;
		if (call->primitive->execute(turn, call, event) != ROM_OUTCOME_DONE)
			rom_context_unwind(turn);
		if (turn->eval.inlined)
			rom_ahead_note(turn, call, event, detail);
		turn->replay.cursor++;
		rom_quiet_move(turn);
		return rom_carry_answered(turn, call, event);
	}
	if (rom_carry_can_inline(turn, call))
	{
		event = rom_carry_new_event(turn, call);
		detail = event->detail;
		rom_carry_inline(turn, call, event);
		rom_ahead_note(turn, call, event, detail);
		turn->replay.cursor++;
		rom_quiet_move(turn);
		return rom_carry_answered(turn, call, event);
	}
	keep_call(turn, call);
	rom_context_unwind(turn);
}

/* ---------------------------------------------------------------- waiting */

RomOutcome
rom_call_wait(RomTurn *turn, RomCall *call, RomStatus status, const char *kind,
			  TimestampTz until, Jsonb *detail)
{
	RomWait    *wait = MemoryContextAllocZero(turn->cxt, sizeof(RomWait));
	RomWait    *before = rom_call_waited(turn, call);

	wait->status = status;
	wait->kind = rom_context_copy_text(turn, kind);
	wait->step = rom_context_copy_text(turn, call->step);
	wait->name = rom_context_copy_text(turn, call->name ? call->name : call->step_base);
	wait->await = call->primitive->awaits;
	wait->undoes = rom_context_copy_text(turn, call->undoes);
	wait->since = before ? before->since : rom_now();
	wait->until = until;
	wait->detail = rom_context_copy_jsonb(turn, detail);
	turn->wait.now = wait;
	return ROM_OUTCOME_WAIT;
}

RomWait *
rom_call_waited(RomTurn *turn, RomCall *call)
{
	RomWait    *wait = turn->wait.before;

	if (wait != NULL && wait->step != NULL && strcmp(wait->step, call->step) == 0 &&
		wait->await == call->primitive->awaits)
		return wait;
	return NULL;
}

void
rom_call_wait_over(RomTurn *turn, const char *label)
{
	RomWait    *wait = turn->wait.before;

	if (wait != NULL && wait->await && strcmp(wait->step, label) == 0)
	{
		turn->wait.over = true;
		rom_quiet_past_await(turn);
	}
}
