/*-------------------------------------------------------------------------
 *
 * flight.h
 *		Requests under way: from the claim of their tasks to their answers.
 *
 * Only the HTTP worker has any. Nothing of a transaction is held between these calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_FLIGHT_H
#define ROM_HTTP_FLIGHT_H

#include "datatype/timestamp.h"

#include "http/transport.h"

/* Begins with the transport that sends them. */
extern void rom_flight_init(const RomTransport *transport);

/* Requests that are under way, or whose outcome is to be recorded. */
extern int	rom_flight_count(void);

/*
 * Ends the leases that a worker before this one held: what it had in hand is tried again. *held: but for some, whose tasks another transaction
 * has; to be called again. False: it failed.
 */
extern bool rom_flight_inherit(bool *held);

/*
 * Claims tasks, as many as there is room for, and sends their requests. *more: there may be more now; *retry_at: when to claim again though
 * the worker is not told. False: it failed.
 */
extern bool rom_flight_claim(bool *more, TimestampTz *retry_at);

/* Closes the connections of requests that are not wanted any more. False: it failed. */
extern bool rom_flight_cancel(void);

/* Takes the answers that have come. */
extern void rom_flight_collect(void);

#endif							/* ROM_HTTP_FLIGHT_H */
