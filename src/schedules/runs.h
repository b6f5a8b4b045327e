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

/* Conditions on a row r of t_schedule_run: of the schedule with this namespace, name and creation. */
#define ROM_SQL_RUNS_OF		"namespace = $1 AND r.schedule = $2 AND r.created_at = $3"

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

/*
 * Finds out which of the schedules that were just locked are quiet: their next run needs no statement that looks for others. Of
 * those alone that are started before the transaction's end, or an error.
 */
extern void rom_runs_look(RomPlan **plans, int n);


/* How many wait. */
extern int	rom_runs_waiting(const RomPlan *plan);

/* A time has come: starts its run, or does what overlap says while another one lives. */
extern RomOffer rom_runs_offer(RomPlan *plan, TimestampTz time, RomOverlap overlap);

/* Starts a run whatever lives, for that time or the next microsecond that has none, and gives its instance. Errors are raised. */
extern void rom_runs_start_now(RomPlan *plan, TimestampTz time, pg_uuid_t *id);

/* Starts the run that has waited longest, if none lives. */
extern void rom_runs_start_waiting(RomPlan *plan);

/* Forgets the runs that wait. */
extern void rom_runs_drop_waiting(const RomPlan *plan);

/* May an error of this SQLSTATE be over at the next try, without help from outside? */
extern bool rom_runs_passes(int sqlerrcode);

#endif							/* ROM_RUNS_H */
