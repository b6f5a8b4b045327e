/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Running turns: several instances of one owner in one transaction.
 *
 * A commit costs as much as several short workflows, so an executor runs up to
 * ROM_BATCH_MAX turns before it commits (run.c). Members that could not be run beside others, and
 * all members of a batch that fails as a whole (at COMMIT), are run again one by one
 * (alone.c). So are those whose turn has died with its process before: they take nobody
 * with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "memory/slot.h"
#include "run/alone.h"
#include "run/batch.h"
#include "run/run.h"
#include "run/transaction.h"

int
rom_batch_run(Oid owner, const pg_uuid_t *ids, int n, bool *tainted)
{
	pg_uuid_t	batch[ROM_BATCH_MAX];
	pg_uuid_t	alone[ROM_BATCH_MAX * 2];
	int			nbatch = 0;
	int			nalone = 0;
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
		if (rom_slot_suspect(&ids[i]))
			alone[nalone++] = ids[i];
		else
			batch[nbatch++] = ids[i];
	}
	if (nbatch == 1)
		alone[nalone++] = batch[0];
	else if (nbatch > 1)
	{
		RomRun		run;
		ErrorData  *error;

		memset(&run, 0, sizeof(run));
		if (rom_transaction_run(&run, owner, batch, nbatch, &error) == ROM_TRANSACTION_COMMITTED)
		{
			turns += run.nsaved;
			*tainted |= run.tainted;
			for (int i = 0; i < run.nalone; i++)
				alone[nalone++] = run.alone[i];
		}
		else
			for (int i = 0; i < nbatch; i++)
				alone[nalone++] = batch[i];
	}
	for (int i = 0; i < nalone; i++)
	{
		if (*tainted)
			rom_transaction_wake(&alone[i], owner, 0);
		else
			turns += rom_alone_run(owner, &alone[i], tainted);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	return turns;
}
