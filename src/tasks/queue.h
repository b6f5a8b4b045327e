/*-------------------------------------------------------------------------
 *
 * queue.h
 *		Queues: finding the next tasks for those who fetch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_QUEUE_H
#define ROM_QUEUE_H

#include "tasks/task.h"

/* Workflow tasks of a queue are kept under this prefix and its name. */
#define ROM_QUEUE_WORKFLOWS "@"

/* A fetch: what is asked for. */
typedef struct RomClaim
{
	char	   *queue;			/* as stored in t_task */
	char	   *worker_id;
	int			max;
	int64		lease_us;
	TimestampTz until;			/* it waits until then; 0: it does not */
	TimestampTz booked;			/* in and out: it has booked the token of then
								 * of a rate limit; 0: none */
	uint64		booked_of;		/* of which account */
	TimestampTz retry_at;		/* out: when to look again, though nobody says
								 * so */
} RomClaim;

/* A claimed task. */
typedef struct RomClaimed
{
	RomTask    *task;
	char	   *token;
	TimestampTz deadline;		/* the lease's end */
} RomClaimed;

/* Most tasks of one fetch. */
#define ROM_CLAIM_MAX 1000

/* Limits of the queue or of its activities have changed: at this transaction's commit all who wait look again. Engine scope needed. */
extern void rom_queue_changed(const char *queue);

/* There is one task more to take (at this transaction's commit) in the queue, as stored in t_task. Engine scope needed. */
extern void rom_queue_note(const char *queue);

/* Claims up to claim->max tasks for the current user; returns how many, allocated in the current context. Enters the engine. */
extern int	rom_queue_claim(RomClaim *claim, RomClaimed *claimed);

#endif							/* ROM_QUEUE_H */
