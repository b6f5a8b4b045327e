/*-------------------------------------------------------------------------
 *
 * replay.c
 *		What history answers: a turn's events, sorted by what they are for in replay.
 *
 * Events are filed by what they are for: the program, which is asked in the order
 * of the calls (call.c), and the outcomes of scheduled steps, which come in an
 * order of their own and are found by the step's id. What retry_workflow takes
 * back of both is known to failure.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "base/clock.h"
#include "base/spi.h"
#include "turn/failure.h"
#include "turn/quiet.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/turn.h"

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
rom_turn_event(RomTurn *turn, RomEventType type, const char *step)
{
	RomEvent   *event = MemoryContextAllocZero(turn->cxt, sizeof(RomEvent));

	event->type = type;
	event->step = rom_turn_copy_text(turn, step);
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
	if (turn->steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	return hash_search(turn->steps, step, HASH_FIND, NULL);
}

void
rom_replay_index(RomTurn *turn, RomEvent *event)
{
	RomReplayStep *entry;
	bool		found;

	if (event->type == ROM_EVENT_WORKFLOW_FAILED)
		turn->failure = event;
	if (event->type == ROM_EVENT_WORKFLOW_RETRIED)
		rom_failure_supersede(turn, turn->failure);
	if (event->step == NULL || rom_replay_is_life_cycle(event))
		return;
	if (turn->steps != NULL && strlen(event->step) < ROM_STEP_KEY)
	{
		entry = hash_search(turn->steps, event->step, HASH_FIND, &found);
		if (found && !rom_replay_is_schedule(event->type))
		{
			if (entry->completion == NULL)
			{
				entry->completion = event;
				entry->order = ++turn->completions;
			}
			return;
		}
	}
	if (rom_replay_is_schedule(event->type))
	{
		if (turn->steps == NULL)
			turn->steps = rom_replay_make_table("romancy steps", sizeof(RomReplayStep), turn->cxt);
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
	rom_quiet_load(turn);
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
	RomReplayStep *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	entry = hash_search(turn->steps, step, HASH_FIND, &found);
	return found ? entry->completion : NULL;
}

RomEvent *
rom_turn_scheduled(RomTurn *turn, const char *step)
{
	RomReplayStep *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= ROM_STEP_KEY)
		return NULL;
	entry = hash_search(turn->steps, step, HASH_FIND, &found);
	return found ? entry->scheduled : NULL;
}

int64
rom_turn_completion_order(RomTurn *turn, const char *step)
{
	RomReplayStep *entry;
	bool		found;

	if (turn->steps == NULL || strlen(step) >= ROM_STEP_KEY)
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
