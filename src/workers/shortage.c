/*-------------------------------------------------------------------------
 *
 * shortage.c
 *		Work that waits for a place, and which setting bounds the places.
 *
 * A plan tells what it finds no place for. The setting is kept by database in
 * the roster, where health() reads it, and is written into the log when the
 * work has waited for romancy.worker_wait_warning, with those who occupy the
 * places.
 *
 * Only the launcher calls this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/guc.h"
#include "workers/bgw.h"
#include "workers/shortage.h"

/* Work of a database is written into the log no more often. */
#define LOG_AGAIN (300 * USECS_PER_SEC)

/* The work that waits in a database, as one plan finds it. */
typedef struct Waiting
{
	Oid			dbid;
	Oid			owner;			/* who has waited for longest */
	TimestampTz since;
	RomShortage of;
} Waiting;

static Waiting waiting[ROM_MAX_DATABASES];
static int	nwaiting = 0;

/* A line for the log. */
typedef struct Report
{
	Waiting		waiting;
	TimestampTz now;
} Report;

void
rom_shortage_begin(void)
{
	nwaiting = 0;
}

void
rom_shortage_add(Oid dbid, Oid owner, TimestampTz since, RomShortage of)
{
	int			i = 0;

	while (i < nwaiting && waiting[i].dbid != dbid)
		i++;
	if (i == ROM_MAX_DATABASES)
		return;
	if (i == nwaiting)
		nwaiting++;
	else if (waiting[i].since <= since)
		return;
	waiting[i].dbid = dbid;
	waiting[i].owner = owner;
	waiting[i].since = since;
	waiting[i].of = of;
}

/* name_of returns a role's name, or its OID where it is gone. */
static char *
name_of(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* describe says in a sentence who occupies the places that the work waits for. */
static char *
describe(const Waiting *w, TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *workers = palloc_array(RomWorker, roster->nworkers);
	StringInfoData text;

	SpinLockAcquire(&roster->mutex);
	memcpy(workers, roster->workers, roster->nworkers * sizeof(RomWorker));
	SpinLockRelease(&roster->mutex);

	initStringInfo(&text);
	for (int i = 0; i < roster->nworkers; i++)
	{
		TimestampTz since = workers[i].slow ? workers[i].slow_since : workers[i].since;

		if (workers[i].state == ROM_WORKER_FREE || workers[i].kind != ROM_WORKER_EXECUTOR ||
			(w->of == ROM_SHORT_OF_EXECUTORS && workers[i].dbid != w->dbid))
			continue;
		appendStringInfo(&text, "%sprocess %d for role \"%s\" for " INT64_FORMAT " s",
						 text.len > 0 ? ", " : "", workers[i].pid, name_of(workers[i].owner),
						 Max(now - since, 0) / USECS_PER_SEC);
	}
	if (text.len == 0)
		appendStringInfoString(&text, "none of romancy's executors");
	return text.data;
}

/* write_log writes a report into the log; in a transaction, for the names. */
static void
write_log(void *arg)
{
	Report	   *report = arg;
	Waiting    *w = &report->waiting;
	char	   *database = get_database_name(w->dbid);

	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("work of role \"%s\" in database \"%s\" has waited for a worker for " INT64_FORMAT " s",
					name_of(w->owner), database ? database : psprintf("%u", w->dbid),
					(report->now - w->since) / USECS_PER_SEC),
			 errdetail("The places are occupied by %s.", describe(w, report->now)),
			 errhint("Raise %s, or end what occupies the places: see romancy.workers.",
					 rom_roster_shortage_setting(w->of))));
}

TimestampTz
rom_shortage_end(TimestampTz now)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz next = DT_NOEND;
	Report		reports[4];
	TimestampTz limit = (TimestampTz) rom_guc_worker_wait_warning * 1000;
	int			nreports = 0;

	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->ndatabases; i++)
	{
		RomDatabase *database = &roster->databases[i];
		TimestampTz at;
		int			w = 0;

		while (w < nwaiting && waiting[w].dbid != database->dbid)
			w++;
		if (w == nwaiting)
		{
			database->short_of = ROM_SHORT_OF_NOTHING;
			continue;
		}
		database->short_of = waiting[w].of;
		at = Max(waiting[w].since + limit, database->short_logged + LOG_AGAIN);
		if (limit == 0)
			continue;
		if (at > now)
			next = Min(next, at);
		else if (nreports == lengthof(reports))
			next = now;
		else
		{
			database->short_logged = now;
			next = Min(next, now + LOG_AGAIN);
			reports[nreports].waiting = waiting[w];
			reports[nreports++].now = now;
		}
	}
	SpinLockRelease(&roster->mutex);
	for (int i = 0; i < nreports; i++)
		(void) rom_bgw_unit(write_log, &reports[i], false);
	return next;
}
