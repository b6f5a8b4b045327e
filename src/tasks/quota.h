/*-------------------------------------------------------------------------
 *
 * quota.h
 *		Limits of queues and of their activities: how many at a time, how many
 *		per time, for each key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_QUOTA_H
#define ROM_QUOTA_H

#include "tasks/task.h"

/* A fetch: what is asked for. */
typedef struct RomClaim
{
	char	   *queue;			/* as stored in t_task */
	char	   *worker_id;
	int			max;
	int64		lease_us;
	Oid			caller;			/* a member of the owners of what it gets;
								 * InvalidOid: the current user */
	bool		sends;			/* it is the HTTP worker's */
	int			nunknown;
	int			passed;			/* out: tasks with these names that it passed
								 * over */
	text	  **unknown;		/* names of activities or workflows that it
								 * passes over, sorted (rom_queue_sort()) */
	TimestampTz until;			/* it waits until then; 0: it does not */
	TimestampTz booked;			/* in and out: it has booked the token of then
								 * of a rate limit; 0: none */
	uint64		booked_of;		/* of which account */
	TimestampTz retry_at;		/* out: when to look again without being woken */
} RomClaim;

/* The limits of a queue; read once for each claim. */
typedef struct RomQuota RomQuota;

typedef enum RomQuotaAnswer
{
	ROM_QUOTA_ADMITTED,
	ROM_QUOTA_HELD,				/* nothing of the queue may begin now */
	ROM_QUOTA_HELD_KEY,			/* nothing with this task's key */
	ROM_QUOTA_HELD_ACTIVITY		/* nothing of this task's activity */
} RomQuotaAnswer;

/* The quota for a claim, allocated in the current context. Engine scope needed, as in all below. */
extern RomQuota *rom_quota_open(RomClaim *claim);

extern bool rom_quota_paused(const RomQuota *quota);

/* Are the queue's activities served by a URL? */
extern bool rom_quota_pushed(const RomQuota *quota);

/* The path into the input whose values are the queue's keys; NULL when it has none. */
extern const char *rom_quota_per_key(const RomQuota *quota);

/* The queue as the ledger knows it, for the turns of its keys. */
extern uint64 rom_quota_queue(const RomQuota *quota);

/* Is the activity known to be held, since this claim has asked for it before? */
extern bool rom_quota_holds(const RomQuota *quota, const char *activity);

/*
 * May this ready task begin? If so it counts as running from now on, unless the transaction aborts, and task->limit_key is
 * what its row is to say. If a rate limit holds it, the claim's retry_at is when to look again.
 */
extern RomQuotaAnswer rom_quota_admit(RomQuota *quota, RomTask *task);

/* One that was admitted was not to be had. */
extern void rom_quota_refund(RomQuota *quota, const RomTask *task);

/* The end of the claim: writes down what its rate limits have left. */
extern void rom_quota_close(RomQuota *quota);

/* The limit_key of a task of this queue with that input, allocated in the current context; NULL when the queue has no keys. */
extern char *rom_quota_key_of(const char *queue, Jsonb *input);

/* The same in two steps: the path at which the queue has its keys, NULL for none; and the key at that path. */
extern char *rom_quota_path_of(const char *queue);
extern char *rom_quota_key_at(const char *path, Jsonb *input);

/* Gives ready tasks of a queue the limit_key that they are to have: those without one (limit at the most; returns how many), or all. */
extern int	rom_quota_label(const char *queue, bool all, int limit);

/* Registers with the ledger; called once from _PG_init. */
extern void rom_quota_init(void);

#endif							/* ROM_QUOTA_H */
