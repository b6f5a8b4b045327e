/*-------------------------------------------------------------------------
 *
 * kinds.h
 *		The kinds of scheduled steps: steps whose outcome comes later, by itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_KINDS_H
#define ROM_KINDS_H

#include "instances/event.h"
#include "turn/primitive.h"

/*
 * A member of a failed outcome's detail: whether the activity had an effect is not known, for it was interrupted outside of any transaction with
 * its instance. It is undone as if it had.
 */
#define ROM_OUTCOME_UNKNOWN "unknown"

/* A kind of scheduled step; registered once, at load. */
typedef struct RomScheduleKind
{
	RomEventType scheduled;		/* the event that announces it */
	RomStatus	waiting;		/* status of an instance that awaits it */
	const char *wait_kind;		/* "activity", "workflow", "timer", "message" */

	/*
	 * Looks whether the step is over, in the turn's transaction, outside the
	 * evaluation (enter the engine yourself); returns its outcome event
	 * (type, result, detail set; made by rom_replay_event() with the step's
	 * id; not appended), or NULL. *due (preset DT_NOEND): when it will be
	 * over by itself, if known. May be NULL: only the inbox tells.
	 */
	RomEvent   *(*poll) (RomTurn *turn, RomEvent *scheduled, TimestampTz *due);

	/*
	 * The outcome event for an inbox item of this step; may be NULL where
	 * none is ever sent.
	 */
	RomEvent   *(*arrived) (RomTurn *turn, RomEvent *scheduled, RomInboxItem *item);

	/*
	 * After retry_workflow, of all steps before again(): could again() begin
	 * without waiting for another transaction? NULL: always.
	 */
	bool		(*is_free) (RomTurn *turn, RomEvent *scheduled);

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

extern void rom_kinds_register(const RomScheduleKind *kind);


/* Is an event type an announcement of a registered kind? */
extern const RomScheduleKind *rom_kinds_find(RomEventType type);

#endif							/* ROM_KINDS_H */
