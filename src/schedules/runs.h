/*-------------------------------------------------------------------------
 *
 * runs.h
 *		Runs of schedules: which instance runs, or ran, for which time.
 *
 * The caller has locked the schedule (rom_plan_lock(), rom_plan_due()), and is in an engine scope.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RUNS_H
#define ROM_RUNS_H

#include "schedules/plan.h"

/* Stored in t_schedule_run.state: numbers never change their meaning. For SQL: ROM_SQL_RUN_WAITING. */
#define ROM_SQL_RUN_WAITING	"0"
#define ROM_SQL_RUN_LIVE	"1"
#define ROM_SQL_RUN_ENDED	"2"

typedef enum RomRunState
{
	ROM_RUN_WAITING = 0,		/* -> live [rom_runs_start_waiting] */
	ROM_RUN_LIVE = 1,			/* -> ended [the end hook] */
	ROM_RUN_ENDED = 2			/* -> live, by retry_workflow [the renew hook] */
} RomRunState;

/* Runs that may wait with queue_all. */
#define ROM_RUNS_WAITING_MAX 100

typedef enum RomOffer
{
	ROM_OFFER_STARTED,
	ROM_OFFER_WAITS,
	ROM_OFFER_MISSED,			/* counted in the plan, with the reason */
	ROM_OFFER_THERE,			/* the time has a run already */
	ROM_OFFER_HELD				/* another transaction has its key; again_at
								 * of the plan is set */
} RomOffer;

/* Does a run of the schedule, or a later generation of it, live? */
extern bool rom_runs_live(const RomPlan *plan);

/* How many wait. */
extern int	rom_runs_waiting(const RomPlan *plan);

/* A time has come: starts its run, or does what overlap says while another one lives. */
extern RomOffer rom_runs_offer(RomPlan *plan, TimestampTz time, RomOverlap overlap);

/* Starts a run whatever lives, for that time or the next microsecond that has none, and gives its instance. Errors are raised. */
extern void rom_runs_start_now(RomPlan *plan, TimestampTz time, pg_uuid_t *id);

/* Starts the run that has waited longest, if none lives. */
extern void rom_runs_start_waiting(RomPlan *plan);

/*
 * Counts runs whose end found their schedule held by another transaction, of up to limit schedules that are free now, which it locks; and
 * has what waits for them started. How many schedules. owner: of this role alone; NULL: of all. The caller has locked none.
 */
extern int	rom_runs_count_ended(const char *owner, int limit);

/* The same for a schedule that the caller has locked: whether its row has changed. Of very many runs it counts some, and leaves the rest to the sweep. */
extern bool rom_runs_count_ended_of(const RomPlan *plan);

/* Is there such a run? */
extern bool rom_runs_uncounted(void);

/* Forgets the runs that wait. */
extern void rom_runs_drop_waiting(const RomPlan *plan);

/* May an error of this SQLSTATE be over at the next try, without help from outside? */
extern bool rom_runs_passes(int sqlerrcode);

/* Registers what happens when a run ends, is retried, and is deleted. */
extern void rom_runs_init(void);

#endif							/* ROM_RUNS_H */
