/*-------------------------------------------------------------------------
 *
 * quota.h
 *		Limits of queues and activities: how many at a time, how many per time,
 *		for each key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_QUOTA_H
#define ROM_QUOTA_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "tasks/queue.h"

/*
 * A new task's limit_key: NULL when neither its queue nor its activity has a limit, else the value that the
 * queue's per_key path has in input, or "". Engine scope needed, as below.
 */
extern char *rom_quota_key_of(const char *queue, const char *activity,
							  Jsonb *input);

typedef enum RomQuotaKind
{
	ROM_QUOTA_NONE,				/* no limits: take what there is */
	ROM_QUOTA_PAUSED,
	ROM_QUOTA_LIMITED			/* rom_quota_candidates() chooses */
} RomQuotaKind;

/* What holds for those who claim from a queue. */
extern RomQuotaKind rom_quota_of(const char *queue);

/*
 * Chooses ready tasks of a limited queue, fair between keys, and takes what they cost from
 * the buckets; the rows are locked, and so is the queue, until the transaction's end. When a
 * rate limit holds tasks back, claim->retry_at is when to look again.
 */
extern int	rom_quota_candidates(RomClaim *claim, Oid caller, int max,
								 pg_uuid_t *ids);

#endif							/* ROM_QUOTA_H */
