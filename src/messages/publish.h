/*-------------------------------------------------------------------------
 *
 * publish.h
 *		Sending messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PUBLISH_H
#define ROM_PUBLISH_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* The message to send; NULL members are left out. */
typedef struct RomPublish
{
	char	   *channel;
	bool		has_target;		/* to one instance */
	pg_uuid_t	target;
	Jsonb	   *data;
	Jsonb	   *metadata;
	bytea	   *binary;
	Jsonb	   *event;			/* attributes of a CloudEvent */
	Oid			publisher;		/* filled in by rom_publish() */
} RomPublish;

/*
 * Sends it, in the transaction under way, and notes whom to wake. Returns the message's id, or 0 when
 * the target is unknown or finished and missing_ok (else RM002, RM010). Enters the engine by itself.
 */
extern int64 rom_publish(RomPublish *publish, bool missing_ok);

#endif							/* ROM_PUBLISH_H */
