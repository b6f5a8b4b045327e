/*-------------------------------------------------------------------------
 *
 * registry.c
 *		What the history of an instance registers to be undone, in order, and what of it has run.
 *
 * A turn asks after each compensation, so what was read of its history is kept with it, and only what was
 * added is read. Steps are found by a hash table, the last of a step first.
 *
 * A step that was run again after retry_workflow stands there twice; the latest is
 * struck first, because it ran first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/jb.h"
#include "instances/event.h"
#include "turn/registry.h"
#include "turn/replay.h"

/* The last one of a step. Steps that are longer than the key share an entry. */
typedef struct Last
{
	char		step[ROM_STEP_KEY];
	int			last;
} Last;

struct RomRegistry
{
	RomRegistered *list;
	int			count;
	int			room;
	int			top;			/* none after this one has yet to run */
	HTAB	   *steps;
	int			read;			/* events of history that were read, */
	RomEvent   *latest;			/* the last of these */
};

char *
rom_registry_name(RomEvent *event)
{
	if (event->type == ROM_EVENT_ACTIVITY_COMPLETED && event->detail != NULL)
		return rom_jb_get_text(event->detail, "compensation");
	/* a fork's, that ran for the original */
	if (event->type == ROM_EVENT_COMPENSATION_REGISTERED &&
		!rom_jb_get_bool(event->detail, "done", false))
		return event->name;
	return NULL;
}

/* add adds one. */
static void
add(RomTurn *turn, struct RomRegistry *r, RomEvent *event, char *name)
{
	RomRegistered *one;
	Last	   *last;
	bool		found;

	if (r->count == r->room)
	{
		r->room = Max(r->room * 2, 16);
		r->list = r->list == NULL ? MemoryContextAllocHuge(turn->cxt, r->room * sizeof(RomRegistered)) :
			repalloc_huge(r->list, r->room * sizeof(RomRegistered));
	}
	last = hash_search(r->steps, event->step, HASH_ENTER, &found);
	one = &r->list[r->count];
	one->event = event;
	one->name = name;
	one->done = name == NULL;
	one->failed = false;
	one->before = found ? last->last : -1;
	last->last = r->count;
	if (!one->done)
		r->top = r->count;
	r->count++;
}

/* latest_of is the number of the last one of a step, or -1; before (as it has it): the next one. */
static int
latest_of(struct RomRegistry *r, const char *step)
{
	Last	   *last = step ? hash_search(r->steps, step, HASH_FIND, NULL) : NULL;

	return last ? last->last : -1;
}

/* strike notes that the last one of a step that had not run has. */
static void
strike(struct RomRegistry *r, const RomEvent *event)
{
	for (int i = latest_of(r, event->step); i >= 0; i = r->list[i].before)
		if (!r->list[i].done && strcmp(r->list[i].event->step, event->step) == 0)
		{
			r->list[i].done = true;
			r->list[i].failed = event->type == ROM_EVENT_COMPENSATION_FAILED;
			return;
		}
}

/* registry reads what was added to the history. */
static struct RomRegistry *
registry(RomTurn *turn)
{
	RomEventList *history = &turn->replay.history;
	struct RomRegistry *r = turn->registry;
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);

	/* an evaluation that was rolled back has taken its events along */
	if (r == NULL || r->read > history->count || (r->read > 0 && history->events[r->read - 1] != r->latest))
	{
		r = palloc0(sizeof(struct RomRegistry));
		r->top = -1;
		r->steps = rom_replay_make_table("romancy registry", sizeof(Last), turn->cxt);
	}
	/* an error on the way leaves it half read */
	turn->registry = NULL;
	while (r->read < history->count)
	{
		RomEvent   *event = history->events[r->read++];
		char	   *name = rom_registry_name(event);

		if (name != NULL || (event->type == ROM_EVENT_COMPENSATION_REGISTERED && event->step != NULL))
			add(turn, r, event, name);
		else if (event->type == ROM_EVENT_COMPENSATION_EXECUTED || event->type == ROM_EVENT_COMPENSATION_FAILED)
			strike(r, event);
		r->latest = event;
	}
	turn->registry = r;
	MemoryContextSwitchTo(old);
	return r;
}

RomRegistered *
rom_registry_last(RomTurn *turn)
{
	struct RomRegistry *r = registry(turn);

	while (r->top >= 0 && r->list[r->top].done)
		r->top--;
	return r->top >= 0 ? &r->list[r->top] : NULL;
}

RomRegistered *
rom_registry_of(RomTurn *turn, const RomEvent *event)
{
	struct RomRegistry *r = registry(turn);

	for (int i = latest_of(r, event->step); i >= 0; i = r->list[i].before)
		if (r->list[i].event == event)
			return &r->list[i];
	return NULL;
}

bool
rom_registry_has(RomTurn *turn, const char *step)
{
	struct RomRegistry *r = registry(turn);

	for (int i = latest_of(r, step); i >= 0; i = r->list[i].before)
		if (r->list[i].event->type == ROM_EVENT_COMPENSATION_REGISTERED && strcmp(r->list[i].event->step, step) == 0)
			return true;
	return false;
}
