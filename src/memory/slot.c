/*-------------------------------------------------------------------------
 *
 * slot.c
 *		What each process that runs turns is doing, in shared memory.
 *
 * A slot is written by its owner and read by others under its mutex.
 *
 * Cancel. Each turn of a member has a number of its own in its slot. The canceller's commit hook writes the number into cancel_turn and sends SIGINT,
 * both under the slot's mutex: so when rom_slot_member_end() has had the mutex the signal is there, and one system call lets it in. No signal of this
 * turn is on its way then, or hits the next member. A member whose turn has not begun has, perhaps, been read before the cancel: a bit has its turn
 * cancelled at the begin. So has a step that is not transactional, between the transaction that announced it and its begin.
 *
 * The file. A record per slot, written in place at each rom_slot_begin() and rom_slot_member_begin(), and emptied when the process rests or leaves in
 * order. A process that is told to leave at once (SIGQUIT: an immediate shutdown, or another process has crashed) empties it, too. So what the file
 * holds when shared memory is made again, by the postmaster before any process runs, is what the process that crashed was running, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "memory/cancelled.h"
#include "memory/guc.h"
#include "memory/inflight.h"
#include "memory/ready.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "memory/slot.h"
#include "memory/suspect.h"
#include "memory/waiter.h"

#define SESSION_SLOTS 64

typedef struct Slot
{
	slock_t		mutex;
	int			pid;			/* 0: free */
	Oid			dbid;
	Oid			owner;
	int			count;			/* instances of the transaction */
	int			member;			/* whose turn it is; -1: between turns */
	uint64		turn;			/* number of the turn, never used again */
	uint64		cancel_turn;	/* the turn that was to be cancelled last */
	TimestampTz since;			/* of the turn */
	TimestampTz step_since;
	pg_uuid_t	instance;		/* of the turn, once rom_slot_step() has told */
	bool		told;
	char		step[ROM_SLOT_STEP];
	uint32		again;			/* bit per instance: to be run again */
	uint32		cancelled;		/* bit per instance: cancelled while it was
								 * not its turn */
	bool		kept;			/* kept_id, which belongs to kept_of, is run
								 * outside of any transaction that locks it */
	bool		kept_again;		/* it has to run again after that */
	bool		kept_cancelled; /* it was cancelled since then */
	pg_uuid_t	kept_id;
	pg_uuid_t	kept_of;
	pg_uuid_t	ids[ROM_BATCH_MAX];
	pg_uuid_t	of[ROM_BATCH_MAX];	/* the instances that they belong to */
} Slot;

typedef struct Slots
{
	int			nexecutors;
	int			nslots;
	Slot		slots[FLEXIBLE_ARRAY_MEMBER];
} Slots;

static Slots *area = NULL;
static Slot *mine = NULL;

/* The turn during which this executor was interrupted last other than by a canceller; written by the signal's handler. */
static volatile uint64 interrupted_turn = 0;
static volatile sig_atomic_t told_to_die = false;
static bool exit_hooked = false;

static Size
shmem_size(void)
{
	return add_size(offsetof(Slots, slots),
					mul_size(2 * rom_guc_max_workers + SESSION_SLOTS,
							 sizeof(Slot)));
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	if (found)
		return;
	memset(area, 0, shmem_size());
	area->nexecutors = 2 * rom_guc_max_workers;
	area->nslots = area->nexecutors + SESSION_SLOTS;
	for (int i = 0; i < area->nslots; i++)
	{
		SpinLockInit(&area->slots[i].mutex);
		area->slots[i].member = -1;
	}
}

void
rom_slot_sigquit(SIGNAL_ARGS)
{
	if (mine != NULL)
		rom_inflight_clear_at_once(mine - area->slots);
	if (MyBackendType == B_BG_WORKER)
		SignalHandlerForCrashExit(postgres_signal_arg);
	else
		quickdie(postgres_signal_arg);
}

/*
 * Gives our slot up at the end of the process. If that comes in the middle of a turn, by FATAL, and no process asked for it, the turn may be the
 * cause. Other processes run its instances next, so its transaction has to be over.
 */
static void
release(int code, Datum arg)
{
	if (mine == NULL)
		return;
	AbortOutOfAnyTransaction();
	if (code != 0 && mine->member >= 0 && !told_to_die)
		rom_suspect_add(&mine->ids[mine->member]);
	rom_slot_detach();
}

/* Fills the free slot in which we are. */
static void
settle(Slot *slot, Oid owner)
{
	if (!exit_hooked)
	{
		before_shmem_exit(release, 0);
		exit_hooked = true;
	}
	slot->dbid = MyDatabaseId;
	slot->owner = owner;
	slot->count = 0;
	slot->member = -1;
	slot->again = 0;
	slot->kept = slot->kept_again = false;
	mine = slot;
}

void
rom_slot_adopt(int number, Oid owner)
{
	if (area == NULL || mine != NULL)
		return;
	area->slots[number].pid = MyProcPid;
	settle(&area->slots[number], owner);
}

bool
rom_slot_attach(void)
{
	if (area == NULL || mine != NULL)
		return true;
	for (int i = area->nexecutors; i < area->nslots; i++)
	{
		Slot	   *slot = &area->slots[i];
		bool		got;

		SpinLockAcquire(&slot->mutex);
		got = slot->pid == 0;
		if (got)
			slot->pid = MyProcPid;
		SpinLockRelease(&slot->mutex);
		if (got)
		{
			pqsignal(SIGQUIT, rom_slot_sigquit);
			settle(slot, GetUserId());
			return true;
		}
	}
	return false;
}

void
rom_slot_detach(void)
{
	Slot	   *slot = mine;

	if (slot == NULL)
		return;
	if (slot->member >= 0)
		rom_slot_member_end();
	rom_slot_end();
	rom_slot_unkeep();
	if (rom_inflight_written())
		rom_inflight_write(mine - area->slots, mine->dbid, mine->ids, mine->count);

	mine = NULL;
	SpinLockAcquire(&slot->mutex);
	slot->pid = 0;
	SpinLockRelease(&slot->mutex);
}

/* is_kept: does slot keep this one (rom_slot_keep())? Under its mutex. */
static bool
is_kept(const Slot *slot, const pg_uuid_t *id)
{
	return slot->kept && slot->dbid == MyDatabaseId &&
		memcmp(slot->kept_id.data, id->data, UUID_LEN) == 0;
}

void
rom_slot_begin(const pg_uuid_t *ids, int n)
{
	if (mine == NULL)
		return;
	Assert(n <= ROM_BATCH_MAX);
	SpinLockAcquire(&mine->mutex);
	memcpy(mine->ids, ids, n * sizeof(pg_uuid_t));
	memcpy(mine->of, ids, n * sizeof(pg_uuid_t));
	if (n == 1 && is_kept(mine, ids))
		mine->of[0] = mine->kept_of;
	mine->count = n;
	mine->again = 0;
	mine->cancelled = n == 1 && is_kept(mine, ids) && mine->kept_cancelled ? 1 : 0;
	mine->kept_cancelled = false;
	SpinLockRelease(&mine->mutex);
	rom_inflight_write(mine - area->slots, mine->dbid, mine->ids, mine->count);
}

void
rom_slot_belongs(int i, const pg_uuid_t *instance)
{
	if (mine == NULL)
		return;
	SpinLockAcquire(&mine->mutex);
	mine->of[i] = *instance;
	SpinLockRelease(&mine->mutex);
}

void
rom_slot_member_begin(int i)
{
	TimestampTz now;
	bool		cancelled;

	if (mine == NULL)
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&mine->mutex);
	mine->member = i;
	mine->turn++;
	cancelled = (mine->cancelled & (1U << i)) != 0;
	if (cancelled)
	{
		mine->cancelled &= ~(1U << i);
		mine->cancel_turn = mine->turn;
	}
	mine->since = now;
	mine->told = false;
	SpinLockRelease(&mine->mutex);
	if (cancelled)
		InterruptPending = QueryCancelPending = true;
	if (mine->count > 1)		/* one alone is at fault in any case */
		rom_inflight_member(mine - area->slots, mine->member);
}

void
rom_slot_member_end(void)
{
	bool		cancelled;

	if (mine == NULL || mine->member < 0)
		return;
	SpinLockAcquire(&mine->mutex);
	cancelled = mine->cancel_turn == mine->turn;
	mine->member = -1;
	SpinLockRelease(&mine->mutex);
	if (mine->count > 1)		/* one alone is at fault in any case */
		rom_inflight_member(mine - area->slots, mine->member);

	if (cancelled)
	{
		/* the signal has been sent: a system call, and its handler has run */
		(void) getppid();
		QueryCancelPending = false;
	}
}

bool
rom_slot_cancelled(void)
{
	return mine != NULL && mine->member >= 0 &&
		*(volatile uint64 *) &mine->cancel_turn == mine->turn;
}

bool
rom_slot_interrupted(void)
{
	return mine != NULL && mine->member >= 0 && interrupted_turn == mine->turn;
}

void
rom_slot_forget_interrupt(void)
{
	interrupted_turn = 0;
}

/* put_ready gives instances, of which only the ids are set, back to the ready queue. */
static void
put_ready(RomReadyItem *items, int n)
{
	TimestampTz now;

	if (n == 0)
		return;
	now = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
	{
		items[i].dbid = mine->dbid;
		items[i].owner = mine->owner;
		items[i].priority = 0;
		items[i].slow = items[i].unknown = false;
		items[i].at = now;
	}
	rom_ready_put(items, n, now);
}

uint64
rom_slot_owner_key(Oid owner)
{
	return rom_waiter_key('d', &owner, sizeof(owner));
}

bool
rom_slot_owner_busy(Oid owner)
{
	for (int i = 0; area != NULL && i < area->nslots; i++)
	{
		volatile Slot *slot = &area->slots[i];

		if (slot != mine && slot->pid != 0 && slot->owner == owner && slot->dbid == MyDatabaseId &&
			(slot->count > 0 || slot->kept))
			return true;
	}
	return false;
}

void
rom_slot_end(void)
{
	RomReadyItem items[ROM_BATCH_MAX];
	uint32		again;
	int			n = 0;

	if (mine == NULL || mine->count == 0)
		return;
	SpinLockAcquire(&mine->mutex);
	again = mine->again;
	mine->again = 0;
	for (int i = 0; i < mine->count; i++)
		if (again & (1U << i))
			items[n++].id = mine->ids[i];
	mine->count = 0;
	SpinLockRelease(&mine->mutex);
	put_ready(items, n);
	rom_waiter_notify(rom_slot_owner_key(mine->owner));
}

void
rom_slot_keep(const pg_uuid_t *id)
{
	if (mine == NULL)
		return;
	SpinLockAcquire(&mine->mutex);
	mine->kept = true;
	mine->kept_id = *id;
	mine->kept_of = mine->of[mine->member >= 0 ? mine->member : 0];
	/* the turn that announced its step has, perhaps, not looked at the signal */
	mine->kept_cancelled = mine->count == 1 && (mine->cancel_turn == mine->turn || mine->cancelled != 0);
	SpinLockRelease(&mine->mutex);
}

void
rom_slot_unkeep(void)
{
	RomReadyItem item;
	bool		again;

	if (mine == NULL || !mine->kept)
		return;
	SpinLockAcquire(&mine->mutex);
	again = mine->kept_again;
	item.id = mine->kept_id;
	mine->kept = mine->kept_again = mine->kept_cancelled = false;
	SpinLockRelease(&mine->mutex);
	put_ready(&item, again ? 1 : 0);
	rom_waiter_notify(rom_slot_owner_key(mine->owner));
}

bool
rom_slot_kept_cancelled(void)
{
	return mine != NULL && mine->kept && *(volatile bool *) &mine->kept_cancelled;
}

bool
rom_slot_kept(const pg_uuid_t *id)
{
	bool		found = false;

	if (area == NULL)
		return false;
	for (int i = 0; i < area->nslots && !found; i++)
	{
		Slot	   *slot = &area->slots[i];

		if (!slot->kept || slot == mine)
			continue;
		SpinLockAcquire(&slot->mutex);
		found = is_kept(slot, id);
		if (found)
			slot->kept_again = true;
		SpinLockRelease(&slot->mutex);
	}
	return found;
}

void
rom_slot_rest(void)
{
	if (mine != NULL && mine->count == 0 && rom_inflight_written())
		rom_inflight_write(mine - area->slots, mine->dbid, mine->ids, mine->count);
}

/* Position of the instance among those of slot, or -1. */
static int
position(const Slot *slot, const pg_uuid_t *id)
{
	if (slot->dbid != MyDatabaseId)
		return -1;
	for (int i = 0; i < slot->count; i++)
		if (memcmp(slot->ids[i].data, id->data, UUID_LEN) == 0)
			return i;
	return -1;
}

/* lock_runner finds the slot that runs the instance, and locks it; NULL: there is none. but_mine: this process is not meant. */
static Slot *
lock_runner(const pg_uuid_t *id, bool but_mine, int *pos)
{
	for (int i = 0; area != NULL && i < area->nslots; i++)
	{
		Slot	   *slot = &area->slots[i];

		if (slot->pid == 0 || slot->count == 0 || (but_mine && slot == mine))
			continue;
		SpinLockAcquire(&slot->mutex);
		*pos = position(slot, id);
		if (*pos >= 0)
			return slot;
		SpinLockRelease(&slot->mutex);
	}
	return NULL;
}

bool
rom_slot_mark_again(const pg_uuid_t *id)
{
	int			pos;
	Slot	   *slot = lock_runner(id, true, &pos);

	if (slot == NULL)
		return false;
	slot->again |= 1U << pos;
	SpinLockRelease(&slot->mutex);
	return true;
}

bool
rom_slot_interrupt(int number)
{
	Slot	   *slot = &area->slots[number];
	bool		may;

	SpinLockAcquire(&slot->mutex);
	may = slot->pid != 0 && slot->member >= 0 && !slot->kept;
	if (may)
		(void) kill(slot->pid, SIGINT);
	SpinLockRelease(&slot->mutex);
	return may;
}

bool
rom_slot_stays(int number)
{
	Slot	   *slot = &area->slots[number];
	bool		stays;

	SpinLockAcquire(&slot->mutex);
	stays = slot->pid != 0 && slot->kept;
	SpinLockRelease(&slot->mutex);
	return stays;
}

/* cancel_member cancels one that slot, whose mutex is held, runs or is about to run. */
static void
cancel_member(Slot *slot, int pos)
{
	if (pos != slot->member)
		slot->cancelled |= 1U << pos;
	else if (slot->cancel_turn != slot->turn)
	{
		slot->cancel_turn = slot->turn;
		(void) kill(slot->pid, SIGINT);
	}
}

void
rom_slot_cancel(const pg_uuid_t *id)
{
	if (area == NULL)
		return;
	rom_cancelled_note(id);
	for (int i = 0; i < area->nslots; i++)
	{
		Slot	   *slot = &area->slots[i];

		if (slot->pid == 0 || slot == mine || slot->dbid != MyDatabaseId)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->kept && (memcmp(&slot->kept_id, id, sizeof(pg_uuid_t)) == 0 ||
						   memcmp(&slot->kept_of, id, sizeof(pg_uuid_t)) == 0))
			slot->kept_cancelled = true;
		for (int pos = 0; pos < slot->count; pos++)
			if (memcmp(&slot->ids[pos], id, sizeof(pg_uuid_t)) == 0 || memcmp(&slot->of[pos], id, sizeof(pg_uuid_t)) == 0)
				cancel_member(slot, pos);
		SpinLockRelease(&slot->mutex);
	}
}

/*
 * SIGINT in an executor. A cancel, of this turn's instance or by pg_cancel_backend(), interrupts the statement of a turn; between turns there is
 * nothing to interrupt, and a signal that was meant for a turn does not outlive it (see above).
 */
void
rom_slot_sigint(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!proc_exit_inprogress && mine != NULL &&
		*(volatile int *) &mine->member >= 0)
	{
		uint64		turn = *(volatile uint64 *) &mine->turn;

		/* a canceller has written which turn it means before it signals */
		if (*(volatile uint64 *) &mine->cancel_turn != turn)
			interrupted_turn = turn;
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

void
rom_slot_sigterm(SIGNAL_ARGS)
{
	told_to_die = true;
	die(postgres_signal_arg);
}

int
rom_slot_sessions(void)
{
	return area == NULL ? 0 : SESSION_SLOTS;
}

bool
rom_slot_current(int number, int *pid, Oid *dbid, Oid *owner, pg_uuid_t *id,
				 TimestampTz *since)
{
	Slot	   *slot;
	bool		running;

	if (area == NULL)
		return false;
	slot = &area->slots[number >= 0 ? number :
						area->nexecutors - 1 - number];
	SpinLockAcquire(&slot->mutex);
	*pid = slot->pid;
	*dbid = slot->dbid;
	*owner = slot->owner;
	*since = slot->since;
	running = slot->pid != 0 && slot->member >= 0;
	if (running)
		*id = slot->ids[slot->member];
	SpinLockRelease(&slot->mutex);
	return running;
}

void
rom_slot_step(const pg_uuid_t *instance, const char *step)
{
	TimestampTz now;

	if (mine == NULL || mine->member < 0)
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&mine->mutex);
	mine->told = true;
	mine->instance = *instance;
	mine->step_since = now;
	strlcpy(mine->step, step ? step : "", ROM_SLOT_STEP);
	SpinLockRelease(&mine->mutex);
}

int
rom_slot_count(void)
{
	return area == NULL ? 0 : area->nslots;
}

bool
rom_slot_now(int n, RomSlotNow *now)
{
	Slot	   *slot = &area->slots[n];
	bool		running;

	SpinLockAcquire(&slot->mutex);
	running = slot->pid != 0 && slot->dbid == MyDatabaseId && slot->member >= 0;
	if (running)
	{
		now->pid = slot->pid;
		now->id = slot->ids[slot->member];
		now->instance = slot->told ? slot->instance : now->id;
		now->since = slot->told ? slot->step_since : slot->since;
		strlcpy(now->step, slot->told ? slot->step : "", ROM_SLOT_STEP);
	}
	SpinLockRelease(&slot->mutex);
	return running;
}

bool
rom_slot_busy(const pg_uuid_t *id)
{
	int			pos;
	Slot	   *slot = lock_runner(id, false, &pos);

	if (slot != NULL)
		SpinLockRelease(&slot->mutex);
	return slot != NULL;
}

int
rom_slot_running(pg_uuid_t **ids)
{
	int			nslots = area ? area->nslots : 0;
	int			n = 0;

	*ids = palloc_array(pg_uuid_t, Max(nslots * (ROM_BATCH_MAX + 1), 1));
	for (int i = 0; i < nslots; i++)
	{
		Slot	   *slot = &area->slots[i];

		if (slot->count == 0 && !slot->kept)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->dbid == MyDatabaseId)
		{
			memcpy(*ids + n, slot->ids, slot->count * sizeof(pg_uuid_t));
			n += slot->count;
			if (slot->kept)
				(*ids)[n++] = slot->kept_id;
		}
		SpinLockRelease(&slot->mutex);
	}
	return n;
}

void
rom_slot_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy slots",
		.size = shmem_size,
		.attach = shmem_attach,
	};

	rom_shmem_register(&part);
}
