/*-------------------------------------------------------------------------
 *
 * health.c
 *		Is it alive, and why not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/clock.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "base/version.h"
#include "client/obstacles.h"
#include "memory/guc.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/slot.h"
#include "memory/unwritten.h"
#include "outbox/guc.h"
#include "outbox/sender.h"
#include "outbox/state.h"
#include "tasks/poller.h"
#include "tasks/state.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_health);

/* Seconds after which due work is overdue, and the number at which counting it ends. */
#define OVERDUE_SECONDS 60
#define OVERDUE_MAX 1000

/* How long (ms) an error that could not be written is told of, at the least; else twice the longest delay of a try. */

/* Largest number of queues without a poller that are named, and of queues whose tasks wait that are looked at for them. */
#define QUEUES_MAX 20
#define QUEUES_LOOK 1000

/* count_overdue counts what should have had a turn long ago, and has none now; *oldest: since when, in seconds. */
static int64
count_overdue(int64 *oldest)
{
	static RomStatement select = {
		"SELECT count(*), min(wake_at) FROM (SELECT wake_at FROM romancy.t_instance"
		" WHERE wake_at < $1 AND instance_id <> ALL ($3) ORDER BY wake_at LIMIT $2) AS due",
		3, {TIMESTAMPTZOID, INT4OID, UUIDARRAYOID}
	};
	TimestampTz now = rom_now();
	pg_uuid_t  *running;
	int			nrunning = rom_slot_running(&running);
	RomEngine	engine;
	Datum		values[3];
	bool		isnull;
	int64		count;
	TimestampTz first;
	RomRowSet	set;

	values[0] = TimestampTzGetDatum(now - OVERDUE_SECONDS * USECS_PER_SEC);
	values[1] = Int32GetDatum(OVERDUE_MAX);
	values[2] = rom_uuid_array(running, nrunning);
	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, values, NULL, 0);
	count = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	first = DatumGetTimestampTz(rom_value(&set, 0, 2, &isnull));
	*oldest = isnull || TIMESTAMP_NOT_FINITE(first) ? 0 : (now - first) / USECS_PER_SEC;
	rom_engine_end(&engine);
	return count;
}

/* count_instances runs a statement that counts instances, up to its parameter, OVERDUE_MAX. */
static int64
count_instances(RomStatement *select)
{
	RomEngine	engine;
	Datum		value = Int32GetDatum(OVERDUE_MAX);
	bool		isnull;
	int64		count;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, select, &value, NULL, 0);
	count = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	rom_engine_end(&engine);
	return count;
}

/* Instances whose turns fail by errors of the engine's own and are tried again. */
static RomStatement select_retried = {
	"SELECT count(*) FROM (SELECT 1 FROM romancy.t_instance"
	" WHERE error ? 'tries' AND wake_at IS NOT NULL AND status <> 'paused' LIMIT $1) AS retried",
	1, {INT4OID}
};

/* Instances that the engine has paused. */
static RomStatement select_paused = {
	"SELECT count(*) FROM (SELECT 1 FROM romancy.t_instance"
	" WHERE romancy.t_status_name(status) = 'paused' AND error IS NOT NULL LIMIT $1) AS paused",
	1, {INT4OID}
};

/* Findings that need an operator although workflows run: a text each. */
typedef struct Attention
{
	char	   *texts[QUEUES_MAX + 12];
	int			count;
} Attention;

/* find_unwritten adds that errors of the engine could not be written, if that was as lately as the last try may have been. */
static void
find_unwritten(Attention *attention)
{
	int			n;
	RomUnwritten *list = rom_unwritten_list(&n);
	const RomUnwritten *last = NULL;

	for (int i = 0; i < n; i++)
		if (last == NULL || list[i].at > last->at)
			last = &list[i];
	if (last != NULL)
		attention->texts[attention->count++] =
			psprintf("turns fail, and their errors cannot be written: SQLSTATE %s at %s, see romancy.waiting and the server's log",
					 unpack_sql_state(last->why), timestamptz_to_str(last->at));
}

/*
 * serves: is there a program that has polled for tasks of that name, or holds a task of the queue (leased), and may have that name?
 */
static bool
serves(const char *queue, const char *name, TimestampTz since, bool leased)
{
	if (!leased)
		return rom_poller_since(queue, name, since);
	return rom_poller_since(queue, name, DT_NOBEGIN) || !rom_poller_since(queue, NULL, DT_NOBEGIN);
}

/*
 * find_silent_queues adds the queues whose next task has been ready for a while and which no program that has its name has polled, nor has a
 * task of under a lease; of those that are served by a URL, which are not polled, the ones whose owner may not have that task; and those that are paused.
 * Only queues whose next task the caller may see: others' names are not told, and do not take the place of the caller's.
 */
static void
find_silent_queues(Attention *attention)
{
	static RomStatement select = {
		"WITH RECURSIVE q (queue) AS ("
		" (SELECT t.queue FROM romancy.t_task t WHERE t.state = " ROM_SQL_TASK_READY " AND t.queue > '' ORDER BY t.queue LIMIT 1)"
		" UNION ALL SELECT (SELECT t.queue FROM romancy.t_task t WHERE t.state = " ROM_SQL_TASK_READY " AND t.queue > q.queue ORDER BY t.queue LIMIT 1)"
		" FROM q WHERE q.queue IS NOT NULL)"
		" SELECT q.queue, EXISTS (SELECT FROM romancy.t_activity a WHERE a.namespace || '/' || a.queue = q.queue)"
		" OR EXISTS (SELECT FROM romancy.t_workflow w WHERE w.is_current AND '@' || w.namespace || '/' || w.queue = q.queue), u.owner, t.activity,"
		" EXISTS (SELECT FROM romancy.t_task l WHERE l.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT ") AND l.queue = q.queue AND l.due_at > $2) AS leased, p.paused"
		" FROM q LEFT JOIN romancy.t_queue u ON u.name = q.queue AND u.push_url IS NOT NULL"
		" LEFT JOIN pg_catalog.pg_roles r ON r.rolname = u.owner,"
		" LATERAL (SELECT t.created_at, t.owner, t.activity FROM romancy.t_task t WHERE t.state = " ROM_SQL_TASK_READY " AND t.queue = q.queue"
		" ORDER BY (- t.priority::bigint), t.task_id LIMIT 1) t,"
		" LATERAL (SELECT EXISTS (SELECT FROM romancy.t_queue p WHERE p.name = pg_catalog.ltrim(q.queue, '@') AND p.paused) AS paused) p"
		" WHERE t.created_at < $1 AND pg_catalog.split_part(q.queue, '/', 2) NOT LIKE '@%'"
		" AND (p.paused OR u.name IS NULL OR r.oid IS NULL OR NOT romancy.t_may_access(t.owner, r.oid, true))"
		" AND romancy.t_may_access(t.owner, $4, false)"
		" ORDER BY leased, q.queue LIMIT $3",
		4, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, OIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	TimestampTz now = rom_now();
	TimestampTz since = now - OVERDUE_SECONDS * USECS_PER_SEC;
	RomEngine	engine;
	Datum		values[4];
	uint64		rows;
	int			named = 0;
	RomRowSet	set;

	values[0] = TimestampTzGetDatum(since);
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int32GetDatum(QUEUES_LOOK);
	values[3] = ObjectIdGetDatum(GetUserId());
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows && named < QUEUES_MAX; i++)
	{
		bool		isnull;
		char	   *queue = rom_value_text(&set, i, 1, cxt);
		bool		defined = DatumGetBool(rom_value(&set, i, 2, &isnull));
		char	   *pushed_by = rom_value_text(&set, i, 3, cxt);
		char	   *name = rom_value_text(&set, i, 4, cxt);
		bool		leased = DatumGetBool(rom_value(&set, i, 5, &isnull));
		bool		paused = DatumGetBool(rom_value(&set, i, 6, &isnull));
		const char *shown = strchr(queue, '/') ? strchr(queue, '/') + 1 : queue;
		MemoryContext old;

		if (!paused && (pushed_by == NULL ? serves(queue, name, since, leased) : leased))
			continue;
		named++;
		old = MemoryContextSwitchTo(cxt);
		attention->texts[attention->count++] = paused ?
			psprintf("tasks of queue \"%s\" wait, and it is paused: romancy.resume_queue", shown) : pushed_by != NULL ?
			psprintf("tasks of queue \"%s\" wait, and role \"%s\", whose URL serves it, may not have them", shown, pushed_by) :
			rom_poller_since(queue, NULL, leased ? DT_NOBEGIN : since) ?
			psprintf("tasks of queue \"%s\" wait, and no program that polls it has %s \"%s\"",
					 shown, queue[0] == '@' ? "workflow" : "activity", name) :
			psprintf("tasks of queue \"%s\" wait, and no program polls it%s", shown, defined ? "" : "; nothing is defined for it");
		MemoryContextSwitchTo(old);
	}
	rom_engine_end(&engine);
}

/* find_schedules adds the schedules that have paused themselves, and those whose last start failed. */
static void
find_schedules(Attention *attention)
{
	static RomStatement select = {
		"SELECT count(*) FILTER (WHERE s.paused_by = 'romancy'), count(*) FILTER (WHERE s.paused_at IS NULL AND s.error IS NOT NULL)"
		" FROM romancy.t_schedule s WHERE s.paused_by = 'romancy' OR s.error IS NOT NULL",
		0, {InvalidOid}
	};
	RomEngine	engine;
	bool		isnull;
	int64		paused;
	int64		failing;
	RomRowSet	set;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, NULL, NULL, 0);
	paused = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	failing = DatumGetInt64(rom_value(&set, 0, 2, &isnull));
	rom_engine_end(&engine);
	if (paused > 0)
		attention->texts[attention->count++] =
			psprintf(INT64_FORMAT " schedule%s paused %s: see romancy.schedules, paused_by = 'romancy'",
					 paused, paused == 1 ? " has" : "s have", paused == 1 ? "itself" : "themselves");
	if (failing > 0)
		attention->texts[attention->count++] =
			psprintf(INT64_FORMAT " schedule%s could not start the last run: see romancy.schedules, error", failing, failing == 1 ? "" : "s");
}

/* find_outbox adds the events of the outbox that were given up in the last day, counted up to OVERDUE_MAX. */
static void
find_outbox(Attention *attention)
{
	static RomStatement select = {
		"SELECT count(*) FROM (SELECT 1 FROM romancy.t_outbox o WHERE o.state >= " ROM_SQL_OUTBOX_FINAL " AND o.state = " ROM_SQL_OUTBOX_DEAD " AND o.due_at > $1 LIMIT $2) AS dead",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[2] = {TimestampTzGetDatum(rom_now() - USECS_PER_DAY), Int32GetDatum(OVERDUE_MAX)};
	RomEngine	engine;
	RomRowSet	set;
	bool		isnull;
	int64		dead;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, values, NULL, 0);
	dead = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	rom_engine_end(&engine);
	if (dead > 0)
		attention->texts[attention->count++] =
			psprintf("%s" INT64_FORMAT " events of the outbox were given up in the last day: see romancy.outbox, status = 'dead'",
					 dead >= OVERDUE_MAX ? "at least " : "", dead);
}

/* Executors of an owner in a database that run something now. */
typedef struct Occupant
{
	Oid			dbid;
	Oid			owner;
	int			executors;
	TimestampTz since;			/* of the one that has run for longest */
} Occupant;

static int
by_since(const void *a, const void *b)
{
	TimestampTz x = ((const Occupant *) a)->since;
	TimestampTz y = ((const Occupant *) b)->since;

	return x < y ? -1 : x > y;
}

/* stands_since says since when no work of this database, of the owner whose work has stood longest, was taken; now if none waits. */
static TimestampTz
stands_since(TimestampTz now)
{
	RomReadyQueue *queues = palloc_array(RomReadyQueue, ROM_READY_QUEUES);
	int			n = rom_ready_list(queues);
	TimestampTz since = now;

	for (int i = 0; i < n; i++)
		if (queues[i].dbid == MyDatabaseId)
			since = Min(since, queues[i].stands_since);
	pfree(queues);
	return since;
}

/* find_shortage adds that work of this database has waited for a worker for romancy.worker_wait_warning, and why. */
static void
find_shortage(Attention *attention)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomShortage of = ROM_SHORT_OF_NOTHING;
	RomDatabase *database;
	int64		waited;

	if (roster == NULL || rom_guc_worker_wait_warning == 0)
		return;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
		of = database->short_of;
	SpinLockRelease(&roster->mutex);
	waited = now - stands_since(now);
	if (of != ROM_SHORT_OF_NOTHING && waited >= (int64) rom_guc_worker_wait_warning * 1000)
		attention->texts[attention->count++] =
			psprintf("work has waited for a worker for " INT64_FORMAT " seconds: see \"occupied\"; raise %s, or end what runs",
					 waited / USECS_PER_SEC, rom_roster_shortage_setting(of));
}

/* find_http_shortage adds that requests or events of this database have waited for an HTTP worker for romancy.worker_wait_warning, and why. */
static void
find_http_shortage(Attention *attention)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = 0;
	RomDatabase *database;
	int64		waited;
	int			busy = 0;

	if (roster == NULL || rom_guc_worker_wait_warning == 0)
		return;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
		since = database->http_since;
	for (int i = roster->first_http; i < roster->nworkers; i++)
		busy += roster->workers[i].state != ROM_WORKER_FREE;
	SpinLockRelease(&roster->mutex);
	waited = since != 0 ? now - since : 0;
	if (since == 0 || waited < (int64) rom_guc_worker_wait_warning * 1000)
		return;
	if (busy >= roster->nworkers - roster->first_http)
		attention->texts[attention->count++] =
			psprintf("HTTP requests or events have waited for a worker for " INT64_FORMAT " seconds: other databases have all of the %d HTTP workers (view romancy.workers)",
					 waited / USECS_PER_SEC, busy);
	else
		attention->texts[attention->count++] =
			psprintf("HTTP requests or events have waited for a worker for " INT64_FORMAT " seconds: raise max_worker_processes, or end what runs",
					 waited / USECS_PER_SEC);
}

/*
 * list_occupants says who occupies the places for workers, of all databases, and for how long; who has been there for
 * longest is the first.
 */
static Jsonb *
list_occupants(void)
{
	RomRoster  *roster = rom_roster_get();
	TimestampTz now = GetCurrentTimestamp();
	RomWorker  *workers;
	Occupant   *list;
	Jsonb	  **elements;
	int			n = 0;

	if (roster == NULL)
		return rom_jb_array(NULL, 0);
	workers = palloc_array(RomWorker, roster->nworkers + 1);
	list = palloc0_array(Occupant, roster->nworkers + 1);
	elements = palloc_array(Jsonb *, roster->nworkers + 1);
	SpinLockAcquire(&roster->mutex);
	memcpy(workers, roster->workers, roster->nworkers * sizeof(RomWorker));
	SpinLockRelease(&roster->mutex);

	for (int i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &workers[i];
		TimestampTz since = worker->slow ? worker->slow_since : worker->since;
		int			j = 0;

		if (worker->kind != ROM_WORKER_EXECUTOR || (worker->state != ROM_WORKER_RUNNING && worker->state != ROM_WORKER_LEAVING))
			continue;
		while (j < n && (list[j].dbid != worker->dbid || list[j].owner != worker->owner))
			j++;
		if (j == n)
		{
			list[n].dbid = worker->dbid;
			list[n].owner = worker->owner;
			list[n++].since = since;
		}
		list[j].executors++;
		list[j].since = Min(list[j].since, since);
	}
	qsort(list, n, sizeof(Occupant), by_since);
	for (int i = 0; i < n; i++)
	{
		char	   *name = get_database_name(list[i].dbid);
		char	   *owner = GetUserNameFromId(list[i].owner, true);
		RomJb		jb;

		rom_jb_begin(&jb);
		rom_jb_text(&jb, "database", name);
		rom_jb_text(&jb, "owner", owner);
		rom_jb_int(&jb, "executors", list[i].executors);
		rom_jb_int(&jb, "longest_seconds", Max(now - list[i].since, 0) / USECS_PER_SEC);
		elements[i] = rom_jb_end(&jb);
	}
	return rom_jb_array(elements, n);
}

/* find_receivers adds the destinations that nothing is sent to: their receivers fail, or want no events any more. */
static void
find_receivers(Attention *attention)
{
	static RomStatement select = {
		"SELECT (SELECT count(*) FROM romancy.t_destination_state s WHERE (s.failures >= $1 OR s.retry_at > $2 AND s.error IS NOT NULL)"
		" AND (s.destination_id <> 0 OR $3)),"
		" (SELECT count(*) FROM romancy.t_destination d WHERE d.paused_by = 'romancy')",
		3, {INT4OID, TIMESTAMPTZOID, BOOLOID}
	};
	Datum		values[3] = {Int32GetDatum(ROM_SENDER_BREAKS), TimestampTzGetDatum(rom_now()), BoolGetDatum(rom_guc_outbox_url[0] != '\0')};
	RomEngine	engine;
	RomRowSet	set;
	bool		isnull;
	int64		broken;
	int64		gone;

	rom_engine_begin(&engine);
	rom_execute_rows(&set, &select, values, NULL, 0);
	broken = DatumGetInt64(rom_value(&set, 0, 1, &isnull));
	gone = DatumGetInt64(rom_value(&set, 0, 2, &isnull));
	rom_engine_end(&engine);
	if (broken > 0)
		attention->texts[attention->count++] =
			psprintf(INT64_FORMAT " destination%s cannot be reached: see romancy.destinations, breaker, error", broken, broken == 1 ? "" : "s");
	if (gone > 0)
		attention->texts[attention->count++] =
			psprintf(INT64_FORMAT " destination%s paused by the engine: see romancy.destinations, paused_by = 'romancy'", gone, gone == 1 ? " is" : "s are");
}

/* text_array makes an array of texts. */
static Jsonb *
text_array(char **texts, int n)
{
	Jsonb	  **elements = palloc_array(Jsonb *, Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = rom_jb_string_document(texts[i]);
	return rom_jb_array(elements, n);
}

/*
 * romancy.health() -> jsonb
 *
 * {"healthy": ..., "problems": [text, ...], "attention": [text, ...], ...}: whether workflows run in this database, what keeps them from
 * it, what needs a human, and who occupies the places for workers. RM004 in a workflow.
 */
Datum
romancy_health(PG_FUNCTION_ARGS)
{
	RomObstacles found;
	Attention	attention = {{0}};
	int64		oldest;
	int64		overdue;
	int64		paused;
	int64		retried;
	RomJb		jb;

	rom_context_refuse_handler("health");
	rom_obstacles_find(&found);
	overdue = count_overdue(&oldest);
	if (overdue > 0)
		rom_obstacles_add(&found, psprintf("%s" INT64_FORMAT " instance%s been due for up to " INT64_FORMAT " seconds",
										   overdue >= OVERDUE_MAX ? "at least " : "", overdue, overdue == 1 ? " has" : "s have", oldest));
	paused = count_instances(&select_paused);
	if (paused > 0)
		attention.texts[attention.count++] =
			psprintf("%s" INT64_FORMAT " instance%s paused by the engine: see romancy.waiting, paused_by = 'romancy'",
					 paused >= OVERDUE_MAX ? "at least " : "", paused, paused == 1 ? " is" : "s are");
	retried = count_instances(&select_retried);
	if (retried > 0)
		attention.texts[attention.count++] =
			psprintf("%s" INT64_FORMAT " instance%s tried again after errors of the engine: see romancy.waiting, error ? 'tries'",
					 retried >= OVERDUE_MAX ? "at least " : "", retried, retried == 1 ? " is" : "s are");
	if (found.others != NULL)
		attention.texts[attention.count++] = found.others;
	find_unwritten(&attention);
	find_silent_queues(&attention);
	find_schedules(&attention);
	find_outbox(&attention);
	find_shortage(&attention);
	find_http_shortage(&attention);
	find_receivers(&attention);

	rom_jb_begin(&jb);
	rom_jb_bool(&jb, "healthy", found.count == 0);
	rom_jb_json(&jb, "problems", text_array(found.texts, found.count));
	rom_jb_json(&jb, "attention", text_array(attention.texts, attention.count));
	rom_jb_bool(&jb, "preloaded", found.preloaded);
	rom_jb_bool(&jb, "enabled", rom_guc_enabled);
	rom_jb_bool(&jb, "launcher", found.launcher);
	rom_jb_bool(&jb, "adopted", found.adopted);
	rom_jb_text(&jb, "library_version", ROM_VERSION);
	rom_jb_text(&jb, "extension_version", found.sql_version ? found.sql_version : ROM_VERSION);
	rom_jb_int(&jb, "workers", found.workers);
	rom_jb_int(&jb, "max_workers", found.max_workers);
	rom_jb_json(&jb, "occupied", list_occupants());
	rom_jb_int(&jb, "overdue", overdue);
	rom_jb_int(&jb, "oldest_due_seconds", oldest);
	rom_jb_int(&jb, "paused", paused);
	rom_jb_int(&jb, "engine_errors", retried);
	PG_RETURN_JSONB_P(rom_jb_end(&jb));
}

PG_FUNCTION_INFO_V1(romancy_live);

/*
 * romancy.t_live(): status text, by_engine boolean, retried boolean, count bigint
 *
 * The live instances that the current user may see, by status; those that the engine has paused, and those that it tries
 * again after an error of its own, by themselves.
 */
Datum
romancy_live(PG_FUNCTION_ARGS)
{
	static RomStatement select = {
		"SELECT i.status::text, i.status = 'paused' AND i.error IS NOT NULL,"
		" i.status <> 'paused' AND coalesce(i.error ? 'tries', false), count(*)"
		" FROM romancy.t_instance i WHERE i.wake_at IS NOT NULL AND romancy.t_may_access(i.owner, $1, false) GROUP BY 1, 2, 3",
		1, {OIDOID}
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		value = ObjectIdGetDatum(GetUserId());
	RomEngine	engine;
	uint64		rows;
	RomRowSet	set;

	InitMaterializedSRF(fcinfo, 0);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, &value, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		Datum		values[4];
		bool		nulls[4];

		for (int c = 0; c < 4; c++)
			values[c] = rom_value(&set, i, c + 1, &nulls[c]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	rom_engine_end(&engine);
	return (Datum) 0;
}
