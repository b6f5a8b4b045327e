/*-------------------------------------------------------------------------
 *
 * turn.c
 *		A turn of one instance: load, apply what arrived, evaluate, carry out,
 *		save.
 *
 * The handler is an ordinary function that is run from the top in every
 * evaluation; rom_turn_step() answers each of its calls from history. A call
 * that history does not answer is carried out
 *
 * - inside the evaluation (the inline path), when the turn is expected to run
 *   through without waiting: the evaluation's subtransaction is then kept; or
 * - after unwinding the evaluation with an error and rolling its
 *   subtransaction back (step by step); then the handler is run from the top
 *   again.
 *
 * The unwind is SQLSTATE 57014, which PL/pgSQL's "when others" lets through,
 * but other languages catch everything. So turn->unwinding decides, not the
 * SQLSTATE: while it is up every call raises again, and whatever the handler
 * returns or raises is dropped.
 *
 * In the inline path a rollback under the evaluation (an exception block of
 * the handler) takes back what steps in it did, while their events would stay.
 * on_subxact() sees that and abandons the evaluation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/fanin.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/slot.h"
#include "base/spi.h"
#include "base/waiter.h"
#include "base/wake.h"
#include "engine/activity.h"
#include "engine/limit.h"
#include "engine/recur.h"
#include "engine/saga.h"
#include "engine/schedule.h"
#include "engine/turn.h"

/* Raises that a handler may swallow before it is torn out of its interpreter. */
#define SWALLOWED_MAX	200

/* Subtransactions with an xid in one transaction: more than 64 would overflow the proc array's cache. */
#define SUBXACTS_MAX	28

/* A turn that works step by step yields after this many milliseconds. */
#define TURN_BUDGET_MS	200

/* Longest activity_id, in bytes. */
#define STEP_MAX		200

typedef struct StepEntry
{
	char		step[STEP_MAX + 64];
	RomEvent   *scheduled;
	RomEvent   *completion;
	int64		order;			/* of the completion */
	bool		again;			/* retry_workflow superseded its failure: it is to be scheduled anew */
} StepEntry;

typedef struct CounterEntry
{
	char		base[STEP_MAX + 64];
	int			n;
} CounterEntry;

/* Does a version's turn that begins after so many steps run through without waiting? */
typedef struct HintKey
{
	int32		def_id;
	int32		steps;
} HintKey;

typedef struct HintEntry
{
	HintKey		key;
	bool		waits;
	int			uses;
} HintEntry;

RomTurn    *rom_turn_current = NULL;

static HTAB *hints = NULL;
static sigjmp_buf *tear_out = NULL;

/* steps carried out before each nest level's subtransaction began, for on_subxact() */
#define NEST_MAX 64
static int	steps_at_start[NEST_MAX];

static struct
{
	int32		flags;
	RomEndHook	hook;
}			end_hooks[16];
static int	n_end_hooks = 0;

void
rom_turn_on_end(int32 flags, RomEndHook hook)
{
	if (n_end_hooks == lengthof(end_hooks))
		elog(ERROR, "too many end hooks");
	end_hooks[n_end_hooks].flags = flags;
	end_hooks[n_end_hooks++].hook = hook;
}

static struct
{
	int32		flags;
	RomMoveHook hook;
}			move_hooks[16];
static int	n_move_hooks = 0;

void
rom_turn_on_move(int32 flags, RomMoveHook hook)
{
	if (n_move_hooks == lengthof(move_hooks))
		elog(ERROR, "too many move hooks");
	move_hooks[n_move_hooks].flags = flags;
	move_hooks[n_move_hooks++].hook = hook;
}

void
rom_turn_move(RomTurn *turn, const pg_uuid_t *successor)
{
	for (int i = 0; i < n_move_hooks; i++)
		if (move_hooks[i].flags == 0 || (move_hooks[i].flags & turn->inst->flags))
			move_hooks[i].hook(turn, successor);
}

/* on_subxact notices that a part of an inline evaluation that ran steps is rolled back. */
static void
on_subxact(SubXactEvent event, SubTransactionId mySubid,
		   SubTransactionId parentSubid, void *arg)
{
	RomTurn    *turn = rom_turn_current;
	int			level;

	if (turn == NULL || !turn->evaluating || !turn->inlined)
		return;
	level = GetCurrentTransactionNestLevel();
	if (level <= turn->eval_nest)
		return;
	if (event == SUBXACT_EVENT_START_SUB)
	{
		if (level < NEST_MAX)
			steps_at_start[level] = turn->inline_steps;
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		if (level >= NEST_MAX || turn->inline_steps > steps_at_start[level])
		{
			turn->unwinding = true;
			turn->abandon = true;
		}
	}
}

/* ---------------------------------------------------------------- identity */

void
rom_identity_enter(RomIdentity *saved, Oid owner, const char *path,
				   bool read_only)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	saved->read_only = XactReadOnly;
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
	if (path && strcmp(path, namespace_search_path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	XactReadOnly = read_only;
}

void
rom_identity_leave(RomIdentity *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
	XactReadOnly = saved->read_only;
}

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

RomTurn *
rom_turn_create(RomInstance *inst, Oid owner, MemoryContext cxt)
{
	static bool registered = false;
	MemoryContext turn_cxt = AllocSetContextCreate(cxt, "romancy turn",
												   ALLOCSET_DEFAULT_SIZES);
	RomTurn    *turn = MemoryContextAllocZero(turn_cxt, sizeof(RomTurn));

	if (!registered)
	{
		RegisterSubXactCallback(on_subxact, NULL);
		registered = true;
	}
	turn->cxt = turn_cxt;
	turn->inst = inst;
	turn->owner = owner;
	turn->status = inst->status;
	turn->wake_at = inst->wake_at;
	return turn;
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

/* same_error: did the workflow fail with just this step's error? */
static bool
same_error(Jsonb *a, Jsonb *b)
{
	char	   *ma = rom_error_field(a, "message");
	char	   *mb = rom_error_field(b, "message");

	return ma && mb && strcmp(ma, mb) == 0 &&
		rom_error_sqlstate(a) == rom_error_sqlstate(b);
}

/* is_failure: did a step end with the error that ended the workflow? */
static bool
is_failure(RomEvent *event, RomEvent *failure)
{
	return event != NULL &&
		(event->type == ROM_EVENT_ACTIVITY_FAILED ||
		 event->type == ROM_EVENT_CHILD_FAILED) &&
		(failure == NULL || same_error(event->result, failure->result));
}

/* step_entry finds what is known of a scheduled step, or NULL. */
static StepEntry *
step_entry(RomTurn *turn, const char *step)
{
	if (turn->steps == NULL || strlen(step) >= STEP_MAX + 64)
		return NULL;
	return hash_search(turn->steps, step, HASH_FIND, NULL);
}

/*
 * supersede takes the failure back that a WorkflowRetried event names: replay
 * goes as far as the failed step whose error ended the workflow, and what came
 * after is run again. A scheduled step is scheduled anew, and nothing else is
 * taken back: what ran beside it does not depend on it.
 */
static void
supersede(RomTurn *turn, RomEvent *failure)
{
	StepEntry  *latest = NULL;

	for (int i = turn->program.count - 1; i >= 0; i--)
	{
		RomEvent   *event = turn->program.events[i];
		StepEntry  *entry = is_schedule(event->type) ? step_entry(turn, event->step) : NULL;
		const RomScheduleKind *kind = entry ? rom_schedule_kind(event->type) : NULL;

		if (is_failure(event, failure) ||
			(entry && is_failure(entry->completion, failure) && (kind == NULL || kind->again == NULL)))
		{
			if (latest != NULL && latest->completion->seq > event->seq)
				break;
			turn->program.count = i;
			return;
		}
		if (entry && is_failure(entry->completion, failure) &&
			(latest == NULL || latest->completion->seq < entry->completion->seq))
			latest = entry;
	}
	if (latest != NULL)
	{
		latest->completion = NULL;
		latest->again = true;
	}
}

/* schedule_again makes the work of scheduled steps anew whose failure was superseded. */
static void
schedule_again(RomTurn *turn)
{
	HASH_SEQ_STATUS scan;
	StepEntry  *entry;
	List	   *todo = NIL;
	ListCell   *lc;
	MemoryContext old;

	if (turn->steps == NULL)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	hash_seq_init(&scan, turn->steps);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->again)
			todo = lappend(todo, entry->scheduled);
	foreach(lc, todo)
	{
		RomEvent   *scheduled = lfirst(lc);
		RomEvent   *event = rom_turn_event(turn, scheduled->type, scheduled->step);

		event->name = scheduled->name;
		event->input = scheduled->input;
		event->detail = scheduled->detail;
		rom_schedule_kind(scheduled->type)->again(turn, event);
		rom_turn_append(turn, event);
	}
	MemoryContextSwitchTo(old);
}

/* index_event files an event under what it is for in replay. */
static void
index_event(RomTurn *turn, RomEvent *event)
{
	StepEntry  *entry;
	bool		found;

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
rom_turn_load(RomTurn *turn)
{
	if (turn->inst->last_seq > 0)
	{
		RomEngine	engine;
		RomEvent   *failure = NULL;

		rom_engine_begin(&engine);
		if (turn->inst->status == ROM_STATUS_RECURRED)
			rom_history_load_archived(&turn->inst->id, &turn->history, turn->cxt);
		else
			rom_history_load(&turn->inst->id, &turn->history, turn->cxt);
		rom_engine_end(&engine);
		for (int i = 0; i < turn->history.count; i++)
		{
			RomEvent   *event = turn->history.events[i];

			if (event->type == ROM_EVENT_WORKFLOW_FAILED)
				failure = event;
			if (event->type == ROM_EVENT_WORKFLOW_RETRIED)
				supersede(turn, failure);
			else
				index_event(turn, event);
		}
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
	index_event(turn, event);
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

void
rom_turn_unwind(RomTurn *turn)
{
	turn->unwinding = true;
	if (turn->swallowed++ > SWALLOWED_MAX)
	{
		/*
		 * The handler catches this error without end. Go past its exception
		 * handlers, to the evaluation's own; the abort of its subtransaction
		 * cleans up, but the language's interpreter may keep stale state.
		 */
		turn->tainted = true;
		turn->fail_error = rom_error_make(ERRCODE_ROM_LIMIT,
										  "the workflow's handler does not let itself be unwound",
										  "It caught the error that ends an evaluation more than 200 times.",
										  "Do not catch query_canceled (57014) in a handler.",
										  NULL);
		turn->fail_error = rom_turn_copy_jsonb(turn, turn->fail_error);
		PG_exception_stack = tear_out;
		error_context_stack = NULL;
	}
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("romancy unwinds the handler of workflow \"%s\"",
					turn->inst->workflow),
			 errdetail("The handler waits, or its step is carried out outside the evaluation."),
			 errhint("Do not catch query_canceled in a workflow's handler; \"when others\" does not.")));
}

/* next_step names the step of a call: the given activity_id, or base:n. */
static char *
next_step(RomTurn *turn, RomCall *call)
{
	bool		found;
	const char *base = call->step ? call->step : call->step_base;

	if (strlen(base) > STEP_MAX || base[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s \"%s\" must have between 1 and %d bytes",
						call->step ? "activity_id" : "name", base, STEP_MAX)));
	if (call->step != NULL)
	{
		CounterEntry *entry;
		const char *colon = strrchr(call->step, ':');

		if (turn->used == NULL)
			turn->used = make_table("romancy ids", sizeof(CounterEntry), turn->cxt);
		entry = hash_search(turn->used, call->step, HASH_ENTER, &found);
		if (!found && colon != NULL && turn->counters != NULL)
		{
			/* it may collide with an id given by the engine */
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

/* same_jsonb compares two documents, either of which may be NULL (as JSON null). */
static bool
same_jsonb(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return rom_jb_is_null(a) && rom_jb_is_null(b);
	if (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0)
		return true;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

/* note_mismatch has the instance paused with RM003: replay asks for something else than what history holds. */
static void
note_mismatch(RomTurn *turn, const char *asked, RomEvent *event, const char *what)
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
	else if (!primitive->ignore_input && call->input != NULL &&
			 !same_jsonb(event->input, call->input))
		what = "another input";
	if (what != NULL)
	{
		note_mismatch(turn, psprintf("%s \"%s\"%s", primitive->name, step,
									 call->step ? psprintf(" (%s)", name) : ""),
					  event, what);
		rom_turn_unwind(turn);
	}
}

/* new_event prepares the event of a call that history does not answer. */
static RomEvent *
new_event(RomTurn *turn, RomCall *call)
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

/* answered appends a carried out call's event, and steps over it. */
static RomEvent *
answered(RomTurn *turn, RomCall *call, RomEvent *event)
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

/* can_inline: may this call be carried out inside the evaluation? */
static bool
can_inline(RomTurn *turn, RomCall *call)
{
	const RomPrimitive *primitive = call->primitive;
	int			level = GetCurrentTransactionNestLevel();

	if (!turn->inlined || turn->careful)
		return false;
	/* a step in an exception block of the handler has an xid of its own */
	if (level > turn->eval_nest && turn->subxacts + level - turn->eval_nest > SUBXACTS_MAX)
		return false;
	if (primitive->inlineable)
		return primitive->inlineable(turn, call);
	return primitive->kind == ROM_PRIMITIVE_EFFECT;
}

/* execute_inline carries a call out inside the evaluation; any failure abandons the evaluation. */
static RomEvent *
execute_inline(RomTurn *turn, RomCall *call)
{
	RomEvent   *event = new_event(turn, call);
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
	return event;
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

char *
rom_turn_next_step(RomTurn *turn, RomCall *call)
{
	return next_step(turn, call);
}

void
rom_turn_block(RomTurn *turn, RomCall *call)
{
	if (rom_turn_peek(turn) != NULL)
	{
		note_mismatch(turn, psprintf("%s \"%s\"", call->primitive->name, call->step),
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
		event = new_event(turn, call);
		if (call->primitive->execute(turn, call, event) != ROM_OUTCOME_DONE)
			rom_turn_unwind(turn);
		turn->cursor++;
		return answered(turn, call, event);
	}
	if (can_inline(turn, call))
	{
		event = execute_inline(turn, call);
		turn->cursor++;
		return answered(turn, call, event);
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

/* ---------------------------------------------------------------- evaluation */

typedef enum EvalResult
{
	EVAL_RETURNED,
	EVAL_ERROR,
	EVAL_CALL,					/* turn->call is to be carried out */
	EVAL_ABANDONED,				/* inline: go step by step */
	EVAL_PAUSE,					/* turn->pause_error */
	EVAL_FAIL,					/* turn->fail_error */
	EVAL_AGAIN					/* interrupted from outside: roll back */
} EvalResult;

/* wall turns an instant of the engine's clock into one of the wall clock. */
static TimestampTz
wall(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		return at;
	return GetCurrentTimestamp() + (at - rom_now());
}

/* call_handler calls the workflow's function with the instance's input and copies the result. */
static Jsonb *
call_handler(RomTurn *turn, FmgrInfo *flinfo)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;
	Jsonb	   *copy;

	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(turn->inst->input);
	fcinfo->args[0].isnull = turn->inst->input == NULL;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		copy = rom_jb_null_document();
	else
		copy = DatumGetJsonbP(result);
	return rom_turn_copy_jsonb(turn, copy);
}

/* judge decides what an evaluation that ended (returned, or raised edata) means. */
static EvalResult
judge(RomTurn *turn, ErrorData *edata)
{
	if (rom_slot_cancelled())
	{
		turn->cancelled = true;
		return EVAL_AGAIN;
	}
	switch (rom_limit_fired())
	{
		case ROM_LIMIT_NONE:
			break;
		case ROM_LIMIT_BATCH:
			return EVAL_AGAIN;
		case ROM_LIMIT_ACTIVITY:
			/* in an inlined activity: it fails by itself, step by step */
			return EVAL_ABANDONED;
		case ROM_LIMIT_EXECUTION:
		case ROM_LIMIT_EVALUATION:
			if (rom_limit_fired_count() > 15)
				turn->tainted = true;
			if (rom_limit_fired() == ROM_LIMIT_EXECUTION)
				turn->fail_error = rom_error_make(ERRCODE_ROM_TIMEOUT,
												  psprintf("workflow \"%s\" exceeded its execution_timeout",
														   turn->inst->workflow),
												  NULL, NULL, NULL);
			else
				turn->fail_error = rom_error_make(ERRCODE_ROM_LIMIT,
												  psprintf("handler of workflow \"%s\" ran %d ms without reaching a step",
														   turn->inst->workflow, rom_guc_evaluation_timeout),
												  NULL,
												  "Move long work into an activity, or raise romancy.evaluation_timeout.",
												  NULL);
			return EVAL_FAIL;
	}
	if (turn->pause_error)
		return EVAL_PAUSE;
	if (turn->abandon)
		return EVAL_ABANDONED;
	if (turn->fail_error)
		return EVAL_FAIL;
	if (turn->call)
		return EVAL_CALL;
	if (edata)
		return EVAL_ERROR;
	return EVAL_RETURNED;
}

/*
 * evaluate runs the handler from the top, in a subtransaction: kept when
 * inlined and nothing went wrong, rolled back otherwise. *output and *edata
 * live in turn->cxt.
 */
static EvalResult
evaluate(RomTurn *turn, FmgrInfo *flinfo, bool inlined, Jsonb **output,
		 ErrorData **edata)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomTurn    *outer = rom_turn_current;
	sigjmp_buf *outer_tear_out = tear_out;
	volatile EvalResult result = EVAL_ERROR;
	RomIdentity identity;
	RomLimit	limits[2];
	RomLimit	before;
	bool		outer_override = rom_spi_override_read_only;
	int			history_count = turn->history.count;
	int			program_count = turn->program.count;
	int			nattempts = turn->nattempts;

	turn->cursor = 0;
	turn->counters = NULL;
	turn->used = NULL;
	turn->call = NULL;
	turn->wait = NULL;
	turn->unwinding = false;
	turn->abandon = false;
	turn->swallowed = 0;
	turn->inline_steps = 0;
	turn->inlined = inlined;
	turn->evaluations++;
	*output = NULL;
	*edata = NULL;

	limits[0].kind = rom_guc_evaluation_timeout > 0 ?
		ROM_LIMIT_EVALUATION : ROM_LIMIT_NONE;
	limits[0].at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   rom_guc_evaluation_timeout);
	limits[1].kind = ROM_LIMIT_EXECUTION;
	limits[1].at = wall(turn->inst->deadline);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	turn->eval_nest = GetCurrentTransactionNestLevel();
	rom_turn_current = turn;
	rom_spi_override_read_only = true;
	turn->evaluating = true;
	before = rom_limit_arm(limits, 2);

	PG_TRY();
	{
		Jsonb	   *value;

		tear_out = PG_exception_stack;
		rom_limit_tear_out = PG_exception_stack;
		rom_identity_enter(&identity, turn->owner, turn->workflow->search_path, true);
		PushActiveSnapshot(GetTransactionSnapshot());
		value = call_handler(turn, flinfo);
		turn->evaluating = false;
		result = judge(turn, NULL);
		if (result == EVAL_RETURNED)
		{
			*output = value;
			if (turn->cursor < turn->program.count)
			{
				/* it ended before what history holds */
				note_mismatch(turn, "its end", rom_turn_peek(turn), "another step");
				result = EVAL_PAUSE;
			}
		}
		PopActiveSnapshot();
		rom_identity_leave(&identity);
		if (inlined && result == EVAL_RETURNED)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *copy;

		HOLD_INTERRUPTS();
		turn->evaluating = false;
		MemoryContextSwitchTo(turn->cxt);
		copy = CopyErrorData();
		FlushErrorState();
		result = judge(turn, copy);
		*edata = copy;
		/* torn out, the handler's own subtransactions are still there */
		while (GetCurrentTransactionNestLevel() >= turn->eval_nest)
			RollbackAndReleaseCurrentSubTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	tear_out = outer_tear_out;
	rom_limit_tear_out = outer_tear_out;
	rom_limit_reset();
	rom_limit_restore(before);
	rom_turn_current = outer;
	rom_spi_override_read_only = outer_override;

	if (turn->pause_error)
		turn->pause_error = rom_turn_copy_jsonb(turn, turn->pause_error);
	if (turn->fail_error)
		turn->fail_error = rom_turn_copy_jsonb(turn, turn->fail_error);

	/* what an inline evaluation recorded went with its subtransaction */
	if (inlined && result != EVAL_RETURNED)
	{
		turn->history.count = history_count;
		turn->program.count = program_count;
		turn->nattempts = nattempts;
		turn->pure_events = NIL;
		if (turn->steps != NULL)
		{
			/* scheduled by it as well: file anew */
			turn->steps = NULL;
			turn->program.count = 0;
			for (int i = 0; i < turn->history.count; i++)
				if (turn->history.events[i]->type != ROM_EVENT_WORKFLOW_RETRIED)
					index_event(turn, turn->history.events[i]);
				else
					supersede(turn, NULL);
		}
	}
	return result;
}

/* ---------------------------------------------------------------- hints */

/* hint_entry finds (or makes) what is known of turns of this version that begin after so many steps. */
static HintEntry *
hint_entry(RomTurn *turn, bool *found)
{
	HintKey		key;

	if (hints == NULL || hash_get_num_entries(hints) > 10000)
	{
		HASHCTL		ctl;

		if (hints)
			hash_destroy(hints);
		ctl.keysize = sizeof(HintKey);
		ctl.entrysize = sizeof(HintEntry);
		ctl.hcxt = TopMemoryContext;
		hints = hash_create("romancy inline hints", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	key.def_id = turn->inst->def_id;
	key.steps = turn->stored;
	return hash_search(hints, &key, HASH_ENTER, found);
}

/* expect_through: is this turn expected to run to the handler's end without waiting? */
static bool
expect_through(RomTurn *turn)
{
	HintEntry  *hint;
	bool		found;

	if (turn->careful || turn->injected != NULL)
		return false;
	if (rom_guc_turn_mode == ROM_TURN_MODE_STEP)
		return false;
	if (rom_guc_turn_mode == ROM_TURN_MODE_INLINE)
		return true;
	if (turn->wait_before != NULL && turn->wait_before->status == ROM_STATUS_WAITING_ACTIVITY)
		return false;			/* a retry: its attempts are counted step by step */
	hint = hint_entry(turn, &found);
	if (!found)
	{
		hint->waits = false;
		hint->uses = 0;
	}
	/* look again now and then: code changes */
	if (hint->waits && ++hint->uses >= 1000)
	{
		hint->uses = 0;
		return true;
	}
	return !hint->waits;
}

/* note_through remembers how an inline evaluation of this version went. */
static void
note_through(RomTurn *turn, bool waits)
{
	bool		found;
	HintEntry  *hint = hint_entry(turn, &found);

	if (!found)
		hint->uses = 0;
	hint->waits = waits;
}

/* ---------------------------------------------------------------- verdicts */

static void
verdict_waiting(RomTurn *turn, RomStatus status, TimestampTz wake_at)
{
	turn->status = status;
	turn->wake_at = Min(wake_at, turn->inst->deadline);
	turn->changed = true;
}

static void
verdict_completed(RomTurn *turn, Jsonb *output)
{
	RomEvent   *event = rom_turn_event(turn, ROM_EVENT_WORKFLOW_COMPLETED, NULL);

	/* a canvas gathers the results of any number of tasks */
	if (VARSIZE(output) > rom_guc_max_payload_size &&
		!(turn->inst->flags & ROM_IS_CANVAS))
	{
		turn->fail_error =
			rom_turn_copy_jsonb(turn,
								rom_error_make(ERRCODE_ROM_LIMIT,
											   psprintf("output of workflow \"%s\" has %d bytes, the limit is %d",
														turn->inst->workflow, (int) VARSIZE(output),
														rom_guc_max_payload_size),
											   NULL,
											   "Keep large data in a table and return a key, or raise romancy.max_payload_size.",
											   NULL));
		return;
	}
	event->result = output;
	rom_turn_append(turn, event);
	turn->output = output;
	turn->status = ROM_STATUS_COMPLETED;
	turn->wait = NULL;
}

/* finish ends the instance as failed or cancelled. */
static void
finish(RomTurn *turn, RomStatus status, Jsonb *error)
{
	RomEvent   *event = rom_turn_event(turn, status == ROM_STATUS_CANCELLED ?
									   ROM_EVENT_WORKFLOW_CANCELLED :
									   ROM_EVENT_WORKFLOW_FAILED, NULL);

	event->result = error;
	rom_turn_append(turn, event);
	turn->error = error;
	turn->status = status;
	turn->wait = NULL;
	turn->saga = NULL;
}

/* verdict_failed ends the instance as failed, or first runs its compensations. */
static void
verdict_failed(RomTurn *turn, Jsonb *error)
{
	if (!rom_saga_begin(turn, ROM_STATUS_FAILED, error))
		finish(turn, ROM_STATUS_FAILED, error);
}

/* verdict_paused stops the instance until an operator has mended what error says. */
static void
verdict_paused(RomTurn *turn, Jsonb *error)
{
	if (error != NULL)
	{
		RomEvent   *event = rom_turn_event(turn, ROM_EVENT_WORKFLOW_PAUSED, NULL);

		/* nothing of what this evaluation asked for is kept */
		event->result = error;
		rom_turn_append(turn, event);
	}
	if (turn->inst->status != ROM_STATUS_PAUSED)
		turn->inst->resume_status = turn->inst->status;
	turn->error = error;
	turn->status = ROM_STATUS_PAUSED;
	turn->wake_at = DT_NOEND;
	turn->wait = turn->wait_before;
	turn->changed = true;
}

void
rom_turn_pause(RomTurn *turn, Jsonb *error)
{
	verdict_paused(turn, rom_turn_copy_jsonb(turn, error));
}

/* cancel_error is the error of a cancelled instance as api.md describes it. */
static Jsonb *
cancel_error(RomTurn *turn, RomInboxItem *item)
{
	char	   *reason = rom_jb_get_text(item->detail, "reason");
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", "RM008");
	rom_jb_text(&jb, "message", reason ? reason : "cancelled");
	rom_jb_text(&jb, "cancelled_by", rom_jb_get_text(item->detail, "by"));
	rom_jb_time(&jb, "cancelled_at", item->created_at);
	rom_jb_text(&jb, "previous_status", rom_status_name(turn->inst->status));
	return rom_turn_copy_jsonb(turn, rom_jb_end(&jb));
}

/*
 * verdict_cancelled ends the instance as cancelled: a terminate at once, a cancel
 * when its compensations have run. A cancel of one that compensates because it was
 * cancelled changes nothing.
 */
static void
verdict_cancelled(RomTurn *turn, RomInboxItem *item)
{
	Jsonb	   *error;

	if (item->kind == ROM_INBOX_CANCEL && turn->saga != NULL &&
		turn->saga->status == ROM_STATUS_CANCELLED)
		error = turn->saga->error;
	else
		error = cancel_error(turn, item);
	if (turn->saga != NULL && turn->saga->status == ROM_STATUS_FAILED)
	{
		/* what it was compensating for */
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		error = rom_jb_with(error, "cause", turn->saga->error);
		MemoryContextSwitchTo(old);
	}
	if (item->kind == ROM_INBOX_TERMINATE ||
		!rom_saga_begin(turn, ROM_STATUS_CANCELLED, error))
		finish(turn, ROM_STATUS_CANCELLED, error);
}

/* saga_error is the error of an instance whose compensations have run: it names those that failed for good. */
static Jsonb *
saga_error(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	Jsonb	  **failures = palloc(sizeof(Jsonb *) * Max(turn->history.count, 1));
	int			n = 0;
	Jsonb	   *error = turn->saga->error;

	for (int i = 0; i < turn->history.count; i++)
	{
		RomEvent   *event = turn->history.events[i];
		RomJb		jb;

		if (event->type != ROM_EVENT_COMPENSATION_FAILED)
			continue;
		rom_jb_begin(&jb);
		rom_jb_text(&jb, "activity_id", event->step);
		rom_jb_text(&jb, "compensation", event->name);
		rom_jb_text(&jb, "sqlstate", rom_jb_get_text(event->result, "sqlstate"));
		rom_jb_text(&jb, "message", rom_jb_get_text(event->result, "message"));
		failures[n++] = rom_jb_end(&jb);
	}
	if (n > 0)
		error = rom_jb_with(error, "compensation_failures", rom_jb_array(failures, n));
	MemoryContextSwitchTo(old);
	return error;
}

/* ---------------------------------------------------------------- the turn */

/*
 * apply_inbox applies requests in the order they arrived. True when the turn
 * is decided by them and the handler need not be evaluated.
 */
static bool
apply_inbox(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	RomInboxItem *cancel = NULL;
	bool		paused = inst->status == ROM_STATUS_PAUSED;
	bool		was_paused = paused;
	bool		steered = false;

	if (turn->saga != NULL)
		inst->deadline = DT_NOEND;
	for (int i = 0; i < turn->ninbox; i++)
	{
		RomInboxItem *item = &turn->inbox[i];

		switch (item->kind)
		{
			case ROM_INBOX_CANCEL:
			case ROM_INBOX_TERMINATE:
				if (cancel == NULL || item->kind == ROM_INBOX_TERMINATE)
					cancel = item;
				item->taken = true;
				break;
			case ROM_INBOX_PAUSE:
				paused = steered = item->taken = true;
				break;
			case ROM_INBOX_RESUME:
				paused = false;
				steered = item->taken = true;
				break;
			default:
				break;
		}
	}
	if (cancel != NULL)
	{
		/* what has ended by now is to be undone as well */
		rom_schedule_absorb(turn);
		verdict_cancelled(turn, cancel);
		return true;
	}
	if (turn->saga != NULL && inst->status == ROM_STATUS_COMPENSATING)
		paused = was_paused;	/* a pause that came too late */
	if (steered && paused != was_paused)
	{
		if (paused)
		{
			RomEvent   *event = rom_turn_event(turn, ROM_EVENT_WORKFLOW_PAUSED, NULL);

			rom_turn_append(turn, event);
			verdict_paused(turn, NULL);
		}
		else
		{
			/* what was waited for is established again by the evaluation */
			rom_turn_append(turn, rom_turn_event(turn, ROM_EVENT_WORKFLOW_RESUMED, NULL));
			inst->status = inst->resume_status;
			turn->status = inst->status;
			inst->crashes = 0;
		}
	}
	if (paused)
		return true;
	if (inst->deadline <= rom_now())
	{
		rom_schedule_absorb(turn);
		verdict_failed(turn,
					   rom_turn_copy_jsonb(turn,
										   rom_error_make(ERRCODE_ROM_TIMEOUT,
														  psprintf("workflow \"%s\" exceeded its execution_timeout",
																   inst->workflow),
														  NULL, NULL, NULL)));
		return true;
	}
	return false;
}

/* find_handler resolves the function to run; a missing one, or a lost right, pauses the instance. */
static FmgrInfo *
find_handler(RomTurn *turn)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	FmgrInfo   *volatile flinfo = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		turn->workflow = rom_workflow_by_id(turn->inst->def_id);
		flinfo = rom_workflow_handler(turn->workflow, turn->owner);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(turn->cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			turn->cancelled = true;
		else
			verdict_paused(turn, rom_error_to_jsonb(edata));
		flinfo = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return flinfo;
}

/* operator_has_to_mend: errors of carrying a call out that pause the instance. */
static bool
operator_has_to_mend(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_ROM_UNDEFINED || sqlerrcode == ERRCODE_ROM_REPLAY;
}

/*
 * carry_out executes the call that the handler was unwound for, in a
 * subtransaction. An error becomes an event (CallFailed) that the handler gets
 * raised, now and on replay; one that an operator has to mend pauses. (Errors
 * of an activity's own code are caught by its primitive.)
 */
static RomOutcome
carry_out(RomTurn *turn, RomCall *call)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomEvent   *event = new_event(turn, call);
	volatile RomOutcome outcome = ROM_OUTCOME_DONE;

	if (call->primitive->own_subxact)
	{
		MemoryContextSwitchTo(turn->cxt);
		outcome = call->primitive->execute(turn, call, event);
		MemoryContextSwitchTo(old);
		goto done;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(turn->cxt);
	PG_TRY();
	{
		outcome = call->primitive->execute(turn, call, event);
		MemoryContextSwitchTo(turn->cxt);
		if (TransactionIdIsValid(GetCurrentTransactionIdIfAny()))
			turn->subxacts++;
		if (outcome == ROM_OUTCOME_SOLO || turn->pause_error || turn->cancelled)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(turn->cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(turn->cxt);
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			turn->cancelled = true;
		else if (operator_has_to_mend(edata->sqlerrcode))
			turn->pause_error = rom_error_to_jsonb(edata);
		else
		{
			event->type = ROM_EVENT_CALL_FAILED;
			event->result = rom_error_to_jsonb(edata);
		}
		outcome = ROM_OUTCOME_DONE;
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);

done:
	if (outcome == ROM_OUTCOME_DONE && !turn->pause_error && !turn->cancelled)
	{
		answered(turn, call, event);
		if (turn->wait_before && turn->wait_before->step &&
			strcmp(turn->wait_before->step, call->step) == 0)
			turn->wait_before = NULL;
	}
	return outcome;
}

/* find_version reads the version that the instance runs, for its search_path: its handler may be missing. */
static void
find_version(RomTurn *turn)
{
	if (turn->workflow == NULL)
		turn->workflow = rom_workflow_by_id(turn->inst->def_id);
}

/* close_work asks children and tasks of an instance that begins to compensate to end; once. */
static void
close_work(RomTurn *turn)
{
	RomEngine	engine;

	if (turn->saga->closed)
		return;
	turn->saga->closed = true;
	rom_engine_begin(&engine);
	for (int i = 0; i < n_end_hooks; i++)
		if (end_hooks[i].flags & turn->inst->flags & (ROM_HAS_CHILDREN | ROM_HAS_TASKS))
			end_hooks[i].hook(turn, turn->status);
	rom_engine_end(&engine);
}

/*
 * compensate runs the compensations that are registered, last in first out,
 * until one has to wait, the budget is spent, or the instance ends.
 */
static RomTurnEnd
compensate(RomTurn *turn)
{
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz until;

	find_version(turn);
	close_work(turn);
	if (rom_saga_settle(turn, &until))
	{
		turn->wait = NULL;
		verdict_waiting(turn, ROM_STATUS_COMPENSATING, until);
		turn->error = turn->saga->error;
		return ROM_TURN_SAVE;
	}
	for (;;)
	{
		RomSagaStep step;

		CHECK_FOR_INTERRUPTS();
		step = rom_saga_step(turn);
		if (turn->cancelled || rom_slot_cancelled() || step == ROM_SAGA_SOLO)
			return ROM_TURN_AGAIN;
		if (turn->pause_error)
		{
			verdict_paused(turn, turn->pause_error);
			return ROM_TURN_SAVE;
		}
		if (step == ROM_SAGA_NONE)
		{
			finish(turn, turn->saga->status, saga_error(turn));
			return ROM_TURN_SAVE;
		}
		if (step == ROM_SAGA_WAIT)
		{
			verdict_waiting(turn, ROM_STATUS_COMPENSATING, turn->wait->until);
			turn->error = turn->saga->error;
			return ROM_TURN_SAVE;
		}
		if (turn->commit_now || turn->subxacts >= SUBXACTS_MAX ||
			(!turn->in_block &&
			 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TURN_BUDGET_MS)))
		{
			turn->wait = NULL;
			verdict_waiting(turn, ROM_STATUS_COMPENSATING, rom_now());
			turn->error = turn->saga->error;
			return ROM_TURN_SAVE;
		}
	}
}

/*
 * ended is what follows a verdict that ends the instance. What is to be
 * compensated waits for the next turn, so that others see the status while it runs.
 */
static RomTurnEnd
ended(RomTurn *turn)
{
	if (turn->saga == NULL || (turn->saga->begun && rom_saga_pending(turn)))
		return ROM_TURN_SAVE;
	return compensate(turn);
}

/* still_waits: was it woken for nothing, so that there is nothing to save? */
static bool
still_waits(RomTurn *turn)
{
	RomWait    *before = turn->wait_before;
	RomWait    *wait = turn->wait;

	for (int i = 0; i < turn->ninbox; i++)
		if (turn->inbox[i].taken)
			return false;
	return before != NULL && !turn->changed && turn->procedure == NULL &&
		turn->inst->status == wait->status &&
		strcmp(before->kind, wait->kind) == 0 &&
		strcmp(before->step, wait->step) == 0 && before->until == wait->until &&
		(before->detail == NULL) == (wait->detail == NULL) &&
		(wait->detail == NULL ||
		 compareJsonbContainers(&before->detail->root, &wait->detail->root) == 0) &&
		turn->inst->wake_at == Min(wait->until, turn->inst->deadline);
}

/* by_steps evaluates and carries out in turn until the handler waits or ends, or the budget is spent. */
static RomTurnEnd
by_steps(RomTurn *turn, FmgrInfo *flinfo)
{
	TimestampTz start = GetCurrentTimestamp();

	if (turn->saga != NULL)
		return ended(turn);
	for (;;)
	{
		Jsonb	   *output;
		ErrorData  *edata;
		EvalResult	result;
		RomOutcome	outcome;

		CHECK_FOR_INTERRUPTS();
		result = evaluate(turn, flinfo, false, &output, &edata);
		switch (result)
		{
			case EVAL_RETURNED:
				verdict_completed(turn, output);
				if (turn->fail_error == NULL)
					return ROM_TURN_SAVE;
				verdict_failed(turn, turn->fail_error);
				return ended(turn);
			case EVAL_ERROR:
				verdict_failed(turn, rom_turn_copy_jsonb(turn, rom_error_to_jsonb(edata)));
				return ended(turn);
			case EVAL_FAIL:
				verdict_failed(turn, turn->fail_error);
				return ended(turn);
			case EVAL_PAUSE:
				verdict_paused(turn, turn->pause_error);
				return ROM_TURN_SAVE;
			case EVAL_ABANDONED:
			case EVAL_AGAIN:
				return ROM_TURN_AGAIN;
			case EVAL_CALL:
				break;
		}

		outcome = carry_out(turn, turn->call);
		if (turn->cancelled || rom_slot_cancelled())
			return ROM_TURN_AGAIN;
		if (turn->pause_error)
		{
			verdict_paused(turn, turn->pause_error);
			return ROM_TURN_SAVE;
		}
		if (outcome == ROM_OUTCOME_SOLO)
			return ROM_TURN_AGAIN;
		if (outcome == ROM_OUTCOME_END)
			return ROM_TURN_SAVE;
		if (outcome == ROM_OUTCOME_LOOK)
			continue;
		if (outcome == ROM_OUTCOME_WAIT)
		{
			if (still_waits(turn))
				return ROM_TURN_NOTHING;
			verdict_waiting(turn, turn->wait->status, turn->wait->until);
			return ROM_TURN_SAVE;
		}
		if (turn->fail_error)
		{
			verdict_failed(turn, turn->fail_error);
			return ended(turn);
		}
		if (turn->commit_now || turn->subxacts >= SUBXACTS_MAX ||
			(!turn->in_block &&
			 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TURN_BUDGET_MS)))
		{
			turn->wait = NULL;
			verdict_waiting(turn, ROM_STATUS_RUNNING, rom_now());
			return ROM_TURN_SAVE;
		}
	}
}

/* step_by_step is by_steps() in a subtransaction of its own where others share the transaction. */
static RomTurnEnd
step_by_step(RomTurn *turn, FmgrInfo *flinfo, bool wrap)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile RomTurnEnd end = ROM_TURN_AGAIN;

	/* also alone: what ran in a turn that is to begin again must not be committed without its history */
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		end = by_steps(turn, flinfo);
		if (end == ROM_TURN_AGAIN)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* run again alone, where the error is dealt with */
		if (!wrap)
			PG_RE_THROW();
		MemoryContextSwitchTo(old);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		end = ROM_TURN_AGAIN;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return end;
}

RomTurnEnd
rom_turn_run(RomTurn *turn, bool wrap)
{
	RomInstance *inst = turn->inst;
	FmgrInfo   *flinfo;

	if (ROM_STATUS_IS_FINAL(inst->status))
	{
		/* only its inbox is emptied */
		if (inst->status == ROM_STATUS_RECURRED)
			rom_recur_forward(turn);
		return ROM_TURN_SAVE;
	}
	if (apply_inbox(turn) && turn->status != ROM_STATUS_COMPENSATING)
		return ROM_TURN_SAVE;
	if (turn->saga != NULL)
	{
		rom_schedule_absorb(turn);
		for (int i = 0; i < turn->ninbox; i++)
			if (turn->inbox[i].kind == ROM_INBOX_SIGNAL || turn->inbox[i].kind == ROM_INBOX_CHILD)
				turn->inbox[i].taken = true;	/* nobody waits for them any more */
		return step_by_step(turn, NULL, wrap);
	}
	flinfo = find_handler(turn);
	if (turn->cancelled)
		return ROM_TURN_AGAIN;
	if (flinfo == NULL)
		return ROM_TURN_SAVE;
	if (inst->body_hash == 0)
		inst->body_hash = turn->workflow->body_hash;

	schedule_again(turn);
	rom_schedule_absorb(turn);

	if (expect_through(turn))
	{
		Jsonb	   *output;
		ErrorData  *edata;
		EvalResult	result = evaluate(turn, flinfo, true, &output, &edata);

		switch (result)
		{
			case EVAL_RETURNED:
				note_through(turn, false);
				verdict_completed(turn, output);
				if (turn->fail_error)
					verdict_failed(turn, turn->fail_error);
				return ROM_TURN_SAVE;
			case EVAL_PAUSE:
				verdict_paused(turn, turn->pause_error);
				return ROM_TURN_SAVE;
			case EVAL_AGAIN:
				return ROM_TURN_AGAIN;
			case EVAL_ABANDONED:
			case EVAL_CALL:
				note_through(turn, true);
				break;
			case EVAL_FAIL:
				if (turn->inline_steps == 0)
				{
					/* nothing went with the evaluation that has to be done again */
					verdict_failed(turn, turn->fail_error);
					return ended(turn);
				}
				break;
			case EVAL_ERROR:
				/* the error is the handler's own, but what ran inline is gone: do it again */
				break;
		}
		turn->fail_error = NULL;
	}
	return step_by_step(turn, flinfo, wrap);
}

/* ---------------------------------------------------------------- saving */

/* wait_to_jsonb is the stored form of a wait; view romancy.waiting reads it. */
static Jsonb *
wait_to_jsonb(RomWait *wait, RomSaga *saga)
{
	static RomWait none = {.status = ROM_STATUS_COMPENSATING, .kind = "compensate", .until = DT_NOEND};
	RomJb		jb;

	if (wait == NULL)
	{
		wait = &none;
		none.since = rom_now();
	}
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "kind", wait->kind);
	rom_jb_text(&jb, "step", wait->step);
	rom_jb_text(&jb, "name", wait->name);
	rom_jb_text(&jb, "status", rom_status_name(wait->status));
	rom_jb_time(&jb, "since", wait->since);
	rom_jb_time(&jb, "until", wait->until);
	rom_jb_json(&jb, "detail", wait->detail);
	if (saga != NULL)
		rom_jb_json(&jb, "saga", rom_saga_to_jsonb(saga));
	return rom_jb_end(&jb);
}

RomWait *
rom_wait_from_jsonb(Jsonb *json)
{
	RomWait    *wait = palloc0_object(RomWait);
	char	   *status = rom_jb_get_text(json, "status");

	wait->kind = rom_jb_get_text(json, "kind");
	wait->step = rom_jb_get_text(json, "step");
	wait->name = rom_jb_get_text(json, "name");
	wait->status = status ? rom_status_from_name(status) : ROM_STATUS_RUNNING;
	wait->since = rom_jb_get_time(json, "since");
	wait->until = rom_jb_get_time(json, "until");
	wait->detail = rom_jb_get_json(json, "detail");
	return wait;
}

/* save_row updates the instance's row with the verdict. */
static void
save_row(RomTurn *turn, int64 last_seq, TimestampTz now)
{
	static RomStatement update = {
		"UPDATE romancy.t_instance SET status = $2, wake_at = $3, wait = $4, output = $5,"
		" error = $6, started_at = $7, updated_at = $8, finished_at = $9, body_hash = $10,"
		" last_seq = $11, flags = $12, labels = $13, progress = $14, resume_status = $15,"
		" crashes = $16 WHERE instance_id = $1",
		16, {UUIDOID, InvalidOid, TIMESTAMPTZOID, JSONBOID, JSONBOID, JSONBOID,
			TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT4OID,
		JSONBOID, JSONBOID, InvalidOid, INT2OID}
	};
	RomInstance *inst = turn->inst;
	Oid			status_type = rom_type_oid("t_status");
	bool		final = ROM_STATUS_IS_FINAL(turn->status);
	Jsonb	   *wait = !final && (turn->wait || turn->saga) ?
		wait_to_jsonb(turn->wait, turn->saga) : NULL;
	Jsonb	   *labels = turn->labels ? turn->labels : inst->labels;
	Datum		values[16];
	bool		nulls[16] = {0};

	if (update.argtypes[1] != status_type)
	{
		update.argtypes[1] = update.argtypes[14] = status_type;
		if (update.plan)
			SPI_freeplan(update.plan);
		update.plan = NULL;
	}
	if (inst->started_at == 0)
		inst->started_at = now;
	values[0] = UUIDPGetDatum(&inst->id);
	values[1] = rom_status_datum(turn->status);
	values[2] = TimestampTzGetDatum(turn->wake_at);
	nulls[2] = final;
	values[3] = PointerGetDatum(wait);
	nulls[3] = wait == NULL;
	values[4] = PointerGetDatum(turn->output);
	nulls[4] = turn->output == NULL;
	values[5] = PointerGetDatum(turn->error);
	nulls[5] = turn->error == NULL;
	values[6] = TimestampTzGetDatum(inst->started_at);
	values[7] = TimestampTzGetDatum(now);
	values[8] = TimestampTzGetDatum(now);
	nulls[8] = !final;
	values[9] = Int64GetDatum(inst->body_hash);
	nulls[9] = inst->body_hash == 0;
	values[10] = Int64GetDatum(last_seq);
	values[11] = Int32GetDatum(inst->flags);
	values[12] = PointerGetDatum(labels);
	nulls[12] = labels == NULL;
	values[13] = PointerGetDatum(inst->progress);
	nulls[13] = inst->progress == NULL;
	values[14] = rom_status_datum(inst->resume_status);
	nulls[14] = turn->status != ROM_STATUS_PAUSED;
	values[15] = Int16GetDatum(inst->crashes);
	rom_execute(&update, values, nulls, 0);
}

/* delete_inbox takes the rows away that this turn has seen and used. */
static void
delete_inbox(RomTurn *turn)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_inbox WHERE instance_id = $1 AND id = $2",
		2, {UUIDOID, INT8OID}
	};
	bool		final = ROM_STATUS_IS_FINAL(turn->status);

	for (int i = 0; i < turn->ninbox; i++)
	{
		Datum		values[2];

		if (!turn->inbox[i].taken && !final)
			continue;
		values[0] = UUIDPGetDatum(&turn->inst->id);
		values[1] = Int64GetDatum(turn->inbox[i].id);
		rom_execute(&remove, values, NULL, 0);
	}
}

void
rom_turn_save(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	TimestampTz now = rom_now();
	int64		last_seq = inst->last_seq;
	bool		was_final = ROM_STATUS_IS_FINAL(inst->status) && !turn->changed;
	RomEngine	engine;
	ListCell   *lc;

	rom_engine_begin(&engine);
	foreach(lc, turn->pure_events)
	{
		RomDeferred *d = lfirst(lc);

		d->primitive->deferred(turn, d->event);
	}
	if (turn->ninbox > 0)
		delete_inbox(turn);
	if (turn->status != ROM_STATUS_PAUSED)
		inst->crashes = 0;
	if (!was_final)
	{
		bool		final = ROM_STATUS_IS_FINAL(turn->status);

		if (turn->history.count > turn->stored)
			last_seq = rom_history_append(&inst->id, &turn->history,
										  turn->stored, last_seq);
		if (turn->status == ROM_STATUS_RECURRED)
			rom_recur_save(turn);
		if (final)
			for (int i = 0; i < n_end_hooks; i++)
				if (end_hooks[i].flags == 0 || (end_hooks[i].flags & inst->flags))
					end_hooks[i].hook(turn, turn->status);
		save_row(turn, last_seq, now);
		if (turn->fan_in > 1 && turn->wait != NULL && !final)
			rom_fanin_set(&inst->id, turn->fan_in);
		if (final)
			rom_wake_key(rom_waiter_key('i', &inst->id, sizeof(pg_uuid_t)));
		else if (turn->wake_at <= now)
			rom_wake_ready(&inst->id, turn->owner, inst->priority);
		else if (!TIMESTAMP_NOT_FINITE(turn->wake_at))
			rom_wake_at(&inst->id, turn->owner, inst->priority, turn->wake_at);
	}
	rom_engine_end(&engine);
}
