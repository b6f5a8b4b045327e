/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The process that starts the other workers.
 *
 * Started by the postmaster, as a static worker, when recovery is over: a
 * standby runs nothing, and begins when it is promoted. Registered only where
 * the library is preloaded, and not in the servers of pg_upgrade. It is connected to no
 * database (DROP DATABASE does not mind it) and reads pg_database.
 *
 * It sleeps until the nearest deadline, or until it is told that something
 * changed. It then moves deadlines that are over into the ready queues, and
 * starts what is needed and has a place:
 *
 *	- an executor for each owner with ready work that has none, and one more
 *	  where those that there are have no time for what waits;
 *	- the scheduler of a database that is to be scanned (at the start: of each
 *	  database, once), whose sweep is due, or whose deadlines are no longer all in memory.
 *
 * Where places are short, those who wait are served in the order in which
 * they began to wait: an idle worker, or else one that has had its time, is asked to leave.
 *
 * Anybody may end it: it is started again after five seconds, and the places
 * in the roster tell it what is running. ERROR, FATAL: the same. Crash: the
 * postmaster restarts all, and shared memory begins empty. A worker that ends
 * badly makes the next start wait, longer each time; these delays are in shared
 * memory, so they outlive the launcher. A worker that was registered but never came is
 * given up after a minute, by the generation of its place.
 *
 * Known gap: with more than ROM_MAX_DATABASES databases, those that find no
 * place in the roster are not served.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/ready.h"
#include "base/slot.h"
#include "workers/bgw.h"
#include "workers/launcher.h"

#define MS INT64CONST(1000)

/* Executors that have not taken from their queue for so long get help. */
#define GROW_AFTER (10 * MS)

/* A worker may be asked to leave for another one's sake after this time, and no sooner is the question asked again. */
#define TENURE (200 * MS)

/* While somebody waits for a place; one that becomes free is told at once. */
#define LOOK_AGAIN (250 * MS)

/* A start that takes longer is given up. */
#define START_LIMIT (60000 * MS)

/* What the launcher remembers of a place. */
typedef struct Place
{
	BackgroundWorkerHandle *handle;
	uint32		generation;		/* of the worker it is for */
	TimestampTz asked_at;		/* when it was asked to leave */
} Place;

/* A database as it was when the plan began. */
typedef struct Known
{
	Oid			dbid;
	bool		served;
	bool		needs_scheduler;
	TimestampTz scheduler_at;
	TimestampTz blocked_until[ROM_WORKER_KINDS];
	int			executors;
} Known;

/* Somebody who waits for a worker. */
typedef struct Need
{
	RomWorkerKind kind;
	Oid			dbid;
	Oid			owner;
	int			part;
	TimestampTz since;
	bool		more;			/* executor: one more, so nobody has to leave for it */
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
	Need		needs[ROM_READY_QUEUES + ROM_MAX_DATABASES];
	int			unserved;		/* needs, so far, that somebody has to leave for */
	int			nworkers;
	int			total;			/* places taken */
	RomWorker	workers[FLEXIBLE_ARRAY_MEMBER];
} Staffing;

static Staffing *plan = NULL;
static Place *places = NULL;

/* No process is to be had before, since max_worker_processes is used up. */
static TimestampTz no_process_until = 0;
static int	no_process_count = 0;

void
rom_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 "romancy");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "rom_launcher_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "romancy launcher");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "romancy launcher");
	RegisterBackgroundWorker(&worker);
}

static void
sign_off(int code, Datum arg)
{
	RomRoster  *roster = rom_roster_get();

	SpinLockAcquire(&roster->mutex);
	roster->launcher_pid = 0;
	roster->launcher_procno = -1;
	SpinLockRelease(&roster->mutex);
}

static void
sign_on(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&roster->mutex);
	roster->launcher_pid = MyProcPid;
	roster->launcher_procno = ROM_PROC_NUMBER();
	roster->launcher_started_at = roster->launcher_since = now;
	roster->launcher_wakes_at = DT_NOEND;
	roster->told = ROM_TELL_LIST;
	roster->npending = 0;
	roster->cannot_grow = false;
	SpinLockRelease(&roster->mutex);
}

/* ---- databases ---- */

/* What list_databases() reads. */
typedef struct Listing
{
	MemoryContext context;
	Oid		   *all;
	int			nall;
	Oid		   *served;
	int			nserved;
} Listing;

/* Is name in romancy.databases, or that empty? */
static bool
is_named(List *names, const char *name)
{
	ListCell   *cell;

	if (names == NIL)
		return true;
	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static void
read_databases(void *arg)
{
	Listing    *listing = arg;
	List	   *names = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	int			capacity = 0;

	/* the check hook has seen to the syntax */
	(void) SplitIdentifierString(pstrdup(rom_guc_databases), ',', &names);

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (listing->nall == capacity)
		{
			MemoryContext old = MemoryContextSwitchTo(listing->context);

			capacity = capacity == 0 ? 64 : capacity * 2;
			listing->all = listing->all == NULL ?
				palloc(capacity * sizeof(Oid)) :
				repalloc(listing->all, capacity * sizeof(Oid));
			listing->served = listing->served == NULL ?
				palloc(capacity * sizeof(Oid)) :
				repalloc(listing->served, capacity * sizeof(Oid));
			MemoryContextSwitchTo(old);
		}
		listing->all[listing->nall++] = form->oid;
		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != DATCONNLIMIT_INVALID_DB &&
			is_named(names, NameStr(form->datname)))
			listing->served[listing->nserved++] = form->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

static bool
contains(const Oid *oids, int n, Oid oid)
{
	int			i;

	for (i = 0; i < n; i++)
		if (oids[i] == oid)
			return true;
	return false;
}

/* Notes which databases there are: each new one is to be visited once, one that is gone is to be forgotten. */
static void
list_databases(void)
{
	RomRoster  *roster = rom_roster_get();
	Listing		listing = {0};
	bool		full;
	int			i;

	listing.context = TopMemoryContext;
	if (!rom_bgw_unit(read_databases, &listing, false))
		return;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < listing.nserved; i++)
		(void) rom_roster_database_locked(roster, listing.served[i], true);
	for (i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		bool		served = contains(listing.served, listing.nserved,
									  database->dbid);

		if (!OidIsValid(database->dbid))
			continue;
		database->listed = true;
		if (served && !database->served)
			database->scan = true;
		database->served = served;
		if (!contains(listing.all, listing.nall, database->dbid))
			database->dropped = true;
	}
	full = roster->databases_full;
	roster->databases_full = false;
	SpinLockRelease(&roster->mutex);

	if (full)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("romancy's workers serve no more than %d databases",
						ROM_MAX_DATABASES),
				 errhint("Name those that have work in \"romancy.databases\".")));

	if (listing.all)
		pfree(listing.all);
	if (listing.served)
		pfree(listing.served);
}

/* Forgets the databases that are gone, and what is queued for those where nothing may run. */
static void
forget_databases(void)
{
	RomRoster  *roster = rom_roster_get();
	Oid			dropped[ROM_MAX_DATABASES];
	int			n = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
		if (roster->databases[i].dropped)
			dropped[n++] = roster->databases[i].dbid;
	SpinLockRelease(&roster->mutex);

	for (i = 0; i < n; i++)
	{
		RomDatabase *database;

		rom_ready_purge(dropped[i]);
		SpinLockAcquire(&roster->mutex);
		database = rom_roster_database_locked(roster, dropped[i], false);
		if (database != NULL)
		{
			database->dbid = InvalidOid;
			database->dropped = false;
		}
		SpinLockRelease(&roster->mutex);
	}
}

/* ---- places ---- */

/* Frees a place whose process ended, or never began, without giving it up. */
static void
free_place(int i, bool failed)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *worker = &roster->workers[i];
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	if (worker->generation == places[i].generation &&
		worker->state == ROM_WORKER_STARTING)
	{
		worker->state = ROM_WORKER_FREE;
		worker->generation++;
		database = rom_roster_database_locked(roster, worker->dbid, false);
		if (database != NULL && failed)
		{
			/* the process came to nothing: so does what it was to do */
			database->failures[worker->kind]++;
			database->blocked_until[worker->kind] =
				plan->now + 1000 * MS * Min(database->failures[worker->kind], 60);
			if (worker->kind == ROM_WORKER_SCHEDULER)
				database->scan = true;
		}
	}
	SpinLockRelease(&roster->mutex);
}

/* Looks after the processes that are starting, and lets go of those that have ended. */
static void
reap(void)
{
	RomRoster  *roster = rom_roster_get();
	int			i;

	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		Place	   *place = &places[i];
		pid_t		pid;

		if (worker->state != ROM_WORKER_STARTING)
		{
			if (worker->state == ROM_WORKER_FREE && place->handle != NULL)
			{
				pfree(place->handle);
				place->handle = NULL;
			}
			continue;
		}

		if (place->handle != NULL &&
			GetBackgroundWorkerPid(place->handle, &pid) == BGWH_STOPPED)
		{
			free_place(i, true);
			worker->state = ROM_WORKER_FREE;
		}
		else if (worker->started_at + START_LIMIT <= plan->now)
		{
			if (place->handle != NULL)
				TerminateBackgroundWorker(place->handle);
			places[i].generation = worker->generation;
			free_place(i, true);
			worker->state = ROM_WORKER_FREE;
		}
		else
			plan->next = Min(plan->next, worker->started_at + START_LIMIT);
	}
}

/* Starts a worker for need. False: no process is to be had. */
static bool
start(const Need *need)
{
	RomRoster  *roster = rom_roster_get();
	RomWorkerParams params;
	RomDatabase *database;
	int			place = -1;
	int			i;

	memset(&params, 0, sizeof(params));
	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->nworkers && place < 0; i++)
		if (roster->workers[i].state == ROM_WORKER_FREE)
			place = i;
	if (place >= 0)
	{
		RomWorker  *worker = &roster->workers[place];

		worker->kind = need->kind;
		worker->state = ROM_WORKER_STARTING;
		worker->leave = false;
		worker->generation++;
		worker->dbid = need->dbid;
		worker->owner = need->owner;
		worker->part = need->part;
		worker->pid = 0;
		worker->started_at = worker->since = plan->now;
		worker->turns = 0;
		params.generation = worker->generation;

		database = rom_roster_database_locked(roster, need->dbid, true);
		if (database != NULL)
		{
			if (need->kind == ROM_WORKER_SCHEDULER)
				database->scheduler_at = DT_NOEND;
			else if (database->scheduler_at > plan->now + ROM_SCHEDULER_DELAY)
				database->scheduler_at = plan->now + ROM_SCHEDULER_DELAY;
		}
	}
	SpinLockRelease(&roster->mutex);
	if (place < 0)
		return false;

	params.kind = need->kind;
	params.place = place;
	params.dbid = need->dbid;
	params.owner = need->owner;
	params.part = need->part;
	if (places[place].handle != NULL)
		pfree(places[place].handle);
	places[place].generation = params.generation;
	places[place].asked_at = 0;
	places[place].handle = rom_bgw_register(&params);
	if (places[place].handle == NULL)
	{
		free_place(place, false);
		if (need->kind == ROM_WORKER_SCHEDULER)
		{
			SpinLockAcquire(&roster->mutex);
			database = rom_roster_database_locked(roster, need->dbid, false);
			if (database != NULL)
				database->scheduler_at = Min(database->scheduler_at, plan->now);
			SpinLockRelease(&roster->mutex);
		}
		return false;
	}
	plan->workers[place] = roster->workers[place];
	plan->total++;
	return true;
}

/* max_worker_processes is used up: says so once, and tries again later and later. */
static void
no_process(void)
{
	int64		ms = 1000 * (INT64CONST(1) << Min(no_process_count, 10));

	no_process_until = plan->now + Min(ms, rom_guc_retry_backoff_max) * MS;
	if (no_process_count++ == 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots"),
				 errdetail("romancy goes on with the %d workers that it has.",
						   plan->total),
				 errhint("You might need to increase %s.",
						 "max_worker_processes")));
}

static void
process_again(void)
{
	if (no_process_count > 0)
		ereport(LOG,
				(errmsg("romancy got a background worker slot again, after %d attempts",
						no_process_count)));
	no_process_count = 0;
	no_process_until = 0;
}

/* ---- the plan ---- */

static Known *
find_known(Oid dbid)
{
	int			i;

	for (i = 0; i < plan->ndatabases; i++)
		if (plan->databases[i].dbid == dbid)
			return &plan->databases[i];
	return NULL;
}

/* Copies what the plan looks at. Returns false when a database turned up that has not been listed. */
static bool
look(void)
{
	RomRoster  *roster = rom_roster_get();
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
		known->needs_scheduler = database->scan || database->refill;
		known->scheduler_at = Min(database->scheduler_at, database->horizon);
		memcpy(known->blocked_until, database->blocked_until,
			   sizeof(known->blocked_until));
	}
	SpinLockRelease(&roster->mutex);

	plan->nworkers = roster->nworkers;
	return complete;
}

/* Counts who is there. */
static void
count_workers(void)
{
	int			i;

	plan->total = 0;
	for (i = 0; i < plan->ndatabases; i++)
		plan->databases[i].executors = 0;
	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		Known	   *known;

		if (worker->state == ROM_WORKER_FREE)
			continue;
		plan->total++;
		known = find_known(worker->dbid);
		if (known != NULL && worker->kind == ROM_WORKER_EXECUTOR)
			known->executors++;
	}
}

static void
add_need(RomWorkerKind kind, Oid dbid, Oid owner, int part, TimestampTz since,
		 bool more)
{
	Need	   *need;

	if (plan->nneeds == lengthof(plan->needs))
		return;
	need = &plan->needs[plan->nneeds++];
	need->kind = kind;
	need->dbid = dbid;
	need->owner = owner;
	need->part = part;
	need->since = since;
	need->more = more;
}

/* Which schedulers does a database lack that should be there now? */
static void
need_schedulers(Known *known)
{
	bool		there[64] = {false};
	int			i;

	if (!known->needs_scheduler && known->scheduler_at > plan->now)
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
			there[worker->part] = true;
	}
	for (i = 0; i < rom_guc_schedulers; i++)
		if (!there[i])
			add_need(ROM_WORKER_SCHEDULER, known->dbid, InvalidOid, i,
					 known->scheduler_at < plan->now ?
					 known->scheduler_at : plan->now, i > 0);
}

/* Does an owner with ready work need an executor, or one more? */
static void
need_executor(const RomReadyQueue *queue)
{
	int			there = 0;
	int			i;

	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];

		if (worker->kind != ROM_WORKER_EXECUTOR ||
			worker->dbid != queue->dbid || worker->owner != queue->owner ||
			worker->leave)
			continue;
		if (worker->state == ROM_WORKER_STARTING ||
			worker->state == ROM_WORKER_IDLE)
			return;				/* is about to take from it */
		if (worker->state == ROM_WORKER_RUNNING)
			there++;
	}
	if (there == 0)
		add_need(ROM_WORKER_EXECUTOR, queue->dbid, queue->owner, 0,
				 queue->waiting_since, false);
	else if (queue->count > 2 * ROM_BATCH_MAX ||
			 queue->waiting_since + GROW_AFTER <= plan->now)
		add_need(ROM_WORKER_EXECUTOR, queue->dbid, queue->owner, 0,
				 queue->waiting_since, true);
	else
		plan->next = Min(plan->next, queue->waiting_since + GROW_AFTER);
}

/* Those who need somebody to be there at all come before those who want one more; then, who waits for longest. */
static int
by_need(const void *a, const void *b)
{
	const Need *x = a;
	const Need *y = b;

	if (x->more != y->more)
		return x->more ? 1 : -1;
	return x->since < y->since ? -1 : x->since > y->since;
}

/* How many executors of the same owner are there? */
static int
siblings(const RomWorker *worker)
{
	int			n = 0;
	int			i;

	for (i = 0; i < plan->nworkers; i++)
		if (plan->workers[i].state != ROM_WORKER_FREE &&
			plan->workers[i].kind == ROM_WORKER_EXECUTOR &&
			plan->workers[i].dbid == worker->dbid &&
			plan->workers[i].owner == worker->owner)
			n++;
	return n;
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
	rom_latches_set(&latches);
	plan->workers[i].leave = true;
	places[i].asked_at = plan->now;
}

/*
 * Asks the worker to leave that can be missed best. dbid: an executor of this
 * database has to be it; otherwise anybody.
 */
static void
make_room(Oid dbid)
{
	int			best = -1;
	int			best_score = 0;
	int			leaving = 0;
	int			i;

	plan->next = Min(plan->next, plan->now + LOOK_AGAIN);
	for (i = 0; i < plan->nworkers; i++)
	{
		RomWorker  *worker = &plan->workers[i];
		bool		idle = worker->state == ROM_WORKER_IDLE;
		int			score;

		if (worker->state == ROM_WORKER_FREE ||
			worker->state == ROM_WORKER_STARTING ||
			(OidIsValid(dbid) && (worker->dbid != dbid ||
								  worker->kind != ROM_WORKER_EXECUTOR)))
			continue;
		if (worker->leave || worker->state == ROM_WORKER_LEAVING)
		{
			/* one that is in a long turn does not count: others may be sooner */
			if (!worker->leave || places[i].asked_at + TENURE > plan->now)
				leaving++;
			continue;
		}
		if (!idle && worker->kind == ROM_WORKER_SCHEDULER)
			continue;
		if (!idle && worker->started_at + TENURE > plan->now)
		{
			plan->next = Min(plan->next, worker->started_at + TENURE);
			continue;
		}

		if (idle)
			score = worker->kind == ROM_WORKER_EXECUTOR ? 4 : 3;
		else
			score = siblings(worker) > 1 ? 2 : 1;
		if (score > best_score ||
			(score == best_score &&
			 worker->started_at < plan->workers[best].started_at))
		{
			best = i;
			best_score = score;
		}
	}

	/* room is being made for those before us in the line only, or for us, too */
	if (leaving >= ++plan->unserved || best < 0)
		return;

	ask_to_leave(best);
}

/* Serves a need, if it can be. */
static bool
serve(const Need *need)
{
	Known	   *known = find_known(need->dbid);

	if (known == NULL || !known->served)
		return false;
	if (known->blocked_until[need->kind] > plan->now)
	{
		plan->next = Min(plan->next, known->blocked_until[need->kind]);
		return false;
	}
	if (no_process_until > plan->now)
	{
		plan->next = Min(plan->next, no_process_until);
		return false;
	}
	if (need->kind == ROM_WORKER_EXECUTOR &&
		known->executors >= rom_guc_executors)
	{
		if (!need->more)
			make_room(need->dbid);
		return false;
	}
	if (plan->total >= plan->nworkers)
	{
		if (!need->more)
			make_room(InvalidOid);
		return false;
	}
	if (!start(need))
	{
		no_process();
		plan->next = Min(plan->next, no_process_until);
		return false;
	}
	process_again();
	if (need->kind == ROM_WORKER_EXECUTOR)
		known->executors++;
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

/* All databases are to be scanned: romancy.enabled is on again. */
static void
scan_all(void)
{
	RomRoster  *roster = rom_roster_get();
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < roster->ndatabases; i++)
		roster->databases[i].scan = true;
	SpinLockRelease(&roster->mutex);
}

/* Tells committers what is known to wait, and whether more workers are to be had. */
static void
publish_pending(const bool *served)
{
	RomRoster  *roster = rom_roster_get();
	int			n = 0;
	int			i;

	SpinLockAcquire(&roster->mutex);
	for (i = 0; i < plan->nneeds && n < ROM_MAX_PENDING; i++)
	{
		if (served[i] || plan->needs[i].more ||
			plan->needs[i].kind != ROM_WORKER_EXECUTOR)
			continue;
		roster->pending[n].dbid = plan->needs[i].dbid;
		roster->pending[n].owner = plan->needs[i].owner;
		n++;
	}
	roster->npending = n;
	roster->cannot_grow = plan->total >= plan->nworkers ||
		no_process_until > plan->now;
	SpinLockRelease(&roster->mutex);
}

/* Starts what is needed; plan->next says when to look again. */
static void
make_plan(void)
{
	static bool served[ROM_READY_QUEUES + ROM_MAX_DATABASES];
	int			i;

	plan->now = GetCurrentTimestamp();
	plan->next = DT_NOEND;
	plan->nneeds = 0;
	plan->unserved = 0;

	forget_databases();
	if (!look())
	{
		list_databases();
		(void) look();
	}
	reap();
	count_workers();

	send_away();

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

	qsort(plan->needs, plan->nneeds, sizeof(Need), by_need);
	for (i = 0; i < plan->nneeds; i++)
		served[i] = serve(&plan->needs[i]);
	publish_pending(served);
}

/* ---- the process ---- */

/* Sleeps until next, unless told otherwise meanwhile. */
static void
sleep_until(TimestampTz next)
{
	RomRoster  *roster = rom_roster_get();
	bool		told;

	SpinLockAcquire(&roster->mutex);
	told = (roster->told & ~ROM_TELL_GROW) != 0;
	if (!told)
		roster->launcher_wakes_at = next;
	SpinLockRelease(&roster->mutex);

	if (!told)
		rom_bgw_wait(rom_bgw_milliseconds(next));
	else
		rom_bgw_poll();

	/* awake: every deadline is to be told */
	SpinLockAcquire(&roster->mutex);
	roster->launcher_wakes_at = DT_NOEND;
	SpinLockRelease(&roster->mutex);
}

void
rom_launcher_main(Datum arg)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz grow_at = DT_NOEND;
	TimestampTz plan_at = DT_NOBEGIN;
	bool		enabled = true;
	char	   *databases;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	before_shmem_exit(sign_off, 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	rom_bgw_pin_session();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type,
					PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_IDLE, NULL);

	MemoryContextSwitchTo(TopMemoryContext);
	plan = palloc0(offsetof(Staffing, workers) +
				   roster->nworkers * sizeof(RomWorker));
	places = palloc0(roster->nworkers * sizeof(Place));
	databases = pstrdup(rom_guc_databases);
	sign_on();

	for (;;)
	{
		TimestampTz now;
		TimestampTz next;
		uint32		told;

		if (strcmp(databases, rom_guc_databases) != 0)
		{
			pfree(databases);
			databases = pstrdup(rom_guc_databases);
			rom_roster_tell(ROM_TELL_LIST);
		}
		if (enabled != rom_guc_enabled)
		{
			enabled = rom_guc_enabled;
			if (enabled)
				scan_all();
			plan_at = DT_NOBEGIN;
		}

		next = rom_ready_pump();

		SpinLockAcquire(&roster->mutex);
		told = roster->told;
		roster->told &= ROM_TELL_GROW;
		SpinLockRelease(&roster->mutex);

		now = GetCurrentTimestamp();
		if (told & ROM_TELL_LIST)
			list_databases();
		if ((told & ROM_TELL_GROW) && grow_at == DT_NOEND)
			grow_at = now + GROW_AFTER;
		if (grow_at <= now)
		{
			/* from here on a commit that finds all busy tells us anew */
			SpinLockAcquire(&roster->mutex);
			roster->told &= ~ROM_TELL_GROW;
			SpinLockRelease(&roster->mutex);
			grow_at = DT_NOEND;
			plan_at = DT_NOBEGIN;
		}
		if ((told & ~(ROM_TELL_GROW | ROM_TELL_RING)) != 0 || plan_at <= now)
		{
			make_plan();
			plan_at = plan->next;
		}

		next = Min(next, Min(plan_at, grow_at));
		sleep_until(next);
	}
}
