/*-------------------------------------------------------------------------
 *
 * settle.h
 *		The outcome of events that were given out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SETTLE_H
#define ROM_OUTBOX_SETTLE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* A number for the leases of one call, or of a replay: no other one has it, not even one that was rolled back. */
extern int64 rom_settle_new_fence(void);

/* The token of a lease, and whether a text stands for a token, and not for an event's id. */
extern char *rom_settle_token(int64 outbox_id, int64 fence);
extern bool rom_settle_is_token(const char *text);

/*
 * When an event is to be given out again after attempt number attempt (from 1), which ended at now, failed; DT_NOEND: never. since: when it
 * was sent, or replayed; retry: its destination's keys, or NULL.
 */
extern TimestampTz rom_settle_next_attempt(int attempt, TimestampTz since, Jsonb *retry, TimestampTz now);

/* An event that was taken and sent. */
typedef struct RomSettle
{
	int64		outbox_id;
	int64		fence;			/* of the lease */
	bool		done;			/* settled, or another's by now */
} RomSettle;

/* How its delivery ended. */
typedef enum RomSettled
{
	ROM_SETTLED_PUBLISHED,
	ROM_SETTLED_INVALID,		/* refused for good */
	ROM_SETTLED_FAILED,			/* again by the destination's retry policy, or
								 * dead */
	ROM_SETTLED_RELEASED		/* given back: that was no attempt */
} RomSettled;

/*
 * Settles those of n events that are not done. error: NULL for PUBLISHED. not_before: a failed one is not sent again earlier; 0: as the policy
 * says. An event that another transaction has locked is left, and not done. Enters the engine by itself.
 */
extern void rom_settle_sent(RomSettle *events, int n, RomSettled how, const char *error, TimestampTz not_before);

#endif							/* ROM_OUTBOX_SETTLE_H */
