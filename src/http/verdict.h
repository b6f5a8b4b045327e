/*-------------------------------------------------------------------------
 *
 * verdict.h
 *		What the answer of a destination means for its events and for itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_VERDICT_H
#define ROM_HTTP_VERDICT_H

#include "datatype/timestamp.h"

#include "http/parcel.h"
#include "http/transport.h"
#include "outbox/sender.h"
#include "outbox/settle.h"

/* A destination to which no request can be made is looked at again after this. */
#define ROM_VERDICT_UNREACHABLE_US (INT64CONST(15) * USECS_PER_SEC)

/* The outcome of a request. */
typedef struct RomVerdict
{
	RomSettled	how;			/* its events */
	RomReceived received;		/* its destination */
	TimestampTz not_before;		/* of another attempt; 0 */
	char	   *error;			/* NULL: none */
	bool		split;			/* the events of the batch are to go alone */
} RomVerdict;

/* Judges a request of n events that was not made: how is what an event alone would get, error why. */
extern void rom_verdict_unsent(RomSettled how, char *error, int n, RomVerdict *v);

/* Judges the answer to a parcel of n events; the error is made in the current context, without secrets. */
extern void rom_verdict_answer(const RomTransportAnswer *answer, const RomParcel *parcel, int n, RomVerdict *v);

#endif							/* ROM_HTTP_VERDICT_H */
