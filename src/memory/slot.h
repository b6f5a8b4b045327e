/*-------------------------------------------------------------------------
 *
 * slot.h
 *		What each process that runs turns is doing, in shared memory.
 *
 * An executor has a slot for life, a session takes one for the length of a
 * drain. The slot's list of instances lets another executor that finds one of
 * them locked leave a mark ("again") instead of losing the wake-up, lets a
 * canceller find the turn to interrupt, and is mirrored in a small file
 * (pg_stat/romancy.inflight) so that after a crash the instances whose turn
 * died with its process are known. All are no-ops without shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SLOT_H
#define ROM_SLOT_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "memory/inflight.h"

/* Takes a slot for this session (drain); executors have theirs already. True if one was free (or no shared memory is there to have one). */
extern bool rom_slot_attach(void);
extern void rom_slot_detach(void);

/* For executors: the place is theirs for life; number: that of their place in the roster. */
extern void rom_slot_adopt(int number, Oid owner);

/* The process has nothing to do for now: its record in the file is emptied. */
extern void rom_slot_rest(void);

/* Handler of SIGINT in executors. */
extern void rom_slot_sigint(SIGNAL_ARGS);

/* Handlers of SIGTERM and SIGQUIT of processes that run turns: a process that is told to leave has not crashed. */
extern void rom_slot_sigterm(SIGNAL_ARGS);
extern void rom_slot_sigquit(SIGNAL_ARGS);

/* For the commit hook: interrupts the processes that run a turn of this instance, or its tasks; or this task. Does not raise. */
extern void rom_slot_cancel(const pg_uuid_t *id);

/*
 * For the launcher: interrupts what the executor of this place runs, as pg_cancel_backend() does; it is run again. False: it runs
 * nothing, or a procedure, which must not run twice. Does not raise.
 */
extern bool rom_slot_interrupt(int number);

/* Likewise: is that a step that must not run twice? */
extern bool rom_slot_stays(int number);

/* For view workers: what the process of this place runs now; false for nothing. number: as above, or -1 - n for session n. */
extern bool rom_slot_current(int number, int *pid, Oid *dbid, Oid *owner,
							 pg_uuid_t *id, TimestampTz *since);
extern int	rom_slot_sessions(void);

/* A step's id is cut to this many bytes, with its zero; no id of a handler's step is as long. */
#define ROM_SLOT_STEP 272

/* The work of a process at the moment. */
typedef struct RomSlotNow
{
	int			pid;
	pg_uuid_t	id;				/* the instance or task whose turn it is */
	pg_uuid_t	instance;		/* the instance, of a task as well */
	TimestampTz since;			/* the step's begin; without a step, the
								 * turn's */
	char		step[ROM_SLOT_STEP];	/* "": the handler itself */
} RomSlotNow;

/* This process is in a step of an instance from now on (step NULL: in its handler); rom_slot_now() shows it. */
extern void rom_slot_step(const pg_uuid_t *instance, const char *step);

/* Gets what slot n (0 <= n < rom_slot_count()) runs in this database at the moment; false if it runs nothing. */
extern int	rom_slot_count(void);
extern bool rom_slot_now(int n, RomSlotNow *now);

/* The transaction that begins now will run turns of these instances. Before its first snapshot. */
extern void rom_slot_begin(const pg_uuid_t *ids, int n);

/* Member i of them is a task of this instance. */
extern void rom_slot_belongs(int i, const pg_uuid_t *instance);

/* Member i of them begins its turn, and ends it. Between the two a cancel of it interrupts this process, also one that came before its begin. */
extern void rom_slot_member_begin(int i);
extern void rom_slot_member_end(void);

/* Was the current member, or the instance it belongs to, cancelled (a rom_wake_cancel() committed) since rom_slot_begin(), or since it was kept? */
extern bool rom_slot_cancelled(void);

/*
 * Was this executor interrupted (pg_cancel_backend) since the current member began, or since
 * rom_slot_forget_interrupt(), other than to cancel the member?
 */
extern bool rom_slot_interrupted(void);
extern void rom_slot_forget_interrupt(void);

/* The transaction is over (committed or aborted, locks released): instances that others wanted meanwhile go back to the ready queue. */
extern void rom_slot_end(void);

/*
 * This process runs a procedure that commits for this instance (or task), between transactions that
 * lock its row. Call it before the commit that releases the row, and rom_slot_unkeep() when the
 * outcome is recorded. Meanwhile rom_slot_kept() tells other processes not to run it; if one of
 * them marked it, it runs again afterwards.
 */
extern void rom_slot_keep(const pg_uuid_t *id);
extern void rom_slot_unkeep(void);
extern bool rom_slot_kept(const pg_uuid_t *id);

/* Was the instance that this process keeps cancelled since its last transaction ended? */
extern bool rom_slot_kept_cancelled(void);

/*
 * Another process runs a turn of this instance now: marks it to be run again when that turn has
 * ended, and returns true. False: no process is known to run it.
 */
extern bool rom_slot_mark_again(const pg_uuid_t *id);

/* Does some process run a turn of this instance now? */
extern bool rom_slot_busy(const pg_uuid_t *id);

/*
 * Does another process of this database run turns or tasks of this owner's now? When one of them
 * has ended, the sessions that wait for the key (waiter.h) are woken. Without shared memory: never.
 */
extern bool rom_slot_owner_busy(Oid owner);
extern uint64 rom_slot_owner_key(Oid owner);

/* All such instances of this database, and those that are kept (rom_slot_keep()); how many, in a palloc'd array. */
extern int	rom_slot_running(pg_uuid_t **ids);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_slot_init(void);

#endif							/* ROM_SLOT_H */
