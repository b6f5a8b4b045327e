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
 *	3. the locks (LWLocks) of the accounts and of the throttles (accounts.c,
 *	   turnstile.c): places are searched under them. Taken alone.
 *	4. the mutex of a slot (slot.c), of a bucket of waiters (waiter.c), and
 *	   of a set of progress reports, of pollers, of awaited ends, of fronts or of
 *	   statistics or of profiles (progress.c, poller.c, fanin.c, front.c, stat.c, profile.c),
 *	   and those of the crossings and of the turns of keys (crossing.c,
 *	   rotation.c): taken alone.
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

#define PARTS_MAX 24

/* Either what a file registered, or a table. */
typedef struct Part
{
	const RomShmemPart *own;
	RomWays    *table;
	const RomKeep *keep;		/* the table's, or NULL */
} Part;

/* In the order in which they registered. */
static Part parts[PARTS_MAX];
static int	n_parts = 0;

static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;
static bool available = false;
static uint64 *salt = NULL;		/* in shared memory, or the session's own */

static Size
size_of(const Part *part)
{
	return part->table != NULL ? rom_ways_size(part->table) : part->own->size();
}

static void
attach(const Part *part)
{
	bool		found;
	void	   *place = ShmemInitStruct(part->table != NULL ? part->table->name : part->own->name,
										size_of(part), &found);

	if (part->table == NULL)
	{
		part->own->attach(place, found);
		return;
	}
	rom_ways_attach(part->table, place, found);
	if (part->keep != NULL && !found)
		rom_keep_attach(part->keep);
}

static void
request(void)
{
	if (prev_request_hook)
		prev_request_hook();

	for (int i = 0; i < n_parts; i++)
	{
		const RomShmemPart *own = parts[i].own;

		RequestAddinShmemSpace(MAXALIGN(size_of(&parts[i])));
		if (own != NULL && own->tranche != NULL)
			RequestNamedLWLockTranche(own->tranche, 1);
	}
}

static void
startup(void)
{
	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < n_parts; i++)
		attach(&parts[i]);
	available = true;
	LWLockRelease(AddinShmemInitLock);
}

/* add makes the next one, all of it NULL. */
static Part *
add(void)
{
	if (n_parts == PARTS_MAX)
		elog(ERROR, "too many parts of shared memory");
	return &parts[n_parts++];
}

void
rom_shmem_register(const RomShmemPart *part)
{
	add()->own = part;
}

void
rom_shmem_register_table(RomWays *table, const RomKeep *keep)
{
	Part	   *part = add();

	part->table = table;
	part->keep = keep;
}

static Size
salt_size(void)
{
	return sizeof(uint64);
}

static void
salt_attach(void *place, bool found)
{
	salt = place;
	if (!found && !pg_strong_random(salt, sizeof(uint64)))
		elog(ERROR, "could not generate a random number");
}

uint64
rom_shmem_salt(void)
{
	static uint64 own;

	if (salt == NULL)
	{
		if (!pg_strong_random(&own, sizeof(own)))
			elog(ERROR, "could not generate a random number");
		salt = &own;
	}
	return *salt;
}

void
rom_shmem_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy salt",
		.size = salt_size,
		.attach = salt_attach,
	};

	rom_shmem_register(&part);
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
	{
		if (parts[i].table != NULL)
			rom_ways_purge(parts[i].table, dbid);
		else if (parts[i].own->purge != NULL)
			parts[i].own->purge(dbid);
	}
}
