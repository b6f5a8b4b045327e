/*-------------------------------------------------------------------------
 *
 * schedule.h
 *		Steps whose outcome comes later: spawned activities, children, timers
 *		and receives, and waiting for them.
 *
 * A spawn is a PURE step (event ...Scheduled, step id = the handle); its
 * deferred() makes what works on it (a task, a child; nothing for a timer).
 * The outcome is an event with the same step id: appended when an inbox item
 * for that step arrives, or when the kind's poll() finds it. Awaiting records
 * nothing: it looks for that event, so replay sees the same order of outcomes
 * as history has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SCHEDULE_H
#define ROM_SCHEDULE_H

#include "turn/primitive.h"

/*
 * For primitives made of several scheduled steps: ends the evaluation until all (any: one) of these, none of
 * which is over, have an outcome. label names the wait. Does not return.
 */
extern void rom_schedule_wait(RomTurn *turn, const char *label, char **handles,
							  int n, bool any);

/* The same up to an instant (DT_NOEND: none): then history gets AwaitTimeout with the label as its step. */
extern void rom_schedule_wait_until(RomTurn *turn, const char *label, char **handles,
									int n, bool any, TimestampTz until);

/* The value of a step that has an outcome, or raises its error, which is noted as one that the handler saw. */
extern Jsonb *rom_schedule_value(RomTurn *turn, const char *handle);

/* Turns inbox items for scheduled steps into their outcome events; called at a turn's start, and by a turn that looks again. */
extern void rom_schedule_absorb(RomTurn *turn);

#endif							/* ROM_SCHEDULE_H */
