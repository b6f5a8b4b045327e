/*-------------------------------------------------------------------------
 *
 * queue.h
 *		Queues: finding the next tasks for programs that fetch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_QUEUE_H
#define ROM_QUEUE_H

#include "tasks/quota.h"
#include "tasks/task.h"

/* A claimed task. */
typedef struct RomClaimed
{
	RomTask    *task;
	char	   *token;
	TimestampTz deadline;		/* the lease's end */
} RomClaimed;

/* Most tasks of one fetch. */
#define ROM_CLAIM_MAX 1000

/* Sorts claim->unknown. */
extern void rom_queue_sort(RomClaim *claim);

/*
 * Claims up to claim->max tasks for the current user, or claim->caller; returns how many, allocated in the current context. Enters the
 * engine. RM010: a program (not claim->sends) claims from a queue that is served by a URL.
 */
extern int	rom_queue_claim(RomClaim *claim, RomClaimed *claimed);

#endif							/* ROM_QUEUE_H */
