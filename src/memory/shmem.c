/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Shared memory: asked for at start, one area per file that keeps some.
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
 *	   statistics (progress.c, poller.c, fanin.c, front.c, stat.c),
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
#include "storage/shmem.h"

#include "memory/crossing.h"
#include "memory/fanin.h"
#include "memory/poller.h"
#include "memory/progress.h"
#include "memory/shmem.h"
#include "memory/stat.h"
#include "steps/throttle.h"
#include "tasks/front.h"
#include "tasks/ledger.h"
#include "tasks/rotation.h"

#define READY_TRANCHE "romancy_ready"

typedef struct ShmemPart
{
	const char *name;
	Size		(*size) (void);
	void		(*attach) (void *place, bool found);
} ShmemPart;

static const ShmemPart parts[] = {
	{"romancy roster", rom_roster_shmem_size, rom_roster_shmem_attach},
	{"romancy ready", rom_ready_shmem_size, rom_ready_shmem_attach},
	{"romancy slots", rom_slot_shmem_size, rom_slot_shmem_attach},
	{"romancy waiters", rom_waiter_shmem_size, rom_waiter_shmem_attach},
	{"romancy progress", rom_progress_shmem_size, rom_progress_shmem_attach},
	{"romancy pollers", rom_poller_shmem_size, rom_poller_shmem_attach},
	{"romancy fronts", rom_front_shmem_size, rom_front_shmem_attach},
	{"romancy fanin", rom_fanin_shmem_size, rom_fanin_shmem_attach},
	{"romancy crossing", rom_crossing_shmem_size, rom_crossing_shmem_attach},
	{"romancy ledger", rom_ledger_shmem_size, rom_ledger_shmem_attach},
	{"romancy rotation", rom_rotation_shmem_size, rom_rotation_shmem_attach},
	{"romancy throttles", rom_throttle_shmem_size, rom_throttle_shmem_attach},
	{"romancy statistics", rom_stat_shmem_size, rom_stat_shmem_attach},
};

static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;
static bool available = false;
static LWLock *ready_lock = NULL;

static void
request(void)
{
	int			i;

	if (prev_request_hook)
		prev_request_hook();

	for (i = 0; i < lengthof(parts); i++)
		RequestAddinShmemSpace(MAXALIGN(parts[i].size()));
	RequestNamedLWLockTranche(READY_TRANCHE, 1);
}

static void
startup(void)
{
	int			i;

	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (i = 0; i < lengthof(parts); i++)
	{
		bool		found;
		void	   *place = ShmemInitStruct(parts[i].name, parts[i].size(),
											&found);

		parts[i].attach(place, found);
	}
	ready_lock = &GetNamedLWLockTranche(READY_TRANCHE)->lock;
	available = true;
	LWLockRelease(AddinShmemInitLock);
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

LWLock *
rom_shmem_ready_lock(void)
{
	return ready_lock;
}
