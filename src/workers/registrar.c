/*-------------------------------------------------------------------------
 *
 * registrar.c
 *		Inserts a namespace in a transaction of its own.
 *
 * A superuser's first call makes the superuser's namespace. Inserted by the call's own
 * transaction, its row would make every other first call of that superuser wait until that
 * transaction is over, for ever where it is prepared. So a background worker inserts it: it is
 * started by the session, without the launcher or the library's preload, commits, and ends.
 *
 * If no process can be started, or the worker gives up, the session inserts the row itself.
 * The worker waits for no lock longer than LOCK_LIMIT: the session, which waits for the
 * worker, may hold it.
 *
 * It may be ended at any time. ERROR, FATAL: nothing was inserted, the session finds that out.
 * Crash: likewise, after the restart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/session.h"
#include "base/spi.h"
#include "defs/namespace.h"
#include "workers/bgw.h"
#include "workers/registrar.h"

/* How long the worker waits for a lock (ms, as a setting). */
#define LOCK_LIMIT "1000"

/* The worker's parameters; passed in bgw_extra. */
typedef struct Order
{
	Oid			dbid;
	NameData	name;
} Order;

StaticAssertDecl(sizeof(Order) <= BGW_EXTRALEN, "an order does not fit");

/* insert_name is a unit of work (workers/bgw.h): makes the namespace of that name. */
static void
insert_name(void *arg)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_namespace_make(arg);
	rom_engine_end(&engine);
}

void
rom_registrar_main(Datum arg)
{
	Order		order;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	BackgroundWorkerUnblockSignals();
	rom_bgw_pin_session(false);
	SetConfigOption("lock_timeout", LOCK_LIMIT, PGC_SUSET, PGC_S_OVERRIDE);
	rom_session_connect(order.dbid, InvalidOid);

	/* an error is the session's to find out */
	(void) rom_bgw_unit(insert_name, NameStr(order.name), true);
	proc_exit(0);
}

/* insert_elsewhere has a worker insert the namespace, and waits for its end. */
static void
insert_elsewhere(const char *name)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	Order		order;

	if (!IsUnderPostmaster || IsParallelWorker() || RecoveryInProgress())
		return;
	memset(&order, 0, sizeof(order));
	order.dbid = MyDatabaseId;
	namestrcpy(&order.name, name);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "romancy");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "rom_registrar_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "romancy registrar, database %u", MyDatabaseId);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "romancy registrar");
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &order, sizeof(order));

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return;
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
}

void
rom_registrar_init(void)
{
	rom_namespace_on_make(insert_elsewhere);
}
