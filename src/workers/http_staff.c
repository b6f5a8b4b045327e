/*-------------------------------------------------------------------------
 *
 * http_staff.c
 *		Starting HTTP workers: for the launcher.
 *
 * A database has one HTTP worker at the most. It waits for the answers of others, so it has a place of its own,
 * beyond romancy.max_workers, and no turn waits for one. Where these places are short, an HTTP worker that has
 * nothing under way is asked to leave; one that has leaves when it is idle. Where max_worker_processes is used up, any
 * idle worker is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/roster.h"
#include "workers/bgw.h"
#include "workers/http_staff.h"
#include "workers/places.h"

/* While a database waits for a place or for a process. */
#define LOOK_AGAIN_US (INT64CONST(500) * 1000)

/* A database that lacks its HTTP worker. */
typedef struct Lack
{
	Oid			dbid;
	TimestampTz since;
} Lack;

/* has_worker says whether an HTTP worker is, or will be, in the database; one that leaves is missed when it has gone. The mutex is held. */
static bool
has_worker(RomRoster *roster, Oid dbid)
{
	for (int i = roster->first_http; i < roster->nworkers; i++)
		if (roster->workers[i].state != ROM_WORKER_FREE && roster->workers[i].dbid == dbid)
			return true;
	return false;
}

/* find_lacks lists the databases that need a worker now; *next: when another one may need one. */
static int
find_lacks(RomRoster *roster, TimestampTz now, Lack *lacks, TimestampTz *next)
{
	int			n = 0;

	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];

		if (!OidIsValid(database->dbid) || !rom_guc_enabled || !database->served || database->dropped || database->barred != 0 ||
			database->refusal != ROM_REFUSAL_NONE || has_worker(roster, database->dbid))
			continue;
		if (!(database->http & (ROM_HTTP_CLAIM | ROM_HTTP_EVENTS)) && database->http_at > now)
		{
			*next = Min(*next, database->http_at);
			continue;
		}
		if (database->http_since == 0)
			database->http_since = now;
		if (database->failing[ROM_WORKER_HTTP].blocked_until > now)
		{
			*next = Min(*next, database->failing[ROM_WORKER_HTTP].blocked_until);
			continue;
		}
		lacks[n].dbid = database->dbid;
		lacks[n++].since = database->http_since;
	}
	SpinLockRelease(&roster->mutex);
	return n;
}

/* usefulness orders idle workers: the lowest is asked to leave first. */
static int
usefulness(RomWorkerKind kind)
{
	return kind == ROM_WORKER_HTTP ? 0 : kind == ROM_WORKER_EXECUTOR ? 1 : 2;
}

/* make_room asks an idle worker to leave, unless one is leaving already: an HTTP worker, or (processes) any, which holds a process. */
static void
make_room(RomRoster *roster, bool processes, TimestampTz now)
{
	RomLatches	latches;
	int			best = -1;

	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	for (int i = processes ? 0 : roster->first_http; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];

		if (worker->state == ROM_WORKER_LEAVING || (worker->state == ROM_WORKER_IDLE && worker->leave))
		{
			best = -1;
			break;
		}
		if (worker->state == ROM_WORKER_IDLE &&
			(best < 0 || usefulness(worker->kind) < usefulness(roster->workers[best].kind)))
			best = i;
	}
	if (best >= 0)
	{
		roster->workers[best].leave = true;
		if (roster->workers[best].pid != 0)
			latches.procnos[latches.count++] = roster->workers[best].procno;
	}
	SpinLockRelease(&roster->mutex);
	if (best < 0)
		return;
	rom_roster_set_latches(&latches);
	rom_places_asked(best, now);
}

static int
by_since(const void *a, const void *b)
{
	TimestampTz x = ((const Lack *) a)->since;
	TimestampTz y = ((const Lack *) b)->since;

	return x < y ? -1 : x > y;
}

TimestampTz
rom_http_staff_plan(TimestampTz now)
{
	static Lack lacks[ROM_MAX_DATABASES];
	RomRoster  *roster = rom_roster_get();
	TimestampTz next = DT_NOEND;
	int			n = find_lacks(roster, now, lacks, &next);

	qsort(lacks, n, sizeof(Lack), by_since);
	for (int i = 0; i < n; i++)
	{
		RomWorkerParams params;

		memset(&params, 0, sizeof(params));
		params.kind = ROM_WORKER_HTTP;
		params.dbid = lacks[i].dbid;
		if (rom_places_wait_until() <= now && rom_places_start(&params, false, now) >= 0)
			continue;
		make_room(roster, rom_places_wait_until() > now, now);
		return Min(next, Max(rom_places_wait_until(), now + LOOK_AGAIN_US));
	}
	return next;
}
