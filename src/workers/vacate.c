/*-------------------------------------------------------------------------
 *
 * vacate.c
 *		Workers that have to leave: for others that wait for a place, and because
 *		of settings.
 *
 * Only the launcher calls this, for a plan (staffing.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/slot.h"
#include "workers/guc.h"
#include "workers/places.h"
#include "workers/vacate.h"

#define MS INT64CONST(1000)

/* A worker may be asked to leave for another one's sake after this time, and no sooner is the question asked again. */
#define TENURE (200 * MS)

/* Time (us) for which an owner's only executor has to be idle before another owner's additional executor takes its place. */
#define REST_OF_LAST (2 * USECS_PER_SEC)

/* Interval (us) of plans while a worker waits for a place; a place that becomes free causes a plan at once. */
#define LOOK_AGAIN (250 * MS)

/* How many executors of the same owner are there, in places of their own? stay: of those that are not on their way out. */
static int
siblings(const RomPlan *plan, const RomWorker *worker, bool stay)
{
	return rom_places_siblings(plan->workers, plan->nworkers, worker, stay);
}

/* keep_stay leaves of n workers those whose owner has another one in a long step that counts: such an owner keeps one. */
static int
keep_stay(const RomPlan *plan, int *candidates, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		const RomWorker *worker = &plan->workers[candidates[i]];
		int			slow = 0;

		for (int j = 0; j < plan->nworkers; j++)
		{
			const RomWorker *other = &plan->workers[j];

			slow += other->state == ROM_WORKER_RUNNING && other->kind == ROM_WORKER_EXECUTOR && other->slow && !other->overtime &&
				other->dbid == worker->dbid && other->owner == worker->owner;
		}
		if (slow > 1)
			candidates[kept++] = candidates[i];
	}
	return kept;
}

/* Asks a worker to leave. */
static void
ask_to_leave(RomPlan *plan, int i)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *worker = &roster->workers[i];
	RomLatches	latches;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	if (worker->generation == plan->workers[i].generation &&
		worker->state != ROM_WORKER_FREE)
	{
		worker->leave = true;
		if (worker->pid != 0)
			latches.procnos[latches.count++] = worker->procno;
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
	plan->workers[i].leave = true;
	rom_places_asked(i, plan->now);
}

void
rom_vacate_for(RomPlan *plan, Oid dbid, const RomNeed *need, RomShortage of)
{
	int			best = -1;
	int			best_score = 0;
	int			leaving = 0;
	int			ntorn = 0;
	bool		first = !need->more && (need->kind != ROM_WORKER_EXECUTOR || need->has == 0);
	int			i;

	if (need->more && need->kind != ROM_WORKER_EXECUTOR)
		return;
	if (!need->more)
		plan->next = Min(plan->next, plan->now + LOOK_AGAIN);
	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		bool		idle = worker->state == ROM_WORKER_IDLE;
		int			score;

		/*
		 * an HTTP worker holds a process, but no place of ours, and its place
		 * has been taken from one in overtime
		 */
		if (worker->state == ROM_WORKER_FREE || worker->state == ROM_WORKER_STARTING || worker->overtime ||
			(worker->kind == ROM_WORKER_HTTP && (of != ROM_SHORT_OF_PROCESSES || !idle)) ||
			(OidIsValid(dbid) && (worker->dbid != dbid ||
								  worker->kind != ROM_WORKER_EXECUTOR)))
			continue;
		if (worker->leave || worker->state == ROM_WORKER_LEAVING)
		{
			/* a worker in a long turn does not count: others may end sooner */
			if (!worker->leave || rom_places_asked_at(i) + TENURE > plan->now)
				leaving++;
			else if (first && worker->slow && siblings(plan, worker, true) + rom_places_torn(i) > 1)
				plan->torn[ntorn++] = i;
			continue;
		}
		if (!idle && worker->kind == ROM_WORKER_SCHEDULER)
			continue;

		if (need->more && (!idle || worker->kind != ROM_WORKER_EXECUTOR))
			continue;
		if (need->kind == ROM_WORKER_EXECUTOR && worker->kind == ROM_WORKER_EXECUTOR)
		{
			int			its = siblings(plan, worker, false);
			TimestampTz rested = worker->since + (its > 1 ? TENURE : REST_OF_LAST);

			/*
			 * its like would take its place, and the step under way be waited
			 * for all the same
			 */
			if (worker->dbid == need->dbid && worker->owner == need->owner)
				continue;
			/* an owner that has some gets no more than its share */
			if (!idle && need->has > 0 && its <= need->has + 1)
				continue;
			if (idle && need->has > 0 && rested > plan->now)
			{
				plan->next = Min(plan->next, rested);
				continue;
			}
		}
		if (!idle && (worker->serves_since == 0 || worker->serves_since + TENURE > plan->now))
		{
			plan->next = Min(plan->next, worker->serves_since == 0 ? plan->now + LOOK_AGAIN : worker->serves_since + TENURE);
			continue;
		}

		if (idle)
			score = worker->kind == ROM_WORKER_HTTP ? 5 : worker->kind == ROM_WORKER_EXECUTOR ? 4 : 3;
		else
			score = siblings(plan, worker, false) > 1 ? 2 : 1;
		if (score > best_score ||
			(score == best_score &&
			 worker->started_at < plan->workers[best].started_at))
		{
			best = i;
			best_score = score;
		}
	}

	/* room is being made for those before us in the line only, or for us, too */
	if (leaving >= ++plan->unserved)
		return;
	i = best < 0 || plan->workers[best].slow ? rom_places_tear_out(plan->torn, ntorn, plan->now) : -1;
	if (i >= 0)
		plan->workers[i].state = ROM_WORKER_LEAVING;
	else if (of != ROM_SHORT_OF_PROCESSES && rom_places_overtime(plan->workers, plan->torn, keep_stay(plan, plan->torn, ntorn)))
		plan->next = plan->now; /* with the place that it had */
	else if (best >= 0)
		ask_to_leave(plan, best);
}

void
rom_vacate_unserved(RomPlan *plan)
{
	int			i;

	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		RomPlanDatabase *known;

		if (worker->state == ROM_WORKER_FREE || worker->leave)
			continue;
		known = rom_plan_database(plan, worker->dbid);
		if (known == NULL || !known->served)
			ask_to_leave(plan, i);
	}
}

void
rom_vacate_surplus(RomPlan *plan, const RomPlanDatabase *known)
{
	int			surplus = -rom_guc_executors;

	/* the first pass counts them */
	for (int pass = -1; pass < 3; pass++)
		for (int i = 0; i < plan->nworkers; i++)
		{
			RomWorker  *worker = &plan->workers[i];
			int			turn = worker->state == ROM_WORKER_IDLE ? 0 : worker->slow ? 2 : 1;

			if (worker->state == ROM_WORKER_FREE || worker->kind != ROM_WORKER_EXECUTOR ||
				worker->dbid != known->dbid || worker->leave)
				continue;
			if (pass < 0)
				surplus++;
			else if (pass == turn && surplus-- > 0)
				ask_to_leave(plan, i);
		}
}
