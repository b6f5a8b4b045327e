/*-------------------------------------------------------------------------
 *
 * flight.h
 *		Requests under way: from the claim of their tasks to the record of their outcome.
 *
 * Only the HTTP worker has any. Nothing of a transaction is held between these calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_FLIGHT_H
#define ROM_HTTP_FLIGHT_H

#include "datatype/timestamp.h"

#include "http/transport.h"

/* The beginning of the tag of each request: takes its answer. */
typedef struct RomFlightTag
{
	void		(*land) (RomTransportAnswer *answer);
} RomFlightTag;

/* Begins with the transport that sends them. */
extern void rom_flight_init(const RomTransport *transport);

/* Requests that are under way, or whose outcome is to be recorded. */
extern int	rom_flight_count(void);

/* Ends the leases that a worker before this one held: what it had in hand is tried again. False: it failed. */
extern bool rom_flight_inherit(void);

/*
 * Claims tasks, as many as there is room for, and sends their requests. *more: there may be more now; *retry_at: when to claim again though
 * the worker is not told. False: it failed.
 */
extern bool rom_flight_claim(bool *more, TimestampTz *retry_at);

/* Closes the connections of requests that are not wanted any more. False: it failed. */
extern bool rom_flight_cancel(void);

/* Takes the answers that have come. */
extern void rom_flight_collect(void);

/* Records outcomes. Returns when to try again: DT_NOEND if all are recorded. */
extern TimestampTz rom_flight_record(void);

#endif							/* ROM_HTTP_FLIGHT_H */
