/*-------------------------------------------------------------------------
 *
 * spawn.h
 *		spawn, map, and activity() on one with a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SPAWN_H
#define ROM_SPAWN_H

#include "turn/primitive.h"

/*
 * Carries out activity() for one with a queue, like execute() of a primitive: makes a task at first, then waits for what its
 * worker records.
 */
extern RomOutcome rom_spawn_queued(RomTurn *turn, RomCall *call, RomEvent *event, RomActivity *activity);

/*
 * Schedules one step in parallel and returns its handle, which lives as long as the turn. activity: where it runs; on replay NULL.
 * name: of the step, as history shows it. step: its id; NULL: name:n. retry: of this step; may be NULL.
 */
extern char *rom_spawn_step(RomTurn *turn, RomActivity *activity, const char *name, Jsonb *input, const char *step, Jsonb *retry);

/* Registers with the engine; called once from _PG_init. */
extern void rom_spawn_init(void);

#endif							/* ROM_SPAWN_H */
