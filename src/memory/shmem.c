/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Shared memory: asked for at start, one part for each file that registers one.
 *
 * All of it is a hint. It is empty after a start and after a crash restart,
 * and what was in it is found again in the tables.
 *
 * Locks, in the order in which they are taken:
 *
 *	1. the ready lock (LWLock): ready queues and deadlines (ready.c)
 *	2. the roster's mutex (spinlock): workers, databases, the launcher's
 *	   sleep, and the ready ring (roster.c, ready.c). The commit hook takes
 *	   this one alone, so that no commit waits for a sleeping process.
 *	3. the mutex of a slot (slot.c), of a bucket of waiters (waiter.c), and
 *	   of a set of progress reports, of pollers, of awaited ends, of fronts or of
 *	   statistics or of profiles (progress.c, poller.c, fanin.c, front.c, stat.c, profile.c),
 *	   and those of the crossings, of the throttles, of the accounts and of the
 *	   turns of keys (crossing.c, turnstile.c, accounts.c, rotation.c): taken
 *	   alone.
 *
 * Under any of them: no catalog access, no palloc, no ereport, and under the
 * spinlocks no system call but kill() (slot.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "memory/shmem.h"

/* Parts, in the order in which they registered. */
#define PARTS_MAX 24

static const RomShmemPart *parts[PARTS_MAX];
static int	n_parts = 0;

static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;
static bool available = false;

static void
request(void)
{
	int			i;

	if (prev_request_hook)
		prev_request_hook();

	for (i = 0; i < n_parts; i++)
	{
		RequestAddinShmemSpace(MAXALIGN(parts[i]->size()));
		if (parts[i]->tranche != NULL)
			RequestNamedLWLockTranche(parts[i]->tranche, 1);
	}
}

static void
startup(void)
{
	int			i;

	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (i = 0; i < n_parts; i++)
	{
		bool		found;
		void	   *place = ShmemInitStruct(parts[i]->name, parts[i]->size(),
											&found);

		parts[i]->attach(place, found);
	}
	available = true;
	LWLockRelease(AddinShmemInitLock);
}

void
rom_shmem_register(const RomShmemPart *part)
{
	if (n_parts == PARTS_MAX)
		elog(ERROR, "too many parts of shared memory");
	parts[n_parts++] = part;
}

void
rom_shmem_init(void)
{
	prev_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
rom_shmem_available(void)
{
	return available;
}

void
rom_shmem_purge(Oid dbid)
{
	for (int i = 0; i < n_parts; i++)
		if (parts[i]->purge != NULL)
			parts[i]->purge(dbid);
}
