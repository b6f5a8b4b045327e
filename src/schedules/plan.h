/*-------------------------------------------------------------------------
 *
 * plan.h
 *		A schedule: its row in t_schedule, and what is about to change in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PLAN_H
#define ROM_PLAN_H

#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "schedules/rule.h"

/* The fate of a time while the run before lives. */
typedef enum RomOverlap
{
	ROM_OVERLAP_SKIP,
	ROM_OVERLAP_QUEUE,			/* one waits */
	ROM_OVERLAP_QUEUE_ALL,
	ROM_OVERLAP_ALLOW,
	ROM_OVERLAP_CANCEL_PREVIOUS,
	ROM_OVERLAP_TERMINATE_PREVIOUS
} RomOverlap;

/* Why a time did not run. */
typedef enum RomMissed
{
	ROM_MISSED_OVERLAP,			/* skipped: the run before lived */
	ROM_MISSED_QUEUE_FULL,		/* as many waited as may */
	ROM_MISSED_SUPERSEDED,		/* waited, and a later time took its place */
	ROM_MISSED_TOO_OLD,			/* older than catch_up when it was seen */
	ROM_MISSED_MERGED,			/* several were missed, of which one ran */
	ROM_MISSED_CATCH_UP_LIMIT,	/* more were missed than are caught up with */
	ROM_MISSED_PAUSED,			/* came while the schedule was paused */
	ROM_MISSED_EDITED,			/* due, but not begun, when the schedule was
								 * replaced */
	ROM_MISSED_ERROR,			/* could not be started */
	ROM_MISSED_KEY_TAKEN,		/* an instance that is no run has its
								 * idempotency key */
	ROM_MISSED_KINDS
} RomMissed;

typedef struct RomPlan
{
	int32		namespace;		/* of its name, and of the workflow's */
	char	   *name;
	char	   *owner;
	char	   *search_path;	/* in which the workflow's name is looked up */
	char	   *cron_text;
	char	   *zone_name;
	char	   *workflow;
	RomOverlap	overlap;
	Jsonb	   *input;			/* or NULL */
	Jsonb	   *labels;			/* or NULL */
	Interval   *catch_up;		/* NULL: without end */
	Interval   *jitter;			/* NULL: none */
	int			pause_on_failure;	/* 0: never */
	TimestampTz created_at;		/* tells it from others of its name, which
								 * were dropped */
	TimestampTz anchor;
	TimestampTz after_at;		/* times up to it are settled */
	TimestampTz next_at;		/* the first one after it, as it was computed
								 * last; DT_NOEND: none */
	bool		paused;
	int			failed_in_row;
	Jsonb	   *missed;

	/* rom_plan_understand() */
	RomCron		cron;
	struct pg_tz *zone;			/* NULL: the server does not know it any more */

	/* what is to be added to its row by rom_plan_save() */
	int64		new_missed[ROM_MISSED_KINDS];
	int64		new_runs;
	int64		new_failed;
	TimestampTz last_at;		/* of the run started last, with its instance */
	pg_uuid_t	last_run;
	Jsonb	   *error;			/* of the last start that failed */
	char	   *pause_note;		/* it is to pause itself, because of that */
	TimestampTz again_at;		/* not 0: it is due then, whatever its time */

	bool		quiet;			/* none of its runs lives or waits, and no
								 * time after after_at has one; what was found
								 * since it was locked (rom_runs_look()) */
	ItemPointerData tid;		/* of its row, as long as it is locked and not
								 * written */

	bool		nowait;			/* start nothing of which another transaction
								 * has the key */
} RomPlan;

/* The rule of this name; RM012 for a name that is none. */
extern RomOverlap rom_plan_overlap(const char *name);

/*
 * Locks and reads schedules that are due by now, nearest first, passing over those that others hold; how many. Their expressions are
 * not yet understood.
 * owner: of this role alone, and of the schedules whose stored names (rom_plan_stored_name()) are in the text[] besides those alone of
 * which a run waits that may start; NULL: of all. Engine scope needed.
 */
extern int	rom_plan_due(TimestampTz now, const char *owner, Datum besides, int limit, RomPlan **plans);

/* Likewise, of all roles but the owners of the first n plans, behind which they are put. */
extern int	rom_plan_due_besides(TimestampTz now, int limit, RomPlan **plans, int n);

/*
 * Reads, without locks, up to limit schedules that are not paused, by namespace and name, from the one after "last" on (NULL: from the first on); how
 * many. Their expressions are not yet understood. Engine scope needed.
 */
extern int	rom_plan_page(const RomPlan *last, int limit, RomPlan **plans);

/* Reads the expression and the zone, which can be gone with new zone data. RM012. */
extern void rom_plan_understand(RomPlan *plan);

/* When the next one of any is due; DT_NOEND: none. owner, besides: likewise, after "after". Engine scope needed. */
extern TimestampTz rom_plan_next_due(const char *owner, Datum besides, TimestampTz after);

/*
 * Locks and reads a schedule of a namespace by name, waiting for others, for a caller that may change it. NULL when there is none;
 * 42501 for one of another role. caller: the role that asks. Its expression is not yet understood. Engine scope needed.
 */
extern RomPlan *rom_plan_lock(int32 namespace, const char *name, Oid caller);

/* Locks a schedule that was read before, reads it anew, and understands it. NULL where it was dropped, or another transaction holds it: *held. */
extern RomPlan *rom_plan_lock_free(const RomPlan *plan, bool *held);

/* Pauses a schedule that cannot be handled, with the error. It is locked. Engine scope needed. */
extern void rom_plan_stop(const RomPlan *plan, Jsonb *error, const char *message);

/* The schedule's first time after an instant; DT_NOEND: none. */
extern TimestampTz rom_plan_next(const RomPlan *plan, TimestampTz after);

/* When the time is due: later by the schedule's jitter, and never later than the time after it. */
extern TimestampTz rom_plan_due_at(const RomPlan *plan, TimestampTz time);

/* How many times lie after "after" and up to "until". */
extern int64 rom_plan_count(const RomPlan *plan, TimestampTz after, TimestampTz until);

/*
 * Writes what has changed, computes when it is due next, and asks for the sweep by then. waits: a run waits that may
 * start now. A schedule whose zone does not exist any more pauses itself. Engine scope needed.
 */
extern void rom_plan_save(RomPlan *plan, bool waits);

/* The same for many that rom_plan_due() has locked, and that were not written since; no run of them waits. */
extern void rom_plan_save_all(RomPlan **plans, int n);

/* Its name with the namespace: no two schedules of the database have the same. */
extern char *rom_plan_stored_name(const RomPlan *plan);

/* A time in UTC, in the form that keys and labels have: 2026-11-29T03:00:00Z. */
extern char *rom_plan_time_text(TimestampTz time);

/* The number of sweep "schedules". */
extern int	rom_plan_sweep(void);

#endif							/* ROM_PLAN_H */
