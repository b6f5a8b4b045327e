/*-------------------------------------------------------------------------
 *
 * delivery.h
 *		Events of the outbox under way to their destinations: from their lease to the record of their outcome.
 *
 * Only the HTTP worker has any. Nothing of a transaction is held between these calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_DELIVERY_H
#define ROM_HTTP_DELIVERY_H

#include "datatype/timestamp.h"

#include "http/transport.h"

/* Begins with the transport that sends them. */
extern void rom_delivery_init(const RomTransport *transport);

/* Requests that are under way, or whose outcome is to be recorded. */
extern int	rom_delivery_count(void);

/* Ends the leases that a worker before this one held. *held: but for some, whose events another transaction has; to be called again. False: it failed. */
extern bool rom_delivery_inherit(bool *held);

/*
 * Takes events, as many as their destinations let through, and sends them. *more: there may be more now; *retry_at: when to look again
 * even if not told before (DT_NOEND: never). False: it failed.
 */
extern bool rom_delivery_claim(bool *more, TimestampTz *retry_at);

/*
 * Records the outcomes of events. *settled: some were, so that others may be sent. Returns when to try again: DT_NOEND if all is
 * recorded.
 */
extern TimestampTz rom_delivery_record(bool *settled);

#endif							/* ROM_HTTP_DELIVERY_H */
