/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Running turns: several instances of one owner in one transaction.
 *
 * A commit costs as much as several short workflows, so an executor runs up to
 * ROM_BATCH_MAX turns before it commits (run.c). Members that could not be run
 * beside others, and all members of a batch that fails as a whole (at COMMIT),
 * go to the slow lane of the ready queue, where an executor that has time takes
 * each and runs it alone (alone.c). So do instances whose turn ended with its
 * process before: they take no other member with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/suspect.h"
#include "run/alone.h"
#include "run/batch.h"
#include "run/run.h"
#include "run/transaction.h"

/* to_lane has members run alone, by this process or another one. */
static void
to_lane(Oid owner, const pg_uuid_t *ids, int n)
{
	RomReadyItem items[ROM_BATCH_MAX];
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		items[i].id = ids[i];
		items[i].dbid = MyDatabaseId;
		items[i].owner = owner;
		items[i].priority = 0;
		items[i].slow = true;
		items[i].unknown = false;
		items[i].at = now;
	}
	rom_ready_put(items, n, now);
}

/* run_together runs members in one transaction, and returns how many turns were committed. */
static int
run_together(Oid owner, const pg_uuid_t *ids, int n, bool *tainted)
{
	RomRun		run;
	ErrorData  *error;

	memset(&run, 0, sizeof(run));
	if (rom_transaction_run(&run, owner, ids, n, &error) != ROM_TRANSACTION_COMMITTED)
	{
		to_lane(owner, ids, n);
		return 0;
	}
	*tainted |= run.tainted;
	if (run.nsaved > run.nslow)
		rom_ready_quick_done();
	return run.nsaved;
}

int
rom_batch_run(Oid owner, const pg_uuid_t *ids, int n, bool slow, bool *tainted)
{
	pg_uuid_t	batch[ROM_BATCH_MAX];
	pg_uuid_t	suspects[ROM_BATCH_MAX];
	int			nbatch = 0;
	int			nsuspects = 0;
	int			turns = 0;

	MemoryContextReset(rom_transaction_context());
	MemoryContextSwitchTo(rom_transaction_context());
	*tainted = false;

	for (int i = 0; i < n; i++)
	{
		bool		twice = false;

		for (int j = 0; j < nbatch; j++)
			twice |= memcmp(&batch[j], &ids[i], sizeof(pg_uuid_t)) == 0;
		if (twice)
			continue;
		if (!slow && rom_suspect_is(&ids[i]))
			suspects[nsuspects++] = ids[i];
		else
			batch[nbatch++] = ids[i];
	}
	if (nsuspects > 0)
		to_lane(owner, suspects, nsuspects);
	if (nbatch == 1)
		turns = rom_alone_run(owner, &batch[0], tainted);
	else if (nbatch > 1)
		turns = run_together(owner, batch, nbatch, tainted);
	MemoryContextSwitchTo(TopMemoryContext);
	return turns;
}
