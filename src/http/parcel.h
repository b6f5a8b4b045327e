/*-------------------------------------------------------------------------
 *
 * parcel.h
 *		A request, made of events and the way to their destination.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_PARCEL_H
#define ROM_HTTP_PARCEL_H

#include "http/route.h"
#include "http/transport.h"
#include "outbox/format.h"

typedef struct RomParcel
{
	RomTransportRequest send;
	char	   *label;			/* as the route's */
	List	   *secrets;		/* to be kept out of everything */
} RomParcel;

/* Makes the request of n events (one, unless the format is batch), in the current context. Raises an error where an event has no form that can be sent. */
extern void rom_parcel_make(const RomRoute *route, RomFormat format, const RomTaken *events, int n, RomParcel *parcel);

/* About how many bytes an event has in a request. */
extern size_t rom_parcel_size(const RomTaken *event);

#endif							/* ROM_HTTP_PARCEL_H */
