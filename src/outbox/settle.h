/*-------------------------------------------------------------------------
 *
 * settle.h
 *		The outcome of events that were given out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SETTLE_H
#define ROM_OUTBOX_SETTLE_H

/* The token of a lease, and whether a text has the form of one. */
extern char *rom_settle_token(int64 outbox_id, int32 fence);
extern bool rom_settle_is_token(const char *text);

#endif							/* ROM_OUTBOX_SETTLE_H */
