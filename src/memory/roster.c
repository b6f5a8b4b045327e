/*-------------------------------------------------------------------------
 *
 * roster.c
 *		The processes that exist: the workers and the databases, in shared
 *		memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/shmem.h"

static RomRoster *roster_area = NULL;

static Size
shmem_size(void)
{
	return add_size(offsetof(RomRoster, workers),
					mul_size(2 * rom_guc_max_workers + ROM_HTTP_PLACES, sizeof(RomWorker)));
}

static void
shmem_attach(void *place, bool found)
{
	roster_area = place;
	if (found)
		return;
	memset(place, 0, shmem_size());
	SpinLockInit(&roster_area->mutex);
	roster_area->launcher_procno = -1;
	roster_area->launcher_wakes_at = DT_NOBEGIN;
	roster_area->look_at = DT_NOEND;
	roster_area->first_http = 2 * rom_guc_max_workers;
	roster_area->nworkers = roster_area->first_http + ROM_HTTP_PLACES;
	roster_area->nplaces = rom_guc_max_workers;
	roster_area->places = rom_guc_max_workers;
}

RomRoster *
rom_roster_get(void)
{
	return roster_area;
}

TimestampTz
rom_roster_slow_at(const RomWorker *worker)
{
	if (worker->kind != ROM_WORKER_EXECUTOR)
		return DT_NOEND;
	if (worker->slow)
		return worker->slow_since;
	return worker->state != ROM_WORKER_RUNNING || worker->slow_since >= DT_NOEND ? DT_NOEND :
		worker->slow_since + ROM_QUICK_TAKES_MAX;
}

/*
 * Sets the latches. A latch of a process that has ended meanwhile is unused or belongs to another process, which
 * wakes, finds nothing and sleeps again.
 */
void
rom_roster_set_latches(const RomLatches *latches)
{
	int			i;

	for (i = 0; i < latches->count; i++)
		SetLatch(&GetPGProcByNumber(latches->procnos[i])->procLatch);
}

/* A wake-up that finds no room is one too many: some forty are on their way. */
static void
add_latch(RomLatches *latches, int procno)
{
	if (procno >= 0 && latches->count < ROM_LATCHES_MAX)
		latches->procnos[latches->count++] = procno;
}

void
rom_roster_tell_locked(RomRoster *roster, uint32 what, RomLatches *latches)
{
	if ((roster->told & what) == what)
		return;
	roster->told |= what;
	add_latch(latches, roster->launcher_procno);
}

void
rom_roster_tell(uint32 what)
{
	RomRoster  *roster = roster_area;
	RomLatches	latches;

	if (roster == NULL)
		return;
	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	rom_roster_tell_locked(roster, what, &latches);
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

/* The database's record, or NULL: unknown (create false), or no place is left. */
RomDatabase *
rom_roster_database_locked(RomRoster *roster, Oid dbid, bool create)
{
	RomDatabase *place = NULL;
	int			i;

	for (i = 0; i < roster->ndatabases; i++)
	{
		if (roster->databases[i].dbid == dbid)
			return &roster->databases[i];
		if (place == NULL && roster->databases[i].dbid == InvalidOid)
			place = &roster->databases[i];
	}
	if (!create)
		return NULL;
	if (place == NULL)
	{
		if (roster->ndatabases == ROM_MAX_DATABASES)
		{
			roster->databases_full = true;
			return NULL;
		}
		place = &roster->databases[roster->ndatabases++];
	}

	memset(place, 0, sizeof(RomDatabase));
	place->dbid = dbid;
	place->scheduler_at = DT_NOEND;
	place->http_at = DT_NOEND;
	place->horizon = DT_NOEND;
	for (i = 0; i < ROM_SWEEP_MAX; i++)
		place->sweep_at[i] = DT_NOEND;
	return place;
}

bool
rom_roster_wake_locked(RomRoster *roster, Oid dbid, Oid owner, bool slow, bool unknown, TimestampTz now,
					   RomLatches *latches)
{
	int			of_database = 0;	/* but those that rest: they make room */
	int			of_owner = 0;
	int			soon = 0;		/* of the owner, that are in no slow step */
	TimestampTz slow_at = DT_NOEND; /* the first of these is */
	int			i;

	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];
		bool		is_slow;

		if (worker->state == ROM_WORKER_FREE || worker->overtime ||
			worker->kind != ROM_WORKER_EXECUTOR || worker->dbid != dbid)
			continue;
		if (worker->owner == owner || worker->state != ROM_WORKER_IDLE)
			of_database++;
		is_slow = rom_roster_slow_at(worker) <= now;
		if (worker->owner != owner || (worker->leave && !is_slow) ||
			worker->state == ROM_WORKER_LEAVING)
			continue;
		of_owner++;
		if (!is_slow && !worker->unknown)
		{
			soon++;
			slow_at = Min(slow_at, rom_roster_slow_at(worker));
		}
		if (worker->state == ROM_WORKER_IDLE)
		{
			worker->state = ROM_WORKER_RUNNING; /* claimed */
			add_latch(latches, worker->procno);
			return true;
		}
	}

	if (of_owner == 0 || (!slow && soon == 0))
	{
		for (i = 0; i < roster->npending; i++)
			if (roster->pending[i].dbid == dbid &&
				roster->pending[i].owner == owner)
				return false;
		rom_roster_tell_locked(roster, ROM_TELL_START, latches);
	}
	else if (of_database < rom_guc_executors && !roster->cannot_grow)
		rom_roster_tell_locked(roster, slow || unknown ? ROM_TELL_START : ROM_TELL_GROW, latches);
	else
	{
		/*
		 * an executor that becomes idle tells the launcher; one that waits
		 * for something does not
		 */
		roster->room_wanted = true;
		roster->look_at = Min(roster->look_at, slow_at);
		if (roster->look_at < roster->launcher_wakes_at)
			rom_roster_tell_locked(roster, ROM_TELL_LOOK, latches);
	}
	return false;
}

void
rom_roster_forget_pending_locked(RomRoster *roster, Oid dbid, Oid owner)
{
	for (int i = 0; i < roster->npending; i++)
		if (roster->pending[i].dbid == dbid && roster->pending[i].owner == owner)
			roster->pending[i--] = roster->pending[--roster->npending];
}

bool
rom_roster_wake_scheduler_locked(RomRoster *roster, Oid dbid,
								 RomLatches *latches)
{
	bool		found = false;
	int			i;

	for (i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];

		if (worker->state != ROM_WORKER_FREE &&
			worker->state != ROM_WORKER_LEAVING && !worker->leave &&
			worker->kind == ROM_WORKER_SCHEDULER && worker->dbid == dbid)
		{
			found = true;
			if (worker->pid != 0)
				add_latch(latches, worker->procno);
		}
	}
	return found;
}

void
rom_roster_http(Oid dbid, uint32 what)
{
	RomRoster  *roster = roster_area;
	RomDatabase *database;
	RomLatches	latches;
	bool		there = false;

	if (roster == NULL)
		return;
	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL)
	{
		database->http |= what;
		for (int i = 0; i < roster->nworkers; i++)
		{
			RomWorker  *worker = &roster->workers[i];

			if (worker->state == ROM_WORKER_FREE || worker->state == ROM_WORKER_LEAVING || worker->leave ||
				worker->kind != ROM_WORKER_HTTP || worker->dbid != dbid)
				continue;
			there = true;
			if (worker->pid != 0)
				add_latch(&latches, worker->procno);
		}
		/* requests that limits hold back wait for that time */
		if (!there && (what & ROM_HTTP_LIMITS) && database->http_at != DT_NOEND)
			database->http |= what |= ROM_HTTP_CLAIM;
		/* one that is leaving tells the launcher when it has gone */
		if (!there && (what & (ROM_HTTP_CLAIM | ROM_HTTP_EVENTS)))
			rom_roster_tell_locked(roster, ROM_TELL_START, &latches);
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

RomFailing *
rom_roster_failing_locked(RomRoster *roster, RomWorkerKind kind, Oid dbid, Oid owner, bool create)
{
	int			free = -1;
	int			oldest = 0;

	if (kind != ROM_WORKER_EXECUTOR)
	{
		RomDatabase *database = rom_roster_database_locked(roster, dbid, false);

		return database == NULL ? NULL : &database->failing[kind];
	}
	for (int i = 0; i < ROM_FAILING_OWNERS; i++)
	{
		if (roster->failing_owners[i].dbid == dbid && roster->failing_owners[i].owner == owner)
			return &roster->failing_owners[i].failing;
		if (!OidIsValid(roster->failing_owners[i].dbid))
			free = i;
		else if (roster->failing_owners[i].failing.blocked_until < roster->failing_owners[oldest].failing.blocked_until)
			oldest = i;
	}
	if (!create)
		return NULL;
	if (free < 0)
		free = oldest;
	roster->failing_owners[free].dbid = dbid;
	roster->failing_owners[free].owner = owner;
	roster->failing_owners[free].failing.count = 0;
	roster->failing_owners[free].failing.failed_at = 0;
	roster->failing_owners[free].failing.blocked_until = 0;
	return &roster->failing_owners[free].failing;
}

void
rom_roster_healthy(const RomWorker *worker)
{
	RomRoster  *roster = roster_area;
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	if (worker->kind == ROM_WORKER_EXECUTOR)
	{
		for (int i = 0; i < ROM_FAILING_OWNERS; i++)
			if (roster->failing_owners[i].dbid == worker->dbid && roster->failing_owners[i].owner == worker->owner)
				roster->failing_owners[i].dbid = InvalidOid;
	}
	else if ((database = rom_roster_database_locked(roster, worker->dbid, false)) != NULL)
		database->failing[worker->kind].count = 0;
	SpinLockRelease(&roster->mutex);
}

TimestampTz
rom_roster_blocked_until(RomWorkerKind kind, Oid dbid, Oid owner)
{
	RomRoster  *roster = roster_area;
	RomFailing *failing;
	TimestampTz until;

	SpinLockAcquire(&roster->mutex);
	failing = rom_roster_failing_locked(roster, kind, dbid, owner, false);
	until = failing == NULL ? 0 : failing->blocked_until;
	SpinLockRelease(&roster->mutex);
	return until;
}

/* forget_owners forgets whose executors have failed in a database. */
static void
forget_owners(RomRoster *roster, Oid dbid)
{
	for (int i = 0; i < ROM_FAILING_OWNERS; i++)
		if (roster->failing_owners[i].dbid == dbid)
			roster->failing_owners[i].dbid = InvalidOid;
}

void
rom_roster_scan(Oid dbid, bool announce)
{
	RomRoster  *roster = roster_area;
	RomDatabase *database;
	RomLatches	latches;

	if (roster == NULL)
		return;
	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL)
	{
		if (announce)
		{
			database->refusal = ROM_REFUSAL_NONE;
			database->looked_ahead = false;
			database->epoch++;
			database->scan_after = 0;
			database->scan_failures = 0;
			memset(database->failing, 0, sizeof(database->failing));
			forget_owners(roster, dbid);
		}
		database->scan = true;
		if (!rom_roster_wake_scheduler_locked(roster, dbid, &latches) ||
			announce)
			rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

void
rom_roster_sweep(Oid dbid, int sweep, TimestampTz due)
{
	RomRoster  *roster = roster_area;
	RomDatabase *database;
	RomLatches	latches;

	if (roster == NULL || sweep < 0 || sweep >= ROM_SWEEP_MAX)
		return;
	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, true);
	if (database != NULL && due < database->sweep_at[sweep])
	{
		database->sweep_at[sweep] = due;
		if (!rom_roster_wake_scheduler_locked(roster, dbid, &latches) &&
			due < database->scheduler_at)
		{
			database->scheduler_at = due;
			if (due < roster->launcher_wakes_at)
			{
				roster->launcher_wakes_at = due;
				rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
			}
		}
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

void
rom_roster_busy(RomWorker *worker, int turns)
{
	RomRoster  *roster = roster_area;
	TimestampTz now = GetCurrentTimestamp();
	RomDatabase *database;
	RomLatches	latches;
	bool		there = false;
	int			i;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	worker->turns += turns;
	database = rom_roster_database_locked(roster, worker->dbid, true);
	if (database != NULL)
	{
		database->busy_at = now;
		for (i = 0; i < roster->nworkers && !there; i++)
			there = roster->workers[i].state != ROM_WORKER_FREE &&
				roster->workers[i].kind == ROM_WORKER_SCHEDULER &&
				roster->workers[i].dbid == worker->dbid;
		if (!there && database->scheduler_at > now + ROM_SCHEDULER_DELAY)
		{
			database->scheduler_at = now + ROM_SCHEDULER_DELAY;
			if (database->scheduler_at < roster->launcher_wakes_at)
				rom_roster_tell_locked(roster, ROM_TELL_DATABASE, &latches);
		}
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

char *
rom_roster_shortage_setting(RomShortage of)
{
	switch (of)
	{
		case ROM_SHORT_OF_EXECUTORS:
			return roster_area->nplaces > rom_guc_executors ?
				psprintf("romancy.executors (now %d)", rom_guc_executors) :
				psprintf("romancy.executors (now %d) and romancy.max_workers (now %d)", rom_guc_executors, roster_area->nplaces);
		case ROM_SHORT_OF_WORKERS:
			return psprintf("romancy.max_workers (now %d)", roster_area->nplaces);
		case ROM_SHORT_OF_PROCESSES:
			return psprintf("max_worker_processes (now %d)", max_worker_processes);
		case ROM_SHORT_OF_NOTHING:
			break;
	}
	return pstrdup("romancy.max_workers and max_worker_processes");
}

void
rom_roster_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy roster",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
