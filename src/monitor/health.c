/*-------------------------------------------------------------------------
 *
 * health.c
 *		Is it alive, and why not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/version.h"
#include "client/define.h"
#include "instances/control.h"
#include "memory/roster.h"
#include "memory/shmem.h"

PG_FUNCTION_INFO_V1(romancy_health);

/* Work that has been due for so many seconds is overdue; and where counting it ends. */
#define OVERDUE_SECONDS 60
#define OVERDUE_MAX 1000

typedef struct Problems
{
	Jsonb	   *texts[16];
	int			count;
} Problems;

/* What the roster says. */
typedef struct Facts
{
	bool		launcher;
	bool		full;			/* no place or no process for a worker, and
								 * work waits for one */
	bool		known;			/* the database has a record */
	bool		served;
	int			workers;
	int			max_workers;
	int			failures;		/* of workers of this database, in a row */
} Facts;

static void
problem(Problems *problems, const char *text)
{
	problems->texts[problems->count++] = rom_jb_string_document(text);
}

/* read_facts copies what is of interest out of shared memory. */
static void
read_facts(RomRoster *roster, Facts *facts)
{
	RomDatabase *database;

	SpinLockAcquire(&roster->mutex);
	facts->launcher = roster->launcher_pid != 0;
	facts->full = roster->cannot_grow && roster->npending > 0;
	facts->max_workers = roster->nworkers;
	for (int i = 0; i < roster->nworkers; i++)
		facts->workers += roster->workers[i].state != ROM_WORKER_FREE;
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
	{
		facts->known = database->listed;
		facts->served = database->served;
		for (int i = 0; i < ROM_WORKER_KINDS; i++)
			facts->failures += database->failures[i];
	}
	SpinLockRelease(&roster->mutex);
}

/* count_overdue counts what should have had a turn long ago; *oldest: since when, in seconds. */
static int64
count_overdue(int64 *oldest)
{
	static RomStatement select = {
		"SELECT count(*), min(wake_at) FROM (SELECT wake_at FROM romancy.t_instance"
		" WHERE wake_at < $1 ORDER BY wake_at LIMIT $2) AS due",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	TimestampTz now = rom_now();
	RomEngine	engine;
	Datum		values[2];
	bool		isnull;
	int64		count;
	TimestampTz first;

	values[0] = TimestampTzGetDatum(now - OVERDUE_SECONDS * USECS_PER_SEC);
	values[1] = Int32GetDatum(OVERDUE_MAX);
	rom_engine_begin(&engine);
	rom_execute(&select, values, NULL, 0);
	count = DatumGetInt64(rom_value(0, 1, &isnull));
	first = DatumGetTimestampTz(rom_value(0, 2, &isnull));
	*oldest = isnull ? 0 : (now - first) / USECS_PER_SEC;
	rom_engine_end(&engine);
	return count;
}

/*
 * romancy.health() → jsonb
 *
 * {"healthy": …, "problems": [text, …], …}: whether workflows run in this database, and what keeps them from it.
 * RM004 in a workflow.
 */
Datum
romancy_health(PG_FUNCTION_ARGS)
{
	RomRoster  *roster = rom_roster_get();
	Problems	problems = {0};
	Facts		facts = {0};
	char	   *sql_version = NULL;
	bool		same_version;
	bool		adopted;
	int64		oldest;
	int64		overdue;
	RomJb		jb;

	rom_refuse_in_handler("health");
	same_version = rom_version_matches(&sql_version);
	adopted = rom_control_matches();
	overdue = count_overdue(&oldest);
	if (roster != NULL)
		read_facts(roster, &facts);

	if (roster == NULL)
		problem(&problems, "romancy is not in shared_preload_libraries: no worker runs");
	else if (RecoveryInProgress())
		problem(&problems, "the server is a standby: workers start when it is promoted");
	else if (!facts.launcher)
		problem(&problems, "the launcher is not running");
	if (!rom_guc_enabled)
		problem(&problems, "romancy.enabled is off");
	if (!same_version)
		problem(&problems, psprintf("the library's version is %s, that of the extension's objects is %s: they have to be brought together",
									ROM_VERSION, sql_version ? sql_version : "unknown"));
	if (!adopted)
		problem(&problems, "the workflows belong to another cluster or database, of which this is a copy: see romancy.adopt_database()");
	if (facts.known && !facts.served)
		problem(&problems, "romancy.databases leaves this database out");
	if (facts.full)
		problem(&problems, "work waits for a worker, and there is none to be had: see romancy.max_workers and max_worker_processes");
	if (facts.failures > 0)
		problem(&problems, psprintf("workers of this database have failed %d times in a row: see the server's log",
									facts.failures));
	if (overdue > 0)
		problem(&problems, psprintf("%s" INT64_FORMAT " instances have been due for up to " INT64_FORMAT " seconds",
									overdue >= OVERDUE_MAX ? "at least " : "", overdue, oldest));

	rom_jb_begin(&jb);
	rom_jb_bool(&jb, "healthy", problems.count == 0);
	rom_jb_json(&jb, "problems", rom_jb_array(problems.texts, problems.count));
	rom_jb_bool(&jb, "preloaded", roster != NULL);
	rom_jb_bool(&jb, "enabled", rom_guc_enabled);
	rom_jb_bool(&jb, "launcher", facts.launcher);
	rom_jb_bool(&jb, "adopted", adopted);
	rom_jb_text(&jb, "library_version", ROM_VERSION);
	rom_jb_text(&jb, "extension_version", sql_version ? sql_version : ROM_VERSION);
	rom_jb_int(&jb, "workers", facts.workers);
	rom_jb_int(&jb, "max_workers", facts.max_workers);
	rom_jb_int(&jb, "overdue", overdue);
	PG_RETURN_JSONB_P(rom_jb_end(&jb));
}
