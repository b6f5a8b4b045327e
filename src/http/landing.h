/*-------------------------------------------------------------------------
 *
 * landing.h
 *		A request of a task: its entry, and the record of its outcome.
 *
 * Local to the HTTP worker; flight.c has what comes before.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_LANDING_H
#define ROM_HTTP_LANDING_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/jsonb.h"

#include "http/late.h"
#include "http/request.h"
#include "http/share.h"
#include "http/transport.h"
#include "tasks/token.h"

/* The beginning of the tag of each request: takes its answer. */
typedef struct RomFlightTag
{
	void		(*land) (RomTransportAnswer *answer);
} RomFlightTag;

typedef struct RomFlight
{
	RomFlightTag tag;			/* first */
	RomLate		late;
	MemoryContext cxt;			/* holds it */
	MemoryContext cargo;		/* and what is needed until it is sent */
	RomToken	token;
	RomHttpRequest request;
	void	   *handle;			/* while it is under way */
	RomTransportAnswer *answer; /* when it has ended, or */
	Jsonb	   *error;			/* why it was not sent */
	bool		again;			/* that may be otherwise at the next attempt */
	bool		given_up;		/* it was closed: its lease is to end */
	int32		namespace;
	RomSharePlace place;
} RomFlight;

/* Walk through a list of flights; NULL at its end. A flight may leave the list when the next has been asked for. */
extern RomFlight *rom_landing_first(dlist_head *list);
extern RomFlight *rom_landing_next(dlist_head *list, RomFlight *flight);

/* Begins with the transport that answers come from. */
extern void rom_landing_init(const RomTransport *transport);

/* An entry, whose memory has begun. */
extern RomFlight *rom_landing_new(int32 namespace);

/* Requests that are under way, or whose outcome is to be recorded. */
extern int	rom_landing_count(void);

/* A request has ended, or is given up; it is in no list. */
extern void rom_landing_take(RomFlight *flight);

/* Frees a request that is in no list. */
extern void rom_landing_discard(RomFlight *flight);

/* Records outcomes. Returns when to try again: DT_NOEND if all are recorded. */
extern TimestampTz rom_landing_record(void);

#endif							/* ROM_HTTP_LANDING_H */
