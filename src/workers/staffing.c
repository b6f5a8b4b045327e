/*-------------------------------------------------------------------------
 *
 * staffing.c
 *		The launcher's decisions: which workers are needed.
 *
 * A plan is made when the launcher is told that something changed, or when the
 * last one asked for it: it copies the roster, lists the owners and databases
 * that lack a worker, and serves them in the order in which they began to wait.
 * Where places are short, an idle worker, or else one that has had its time, is
 * asked to leave; the next plan, told of its end, fills the place. That makes
 * it a round robin by owner.
 *
 * Only the launcher calls this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "workers/bgw.h"
#include "workers/databases.h"
#include "workers/guc.h"
#include "workers/http_staff.h"
#include "workers/places.h"
#include "workers/plan.h"
#include "workers/shortage.h"
#include "workers/staffing.h"
#include "workers/vacate.h"

#define MS INT64CONST(1000)

/* An owner that had quick work within this time (us) is expected to have more. */
#define KNOWN_QUICK (60 * USECS_PER_SEC)

static RomPlan *plan = NULL;
static bool lowered = false;	/* romancy.executors was */

void
rom_staffing_init(void)
{
	RomRoster  *roster = rom_roster_get();

	plan = MemoryContextAllocZero(TopMemoryContext,
								  offsetof(RomPlan, workers) +
								  roster->nworkers * sizeof(RomWorker));
	plan->torn = MemoryContextAlloc(TopMemoryContext, roster->nworkers * sizeof(int));
	rom_places_init(roster->nworkers);
}

/*
 * Copies the state that the plan is made from. Returns false, unless again is set, when a database
 * turned up that has not been listed. Otherwise takes the requests for schedulers, in one view with
 * the workers that exist: a worker that leaves after that asks anew.
 */
static bool
look(bool again)
{
	RomRoster  *roster = rom_roster_get();
	bool		low = rom_ready_low();
	bool		complete = true;
	int			i;

	plan->ndatabases = 0;
	SpinLockAcquire(&roster->mutex);
	memcpy(plan->workers, roster->workers,
		   roster->nworkers * sizeof(RomWorker));
	for (i = 0; i < roster->nworkers; i++)
		plan->workers[i].slow = rom_roster_slow_at(&plan->workers[i]) <= plan->now;
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		RomPlanDatabase *known;

		if (!OidIsValid(database->dbid))
			continue;
		if (!database->listed)
			complete = false;
		known = &plan->databases[plan->ndatabases++];
		known->dbid = database->dbid;
		known->served = rom_guc_enabled && database->served &&
			!database->dropped && database->barred == 0 && database->refusal == ROM_REFUSAL_NONE;
		known->needs_scheduler = low && (database->scan || database->refill);
		known->scheduler_at = Min(database->scheduler_at, database->horizon);
		known->scheduler_lacks = false;
		if (known->needs_scheduler && database->scan_after > plan->now)
		{
			known->needs_scheduler = false;
			known->scheduler_at = Min(database->scheduler_at,
									  database->scan_after);
		}
		if (!known->needs_scheduler && known->scheduler_at > plan->now)
			database->waiting_since = 0;
		else if (database->waiting_since == 0)
			database->waiting_since = plan->now;
		known->waiting_since = database->waiting_since;
		known->schedulers_due = known->served &&
			(known->needs_scheduler || known->scheduler_at <= plan->now);
	}
	/* a hint is for one plan: an executor that leaves again has no successor */
	for (i = 0; (complete || again) && i < roster->nworkers; i++)
		roster->workers[i].expects = 0;
	for (i = 0; (complete || again) && i < plan->ndatabases; i++)
	{
		RomDatabase *database;

		if (!plan->databases[i].schedulers_due)
			continue;
		database = rom_roster_database_locked(roster, plan->databases[i].dbid,
											  false);
		if (database->scheduler_at <= plan->now)
			database->scheduler_at = DT_NOEND;
	}
	SpinLockRelease(&roster->mutex);

	plan->nworkers = roster->nworkers;
	plan->nplaces = roster->nplaces;
	return complete;
}

/* Counts the workers. */
static void
count_workers(void)
{
	int			i;

	plan->total = 0;
	plan->executor_rests = false;
	for (i = 0; i < plan->ndatabases; i++)
		plan->databases[i].executors = plan->databases[i].slow = 0;
	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		RomPlanDatabase *known;

		if (worker->state == ROM_WORKER_FREE || worker->kind == ROM_WORKER_HTTP || worker->overtime)
			continue;
		plan->total++;
		if (worker->kind == ROM_WORKER_EXECUTOR &&
			worker->state == ROM_WORKER_IDLE)
			plan->executor_rests = true;
		known = rom_plan_database(plan, worker->dbid);
		if (known != NULL && worker->kind == ROM_WORKER_EXECUTOR)
		{
			known->executors++;
			if (worker->slow && worker->state == ROM_WORKER_RUNNING)
				known->slow++;
		}
	}
}

static void
add_need(const RomNeed *need)
{
	if (plan->nneeds < lengthof(plan->needs))
		plan->needs[plan->nneeds++] = *need;
}

/* The scheduler that is there looks at what it is needed for. */
static void
wake_scheduler(Oid dbid)
{
	RomRoster  *roster = rom_roster_get();
	RomLatches	latches;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	(void) rom_roster_wake_scheduler_locked(roster, dbid, &latches);
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

/*
 * Which schedulers does a database lack that should be there now? One that is
 * leaving holds its share until it has gone, and is missed from then on.
 */
static void
need_schedulers(RomPlanDatabase *known)
{
	bool		there[64] = {false};
	RomNeed		need = {ROM_WORKER_SCHEDULER, known->dbid};
	int			i;

	if (!known->schedulers_due)
	{
		plan->next = Min(plan->next, known->scheduler_at);
		return;
	}
	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];

		if (worker->state != ROM_WORKER_FREE &&
			worker->kind == ROM_WORKER_SCHEDULER &&
			worker->dbid == known->dbid && worker->part < lengthof(there))
		{
			there[worker->part] = true;
			if ((worker->state == ROM_WORKER_LEAVING || worker->leave) &&
				worker->part < rom_guc_schedulers)
				known->scheduler_lacks = true;
		}
	}
	if (there[0])
		wake_scheduler(known->dbid);
	need.since = known->waiting_since;
	for (need.part = 0; need.part < rom_guc_schedulers; need.part++)
	{
		need.more = need.part > 0;
		if (!there[need.part])
			add_need(&need);
	}
}

/*
 * wanted says for how many executors an owner has work: one for each member that is not quick or of which nothing is known, and one
 * for each batch of the quick ones. Members of an owner of whom nothing quick was seen for a while are not
 * known to be quick.
 */
static int
wanted(const RomReadyQueue *queue)
{
	int			batch = queue->quick_at + KNOWN_QUICK > plan->now ? ROM_BATCH_MAX : 1;

	return queue->slow + queue->unknown + (queue->quick - queue->unknown + batch - 1) / batch;
}

/* Does an owner with ready work need an executor, or more of them? */
static void
need_executor(const RomReadyQueue *queue)
{
	RomNeed		need = {ROM_WORKER_EXECUTOR, queue->dbid, queue->owner};
	int			there = 0;
	int			soon = 0;		/* will take from the queue in a moment */
	int			more;
	int			i;

	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];

		if (worker->kind != ROM_WORKER_EXECUTOR ||
			worker->state == ROM_WORKER_FREE || worker->overtime ||
			worker->dbid != queue->dbid || worker->owner != queue->owner ||
			(worker->leave && !worker->slow) || worker->state == ROM_WORKER_LEAVING)
			continue;
		there++;				/* also one that leaves after its long step */
		if (worker->slow || worker->unknown)
			continue;
		soon++;
		plan->next = Min(plan->next, rom_roster_slow_at(worker));
	}
	more = Min(wanted(queue) - soon, rom_guc_executors);
	need.since = queue->waiting_since;
	need.stands_since = queue->stands_since;
	need.has = there;
	for (i = 0; i < more; i++)
	{
		need.more = there + i > 0 && (i > 0 || soon > 0 || queue->quick == 0);
		add_need(&need);
	}
}

/* expect_executors: does the owner of an executor whose transaction is about to make members ready need more for them? Not with work that waits. */
static void
expect_executors(const RomWorker *expecting)
{
	RomNeed		need = {ROM_WORKER_EXECUTOR, expecting->dbid, expecting->owner,.more = true,.expected = true};
	int			soon = 1;		/* this one, after its commit */

	for (int i = 0; i < plan->nqueues; i++)
		if (plan->queues[i].dbid == expecting->dbid && plan->queues[i].owner == expecting->owner)
			return;
	for (int i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];

		if (worker == expecting || worker->kind != ROM_WORKER_EXECUTOR ||
			worker->state == ROM_WORKER_FREE || worker->overtime ||
			worker->dbid != expecting->dbid || worker->owner != expecting->owner ||
			worker->leave || worker->state == ROM_WORKER_LEAVING)
			continue;
		need.has++;
		soon += !worker->slow && !worker->unknown;
	}
	need.has++;
	need.since = need.stands_since = plan->now;
	for (int i = Min(expecting->expects - soon, rom_guc_executors); i > 0; i--)
		add_need(&need);
}

/* Needs of a first worker come before needs of an additional one; among equals, the one that has waited longest. */
static int
by_need(const void *a, const void *b)
{
	const RomNeed *x = a;
	const RomNeed *y = b;

	if (x->expected != y->expected)
		return x->expected ? 1 : -1;
	if (x->more != y->more)
		return x->more ? 1 : -1;
	return x->since < y->since ? -1 : x->since > y->since;
}

/* A need finds no place, of all or of dbid's executors: a worker may be asked to leave for it. Returns false. */
static bool
lack(const RomNeed *need, Oid dbid, RomShortage of)
{
	if (need->kind == ROM_WORKER_EXECUTOR)
		rom_shortage_add(need->dbid, need->owner, need->stands_since, of);
	/* one more is started when all of the database are in slow steps */
	for (int i = 0; of == ROM_SHORT_OF_EXECUTORS && i < plan->nworkers; i++)
		if (plan->workers[i].state == ROM_WORKER_RUNNING && !plan->workers[i].slow && plan->workers[i].dbid == dbid)
			plan->next = Min(plan->next, rom_roster_slow_at(&plan->workers[i]));
	rom_vacate_for(plan, dbid, need, of);
	return false;
}

/* has_room: is there a place for an executor whose work is only about to come? The last one is kept for what is ready. */
static bool
has_room(const RomNeed *need, const RomPlanDatabase *known)
{
	return known->executors < rom_guc_executors && plan->total + 1 < plan->nplaces &&
		rom_places_wait_until() <= plan->now &&
		rom_roster_blocked_until(need->kind, need->dbid, need->owner) <= plan->now;
}

/* Serves a need, if it can be. */
static bool
serve(const RomNeed *need)
{
	RomPlanDatabase *known = rom_plan_database(plan, need->dbid);
	RomWorkerParams params;
	TimestampTz blocked_until;
	int			place;

	if (known == NULL || !known->served)
		return false;
	if (need->expected && !has_room(need, known))
		return false;
	blocked_until = rom_roster_blocked_until(need->kind, need->dbid, need->owner);
	if (blocked_until > plan->now)
	{
		plan->next = Min(plan->next, blocked_until);
		return false;
	}
	if (rom_places_wait_until() > plan->now)
	{
		plan->next = Min(plan->next, rom_places_wait_until());
		return lack(need, InvalidOid, ROM_SHORT_OF_PROCESSES);
	}
	if (need->kind == ROM_WORKER_EXECUTOR &&
		known->executors >= rom_guc_executors &&
		(need->more || rom_guc_executors == 1 || known->slow < known->executors ||
		 (need->has > 0 && known->executors > rom_guc_executors && plan->total + 1 >= plan->nplaces)))
		return lack(need, need->dbid, ROM_SHORT_OF_EXECUTORS);
	if (plan->total >= plan->nplaces)
		return lack(need, InvalidOid, ROM_SHORT_OF_WORKERS);

	memset(&params, 0, sizeof(params));
	params.kind = need->kind;
	params.dbid = need->dbid;
	params.owner = need->owner;
	params.part = need->part;
	place = rom_places_start(&params, need->expected, plan->now);
	if (place < 0 && need->expected)
		return false;
	if (place < 0)
	{
		plan->next = Min(plan->next, Max(rom_places_wait_until(),
										 plan->now + MS));
		return lack(need, InvalidOid, ROM_SHORT_OF_PROCESSES);
	}
	plan->workers[place].kind = need->kind;
	plan->workers[place].state = ROM_WORKER_STARTING;
	plan->workers[place].leave = plan->workers[place].overtime = false;
	plan->workers[place].generation = params.generation;
	plan->workers[place].dbid = need->dbid;
	plan->workers[place].owner = need->owner;
	plan->workers[place].started_at = plan->now;
	plan->total++;
	if (need->kind == ROM_WORKER_EXECUTOR)
	{
		known->executors++;
		/* the scheduler that comes after it */
		plan->next = Min(plan->next, plan->now + ROM_SCHEDULER_DELAY);
	}
	return true;
}

void
rom_staffing_executors_lowered(void)
{
	lowered = true;
}

/*
 * A scheduler that found no place, or whose predecessor is only just leaving, is needed
 * still: the request stands again, until a worker has left.
 */
static void
keep_asking(const bool *served)
{
	RomRoster  *roster = rom_roster_get();
	int			i;

	for (i = 0; i < plan->nneeds; i++)
		if (!served[i] && plan->needs[i].kind == ROM_WORKER_SCHEDULER)
			rom_plan_database(plan, plan->needs[i].dbid)->scheduler_lacks = true;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < plan->ndatabases; i++)
	{
		RomDatabase *database;

		if (!plan->databases[i].scheduler_lacks)
			continue;
		database = rom_roster_database_locked(roster, plan->databases[i].dbid,
											  false);
		if (database != NULL)
			database->scheduler_at = Min(database->scheduler_at, plan->now);
	}
	SpinLockRelease(&roster->mutex);
}

/* Tells committing processes which work is known to wait, and whether more workers can be started. */
static void
publish_pending(const bool *served)
{
	RomRoster  *roster = rom_roster_get();
	int			n = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	roster->room_wanted = false;
	for (i = 0; i < plan->nneeds && n < ROM_MAX_PENDING; i++)
	{
		if (served[i] || plan->needs[i].kind != ROM_WORKER_EXECUTOR || plan->needs[i].expected)
			continue;
		if (plan->needs[i].more || plan->needs[i].has > 0)
			roster->room_wanted = true;
		if (plan->needs[i].more)
			continue;
		roster->pending[n].dbid = plan->needs[i].dbid;
		roster->pending[n].owner = plan->needs[i].owner;
		n++;
	}
	roster->npending = n;
	roster->places = rom_places_wait_until() > plan->now ? plan->total : plan->nplaces;
	roster->cannot_grow = !plan->executor_rests &&
		(plan->total >= plan->nplaces ||
		 rom_places_wait_until() > plan->now);
	SpinLockRelease(&roster->mutex);
}

TimestampTz
rom_staffing_plan(void)
{
	static bool served[ROM_PLAN_NEEDS];
	TimestampTz http_next;
	TimestampTz shortage_next;
	int			i;

	plan->now = GetCurrentTimestamp();
	plan->nneeds = 0;
	plan->unserved = 0;

	rom_databases_forget();
	if (!look(false))
	{
		rom_databases_list();
		(void) look(true);
	}
	plan->next = rom_places_reap(plan->workers, plan->now);
	count_workers();

	rom_vacate_unserved(plan);
	for (i = 0; lowered && i < plan->ndatabases; i++)
		rom_vacate_surplus(plan, &plan->databases[i]);
	lowered = false;

	for (i = 0; i < plan->ndatabases; i++)
		if (plan->databases[i].served)
			need_schedulers(&plan->databases[i]);
	plan->nqueues = rom_ready_list(plan->queues);
	for (i = 0; i < plan->nqueues; i++)
	{
		RomPlanDatabase *known = rom_plan_database(plan, plan->queues[i].dbid);

		if (known != NULL && known->served)
			need_executor(&plan->queues[i]);
		else if (rom_guc_enabled)
			rom_ready_purge(plan->queues[i].dbid);
	}
	for (i = 0; i < plan->nworkers; i++)
		if (plan->workers[i].state == ROM_WORKER_RUNNING && plan->workers[i].expects > 0 && !plan->workers[i].overtime)
			expect_executors(&plan->workers[i]);

	rom_shortage_begin();
	qsort(plan->needs, plan->nneeds, sizeof(RomNeed), by_need);
	for (i = 0; i < plan->nneeds; i++)
		served[i] = serve(&plan->needs[i]);
	keep_asking(served);
	publish_pending(served);
	http_next = rom_http_staff_plan(plan->now);
	shortage_next = rom_shortage_end(plan->now);
	return Min(plan->next, Min(http_next, shortage_next));
}
