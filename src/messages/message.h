/*-------------------------------------------------------------------------
 *
 * message.h
 *		A message, as it is stored, shown in history and given to a handler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MESSAGE_H
#define ROM_MESSAGE_H

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/spi.h"
#include "messages/channel.h"

/* Stored in t_message.kind. For SQL: ROM_SQL_MESSAGE_OPEN. */
#define ROM_SQL_MESSAGE_BROADCAST	"'b'"	/* for each subscriber: t_delivery
											 * says whose */
#define ROM_SQL_MESSAGE_OPEN		"'o'"	/* for one of the competing
											 * subscribers */
#define ROM_SQL_MESSAGE_DIRECT		"'d'"	/* in the mailbox of one instance */

typedef enum RomMessageKind
{
	ROM_MESSAGE_BROADCAST = 'b',
	ROM_MESSAGE_OPEN = 'o',
	ROM_MESSAGE_DIRECT = 'd'
} RomMessageKind;

typedef struct RomMessage
{
	int64		id;
	const char *channel;
	Jsonb	   *data;			/* or NULL, as all that follows */
	bytea	   *binary;
	Jsonb	   *metadata;
	Jsonb	   *event;			/* of a CloudEvent: its attributes, without
								 * data */
	const pg_uuid_t *sender;
	const char *publisher;		/* the role that published it */
	TimestampTz published_at;
} RomMessage;

/* Columns of t_message that rom_message_read() wants, in this order. */
#define ROM_MESSAGE_COLUMNS "id, channel, data, data_binary, metadata, event, sender, published_at, publisher"

/* Reads a row of such columns into the current context. */
extern void rom_message_read(const RomRowSet *set, uint64 row, RomMessage *message);

/* As history shows it and await() gives it. */
extern Jsonb *rom_message_to_jsonb(const RomMessage *message);

/* The same as a CloudEvent. */
extern Jsonb *rom_message_to_event(const RomMessage *message);

/* The composite value (romancy.message, romancy.event) of such a document. */
extern Datum rom_message_datum(FunctionCallInfo fcinfo, Jsonb *message);
extern Datum rom_message_event_datum(FunctionCallInfo fcinfo, Jsonb *event);

/* A bytea as base64 without line breaks, and back; NULL for what is none. */
extern char *rom_message_base64_encode(const bytea *value);
extern bytea *rom_message_base64_decode(const char *text);

/* Is binary data within romancy.max_payload_size? RM011 if not. */
extern void rom_message_check_binary(const bytea *value);

/* The instance whose handler or activity this backend runs, or NULL. */
extern const pg_uuid_t *rom_message_sender(void);

/* Has something come for instance i? For queries over t_instance i. OFFSET 0: none of it is computed for all rows and hashed. */
#define ROM_ARRIVED_SQL \
	"((i.status = 'waiting_for_message' AND (EXISTS (SELECT FROM romancy.t_delivery d WHERE d.mailbox = " ROM_MAILBOX_SQL "" \
	"  AND d.channel = i.wait ->> 'name' AND NOT d.received OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT \
	"  AND m.mailbox = " ROM_MAILBOX_SQL " AND m.channel = i.wait ->> 'name' OFFSET 0)" \
	" OR EXISTS (SELECT FROM romancy.t_subscription s JOIN romancy.t_message m" \
	"  ON m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.namespace = s.namespace AND m.channel = s.channel WHERE s.instance_id = i.instance_id" \
	"  AND s.channel = i.wait ->> 'name' AND s.mode = 'competing' OFFSET 0))" \
	" OR " ROM_AWAITING_SQL " AND EXISTS" \
	" (SELECT FROM romancy.t_subscription s WHERE s.instance_id = i.instance_id" \
	"  AND s.spawned > 0 AND (EXISTS (SELECT FROM romancy.t_delivery d" \
	"   WHERE d.mailbox = " ROM_MAILBOX_SQL " AND d.channel = s.channel AND NOT d.received OFFSET 0)" \
	"  OR EXISTS (SELECT FROM romancy.t_message m WHERE m.kind = " ROM_SQL_MESSAGE_DIRECT \
	"   AND m.mailbox = " ROM_MAILBOX_SQL " AND m.channel = s.channel OFFSET 0)" \
	"  OR s.mode = 'competing' AND EXISTS (SELECT FROM romancy.t_message m" \
	"   WHERE m.kind = " ROM_SQL_MESSAGE_OPEN " AND m.namespace = s.namespace AND m.channel = s.channel OFFSET 0)) OFFSET 0)))"

/* Number of the sweep "messages". */
extern int	rom_messages_sweep(void);

#endif							/* ROM_MESSAGE_H */
