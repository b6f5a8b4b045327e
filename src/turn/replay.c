/*-------------------------------------------------------------------------
 *
 * replay.c
 *		The events of a turn, sorted by their use in replay.
 *
 * There are two kinds: the program, which is read in the order of the calls
 * (call.c), and the outcomes of scheduled steps, which come in any order and
 * are found by the step's id. failure.c knows the events of both kinds that
 * retry_workflow takes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "base/clock.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/event.h"
#include "instances/history.h"
#include "turn/context.h"
#include "turn/kinds.h"
#include "turn/quiet.h"
#include "turn/replay.h"

HTAB *
rom_replay_make_table(const char *name, Size entrysize, MemoryContext cxt)
{
	HASHCTL		ctl;

	ctl.keysize = ROM_STEP_KEY;
	ctl.entrysize = entrysize;
	ctl.hcxt = cxt;
	return hash_create(name, 32, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* ---------------------------------------------------------------- history */

RomEvent *
rom_replay_event(RomTurn *turn, RomEventType type, const char *step)
{
	RomEvent   *event = MemoryContextAllocZero(turn->cxt, sizeof(RomEvent));

	event->type = type;
	event->step = rom_context_copy_text(turn, step);
	event->at = rom_now();
	return event;
}

bool
rom_replay_is_schedule(RomEventType type)
{
	return type == ROM_EVENT_ACTIVITY_SCHEDULED ||
		type == ROM_EVENT_TIMER_SCHEDULED ||
		type == ROM_EVENT_RECEIVE_SCHEDULED ||
		type == ROM_EVENT_CHILD_SCHEDULED;
}

bool
rom_replay_is_life_cycle(const RomEvent *event)
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

RomReplayStep *
rom_replay_step(RomTurn *turn, const char *step)
{
	if (turn->replay.steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	return hash_search(turn->replay.steps, step, HASH_FIND, NULL);
}

bool
rom_replay_is_failed(const RomEvent *event)
{
	return event != NULL &&
		(event->type == ROM_EVENT_ACTIVITY_FAILED ||
		 event->type == ROM_EVENT_CHILD_FAILED ||
		 event->type == ROM_EVENT_CALL_FAILED ||
		 event->type == ROM_EVENT_MESSAGE_TIMEOUT ||
		 event->type == ROM_EVENT_AWAIT_TIMEOUT);
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
		int			end = rom_jb_get_int(failure->detail, "replay", turn->replay.program.count);

		for (int i = end; i < turn->replay.program.count; i++)
			if (rom_replay_is_schedule(turn->replay.program.events[i]->type))
				hash_search(turn->replay.steps, turn->replay.program.events[i]->step, HASH_REMOVE, NULL);
		turn->replay.program.count = Min(end, turn->replay.program.count);
		caught = rom_jb_get_json(failure->detail, "caught");
	}
	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];
		RomReplayStep *entry = rom_replay_is_schedule(event->type) ? rom_replay_step(turn, event->step) : NULL;

		if (entry == NULL || rom_kinds_find(event->type)->again == NULL ||
			(entry->completion != NULL &&
			 !(by_step && rom_replay_is_failed(entry->completion) && !is_listed(caught, event->step))))
			continue;
		entry->completion = NULL;
		entry->again = true;
	}
}

void
rom_replay_index(RomTurn *turn, RomEvent *event)
{
	RomReplayStep *entry;
	bool		found;

	if (event->type == ROM_EVENT_WORKFLOW_FAILED)
		turn->replay.failure = event;
	if (event->type == ROM_EVENT_WORKFLOW_RETRIED)
		supersede(turn, turn->replay.failure);
	if (event->step == NULL || rom_replay_is_life_cycle(event))
		return;
	if (turn->replay.steps != NULL && strlen(event->step) < ROM_STEP_KEY)
	{
		entry = hash_search(turn->replay.steps, event->step, HASH_FIND, &found);
		if (found && !rom_replay_is_schedule(event->type))
		{
			if (entry->completion == NULL)
			{
				entry->completion = event;
				entry->order = ++turn->replay.completions;
			}
			return;
		}
	}
	if (rom_replay_is_schedule(event->type))
	{
		if (turn->replay.steps == NULL)
			turn->replay.steps = rom_replay_make_table("romancy steps", sizeof(RomReplayStep), turn->cxt);
		entry = hash_search(turn->replay.steps, event->step, HASH_ENTER, &found);
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
	rom_event_list_add(&turn->replay.program, event, turn->cxt);
}

void
rom_replay_load(RomTurn *turn, bool claimed)
{
	if (turn->inst->last_seq > 0)
	{
		RomEngine	engine;

		rom_engine_begin(&engine);
		if (turn->inst->status == ROM_STATUS_RECURRED)
			rom_history_load_archived(&turn->inst->id, &turn->replay.history, turn->cxt);
		else
			rom_history_load(&turn->inst->id, claimed && !ROM_STATUS_IS_FINAL(turn->inst->status),
							 &turn->replay.history, turn->cxt);
		rom_engine_end(&engine);
		for (int i = 0; i < turn->replay.history.count; i++)
			rom_replay_index(turn, turn->replay.history.events[i]);
	}
	turn->replay.stored = turn->replay.history.count;
	rom_quiet_load(turn);
}

void
rom_replay_append(RomTurn *turn, RomEvent *event)
{
	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED ||
		(event->type == ROM_EVENT_ACTIVITY_COMPLETED && event->detail != NULL))
		turn->inst->flags |= ROM_HAS_COMPENSATIONS;
	rom_event_list_add(&turn->replay.history, event, turn->cxt);
	rom_replay_index(turn, event);
	turn->out.changed = true;
}

RomEvent *
rom_replay_completion(RomTurn *turn, const char *step)
{
	RomReplayStep *entry;
	bool		found;

	if (turn->replay.steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	entry = hash_search(turn->replay.steps, step, HASH_FIND, &found);
	return found ? entry->completion : NULL;
}

RomEvent *
rom_replay_scheduled(RomTurn *turn, const char *step)
{
	RomReplayStep *entry;
	bool		found;

	if (turn->replay.steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	entry = hash_search(turn->replay.steps, step, HASH_FIND, &found);
	return found ? entry->scheduled : NULL;
}

int64
rom_replay_completion_order(RomTurn *turn, const char *step)
{
	RomReplayStep *entry;
	bool		found;

	if (turn->replay.steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return 0;
	entry = hash_search(turn->replay.steps, step, HASH_FIND, &found);
	return found && entry->completion ? entry->order : 0;
}

RomEvent *
rom_replay_peek(RomTurn *turn)
{
	if (turn->replay.cursor < turn->replay.program.count)
		return turn->replay.program.events[turn->replay.cursor];
	return NULL;
}

RomInboxItem *
rom_replay_take(RomTurn *turn, const char *step)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		RomInboxItem *item = &turn->wait.inbox[i];

		if (!item->taken && item->step != NULL && strcmp(item->step, step) == 0)
		{
			item->taken = true;
			return item;
		}
	}
	return NULL;
}
