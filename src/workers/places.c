/*-------------------------------------------------------------------------
 *
 * places.c
 *		Starting workers, and looking after those that start: for the launcher.
 *
 * A place is filled before its process is registered, so that the process
 * finds it; a process that never comes leaves it to be freed here, which changes
 * its generation. When max_worker_processes is used up the start is tried
 * again later and later, and soon after one of our own processes has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "memory/guc.h"
#include "memory/slot.h"
#include "workers/places.h"
#include "workers/rebuild.h"

#define MS INT64CONST(1000)

/* Time (us) within which a process that has given up its place has ended. */
#define PROCESS_GONE (500 * MS)
#define PROCESS_SOON (10 * MS)

/* Full background worker slots are logged no more often. */
#define LOG_AGAIN (300000 * MS)

/* A start that takes longer is given up. */
#define START_LIMIT (60000 * MS)

/* The launcher's own record of a place. */
typedef struct Place
{
	BackgroundWorkerHandle *handle;
	uint32		generation;		/* of the worker it is for */
	TimestampTz asked_at;		/* when it was asked to leave, or its step
								 * interrupted */
	bool		torn;			/* its step was interrupted, so that it leaves */
} Place;

static Place *places = NULL;
static int	nplaces = 0;

/* No process can be started before, since max_worker_processes is used up. */
static TimestampTz no_process_until = 0;
static TimestampTz no_process_logged_at = 0;
static bool no_process_said = false;	/* and that it is over was not */
static int	no_process_count = 0;

/* One of our workers has left: its process will be free any moment up to then. */
static TimestampTz process_soon_until = 0;

void
rom_places_init(int n)
{
	nplaces = n;
	places = MemoryContextAllocZero(TopMemoryContext, n * sizeof(Place));
}

void
rom_places_asked(int place, TimestampTz now)
{
	places[place].asked_at = now;
}

TimestampTz
rom_places_asked_at(int place)
{
	return places[place].asked_at;
}

int
rom_places_siblings(const RomWorker *workers, int n, const RomWorker *worker, bool stay)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
		if (workers[i].state != ROM_WORKER_FREE && !workers[i].overtime &&
			!(stay && (workers[i].state == ROM_WORKER_LEAVING || places[i].torn)) &&
			workers[i].kind == ROM_WORKER_EXECUTOR &&
			workers[i].dbid == worker->dbid &&
			workers[i].owner == worker->owner)
			count++;
	return count;
}

bool
rom_places_torn(int place)
{
	return places[place].torn;
}

/* by_asked: those that were asked to leave longest ago come first. */
static int
by_asked(const void *a, const void *b)
{
	TimestampTz x = places[*(const int *) a].asked_at;
	TimestampTz y = places[*(const int *) b].asked_at;

	return x < y ? -1 : x > y;
}

/* (A step that must not run twice is no attempt: it stands in no other's way, now or in the next plan.) */
int
rom_places_tear_out(int *candidates, int n, TimestampTz now)
{
	qsort(candidates, n, sizeof(int), by_asked);
	for (int i = 0; i < n; i++)
	{
		Place	   *place = &places[candidates[i]];

		if (!rom_slot_interrupt(candidates[i]))
			continue;
		place->asked_at = now;
		place->torn = true;
		return candidates[i];
	}
	return -1;
}

/* (A step that may run twice, but was not under way when it was to be interrupted, is the next time.) */
bool
rom_places_overtime(RomWorker *workers, const int *candidates, int n)
{
	int			place = -1;
	RomRoster  *roster = rom_roster_get();
	RomWorker  *worker;
	int			count = 0;

	for (int i = 0; i < n && place < 0; i++)
		if (!workers[candidates[i]].overtime && rom_slot_stays(candidates[i]))
			place = candidates[i];
	if (place < 0)
		return false;
	worker = &roster->workers[place];
	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->first_http; i++)
		count += roster->workers[i].state != ROM_WORKER_FREE && roster->workers[i].overtime;
	if (count < roster->nplaces && worker->generation == workers[place].generation && worker->state == ROM_WORKER_RUNNING)
		worker->overtime = workers[place].overtime = true;
	SpinLockRelease(&roster->mutex);
	return workers[place].overtime;
}

void
rom_places_worker_left(TimestampTz now)
{
	process_soon_until = now + PROCESS_GONE;
	no_process_until = 0;
}

TimestampTz
rom_places_wait_until(void)
{
	return no_process_until;
}

/* Frees a place whose process never came. failed: it is to blame, and the next one waits. */
static void
free_place(int i, TimestampTz now, bool failed)
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
			RomFailing *failing = rom_roster_failing_locked(roster, worker->kind, worker->dbid, worker->owner, true);

			failing->count++;
			failing->blocked_until = now + Min(failing->count, 60) * 1000 * MS;
		}

		/* the work for which it was started is still to be done */
		if (database != NULL && worker->kind == ROM_WORKER_SCHEDULER)
			database->scheduler_at = Min(database->scheduler_at, now);
	}
	SpinLockRelease(&roster->mutex);
}

TimestampTz
rom_places_reap(RomWorker *workers, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	int			i;

	for (i = 0; i < nplaces; i++)
	{
		RomWorker  *worker = &workers[i];
		Place	   *place = &places[i];
		bool		late;
		pid_t		pid;

		if (worker->state == ROM_WORKER_FREE && place->handle != NULL)
		{
			pfree(place->handle);
			place->handle = NULL;
		}
		if (worker->state != ROM_WORKER_STARTING)
			continue;

		late = worker->started_at + START_LIMIT <= now;
		if (late && place->handle != NULL)
			TerminateBackgroundWorker(place->handle);
		if (late || (place->handle != NULL &&
					 GetBackgroundWorkerPid(place->handle, &pid) == BGWH_STOPPED))
		{
			place->generation = worker->generation;
			free_place(i, now, true);
			worker->state = ROM_WORKER_FREE;
			next = now;			/* it is asked for again */
		}
		else
			next = Min(next, worker->started_at + START_LIMIT);
	}
	return next;
}

/* max_worker_processes is used up: says so, now and then, and tries again later and later. */
static void
no_process(TimestampTz now)
{
	(void) rom_rebuild_stop(InvalidOid, false); /* its process is wanted */
	if (process_soon_until > now)
		no_process_until = now + PROCESS_SOON;
	else
	{
		no_process_count++;
		no_process_until = now +
			(int64) rom_backoff(1000, 2, Min(no_process_count, 11), rom_guc_retry_backoff_max) * MS;
	}
	if (no_process_logged_at + LOG_AGAIN > now)
		return;
	no_process_logged_at = now;
	no_process_said = true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("out of background worker slots"),
			 errdetail("romancy continues with fewer than %d workers.", rom_roster_get()->nplaces),
			 errhint("You might need to increase %s.",
					 "max_worker_processes")));
}

static void
process_again(void)
{
	if (no_process_count > 0 && no_process_said)
	{
		ereport(LOG,
				(errmsg("romancy got a background worker slot again, after %d attempts",
						no_process_count)));
		no_process_said = false;
	}
	no_process_count = 0;
	no_process_until = 0;
}

/* Fills a free place; -1 when there is none. */
static int
fill_place(RomWorkerParams *params, TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *worker;
	RomDatabase *database;
	int			last = params->kind == ROM_WORKER_HTTP ? roster->nworkers : roster->first_http;
	int			i;

	SpinLockAcquire(&roster->mutex);
	/* HTTP workers have places of their own, after the others' */
	for (i = params->kind == ROM_WORKER_HTTP ? roster->first_http : 0; i < last; i++)
		if (roster->workers[i].state == ROM_WORKER_FREE)
			break;
	if (i == last)
	{
		SpinLockRelease(&roster->mutex);
		return -1;
	}

	worker = &roster->workers[i];
	worker->kind = params->kind;
	worker->state = ROM_WORKER_STARTING;
	worker->leave = worker->overtime = false;
	worker->slow = worker->unknown = false;
	worker->slow_since = DT_NOEND;
	worker->generation++;
	worker->dbid = params->dbid;
	worker->owner = params->owner;
	worker->part = params->part;
	worker->pid = 0;
	worker->started_at = worker->since = now;
	worker->serves_since = 0;
	worker->expects = 0;
	worker->turns = 0;
	params->place = i;
	params->generation = worker->generation;

	database = rom_roster_database_locked(roster, params->dbid, true);
	if (database != NULL)
	{
		if (params->kind == ROM_WORKER_SCHEDULER)
			database->waiting_since = 0;
		else if (params->kind == ROM_WORKER_HTTP)
			database->http_since = 0;
		else
			database->scheduler_at = Min(database->scheduler_at,
										 now + ROM_SCHEDULER_DELAY);
	}
	SpinLockRelease(&roster->mutex);
	return i;
}

int
rom_places_start(RomWorkerParams *params, bool expected, TimestampTz now)
{
	int			i = fill_place(params, now);

	if (i < 0)
		return -1;
	if (places[i].handle != NULL)
		pfree(places[i].handle);
	places[i].generation = params->generation;
	places[i].asked_at = 0;
	places[i].torn = false;
	places[i].handle = rom_bgw_register(params);
	if (places[i].handle == NULL)
	{
		free_place(i, now, false);

		/*
		 * what is not ready yet takes no process from others, and makes no
		 * work wait
		 */
		if (!expected)
			no_process(now);
		return -1;
	}
	process_again();
	return i;
}
