/*-------------------------------------------------------------------------
 *
 * sender.h
 *		What the process that sends events over HTTP needs of the outbox: where to, when, and whether the receiver is well.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SENDER_H
#define ROM_OUTBOX_SENDER_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Destinations that rom_sender_find() finds. */
#define ROM_SENDER_MAX 1000

/* Requests that a destination has under way at a time, where it does not say. */
#define ROM_SENDER_IN_FLIGHT 10

/* A destination with a URL that has events to send. */
typedef struct RomReceiver
{
	int32		namespace;
	int32		id;				/* ROM_DESTINATION_ALWAYS: romancy.outbox_url */
	TimestampTz defined_at;		/* a later definition is another receiver */
	char	   *owner;
	char	   *url;
	Jsonb	   *headers;		/* NULL: none */
	char	   *signing_secret; /* its name; NULL: not signed */
	char	   *format;
	int			batch_size;
	int			max_in_flight;
	char	   *rate_limit;		/* NULL: none */
	int			failures;		/* in a row */
	TimestampTz retry_at;		/* nothing is sent before; DT_NOBEGIN: at once */
} RomReceiver;

/* After so many failures in a row the breaker is open: nothing is sent but, from time to time, one request. */
#define ROM_SENDER_BREAKS 5

/* Has the process that sends come when the transaction commits; many calls of a transaction cost what one costs. */
extern void rom_sender_wake(void);

/*
 * The destinations that have events that are due, also those that have to wait, in receivers (room for ROM_SENDER_MAX), in the current context; how many.
 * *next: when the first event is due of those that wait for another attempt. Enters the engine by itself.
 */
extern int	rom_sender_find(RomReceiver *receivers, TimestampTz *next);

/* How a request to a receiver went. */
typedef enum RomReceived
{
	ROM_RECEIVED_WELL,			/* it answers; failures are forgotten */
	ROM_RECEIVED_BADLY,			/* one failure more */
	ROM_RECEIVED_LATER,			/* it is not to be asked before a time; no
								 * failure */
	ROM_RECEIVED_REFUSED,		/* nothing may be sent to it before a time: a
								 * rule or a secret lacks; no failure */
	ROM_RECEIVED_GONE,			/* it wants no events any more: the
								 * destination is paused */
	ROM_RECEIVED_NOTHING		/* no request was made */
} RomReceived;

/*
 * Remembers it. probe: it was the one request that an open breaker lets through. retry_at: nothing is sent before (0: as the breaker says). error, unless it went well.
 * A destination that another transaction changes at the moment, or that was dropped or defined anew since defined_at, is left as it is. Enters the engine by itself.
 */
extern void rom_sender_note(int32 namespace, int32 id, TimestampTz defined_at, RomReceived how, bool probe, TimestampTz retry_at, const char *error);

/* A rule or a secret was given: destinations that were refused for lack of one are looked at again at the commit. Enters the engine by itself. */
extern void rom_sender_allowed(void);

/* Forgets failures of a destination, and its waiting; dropped: and the row, too. Engine scope needed. */
extern void rom_sender_forget(int32 namespace, int32 id, bool dropped);

typedef struct RomSenderLease
{
	int64		outbox_id;
	int64		fence;
} RomSenderLease;

/* Leases of events that a process before this one had in hand, and that could not be ended, as another transaction has the events. */
typedef struct RomSenderLeft
{
	int			n;
	RomSenderLease *leases;		/* in TopMemoryContext */
} RomSenderLeft;

/*
 * Ends the leases of events that a process before this one had in hand: of these alone, or (NULL) of all. *left: those that could not be ended; the caller's, also
 * after an error. Enters the engine by itself.
 */
extern void rom_sender_inherit(const RomSenderLeft *of, RomSenderLeft *left);

/* The delay of an open breaker after so many failures, in microseconds; random in [0,1). */
extern int64 rom_sender_delay(int failures, double random);

/* Registers its part of the sweep "outbox"; called once, from rom_outbox_init(). */
extern void rom_sender_init(void);

#endif							/* ROM_OUTBOX_SENDER_H */
