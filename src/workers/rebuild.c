/*-------------------------------------------------------------------------
 *
 * rebuild.c
 *		Rebuilds indexes that are mostly empty, in a process of its own.
 *
 * The sweep "reindex" finds them (bloat.c) and starts a worker that does what REINDEX INDEX CONCURRENTLY
 * does, index by index, and ends. No scheduler does it, for that would keep its other sweeps waiting
 * for as long; nor an executor, which is its owner's session. The worker has none of the places of
 * romancy.max_workers; there is one at the most in the server.
 *
 * A rebuild keeps no other process from reading and writing. It keeps vacuum away from the table, and at its turning points
 * waits for those transactions that may still use the old index. So it is begun only where none has lasted for some
 * seconds, waits for each no longer than LOCK_LIMIT, and takes REBUILD_LIMIT at most. It takes the table's lock only if it is
 * free: it does not interrupt vacuum, and what looks like a leftover is no index that is being built.
 *
 * An index that was rebuilt is left alone for REST intervals of the sweep: one that soon has the same size again, because
 * its entries come and go, is not rebuilt for ever (unless it has become half as large again as it was). After a failure that is 1 interval, 2, 4 and so on.
 *
 * It may be ended at any time, and is when the extension or the database is dropped, or romancy switched off.
 * ERROR, FATAL, crash: an index is left behind, invalid, with a name that ends in _ccnew or _ccold; the next worker drops it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/session.h"
#include "base/spi.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "workers/bgw.h"
#include "workers/bloat.h"
#include "workers/guc.h"
#include "workers/rebuild.h"

/* How long it waits for a lock or a transaction (ms, as a setting), and how long one rebuild takes (ms). */
#define LOCK_LIMIT "5000"
#define REBUILD_LIMIT 60000

/* How long before it looks whether it waits for one that waits for it (ms, as a setting); others: 1 s. */
#define DEADLOCK_LIMIT "50"

/* Intervals of the sweep for which a rebuilt index is left alone; and one whose rebuild failed, at most. */
#define REST 12
#define REST_FAILED 256

#define REMEMBERED 128

/* An index that was rebuilt, or was not. */
typedef struct Remembered
{
	Oid			dbid;
	NameData	name;
	int			failures;		/* in a row */
	BlockNumber pages;			/* that it had before */
	TimestampTz at;
} Remembered;

typedef struct Rebuild
{
	slock_t		mutex;
	int			pid;			/* of the worker; 0: there is none */
	Oid			dbid;
	bool		stop;			/* it is to end */
	Remembered	remembered[REMEMBERED];
} Rebuild;

static Rebuild *area = NULL;

/* is_due: may the index of that name, which has so many pages, be rebuilt by now? One that has become larger than it was before its last rebuild may, though it rests. */
static bool
is_due(const char *name, BlockNumber pages)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		due = true;

	SpinLockAcquire(&area->mutex);
	for (int i = 0; i < REMEMBERED; i++)
	{
		const Remembered *one = &area->remembered[i];
		int			rest = one->failures == 0 ? REST : Min(REST_FAILED, 1 << Min(one->failures - 1, 20));

		/* (a clock that was set back makes no difference) */
		if (one->dbid == MyDatabaseId && strcmp(NameStr(one->name), name) == 0 && one->at <= now &&
			now < one->at + (int64) rom_guc_reindex_interval * rest * 1000 && (one->failures > 0 || pages <= one->pages / 2 * 3))
			due = false;
	}
	SpinLockRelease(&area->mutex);
	return due;
}

/* remember notes how a rebuild of an index ended that had so many pages; the oldest gives way. */
static void
remember(const char *name, BlockNumber pages, bool failed)
{
	Remembered *place = NULL;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&area->mutex);
	for (int i = 0; i < REMEMBERED; i++)
	{
		Remembered *one = &area->remembered[i];

		if (one->dbid == MyDatabaseId && strcmp(NameStr(one->name), name) == 0)
		{
			place = one;
			break;
		}
		if (place == NULL || one->at < place->at)
			place = one;
	}
	if (place->dbid != MyDatabaseId || strcmp(NameStr(place->name), name) != 0)
		place->failures = 0;
	place->dbid = MyDatabaseId;
	namestrcpy(&place->name, name);
	place->failures = failed ? place->failures + 1 : 0;
	place->pages = pages;
	place->at = now;
	SpinLockRelease(&area->mutex);
}

/* serves: do workers run in this database? */
static bool
serves(Oid dbid)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	bool		yes;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, dbid, false);
	yes = database != NULL && database->served && !database->dropped &&
		database->barred == 0 && database->refusal == ROM_REFUSAL_NONE;
	SpinLockRelease(&roster->mutex);
	return yes && rom_guc_enabled && rom_guc_reindex_bloated;
}

static void
release(int code, Datum arg)
{
	SpinLockAcquire(&area->mutex);
	if (area->pid == MyProcPid)
		area->pid = 0;
	SpinLockRelease(&area->mutex);
	rom_roster_tell(ROM_TELL_WORKER);	/* there is room for a process */
}

/* claim makes this process the worker. False: there is one. */
static bool
claim(Oid dbid)
{
	bool		ours;

	SpinLockAcquire(&area->mutex);
	ours = area->pid == 0;
	if (ours)
	{
		area->pid = MyProcPid;
		area->dbid = dbid;
		area->stop = false;
	}
	SpinLockRelease(&area->mutex);
	if (ours)
		before_shmem_exit(release, 0);
	return ours;
}

/* must_stop: is this process, the worker, to end? (The signal that says so may come between two statements, where it is forgotten.) */
static bool
must_stop(void)
{
	bool		stop;

	SpinLockAcquire(&area->mutex);
	stop = area->stop;
	SpinLockRelease(&area->mutex);
	return stop;
}

/* runs: is there a worker? */
static bool
runs(void)
{
	bool		yes;

	SpinLockAcquire(&area->mutex);
	yes = area->pid != 0;
	SpinLockRelease(&area->mutex);
	return yes;
}

bool
rom_rebuild_stop(Oid dbid, bool terminate)
{
	int			pid = 0;

	if (area == NULL)
		return false;
	SpinLockAcquire(&area->mutex);
	if (area->pid != 0 && (area->dbid == dbid || !OidIsValid(dbid)))
	{
		pid = area->pid;
		area->stop = true;
	}
	SpinLockRelease(&area->mutex);
	return pid != 0 && kill(pid, terminate ? SIGTERM : SIGINT) == 0;
}

/* The unit that finds what there is to do. */
typedef struct Work
{
	MemoryContext cxt;
	List	   *found;
} Work;

static void
find(void *arg)
{
	Work	   *work = arg;

	MemoryContextSwitchTo(work->cxt);
	work->found = rom_bloat_find(is_due);
}

/* The locks that a rebuild holds, from before its first transaction to its end. */
typedef struct Held
{
	const RomBloated *bloated;
	Oid			owner;			/* of the extension: looked up here, for
								 * between transactions it cannot be */
	LOCKTAG		extension;
	LOCKTAG		table;
	bool		locked;
	bool		busy;
} Held;

static void
let_go(Held *held)
{
	if (!held->locked)
		return;
	held->locked = false;
	LockRelease(&held->table, ShareUpdateExclusiveLock, true);
	LockRelease(&held->extension, AccessShareLock, true);
}

/* The unit that takes the locks, where they are free, for the session: a rebuild has many transactions. (An error releases them.) */
static void
prepare(void *arg)
{
	Held	   *held = arg;

	SET_LOCKTAG_OBJECT(held->extension, MyDatabaseId, ExtensionRelationId, rom_extension_oid(), 0);
	SET_LOCKTAG_RELATION(held->table, MyDatabaseId, held->bloated->table);
	if (LockAcquire(&held->extension, AccessShareLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return;
	if (LockAcquire(&held->table, ShareUpdateExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		LockRelease(&held->extension, AccessShareLock, true);
		return;
	}
	held->locked = true;
	AcceptInvalidationMessages();
	held->owner = rom_extension_owner();
	held->busy = rom_bloat_is_busy(held->bloated);
	if (held->busy || !rom_bloat_is_there(held->bloated))
		let_go(held);
}

/* carry_out runs the command, which begins and ends transactions. */
static void
carry_out(const RomBloated *bloated, MemoryContext cxt)
{
	RangeVar   *name;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(cxt);
	name = makeRangeVar(pstrdup(NameStr(bloated->schema)), pstrdup(NameStr(bloated->name)), -1);
	if (bloated->leftover)
	{
		DropStmt   *stmt = makeNode(DropStmt);

		stmt->objects = list_make1(list_make2(makeString(name->schemaname), makeString(name->relname)));
		stmt->removeType = OBJECT_INDEX;
		stmt->behavior = DROP_RESTRICT;
		stmt->missing_ok = true;
		stmt->concurrent = true;
		RemoveRelations(stmt);
	}
	else
	{
		ReindexStmt *stmt = makeNode(ReindexStmt);

		stmt->kind = REINDEX_OBJECT_INDEX;
		stmt->relation = name;
		stmt->params = list_make1(makeDefElem("concurrently", NULL, -1));
		ExecReindex(make_parsestate(NULL), stmt, true);
	}
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
measure(void *arg)
{
	RomBloated *bloated = arg;

	bloated->pages = rom_bloat_pages(bloated);
}

static uint64
kilobytes(BlockNumber pages)
{
	return (uint64) pages * (BLCKSZ / 1024);
}

/* tell_failure says why a rebuild did not come to its end. */
static void
tell_failure(const RomBloated *bloated, const ErrorData *edata)
{
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 bloated->leftover ? errmsg("could not drop what an interrupted rebuild has left, index \"%s\"", NameStr(bloated->name)) :
			 errmsg("could not rebuild index \"%s\", which is mostly empty", NameStr(bloated->name)),
			 errdetail_internal("%s", edata->message),
			 errhint("It is tried again later and later.")));
}

/* rebuild rebuilds one index, or drops a leftover. False: the worker is to end. */
static bool
rebuild(RomBloated *bloated)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "romancy rebuild", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Held		held = {.bloated = bloated};
	BlockNumber before = bloated->pages;
	volatile bool ok = false;
	volatile bool goes_on = true;

	if (!rom_bgw_unit(prepare, &held, false) || !held.locked)
	{
		MemoryContextDelete(cxt);
		return !must_stop();
	}
	PortalContext = cxt;
	PG_TRY();
	{
		SetUserIdAndSecContext(held.owner, 0);
		pgstat_report_activity(STATE_RUNNING, psprintf("romancy: %s index \"%s\"", bloated->leftover ? "drops" : "rebuilds", NameStr(bloated->name)));
		enable_timeout_after(STATEMENT_TIMEOUT, REBUILD_LIMIT);
		if (must_stop())
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to user request")));
		carry_out(bloated, cxt);
		ok = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		goes_on = edata->sqlerrcode != ERRCODE_QUERY_CANCELED;
		tell_failure(bloated, edata);
		held.locked = false;
	}
	PG_END_TRY();
	disable_timeout(STATEMENT_TIMEOUT, false);
	PortalContext = NULL;
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	let_go(&held);
	QueryCancelPending = false;

	if (!bloated->leftover)
		remember(NameStr(bloated->name), before, !ok);
	if (ok && bloated->leftover)
		ereport(LOG,
				(errmsg("dropped what an interrupted rebuild has left, index \"%s\"", NameStr(bloated->name))));
	else if (ok && rom_bgw_unit(measure, bloated, false))
		ereport(LOG,
				(errmsg("rebuilt index \"%s\", which was mostly empty: " UINT64_FORMAT " kB before, " UINT64_FORMAT " kB after",
						NameStr(bloated->name), kilobytes(before), kilobytes(bloated->pages))));
	return goes_on;
}

void
rom_rebuild_main(Datum arg)
{
	Work		work = {.found = NIL};
	ListCell   *cell;
	Oid			dbid;

	memcpy(&dbid, MyBgworkerEntry->bgw_extra, sizeof(dbid));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	if (area == NULL || !claim(dbid))
		proc_exit(0);
	BackgroundWorkerUnblockSignals();
	if (!serves(dbid))
		proc_exit(0);			/* before we get in the way of a DROP DATABASE */
	rom_bgw_pin_session(false);
	SetConfigOption("lock_timeout", LOCK_LIMIT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);

	/*
	 * where a command of a DBA and a rebuild wait for each other, the rebuild
	 * gives up, and not after the command has
	 */
	SetConfigOption("deadlock_timeout", DEADLOCK_LIMIT, PGC_SUSET, PGC_S_OVERRIDE);
	/* (each would need a process more) */
	SetConfigOption("max_parallel_maintenance_workers", "0", PGC_SUSET, PGC_S_OVERRIDE);
	rom_session_connect(dbid, InvalidOid);

	work.cxt = AllocSetContextCreate(TopMemoryContext, "romancy rebuilds", ALLOCSET_DEFAULT_SIZES);
	if (!rom_bgw_unit(find, &work, false))
		proc_exit(1);
	foreach(cell, work.found)
	{
		rom_bgw_poll();
		if (!serves(dbid) || must_stop() || !rebuild(lfirst(cell)))
			break;
	}
	proc_exit(0);
}

/* start starts the worker. False: no process is to be had. */
static bool
start(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "romancy");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "rom_rebuild_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "romancy rebuilder, database %u", MyDatabaseId);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "romancy rebuilder");
	memcpy(worker.bgw_extra, &MyDatabaseId, sizeof(MyDatabaseId));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* others_wait: do executors wait for a place, or for a process, which the worker would take? */
static bool
others_wait(void)
{
	RomRoster  *roster = rom_roster_get();
	bool		wait;

	SpinLockAcquire(&roster->mutex);
	wait = roster->npending > 0;
	SpinLockRelease(&roster->mutex);
	return wait;
}

/* The sweep: returns how many indexes a worker was started for. Does nothing while one is under way. */
static int64
sweep(const RomSweepArgs *args)
{
	List	   *found;

	if (args->part != 0 || area == NULL || RecoveryInProgress() || !serves(MyDatabaseId) || runs() || others_wait())
		return 0;
	found = rom_bloat_find(is_due);
	return found != NIL && start() ? list_length(found) : 0;
}

static Size
shmem_size(void)
{
	return sizeof(Rebuild);
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, sizeof(*area));
	SpinLockInit(&area->mutex);
}

void
rom_rebuild_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy rebuild",
		.size = shmem_size,
		.attach = shmem_attach,
	};
	static const RomSweep entry = {"reindex", &rom_guc_reindex_interval, sweep};

	rom_shmem_register(&part);
	rom_sweep_register(&entry);
}
