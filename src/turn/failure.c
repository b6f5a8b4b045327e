/*-------------------------------------------------------------------------
 *
 * failure.c
 *		Which step's error ended a handler, and how retry_workflow takes it back.
 *
 * While a handler is evaluated, each scheduled step that raises its error leaves a
 * note of the place. When the workflow fails, the step whose error it was is found
 * by these notes and by the program, and is kept with WorkflowFailed. A later load
 * that meets WorkflowRetried goes back to that place: the program is cut there, and
 * scheduled steps that failed or did not end are scheduled anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "base/errors.h"
#include "base/jb.h"
#include "instances/event.h"
#include "turn/context.h"
#include "turn/failure.h"
#include "turn/kinds.h"
#include "turn/replay.h"

void
rom_failure_observe(RomTurn *turn, const char *step)
{
	RomReplayStep *entry = rom_replay_step(turn, step);

	if (entry == NULL || entry->seen_in == turn->eval.number || !rom_replay_is_failed(entry->completion))
		return;
	entry->seen_in = turn->eval.number;
	entry->seen_at = turn->replay.cursor;
	entry->seen_order = ++turn->replay.failures_seen;
}

/* A step that raised its error in the handler, and where. */
typedef struct Raised
{
	const char *step;
	int			at;				/* events of the program before it */
	int			order;			/* of scheduled steps; 0: the step is part of
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
	RomEvent   *event = turn->replay.program.events[i];
	RomReplayStep *entry;

	raised->step = event->step;
	raised->at = i;
	raised->order = 0;
	if (rom_replay_is_failed(event))
		return event->result;
	entry = rom_replay_is_schedule(event->type) ? rom_replay_step(turn, event->step) : NULL;
	if (entry == NULL || entry->seen_in != turn->eval.number)
		return NULL;
	raised->at = entry->seen_at;
	raised->order = entry->seen_order;
	return entry->completion->result;
}

Jsonb *
rom_failure_find(RomTurn *turn, Jsonb *error)
{
	Raised		best = {0};
	Raised		raised;
	int			fit = 0;
	int			n = Min(turn->replay.cursor, turn->replay.program.count);
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
	return rom_context_copy_jsonb(turn, rom_jb_end(&jb));
}

bool
rom_failure_is_free(RomTurn *turn)
{
	for (int i = 0; turn->replay.steps != NULL && i < turn->replay.program.count; i++)
	{
		RomEvent   *scheduled = turn->replay.program.events[i];
		RomReplayStep *entry = rom_replay_is_schedule(scheduled->type) ? rom_replay_step(turn, scheduled->step) : NULL;
		const RomScheduleKind *kind = entry != NULL && entry->again ? rom_kinds_find(scheduled->type) : NULL;

		if (kind != NULL && kind->is_free != NULL && !kind->is_free(turn, entry->scheduled))
			return false;
	}
	return true;
}

void
rom_failure_schedule_again(RomTurn *turn)
{
	MemoryContext old;

	if (turn->replay.steps == NULL)
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *scheduled = turn->replay.program.events[i];
		RomReplayStep *entry = rom_replay_is_schedule(scheduled->type) ? rom_replay_step(turn, scheduled->step) : NULL;
		RomEvent   *event;

		if (entry == NULL || !entry->again)
			continue;
		scheduled = entry->scheduled;
		event = rom_replay_event(turn, scheduled->type, scheduled->step);
		event->name = scheduled->name;
		event->input = scheduled->input;
		event->detail = scheduled->detail;
		rom_kinds_find(scheduled->type)->again(turn, scheduled, event);
		rom_replay_append(turn, event);
	}
	MemoryContextSwitchTo(old);
}
