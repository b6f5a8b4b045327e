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

/* Has something come for instance i? For queries over t_instance i. OFFSET 0: none of it is computed for all rows and hashed. */
#define ROM_ARRIVED_SQL \
	"((i.status = 'waiting_for_message' AND (EXISTS (SELECT FROM romancy.t_delivery d WHERE d.mailbox = " ROM_MAILBOX_SQL "" \
	"  AND d.channel = i.wait ->> 'name' AND NOT d.received OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = 'd'" \
	"  AND m.mailbox = " ROM_MAILBOX_SQL " AND m.channel = i.wait ->> 'name' OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_subscription s JOIN romancy.t_message m" \
	"  ON m.kind = 'o' AND m.channel = s.channel WHERE s.instance_id = i.instance_id" \
	"  AND s.channel = i.wait ->> 'name' AND s.mode = 'competing' OFFSET 0))" \
	" OR i.wait ->> 'step' LIKE 'await%' AND EXISTS" \
	" (SELECT FROM romancy.t_subscription s WHERE s.instance_id = i.instance_id" \
	"  AND s.spawned > 0 AND (EXISTS (SELECT FROM romancy.t_delivery d" \
	"   WHERE d.mailbox = " ROM_MAILBOX_SQL " AND d.channel = s.channel AND NOT d.received OFFSET 0)" \
	"  OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = 'd'" \
	"   AND m.mailbox = " ROM_MAILBOX_SQL " AND m.channel = s.channel OFFSET 0)" \
	"  OR s.mode = 'competing' AND EXISTS (SELECT FROM romancy.t_message m" \
	"   WHERE m.kind = 'o' AND m.channel = s.channel OFFSET 0)) OFFSET 0)))"

/* Registers with the engine; called once from _PG_init. */
extern void rom_receive_init(void);

#endif							/* ROM_RECEIVE_H */
