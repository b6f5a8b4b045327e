/*-------------------------------------------------------------------------
 *
 * show.c
 *		The functions of views workers and sweeps, and the calls that belong to
 *		them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "base/spi.h"
#include "instances/control.h"
#include "instances/instance.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/slot.h"
#include "memory/sweep.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "turn/context.h"
#include "workers/bgw.h"

PG_FUNCTION_INFO_V1(romancy_workers);
PG_FUNCTION_INFO_V1(romancy_sweeps);
PG_FUNCTION_INFO_V1(romancy_run_sweep);
PG_FUNCTION_INFO_V1(romancy_adopt_database);
PG_FUNCTION_INFO_V1(romancy_announce);

#define WORKER_COLUMNS 9
#define SWEEP_COLUMNS 10

/* So long a role that is no operator waits for a scheduler in run_sweep(), milliseconds. */
#define SWEEP_WAIT_MS 10000

/* A row of view workers. */
typedef struct WorkerRow
{
	int			pid;
	const char *kind;
	Oid			dbid;
	Oid			owner;
	const char *state;
	bool		has_instance;
	pg_uuid_t	instance;
	TimestampTz since;
	int64		turns;			/* -1: does not count them */
	TimestampTz started_at;		/* 0: unknown */
} WorkerRow;

/* Adds a row, if the current user may see it: of an owner of whose role the caller is a member, or any as a monitor. */
static void
put_worker(ReturnSetInfo *rsinfo, const WorkerRow *row)
{
	Datum		values[WORKER_COLUMNS + 1];
	bool		nulls[WORKER_COLUMNS + 1] = {false};
	char	   *owner = OidIsValid(row->owner) ?
		GetUserNameFromId(row->owner, true) : NULL;
	char	   *database = OidIsValid(row->dbid) ?
		get_database_name(row->dbid) : NULL;

	if (!rom_instance_may_read(owner ? owner : ""))
		return;
	values[0] = Int32GetDatum(row->pid);
	nulls[0] = row->pid == 0;
	values[1] = CStringGetTextDatum(row->kind);
	nulls[2] = database == NULL;
	values[2] = database ? CStringGetTextDatum(database) : (Datum) 0;
	nulls[3] = owner == NULL;
	values[3] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	values[4] = CStringGetTextDatum(row->state);
	nulls[5] = !row->has_instance;
	values[5] = UUIDPGetDatum(&row->instance);
	values[6] = TimestampTzGetDatum(row->since);
	nulls[6] = row->since == 0;
	values[7] = Int64GetDatum(row->turns);
	nulls[7] = row->turns < 0;
	values[8] = TimestampTzGetDatum(row->started_at);
	nulls[8] = row->started_at == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_launcher(ReturnSetInfo *rsinfo, RomRoster *roster)
{
	WorkerRow	row;

	memset(&row, 0, sizeof(row));
	row.kind = "launcher";
	row.state = "running";
	row.turns = -1;
	SpinLockAcquire(&roster->mutex);
	row.pid = roster->launcher_pid;
	row.since = roster->launcher_since;
	row.started_at = roster->launcher_started_at;
	SpinLockRelease(&roster->mutex);
	if (row.pid != 0)
		put_worker(rsinfo, &row);
}

static void
put_place(ReturnSetInfo *rsinfo, RomRoster *roster, int place)
{
	static const char *const states[] = {
		NULL, "starting", "idle", "running", "leaving"
	};
	RomWorker	worker;
	WorkerRow	row;
	int			pid;
	Oid			dbid;
	Oid			owner;
	TimestampTz since;

	SpinLockAcquire(&roster->mutex);
	worker = roster->workers[place];
	SpinLockRelease(&roster->mutex);
	if (worker.state == ROM_WORKER_FREE)
		return;

	memset(&row, 0, sizeof(row));
	row.pid = worker.pid;
	row.kind = rom_bgw_kind(worker.kind);
	row.dbid = worker.dbid;
	row.owner = worker.owner;
	row.state = worker.leave ? "leaving" : states[worker.state];
	row.since = worker.since;
	row.turns = worker.kind == ROM_WORKER_EXECUTOR ? worker.turns : -1;
	row.started_at = worker.started_at;
	if (worker.kind == ROM_WORKER_EXECUTOR &&
		rom_slot_current(place, &pid, &dbid, &owner, &row.instance, &since) &&
		pid == worker.pid)
	{
		row.has_instance = true;
		row.since = since;
	}
	put_worker(rsinfo, &row);
}

static void
put_session(ReturnSetInfo *rsinfo, int n)
{
	WorkerRow	row;

	memset(&row, 0, sizeof(row));
	row.kind = "session";
	row.state = "running";
	row.turns = -1;
	row.has_instance = rom_slot_current(-1 - n, &row.pid, &row.dbid,
										&row.owner, &row.instance, &row.since);
	if (row.pid != 0)
		put_worker(rsinfo, &row);
}

/* romancy.t_workers(): pid, kind, database, owner, state, instance_id, since, turns, started_at */
Datum
romancy_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RomRoster  *roster = rom_roster_get();
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (roster == NULL)
		return (Datum) 0;
	put_launcher(rsinfo, roster);
	for (i = 0; i < roster->nworkers; i++)
		put_place(rsinfo, roster, i);
	for (i = 0; i < rom_slot_sessions(); i++)
		put_session(rsinfo, i);
	return (Datum) 0;
}

static Datum
milliseconds_interval(int64 usecs)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = usecs;
	return IntervalPGetDatum(interval);
}

/* stat_of reads what is known of the runs of a sweep in this database. */
static RomSweepStat
stat_of(int sweep)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	RomSweepStat stat;

	memset(&stat, 0, sizeof(stat));
	if (roster == NULL)
		return stat;
	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL)
		stat = database->stats[sweep];
	SpinLockRelease(&roster->mutex);
	return stat;
}

/* romancy.t_sweeps(): name, interval, last_run, rows, total_rows, runs, duration, next_due, skipped, errors */
Datum
romancy_sweeps(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < rom_sweep_count(); i++)
	{
		Datum		values[SWEEP_COLUMNS];
		bool		nulls[SWEEP_COLUMNS] = {false};
		RomSweepStat stat = stat_of(i);

		values[0] = CStringGetTextDatum(rom_sweep_name(i));
		values[1] = milliseconds_interval((int64) rom_sweep_interval(i) * 1000);
		values[2] = TimestampTzGetDatum(stat.last_run);
		nulls[2] = stat.last_run == 0;
		values[3] = Int64GetDatum(stat.rows);
		values[4] = Int64GetDatum(stat.total_rows);
		values[5] = Int64GetDatum(stat.runs);
		values[6] = milliseconds_interval(stat.duration);
		nulls[6] = stat.last_run == 0;
		values[7] = TimestampTzGetDatum(stat.next_due);
		nulls[7] = stat.next_due == 0;
		values[8] = Int64GetDatum(stat.skipped);
		values[9] = Int64GetDatum(stat.errors);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Names of all sweeps, for a hint. */
static char *
sweep_names(void)
{
	StringInfoData names;
	int			i;

	initStringInfo(&names);
	for (i = 0; i < rom_sweep_count(); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", rom_sweep_name(i));
	return names.data;
}

/* May the caller do what concerns all roles: is it a superuser, or the extension's owner? */
static bool
is_operator(void)
{
	return superuser() || has_privs_of_role(GetUserId(), rom_extension_owner());
}

/*
 * has_run: has a run of a sweep, begun since then, ended in this database, or left the work to one that was under
 * way? *rows: what it handled. Raises an error when one has failed, and none was completed.
 */
static bool
has_run(int sweep, TimestampTz since, const RomSweepStat *before, int64 *rows)
{
	RomSweepStat stat = stat_of(sweep);

	*rows = stat.last_run >= since ? stat.rows : 0;
	if (stat.last_run >= since || stat.skipped != before->skipped)
		return true;
	if (stat.errors != before->errors && stat.last_failed >= since)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("sweep \"%s\" failed", rom_sweep_name(sweep)),
				 errdetail("A scheduler ran it, and tries it again later and later."),
				 errhint("The error is in the server's log.")));
	return false;
}

/* ask_scheduler has a scheduler run a sweep at once, waits until it has, and returns how many rows it handled. */
static int64
ask_scheduler(int sweep)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = now + SWEEP_WAIT_MS * INT64CONST(1000);
	RomSweepStat before = stat_of(sweep);
	int64		rows = 0;
	volatile bool ran = false;

	PG_TRY();
	{
		rom_waiter_register(rom_waiter_key(ROM_SWEEP_KEY, &sweep, sizeof(sweep)));
		rom_roster_sweep(MyDatabaseId, sweep, now);
		do
			ran = has_run(sweep, now, &before, &rows);
		while (!ran && rom_waiter_sleep(until));
	}
	PG_FINALLY();
	{
		rom_waiter_unregister();
	}
	PG_END_TRY();
	if (!ran)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_TIMEOUT),
				 errmsg("no scheduler has run sweep \"%s\" for %d seconds", rom_sweep_name(sweep), SWEEP_WAIT_MS / 1000),
				 errdetail("It is asked to, and does as soon as it can."),
				 errhint("romancy.health() says why. A superuser or the owner of extension \"romancy\" runs it in this session.")));
	return rows;
}

/*
 * romancy.run_sweep(name text) -> bigint
 *
 * Runs a batch of a sweep in the caller's transaction, without its lock: a session could hold that for ever. The
 * batch has rows of all roles, which are locked until that transaction ends: so for a role that is no operator a
 * scheduler runs it, in a transaction of its own, and the call waits for that. (Where no workers run there is none, and
 * nothing that a lock would hold up.)
 */
Datum
romancy_run_sweep(PG_FUNCTION_ARGS)
{
	char	   *name;
	int			sweep;
	RomSweepArgs args;
	const RomSweep *entry;
	int64		rows = 0;
	int			i;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a sweep must not be null")));
	rom_context_refuse_handler("run_sweep");
	PreventCommandIfReadOnly("romancy.run_sweep()");
	PreventCommandDuringRecovery("romancy.run_sweep()");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	sweep = rom_sweep_find(name);
	if (sweep < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sweep \"%s\" does not exist", name),
				 errhint("There are: %s.", sweep_names())));
	if (rom_shmem_available() && rom_guc_enabled && !is_operator())
		PG_RETURN_INT64(ask_scheduler(sweep));
	args.limit = rom_guc_sweep_batch_size;
	args.part = 0;
	args.nparts = 1;
	args.manual = true;
	for (i = 0; (entry = rom_sweep_part(sweep, i)) != NULL; i++)
		rows += entry->batch(&args);
	PG_RETURN_INT64(rows);
}

/* romancy.adopt_database() -> void */
Datum
romancy_adopt_database(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("adopt_database");
	if (!is_operator())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to adopt the database"),
				 errhint("Only a superuser or the owner of extension \"romancy\" may do this.")));
	rom_control_adopt();
	PG_RETURN_VOID();
}

/* romancy.t_announce() -> void: called by the install script */
Datum
romancy_announce(PG_FUNCTION_ARGS)
{
	rom_wake_announce();
	PG_RETURN_VOID();
}
