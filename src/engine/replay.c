/*-------------------------------------------------------------------------
 *
 * replay.c
 *		What history answers: a turn's events, its calls, and what it waits for.
 *
 * Events are filed by what they are for in replay: the program, which is asked
 * in the order of the calls, and the outcomes of scheduled steps, which come in an
 * order of their own and are found by the step's id.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/hsearch.h"


#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "engine/activity.h"
#include "engine/ahead.h"
#include "engine/replay.h"
#include "engine/saga.h"
#include "engine/schedule.h"
#include "engine/turn.h"


/* Longest activity_id, in bytes. */
#define STEP_MAX		200

typedef struct StepEntry
{
	char		step[STEP_MAX + 64];
	RomEvent   *scheduled;
	RomEvent   *completion;
	int64		order;			/* of the completion */
	bool		again;			/* retry_workflow superseded its outcome: it
								 * is to be scheduled anew */
	int			seen_in;		/* the evaluation in which it raised its error
								 * first, */
	int			seen_at;		/* how many events of the program had been
								 * asked for by then, */
	int			seen_order;		/* and its place among all that did */
} StepEntry;

typedef struct CounterEntry
{
	char		base[STEP_MAX + 64];
	int			n;
} CounterEntry;

/* ---------------------------------------------------------------- memory */

MemoryContext
rom_turn_context(void)
{
	return rom_turn_current->cxt;
}

Jsonb *
rom_turn_copy_jsonb(RomTurn *turn, Jsonb *jb)
{
	Jsonb	   *copy;

	if (jb == NULL)
		return NULL;
	copy = MemoryContextAlloc(turn->cxt, VARSIZE(jb));
	memcpy(copy, jb, VARSIZE(jb));
	return copy;
}

char *
rom_turn_copy_text(RomTurn *turn, const char *s)
{
	return s ? MemoryContextStrdup(turn->cxt, s) : NULL;
}

/* make_table creates a string-keyed hash table. */
static HTAB *
make_table(const char *name, Size entrysize, MemoryContext cxt)
{
	HASHCTL		ctl;

	ctl.keysize = STEP_MAX + 64;
	ctl.entrysize = entrysize;
	ctl.hcxt = cxt;
	return hash_create(name, 32, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* ---------------------------------------------------------------- history */

RomEvent *
rom_turn_event(RomTurn *turn, RomEventType type, const char *step)
{
	RomEvent   *event = MemoryContextAllocZero(turn->cxt, sizeof(RomEvent));

	event->type = type;
	event->step = rom_turn_copy_text(turn, step);
	event->at = rom_now();
	return event;
}

/* is_schedule: an event that announces a step whose outcome comes later, by itself. */
static bool
is_schedule(RomEventType type)
{
	return type == ROM_EVENT_ACTIVITY_SCHEDULED ||
		type == ROM_EVENT_TIMER_SCHEDULED ||
		type == ROM_EVENT_RECEIVE_SCHEDULED ||
		type == ROM_EVENT_CHILD_SCHEDULED;
}

/* is_life_cycle: an event that no call of a handler is answered with. */
static bool
is_life_cycle(RomEvent *event)
{
	switch (event->type)
	{
		case ROM_EVENT_WORKFLOW_COMPLETED:
		case ROM_EVENT_WORKFLOW_FAILED:
		case ROM_EVENT_WORKFLOW_CANCELLED:
		case ROM_EVENT_WORKFLOW_RETRIED:
		case ROM_EVENT_WORKFLOW_RECURRED:
		case ROM_EVENT_WORKFLOW_PAUSED:
		case ROM_EVENT_WORKFLOW_RESUMED:
		case ROM_EVENT_COMPENSATION_EXECUTED:
		case ROM_EVENT_COMPENSATION_FAILED:
			return true;
		default:
			return event->step == NULL;
	}
}

/* is_failed: did a step end with an error that it raises in the handler? */
static bool
is_failed(const RomEvent *event)
{
	return event != NULL &&
		(event->type == ROM_EVENT_ACTIVITY_FAILED ||
		 event->type == ROM_EVENT_CHILD_FAILED ||
		 event->type == ROM_EVENT_CALL_FAILED ||
		 event->type == ROM_EVENT_MESSAGE_TIMEOUT ||
		 event->type == ROM_EVENT_AWAIT_TIMEOUT);
}

/* step_entry finds what is known of a scheduled step, or NULL. */
static StepEntry *
step_entry(RomTurn *turn, const char *step)
{
	if (turn->steps == NULL || strlen(step) >= STEP_MAX + 64)
		return NULL;
	return hash_search(turn->steps, step, HASH_FIND, NULL);
}

void
rom_replay_observe(RomTurn *turn, const char *step)
{
	StepEntry  *entry = step_entry(turn, step);

	if (entry == NULL || entry->seen_in == turn->evaluations || !is_failed(entry->completion))
		return;
	entry->seen_in = turn->evaluations;
	entry->seen_at = turn->cursor;
	entry->seen_order = ++turn->failures_seen;
}

/* A step that raised its error in the handler, and where. */
typedef struct Raised
{
	const char *step;
	int			at;				/* events of the program before it */
	int			order;			/* of scheduled ones; 0: one that stands in
								 * the program */
} Raised;

/*
 * explains: how well does a step's error account for the workflow's? 2: it is the
 * same; 1: it is quoted, as languages do that add to a message that they let pass
 * (PL/Perl, PL/Python), and handlers that raise one of their own.
 */
static int
explains(Jsonb *step_error, Jsonb *error)
{
	char	   *ms = step_error ? rom_error_field(step_error, "message") : NULL;
	char	   *me = rom_error_field(error, "message");

	if (ms == NULL || me == NULL || ms[0] == '\0')
		return 0;
	if (strcmp(ms, me) == 0 && rom_error_sqlstate(step_error) == rom_error_sqlstate(error))
		return 2;
	return strstr(me, ms) != NULL ? 1 : 0;
}

/* is_later: was a raised after b? */
static bool
is_later(const Raised *a, const Raised *b)
{
	/* one in the program at n raises with n + 1 events behind it */
	int			pa = a->order ? a->at : a->at + 1;
	int			pb = b->order ? b->at : b->at + 1;

	return pa != pb ? pa > pb : a->order > b->order;
}

/* as_raised tells whether the event at place i of the program, or its outcome, raised an error in this evaluation; which one. */
static Jsonb *
as_raised(RomTurn *turn, int i, Raised *raised)
{
	RomEvent   *event = turn->program.events[i];
	StepEntry  *entry;

	raised->step = event->step;
	raised->at = i;
	raised->order = 0;
	if (is_failed(event))
		return event->result;
	entry = is_schedule(event->type) ? step_entry(turn, event->step) : NULL;
	if (entry == NULL || entry->seen_in != turn->evaluations)
		return NULL;
	raised->at = entry->seen_at;
	raised->order = entry->seen_order;
	return entry->completion->result;
}

Jsonb *
rom_replay_failure(RomTurn *turn, Jsonb *error)
{
	Raised		best = {0};
	Raised		raised;
	int			fit = 0;
	int			n = Min(turn->cursor, turn->program.count);
	RomJb		jb;

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *cause = as_raised(turn, i, &raised);
		int			this_fit = cause ? explains(cause, error) : 0;

		if (this_fit > fit || (this_fit > 0 && this_fit == fit && is_later(&raised, &best)))
		{
			best = raised;
			fit = this_fit;
		}
	}
	if (fit == 0)
		return NULL;
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "failed_step", best.step);
	rom_jb_int(&jb, "replay", best.at);
	rom_jb_begin_array(&jb, "caught");
	for (int i = 0; i < n; i++)
		if (as_raised(turn, i, &raised) != NULL && raised.order > 0 && is_later(&best, &raised))
			rom_jb_element(&jb, rom_jb_string_document(raised.step));
	rom_jb_end_array(&jb);
	return rom_turn_copy_jsonb(turn, rom_jb_end(&jb));
}

/* is_listed: is step among the strings of an array? */
static bool
is_listed(Jsonb *array, const char *step)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, step);
	v.val.string.len = strlen(step);
	return array != NULL &&
		findJsonbValueFromContainer(&array->root, JB_FARRAY, &v) != NULL;
}

/*
 * supersede takes back the failure that a WorkflowRetried event names. Replay goes as
 * far as the place where the failed step raised its error in the handler: what came after
 * may depend on it, and is run again. Scheduled steps up to there that failed, or had not
 * ended when the workflow did, are scheduled anew; those whose error the handler had caught
 * before keep it.
 */
static void
supersede(RomTurn *turn, RomEvent *failure)
{
	Jsonb	   *caught = NULL;
	bool		by_step = failure != NULL && failure->detail != NULL;

	if (by_step)
	{
		int			end = rom_jb_get_int(failure->detail, "replay", turn->program.count);

		for (int i = end; i < turn->program.count; i++)
			if (is_schedule(turn->program.events[i]->type))
				hash_search(turn->steps, turn->program.events[i]->step, HASH_REMOVE, NULL);
		turn->program.count = Min(end, turn->program.count);
		caught = rom_jb_get_json(failure->detail, "caught");
	}
	for (int i = 0; i < turn->program.count; i++)
	{
		RomEvent   *event = turn->program.events[i];
		StepEntry  *entry = is_schedule(event->type) ? step_entry(turn, event->step) : NULL;

		if (entry == NULL || rom_schedule_kind(event->type)->again == NULL ||
			(entry->completion != NULL &&
			 !(by_step && is_failed(entry->completion) && !is_listed(caught, event->step))))
			continue;
		entry->completion = NULL;
		entry->again = true;
	}
}

void
rom_replay_schedule_again(RomTurn *turn)
{
	MemoryContext old;

	if (turn->steps == NULL)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	for (int i = 0; i < turn->program.count; i++)
	{
		RomEvent   *scheduled = turn->program.events[i];
		StepEntry  *entry = is_schedule(scheduled->type) ? step_entry(turn, scheduled->step) : NULL;
		RomEvent   *event;

		if (entry == NULL || !entry->again)
			continue;
		scheduled = entry->scheduled;
		event = rom_turn_event(turn, scheduled->type, scheduled->step);
		event->name = scheduled->name;
		event->input = scheduled->input;
		event->detail = scheduled->detail;
		rom_schedule_kind(scheduled->type)->again(turn, scheduled, event);
		rom_turn_append(turn, event);
	}
	MemoryContextSwitchTo(old);
}

void
rom_replay_index(RomTurn *turn, RomEvent *event)
{
	StepEntry  *entry;
	bool		found;

	if (event->type == ROM_EVENT_WORKFLOW_FAILED)
		turn->failure = event;
	if (event->type == ROM_EVENT_WORKFLOW_RETRIED)
		supersede(turn, turn->failure);
	if (event->step == NULL || is_life_cycle(event))
		return;
	if (turn->steps != NULL && strlen(event->step) < STEP_MAX + 64)
	{
		entry = hash_search(turn->steps, event->step, HASH_FIND, &found);
		if (found && !is_schedule(event->type))
		{
			if (entry->completion == NULL)
			{
				entry->completion = event;
				entry->order = ++turn->completions;
			}
			return;
		}
	}
	if (is_schedule(event->type))
	{
		if (turn->steps == NULL)
			turn->steps = make_table("romancy steps", sizeof(StepEntry), turn->cxt);
		entry = hash_search(turn->steps, event->step, HASH_ENTER, &found);
		entry->scheduled = event;
		entry->completion = NULL;
		entry->seen_in = 0;
		if (found && entry->again)
		{
			/* the same step, after a retry */
			entry->again = false;
			return;
		}
		entry->again = false;
	}
	rom_event_list_add(&turn->program, event, turn->cxt);
}

void
rom_turn_load(RomTurn *turn, bool claimed)
{
	if (turn->inst->last_seq > 0)
	{
		RomEngine	engine;

		rom_engine_begin(&engine);
		if (turn->inst->status == ROM_STATUS_RECURRED)
			rom_history_load_archived(&turn->inst->id, &turn->history, turn->cxt);
		else
			rom_history_load(&turn->inst->id, claimed && !ROM_STATUS_IS_FINAL(turn->inst->status),
							 &turn->history, turn->cxt);
		rom_engine_end(&engine);
		for (int i = 0; i < turn->history.count; i++)
			rom_replay_index(turn, turn->history.events[i]);
	}
	turn->stored = turn->history.count;
}

void
rom_turn_append(RomTurn *turn, RomEvent *event)
{
	if (event->type == ROM_EVENT_ACTIVITY_COMPLETED && !turn->evaluating &&
		event->step != NULL && rom_turn_scheduled(turn, event->step) != NULL)
		rom_saga_note_scheduled(turn, event);
	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED ||
		(event->type == ROM_EVENT_ACTIVITY_COMPLETED && event->detail != NULL))
		turn->inst->flags |= ROM_HAS_COMPENSATIONS;
	rom_event_list_add(&turn->history, event, turn->cxt);
	rom_replay_index(turn, event);
	turn->changed = true;
}

RomEvent *
rom_turn_completion(RomTurn *turn, const char *step)
{
	StepEntry  *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= STEP_MAX + 64)
		return NULL;
	entry = hash_search(turn->steps, step, HASH_FIND, &found);
	return found ? entry->completion : NULL;
}

RomEvent *
rom_turn_scheduled(RomTurn *turn, const char *step)
{
	StepEntry  *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= STEP_MAX + 64)
		return NULL;
	entry = hash_search(turn->steps, step, HASH_FIND, &found);
	return found ? entry->scheduled : NULL;
}

int64
rom_turn_completion_order(RomTurn *turn, const char *step)
{
	StepEntry  *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= STEP_MAX + 64)
		return 0;
	entry = hash_search(turn->steps, step, HASH_FIND, &found);
	return found && entry->completion ? entry->order : 0;
}

RomEvent *
rom_turn_peek(RomTurn *turn)
{
	if (turn->cursor < turn->program.count)
		return turn->program.events[turn->cursor];
	return NULL;
}

/* ---------------------------------------------------------------- calls */

RomTurn *
rom_turn_require(const char *function)
{
	RomTurn    *turn = rom_turn_current;

	if (rom_activity_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s cannot be called from an activity", function),
				 errhint("Call it in the workflow's handler, which may call several activities.")));
	if (turn == NULL || !turn->evaluating)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.%s can only be called from a running workflow", function),
				 errhint("Call it in a workflow's handler, and start that with romancy.start_workflow().")));
	return turn;
}

bool
rom_turn_in_handler(void)
{
	return rom_turn_current != NULL && rom_turn_current->evaluating &&
		rom_activity_current == NULL;
}

/* check_length raises RM012 for an empty or a too long name or activity_id. */
static void
check_length(const char *what, const char *text)
{
	if (strlen(text) > STEP_MAX || text[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s \"%s\" must have between 1 and %d bytes", what, text, STEP_MAX)));
}

void
rom_turn_check_name(const char *name)
{
	check_length("name", name);
}

/* next_step names the step of a call: the given activity_id, or base:n. */
static char *
next_step(RomTurn *turn, RomCall *call)
{
	bool		found;
	const char *base = call->step ? call->step : call->step_base;

	check_length(call->step ? "activity_id" : "name", base);
	if (call->step != NULL)
	{
		const char *colon = strrchr(call->step, ':');

		if (turn->used == NULL)
			turn->used = make_table("romancy ids", sizeof(CounterEntry), turn->cxt);
		(void) hash_search(turn->used, call->step, HASH_ENTER, &found);
		if (!found && colon != NULL && turn->counters != NULL)
		{
			/* it may collide with an id given by the engine */
			CounterEntry *entry;
			char		key[STEP_MAX + 64];

			strlcpy(key, call->step, Min(sizeof(key), colon - call->step + 1));
			entry = hash_search(turn->counters, key, HASH_FIND, NULL);
			found = entry != NULL && atoi(colon + 1) >= 1 &&
				atoi(colon + 1) <= entry->n;
		}
		if (found)
		{
			char	   *message = psprintf("activity_id \"%s\" is used twice in workflow \"%s\"",
										   call->step, turn->inst->workflow);

			turn->pause_error =
				rom_turn_copy_jsonb(turn,
									rom_error_make(ERRCODE_ROM_REPLAY, message, NULL,
												   "Give each step an activity_id of its own, or none.",
												   NULL));
			rom_turn_unwind(turn);
		}
		return rom_turn_copy_text(turn, call->step);
	}
	else
	{
		CounterEntry *entry;
		char	   *step;

		if (turn->counters == NULL)
			turn->counters = make_table("romancy counters", sizeof(CounterEntry), turn->cxt);
		entry = hash_search(turn->counters, base, HASH_ENTER, &found);
		if (!found)
			entry->n = 0;
		do
		{
			step = psprintf("%s:%d", base, ++entry->n);
		} while (turn->used != NULL && hash_search(turn->used, step, HASH_FIND, NULL));
		return rom_turn_copy_text(turn, step);
	}
}

char *
rom_turn_next_step(RomTurn *turn, RomCall *call)
{
	return next_step(turn, call);
}

void
rom_turn_skip(RomTurn *turn, const char *step_base)
{
	RomCall		call = {0};

	call.step_base = step_base;
	(void) next_step(turn, &call);
}

/* base_length: the length of a step id without its ":n". */
static int
base_length(const char *step)
{
	const char *colon = strrchr(step, ':');

	return colon ? colon - step : (int) strlen(step);
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
	len = base_length(event->step);
	return strlen(name) == len && strncmp(event->step, name, len) == 0;
}

bool
rom_replay_same_jsonb(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return rom_jb_is_null(a) && rom_jb_is_null(b);
	if (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0)
		return true;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

void
rom_replay_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what)
{
	int64		hash = OidIsValid(turn->workflow->handler_oid) ?
		rom_function_body_hash(turn->workflow->handler_oid) : 0;
	bool		changed = turn->inst->body_hash != 0 && hash != turn->inst->body_hash;
	char	   *message = psprintf("replay of workflow \"%s\" does not match its history at position %lld: %s",
								   turn->inst->workflow, (long long) event->seq, what);
	char	   *detail = psprintf("The handler asks for %s; history holds %s \"%s\". The body of %s %s since the instance ran first.",
								  asked, rom_event_name(event->type),
								  event->step ? event->step : "",
								  turn->workflow->handler ? turn->workflow->handler : "the handler",
								  changed ? "has changed" : "has not changed");

	turn->pause_error =
		rom_turn_copy_jsonb(turn,
							rom_error_make(ERRCODE_ROM_REPLAY, message, detail,
										   changed ?
										   "Put the former function back, or guard the change with romancy.patched(); then call romancy.resume_workflow()." :
										   "A handler must ask for the same steps in every replay: use romancy.workflow_now(), workflow_random() and activities for what may change; then call romancy.resume_workflow().",
										   NULL));
}

/* check_replay: does the recorded event answer this call? */
static void
check_replay(RomTurn *turn, RomCall *call, const char *step, RomEvent *event)
{
	const RomPrimitive *primitive = call->primitive;
	const char *name = call->name ? call->name : call->step_base;
	const char *what = NULL;
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
	else if (!primitive->ignore_input &&
			 !rom_replay_same_jsonb(event->input, call->input))
		what = "another input";
	if (what != NULL)
	{
		rom_replay_mismatch(turn, psprintf("%s \"%s\"%s", primitive->name, step,
										   call->step ? psprintf(" (%s)", name) : ""),
							event, what);
		rom_turn_unwind(turn);
	}
}

RomEvent *
rom_replay_new_event(RomTurn *turn, RomCall *call)
{
	RomEvent   *event = rom_turn_event(turn, 0, call->step);
	const char *name = call->name ? call->name : call->step_base;
	int			len = base_length(call->step);

	if (name != NULL && !(strlen(name) == len && strncmp(call->step, name, len) == 0))
		event->name = rom_turn_copy_text(turn, name);
	event->input = rom_turn_copy_jsonb(turn, call->input);
	event->detail = rom_turn_copy_jsonb(turn, call->detail);
	return event;
}

RomEvent *
rom_replay_answered(RomTurn *turn, RomCall *call, RomEvent *event)
{
	rom_turn_append(turn, event);
	if (call->primitive->deferred)
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);
		RomDeferred *d = palloc_object(RomDeferred);

		d->primitive = call->primitive;
		d->event = event;
		turn->pure_events = lappend(turn->pure_events, d);
		MemoryContextSwitchTo(old);
	}
	return event;
}

bool
rom_replay_can_inline(RomTurn *turn, RomCall *call)
{
	const RomPrimitive *primitive = call->primitive;
	int			level = GetCurrentTransactionNestLevel();

	if (!turn->inlined || turn->careful)
		return false;
	/* a step in an exception block of the handler has an xid of its own */
	if (level > turn->eval_nest && turn->subxacts + level - turn->eval_nest > ROM_SUBXACTS_MAX)
		return false;
	if (primitive->inlineable)
		return primitive->inlineable(turn, call);
	return primitive->kind == ROM_PRIMITIVE_EFFECT;
}

void
rom_replay_execute_inline(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomOutcome	outcome;
	int			level = GetCurrentTransactionNestLevel();

	PG_TRY();
	{
		outcome = call->primitive->execute(turn, call, event);
	}
	PG_CATCH();
	{
		/* whether the handler catches it or not: go step by step */
		turn->unwinding = true;
		turn->abandon = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (outcome != ROM_OUTCOME_DONE || event->type == ROM_EVENT_ACTIVITY_FAILED)
	{
		turn->abandon = true;
		rom_turn_unwind(turn);
	}
	turn->inline_steps++;
	if (level > turn->eval_nest)
		turn->subxacts += level - turn->eval_nest;
	CommandCounterIncrement();
}

/* keep_call copies a call to memory that survives the unwind. */
static void
keep_call(RomTurn *turn, RomCall *call)
{
	RomCall    *copy = MemoryContextAlloc(turn->cxt, sizeof(RomCall));

	*copy = *call;
	copy->step_base = rom_turn_copy_text(turn, call->step_base);
	copy->name = rom_turn_copy_text(turn, call->name);
	copy->input = rom_turn_copy_jsonb(turn, call->input);
	copy->detail = rom_turn_copy_jsonb(turn, call->detail);
	turn->call = copy;
}

void
rom_turn_block(RomTurn *turn, RomCall *call)
{
	if (rom_turn_peek(turn) != NULL)
	{
		rom_replay_mismatch(turn, psprintf("%s \"%s\"", call->primitive->name, call->step),
							rom_turn_peek(turn), "another step");
		rom_turn_unwind(turn);
	}
	if (turn->inlined)
		turn->abandon = true;
	call->step = rom_turn_copy_text(turn, call->step);
	keep_call(turn, call);
	rom_turn_unwind(turn);
}

RomEvent *
rom_turn_step(RomCall *call)
{
	RomTurn    *turn = rom_turn_require(call->primitive->name);
	RomEvent   *event;
	Jsonb	   *detail;
	char	   *step;

	if (turn->unwinding)
		rom_turn_unwind(turn);
	if (call->input != NULL && VARSIZE(call->input) > rom_guc_max_payload_size)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("input of \"%s\" has %d bytes, the limit is %d",
						call->name ? call->name : call->step_base,
						(int) VARSIZE(call->input), rom_guc_max_payload_size),
				 errhint("Keep large data in a table and pass a key, or raise romancy.max_payload_size.")));
	step = next_step(turn, call);

	event = rom_turn_peek(turn);
	if (event != NULL)
	{
		check_replay(turn, call, step, event);
		turn->cursor++;
		if (event->type == ROM_EVENT_CALL_FAILED)
			rom_error_raise(event->result);
		return event;
	}

	if (turn->inst->last_seq + turn->history.count - turn->stored >= rom_guc_max_history_events)
	{
		turn->fail_error =
			rom_turn_copy_jsonb(turn,
								rom_error_make(ERRCODE_ROM_LIMIT,
											   psprintf("history of workflow \"%s\" would exceed %d events",
														turn->inst->workflow, rom_guc_max_history_events),
											   NULL,
											   "Let the workflow continue with romancy.recur(), or raise romancy.max_history_events.",
											   NULL));
		rom_turn_unwind(turn);
	}
	call->step = step;
	if (call->primitive->kind == ROM_PRIMITIVE_PURE)
	{
		event = rom_replay_new_event(turn, call);
		detail = event->detail;
		if (call->primitive->execute(turn, call, event) != ROM_OUTCOME_DONE)
			rom_turn_unwind(turn);
		if (turn->inlined)
			rom_ahead_note(turn, call, event, detail);
		turn->cursor++;
		return rom_replay_answered(turn, call, event);
	}
	if (rom_replay_can_inline(turn, call))
	{
		event = rom_replay_new_event(turn, call);
		detail = event->detail;
		rom_replay_execute_inline(turn, call, event);
		rom_ahead_note(turn, call, event, detail);
		turn->cursor++;
		return rom_replay_answered(turn, call, event);
	}
	if (turn->inlined)
		turn->abandon = true;
	keep_call(turn, call);
	rom_turn_unwind(turn);
}

/* ---------------------------------------------------------------- waiting */

RomOutcome
rom_turn_wait(RomTurn *turn, RomCall *call, RomStatus status, const char *kind,
			  TimestampTz until, Jsonb *detail)
{
	RomWait    *wait = MemoryContextAllocZero(turn->cxt, sizeof(RomWait));
	RomWait    *before = rom_turn_waited(turn, call);

	wait->status = status;
	wait->kind = rom_turn_copy_text(turn, kind);
	wait->step = rom_turn_copy_text(turn, call->step);
	wait->name = rom_turn_copy_text(turn, call->name ? call->name : call->step_base);
	wait->since = before ? before->since : rom_now();
	wait->until = until;
	wait->detail = rom_turn_copy_jsonb(turn, detail);
	turn->wait = wait;
	return ROM_OUTCOME_WAIT;
}

RomWait *
rom_turn_waited(RomTurn *turn, RomCall *call)
{
	RomWait    *wait = turn->wait_before;

	if (wait != NULL && wait->step != NULL && strcmp(wait->step, call->step) == 0)
		return wait;
	return NULL;
}

void
rom_turn_wait_over(RomTurn *turn, const char *label)
{
	RomWait    *wait = turn->wait_before;

	if (wait != NULL && wait->step != NULL && strcmp(wait->step, label) == 0)
		turn->wait_over = true;
}

RomInboxItem *
rom_turn_inbox_take(RomTurn *turn, const char *step)
{
	for (int i = 0; i < turn->ninbox; i++)
	{
		RomInboxItem *item = &turn->inbox[i];

		if (!item->taken && item->step != NULL && strcmp(item->step, step) == 0)
		{
			item->taken = true;
			return item;
		}
	}
	return NULL;
}
