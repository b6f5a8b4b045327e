/*-------------------------------------------------------------------------
 *
 * replay.h
 *		The events of a turn's history, for the parts of a turn; calls of handlers use
 *		primitive.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REPLAY_H
#define ROM_REPLAY_H

#include "instances/event.h"
#include "turn/primitive.h"

/* Longest activity_id, in bytes; and size of the keys of tables by step: more than that, for the engine's own ids. */
#define ROM_STEP_MAX		200
#define ROM_STEP_KEY		(ROM_STEP_MAX + 64)

/* Ids that begin so are the engine's own: names and activity_ids of users must not. */
#define ROM_STEP_ENGINE		'@'

/* A scheduled step: an entry of turn->replay.steps. Fields "seen" belong to failure.c. */
typedef struct RomReplayStep
{
	char		step[ROM_STEP_KEY];
	RomEvent   *scheduled;
	RomEvent   *completion;
	int64		order;			/* of the completion */
	bool		again;			/* retry_workflow superseded its outcome: it
								 * has to be scheduled anew */
	int			seen_in;		/* the evaluation in which it raised its error
								 * first, */
	int			seen_at;		/* how many events of the program had been
								 * asked for by then, */
	int			seen_order;		/* and its place among all that did */
} RomReplayStep;

/* rom_replay_index files an event under what it is for in replay. */
extern void rom_replay_index(RomTurn *turn, RomEvent *event);

/* rom_replay_step finds what is known of a scheduled step, or NULL. */
extern RomReplayStep *rom_replay_step(RomTurn *turn, const char *step);

/* rom_replay_is_schedule: does the event announce a step whose outcome comes later, by itself? */
extern bool rom_replay_is_schedule(RomEventType type);

/* rom_replay_is_life_cycle: an event that no call of a handler is answered with. */
extern bool rom_replay_is_life_cycle(const RomEvent *event);

/* rom_replay_make_table creates a hash table by step: entries begin with char[ROM_STEP_KEY]. */
extern struct HTAB *rom_replay_make_table(const char *name, Size entrysize, MemoryContext cxt);

/* rom_replay_is_failed: did a step end with an error that it raises in the handler? */
extern bool rom_replay_is_failed(const RomEvent *event);

/* Loads history and sorts out what answers replay. Engine SQL of its own. claimed: the caller holds the instance's row. */
extern void rom_replay_load(RomTurn *turn, bool claimed);

/* The next event in program order, or NULL at the end of history. */
extern RomEvent *rom_replay_peek(RomTurn *turn);

/* The first untaken inbox item for step, marked as taken; or NULL. */
extern RomInboxItem *rom_replay_take(RomTurn *turn, const char *step);

/* The completion event of a scheduled step (spawn), or NULL. */
extern RomEvent *rom_replay_completion(RomTurn *turn, const char *step);

/* The event that announced a scheduled step, or NULL; and the place of its outcome in history (from 1), 0 while there is none. */
extern RomEvent *rom_replay_scheduled(RomTurn *turn, const char *step);
extern int64 rom_replay_completion_order(RomTurn *turn, const char *step);

/* Appends an event that is not an answer in program order (a completion of a scheduled step, life cycle). Allocated in turn->cxt by the caller. */
extern void rom_replay_append(RomTurn *turn, RomEvent *event);

/* A zeroed event in the turn's context, at = rom_now(). */
extern RomEvent *rom_replay_event(RomTurn *turn, RomEventType type,
								  const char *step);

#endif							/* ROM_REPLAY_H */
