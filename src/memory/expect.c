/*-------------------------------------------------------------------------
 *
 * expect.c
 *		Work that an executor's transaction under way will make ready.
 *
 * A process takes longer to start than a turn that spawns steps takes to commit.
 * So such a turn says how many steps it has spawned, in its executor's place in
 * the roster, and the launcher starts executors for them that connect and wait.
 * It is a hint that the launcher takes once (workers/staffing.c): a turn that fails,
 * or waits, leaves idle executors, which end by their idle timeout, and are not
 * replaced. The hint ends with the transaction, before its wake-ups are published,
 * so that no plan counts a step twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/expect.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "memory/xact.h"

static int	my_place = -1;		/* of an executor in the roster */
static int	expected = 0;		/* by this transaction */

void
rom_expect_executor(int worker)
{
	my_place = worker;
}

/* could_start_locked says whether an executor could be started for n members of this executor's transaction; the mutex is held. */
static bool
could_start_locked(const RomRoster *roster, const RomWorker *me, int n)
{
	int			taken = 0;
	int			of_database = 0;
	int			soon = 1;		/* of the owner, that will take work soon:
								 * this one does after its commit */

	for (int i = 0; i < roster->nworkers; i++)
	{
		const RomWorker *worker = &roster->workers[i];

		if (worker->state == ROM_WORKER_FREE || worker->overtime || worker->kind == ROM_WORKER_HTTP)
			continue;
		taken++;
		if (worker->kind != ROM_WORKER_EXECUTOR || worker->dbid != me->dbid)
			continue;
		of_database++;
		if (worker != me && worker->owner == me->owner && worker->state != ROM_WORKER_LEAVING &&
			!worker->leave && !worker->slow && !worker->unknown)
			soon++;
	}
	return n > soon && of_database < rom_guc_executors && taken + 1 < roster->places && !roster->cannot_grow;
}

void
rom_expect(int n)
{
	RomRoster  *roster = rom_roster_get();
	RomWorker  *me;
	RomLatches	latches;

	if (roster == NULL || my_place < 0 || n < 2 || n <= expected || expected >= rom_guc_executors)
		return;
	expected = n;
	me = &roster->workers[my_place];
	latches.count = 0;
	SpinLockAcquire(&roster->mutex);
	if (could_start_locked(roster, me, n))
	{
		me->expects = n;
		rom_roster_tell_locked(roster, ROM_TELL_START, &latches);
	}
	SpinLockRelease(&roster->mutex);
	rom_roster_set_latches(&latches);
}

/* over: the transaction has ended, and its wake-ups are about to be published. */
static void
over(bool commit)
{
	RomRoster  *roster = rom_roster_get();

	if (expected == 0)
		return;
	expected = 0;
	SpinLockAcquire(&roster->mutex);
	roster->workers[my_place].expects = 0;
	SpinLockRelease(&roster->mutex);
}

void
rom_expect_init(void)
{
	static const RomXactPart part = {
		.name = "expected work",
		.order = ROM_XACT_GIVE_BACK,
		.after_locks = over,
	};

	rom_xact_register(&part);
}
