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

/* What is known of a kind of scheduled step; registered once, at load. */
typedef struct RomScheduleKind
{
	RomEventType scheduled;		/* the event that announces it */
	RomStatus	waiting;		/* status of an instance that awaits it */
	const char *wait_kind;		/* "activity", "workflow", "timer", "message" */

	/*
	 * Looks whether the step is over, in the turn's transaction, outside the
	 * evaluation (enter the engine yourself); returns its outcome event
	 * (type, result, detail set; made by rom_turn_event() with the step's id;
	 * not appended), or NULL. *due (preset DT_NOEND): when it will be over by
	 * itself, if known. May be NULL: only the inbox tells.
	 */
	RomEvent   *(*poll) (RomTurn *turn, RomEvent *scheduled, TimestampTz *due);

	/*
	 * The outcome event for an inbox item of this step; may be NULL where
	 * none is ever sent.
	 */
	RomEvent   *(*arrived) (RomTurn *turn, RomEvent *scheduled, RomInboxItem *item);

	/*
	 * After retry_workflow: makes the work anew of a step that had failed, or
	 * that ended with the instance. event: the announcement that will stand
	 * in history beside the former one, scheduled, a copy of it; outside the
	 * evaluation (enter the engine yourself). NULL: what polls needs none.
	 */
	void		(*again) (RomTurn *turn, RomEvent *scheduled, RomEvent *event);

	/* The value of await() for an outcome, or raises its error. */
	Jsonb	   *(*value) (RomTurn *turn, RomEvent *outcome);
} RomScheduleKind;

extern void rom_schedule_register(const RomScheduleKind *kind);

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

/* Is an event type an announcement of a registered kind? */
extern const RomScheduleKind *rom_schedule_kind(RomEventType type);

/* Turns inbox items for scheduled steps into their outcome events; called at a turn's start, and by a turn that looks again. */
extern void rom_schedule_absorb(RomTurn *turn);

/* Registers the engine's own kinds; called from _PG_init. */
extern void rom_schedule_init(void);

#endif							/* ROM_SCHEDULE_H */
