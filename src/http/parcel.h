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

/* Headers that sign a request. */
#define ROM_PARCEL_SIGNED 3

/* Signs a body by Standard Webhooks: adds the headers, and says how many they are. keys: of RomRoute; NULL: it is not signed. id: what all attempts have in common. */
extern int	rom_parcel_sign(const char *keys, const char *id, const char *body, size_t length, const char **headers);

#endif							/* ROM_HTTP_PARCEL_H */
