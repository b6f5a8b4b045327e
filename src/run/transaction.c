/*-------------------------------------------------------------------------
 *
 * transaction.c
 *		One transaction of a worker that runs turns, from its begin to the cleanup after it.
 *
 * The process is a session of the owner's (base/session.c), and so is the
 * commit: work that a user's activity defers to it (constraint triggers,
 * holdable cursors) runs as the owner, within which SET ROLE is refused. A
 * failure before the commit and a failure in it have different consequences for
 * the next run (alone.c). Objects that user code left in the session are
 * removed after each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/session.h"
#include "base/spi.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "run/failures.h"
#include "run/run.h"
#include "run/transaction.h"
#include "turn/limit.h"

static MemoryContext batch_cxt = NULL;

MemoryContext
rom_transaction_context(void)
{
	if (batch_cxt == NULL)
		batch_cxt = AllocSetContextCreate(TopMemoryContext, "romancy batch",
										  ALLOCSET_DEFAULT_SIZES);
	return batch_cxt;
}

void
rom_transaction_scrub(bool temp)
{
	LockReleaseAll(USER_LOCKMETHOD, true);
	DropAllPreparedStatements();
	if (temp)
	{
		StartTransactionCommand();
		/* what it deletes in the catalogs may be toasted */
		PushActiveSnapshot(GetTransactionSnapshot());
		ResetTempTableNamespace();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
}

RomTransactionResult
rom_transaction_run(RomRun *run, Oid owner, const pg_uuid_t *ids, int n,
					ErrorData **error)
{
	volatile bool committing = false;
	volatile bool temp = false;
	volatile RomTransactionResult result = ROM_TRANSACTION_COMMITTED;

	*error = NULL;
	rom_slot_begin(ids, n);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(batch_cxt);
		if (rom_extension_lock())
			rom_run_members(run, owner, ids, n);
		temp = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
		for (int i = 0; i < run->nagain; i++)
			rom_wake_ready(&run->again[i], owner, 0);
		PopActiveSnapshot();
		committing = true;
		PortalHashTableDeleteAll();
		SetUserIdAndSecContext(GetUserId(), SECURITY_LOCAL_USERID_CHANGE);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(batch_cxt);
		*error = rom_error_take();
		AbortOutOfAnyTransaction();
		rom_limit_reset();
		rom_slot_member_end();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		result = committing ? ROM_TRANSACTION_COMMIT_FAILED : ROM_TRANSACTION_FAILED;
	}
	PG_END_TRY();
	rom_session_settle(false);
	MemoryContextSwitchTo(batch_cxt);
	rom_slot_end();
	if (result == ROM_TRANSACTION_COMMITTED)
		rom_failures_log(&run->failures);
	rom_transaction_scrub(temp);
	return result;
}

void
rom_transaction_wake(const pg_uuid_t *id, Oid owner, int ms)
{
	StartTransactionCommand();
	rom_wake_at(id, owner, 0, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
	CommitTransactionCommand();
	MemoryContextSwitchTo(batch_cxt);
}
