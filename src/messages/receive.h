/*-------------------------------------------------------------------------
 *
 * receive.h
 *		Receiving messages: parts that event.c and sweep.c use.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RECEIVE_H
#define ROM_RECEIVE_H

#include "instances/event.h"
#include "messages/channel.h"
#include "messages/message.h"
#include "messages/subscription.h"
#include "turn/primitive.h"

/* A receive that waits at the most until; kept over the unwind. */
typedef struct RomReceive
{
	RomMode		fallback;		/* without a subscription it subscribes so */
	TimestampTz until;			/* DT_NOEND: no limit */
	const char *wait_kind;		/* "message", "event" */
	RomEventType received;
	Jsonb	   *(*show) (const RomMessage *message);
} RomReceive;

/* execute() of primitives with such options: takes the oldest message, or waits. */
extern RomOutcome rom_receive_execute(RomTurn *turn, RomCall *call,
									  RomEvent *event);

/* Asks for the step; the document that was received, or RM006. */
extern Jsonb *rom_receive_step(RomTurn *turn, const RomPrimitive *primitive,
							   const char *channel, const char *step,
							   const Interval *timeout,
							   const RomReceive *receive);

/* Registers with the engine; called once from _PG_init. */
extern void rom_receive_init(void);

#endif							/* ROM_RECEIVE_H */
