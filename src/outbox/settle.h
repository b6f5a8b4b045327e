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

#endif							/* ROM_OUTBOX_SETTLE_H */
