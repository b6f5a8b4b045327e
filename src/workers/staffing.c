/*-------------------------------------------------------------------------
 *
 * staffing.c
 *		The launcher's decisions: which workers are needed, and which have to
 *		leave for them.
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
#include "storage/latch.h"
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
#include "workers/shortage.h"
#include "workers/staffing.h"

#define MS INT64CONST(1000)

/* A worker may be asked to leave for another one's sake after this time, and no sooner is the question asked again. */
#define TENURE (200 * MS)

/* Time (us) for which an owner's only executor has to be idle before another owner's additional executor takes its place. */
#define REST_OF_LAST (2 * USECS_PER_SEC)

/* An owner that had quick work within this time (us) is expected to have more. */
#define KNOWN_QUICK (60 * USECS_PER_SEC)

/* Interval (us) of plans while a worker waits for a place; a place that becomes free causes a plan at once. */
#define LOOK_AGAIN (250 * MS)

/* Needs that one plan looks at: of each queue and each database, and some owners need several executors. */
#define NEEDS_MAX (2 * ROM_READY_QUEUES + ROM_MAX_DATABASES)

/* A database as it was when the plan began. */
typedef struct Known
{
	Oid			dbid;
	bool		served;
	bool		needs_scheduler;
	TimestampTz scheduler_at;
	bool		schedulers_due; /* all its schedulers are needed now */
	bool		scheduler_lacks;	/* one of them is still to come */
	TimestampTz waiting_since;
	int			executors;
	int			slow;			/* of them in steps that are not quick */
} Known;

/* An owner or a database that waits for a worker. */
typedef struct Need
{
	RomWorkerKind kind;
	Oid			dbid;
	Oid			owner;
	int			part;
	TimestampTz since;
	TimestampTz stands_since;	/* executor: no work was taken since */
	int			has;			/* executors that the owner has */
	bool		more;			/* an additional executor: no busy worker has
								 * to leave for it */
} Need;

/* Everything a plan looks at; allocated once. */
typedef struct Staffing
{
	TimestampTz now;
	TimestampTz next;			/* when to look again */
	int			ndatabases;
	Known		databases[ROM_MAX_DATABASES];
	int			nqueues;
	RomReadyQueue queues[ROM_READY_QUEUES];
	int			nneeds;
	Need		needs[NEEDS_MAX];
	int			unserved;		/* needs, so far, for which a worker has to
								 * leave */
	int			nworkers;
	int			nplaces;		/* of them for executors and schedulers */
	int			total;			/* places taken */
	bool		executor_rests; /* one of them by an idle worker */
	int		   *torn;			/* room for as many places */
	RomWorker	workers[FLEXIBLE_ARRAY_MEMBER];
} Staffing;

static Staffing *plan = NULL;
static bool lowered = false;	/* romancy.executors was */

void
rom_staffing_init(void)
{
	RomRoster  *roster = rom_roster_get();

	plan = MemoryContextAllocZero(TopMemoryContext,
								  offsetof(Staffing, workers) +
								  roster->nworkers * sizeof(RomWorker));
	plan->torn = MemoryContextAlloc(TopMemoryContext, roster->nworkers * sizeof(int));
	rom_places_init(roster->nworkers);
}

static Known *
find_known(Oid dbid)
{
	int			i;

	for (i = 0; i < plan->ndatabases; i++)
		if (plan->databases[i].dbid == dbid)
			return &plan->databases[i];
	return NULL;
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
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		Known	   *known;

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
		Known	   *known;

		if (worker->state == ROM_WORKER_FREE || worker->kind == ROM_WORKER_HTTP)
			continue;
		plan->total++;
		if (worker->kind == ROM_WORKER_EXECUTOR &&
			worker->state == ROM_WORKER_IDLE)
			plan->executor_rests = true;
		known = find_known(worker->dbid);
		if (known != NULL && worker->kind == ROM_WORKER_EXECUTOR)
		{
			known->executors++;
			if (worker->slow && worker->state == ROM_WORKER_RUNNING)
				known->slow++;
		}
	}
}

static void
add_need(const Need *need)
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
need_schedulers(Known *known)
{
	bool		there[64] = {false};
	Need		need = {ROM_WORKER_SCHEDULER, known->dbid};
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
 * wanted says for how many executors an owner has work: one for each member that is not quick, and one
 * for each batch of the quick ones. Members of an owner of whom nothing quick was seen for a while are not
 * known to be quick.
 */
static int
wanted(const RomReadyQueue *queue)
{
	int			batch = queue->quick_at + KNOWN_QUICK > plan->now ? ROM_BATCH_MAX : 1;

	return queue->slow + (queue->quick + batch - 1) / batch;
}

/* Does an owner with ready work need an executor, or more of them? */
static void
need_executor(const RomReadyQueue *queue)
{
	Need		need = {ROM_WORKER_EXECUTOR, queue->dbid, queue->owner};
	int			there = 0;
	int			soon = 0;		/* will take from the queue in a moment */
	int			more;
	int			i;

	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];

		if (worker->kind != ROM_WORKER_EXECUTOR ||
			worker->state == ROM_WORKER_FREE ||
			worker->dbid != queue->dbid || worker->owner != queue->owner ||
			(worker->leave && !worker->slow) || worker->state == ROM_WORKER_LEAVING)
			continue;
		there++;				/* also one that leaves after its long step */
		if (!worker->slow)
			soon++;
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

/* Needs of a first worker come before needs of an additional one; among equals, the one that has waited longest. */
static int
by_need(const void *a, const void *b)
{
	const Need *x = a;
	const Need *y = b;

	if (x->more != y->more)
		return x->more ? 1 : -1;
	return x->since < y->since ? -1 : x->since > y->since;
}

/* How many executors of the same owner are there? stay: of those that are not on their way out. */
static int
siblings(const RomWorker *worker, bool stay)
{
	return rom_places_siblings(plan->workers, plan->nworkers, worker, stay);
}

/* Asks a worker to leave. */
static void
ask_to_leave(int i)
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

/*
 * Asks the worker that is needed least to leave. dbid: only executors of this database are asked;
 * otherwise any worker. For an additional executor, only an executor that has been idle for a while
 * makes room; for an additional scheduler, none. When only long steps are left, and the need is a scheduler or an owner's
 * first executor, one of an owner that has several is torn out: it was asked to leave before, and is run again from its begin.
 */
static void
make_room(Oid dbid, const Need *need, RomShortage of)
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

		/* an HTTP worker holds a process, but no place of ours */
		if (worker->state == ROM_WORKER_FREE || worker->state == ROM_WORKER_STARTING ||
			(worker->kind == ROM_WORKER_HTTP && (of != ROM_SHORT_OF_PROCESSES || !idle)) ||
			(OidIsValid(dbid) && (worker->dbid != dbid ||
								  worker->kind != ROM_WORKER_EXECUTOR)))
			continue;
		if (worker->leave || worker->state == ROM_WORKER_LEAVING)
		{
			/* a worker in a long turn does not count: others may end sooner */
			if (!worker->leave || rom_places_asked_at(i) + TENURE > plan->now)
				leaving++;
			else if (first && worker->slow && siblings(worker, true) + rom_places_torn(i) > 1)
				plan->torn[ntorn++] = i;
			continue;
		}
		if (!idle && worker->kind == ROM_WORKER_SCHEDULER)
			continue;

		if (need->more && (!idle || worker->kind != ROM_WORKER_EXECUTOR))
			continue;
		if (need->kind == ROM_WORKER_EXECUTOR && worker->kind == ROM_WORKER_EXECUTOR)
		{
			int			its = siblings(worker, false);
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
			score = siblings(worker, false) > 1 ? 2 : 1;
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
	else if (best >= 0)
		ask_to_leave(best);
}

/* A need finds no place, of all or of dbid's executors: a worker may be asked to leave for it. Returns false. */
static bool
lack(const Need *need, Oid dbid, RomShortage of)
{
	if (need->kind == ROM_WORKER_EXECUTOR)
		rom_shortage_add(need->dbid, need->owner, need->stands_since, of);
	make_room(dbid, need, of);
	return false;
}

/* Serves a need, if it can be. */
static bool
serve(const Need *need)
{
	Known	   *known = find_known(need->dbid);
	RomWorkerParams params;
	TimestampTz blocked_until;
	int			place;

	if (known == NULL || !known->served)
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
		(need->more || rom_guc_executors == 1 || known->slow < known->executors))
		return lack(need, need->dbid, ROM_SHORT_OF_EXECUTORS);
	if (plan->total >= plan->nplaces)
		return lack(need, InvalidOid, ROM_SHORT_OF_WORKERS);

	memset(&params, 0, sizeof(params));
	params.kind = need->kind;
	params.dbid = need->dbid;
	params.owner = need->owner;
	params.part = need->part;
	place = rom_places_start(&params, plan->now);
	if (place < 0)
	{
		plan->next = Min(plan->next, Max(rom_places_wait_until(),
										 plan->now + MS));
		return lack(need, InvalidOid, ROM_SHORT_OF_PROCESSES);
	}
	plan->workers[place].kind = need->kind;
	plan->workers[place].state = ROM_WORKER_STARTING;
	plan->workers[place].leave = false;
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

/* Asks those workers to leave whose database is not served: left out of romancy.databases, or romancy.enabled is off. */
static void
send_away(void)
{
	int			i;

	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		Known	   *known;

		if (worker->state == ROM_WORKER_FREE || worker->leave)
			continue;
		known = find_known(worker->dbid);
		if (known == NULL || !known->served)
			ask_to_leave(i);
	}
}

void
rom_staffing_executors_lowered(void)
{
	lowered = true;
}

/*
 * send_surplus_away asks executors to leave of which a database has more than romancy.executors allows
 * now: those that rest, then those whose work is quick, then the others. Each ends what it is doing.
 */
static void
send_surplus_away(const Known *known)
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
				ask_to_leave(i);
		}
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
			find_known(plan->needs[i].dbid)->scheduler_lacks = true;

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
		if (served[i] || plan->needs[i].kind != ROM_WORKER_EXECUTOR)
			continue;
		if (plan->needs[i].more)
		{
			roster->room_wanted = true;
			continue;
		}
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
	static bool served[NEEDS_MAX];
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

	send_away();
	for (i = 0; lowered && i < plan->ndatabases; i++)
		send_surplus_away(&plan->databases[i]);
	lowered = false;

	for (i = 0; i < plan->ndatabases; i++)
		if (plan->databases[i].served)
			need_schedulers(&plan->databases[i]);
	plan->nqueues = rom_ready_list(plan->queues);
	for (i = 0; i < plan->nqueues; i++)
	{
		Known	   *known = find_known(plan->queues[i].dbid);

		if (known != NULL && known->served)
			need_executor(&plan->queues[i]);
		else if (rom_guc_enabled)
			rom_ready_purge(plan->queues[i].dbid);
	}

	rom_shortage_begin();
	qsort(plan->needs, plan->nneeds, sizeof(Need), by_need);
	for (i = 0; i < plan->nneeds; i++)
		served[i] = serve(&plan->needs[i]);
	keep_asking(served);
	publish_pending(served);
	http_next = rom_http_staff_plan(plan->now);
	shortage_next = rom_shortage_end(plan->now);
	return Min(plan->next, Min(http_next, shortage_next));
}
