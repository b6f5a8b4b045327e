/*-------------------------------------------------------------------------
 *
 * send.h
 *		An event is put into the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SEND_H
#define ROM_OUTBOX_SEND_H

#include "outbox/destination.h"
#include "utils/uuid.h"

/* An event that is sent; NULL where there is nothing. */
typedef struct RomSent
{
	char	   *type;
	char	   *source;
	Jsonb	   *data;
	char	   *id;				/* its sender's: added once; NULL: a new one */
	char	   *subject;
	char	   *datacontenttype;
	bytea	   *binary;
	Jsonb	   *extensions;
	char	   *destination;	/* NULL: by the type */
	char	   *ordering_key;
	int32		namespace;
	const char *owner;			/* name of the role that sends it */
	const pg_uuid_t *instance;	/* that sends it, or NULL */
} RomSent;

/*
 * Adds the event, with this id, on its way to one destination (NULL: the one that is always there), in the caller's transaction. With an id of its sender's
 * nothing is added when it is there, and a transaction that adds it at the moment is waited for. Enters the engine by itself.
 */
extern void rom_send_to(const RomSent *sent, const char *id, const RomDestination *destination);

#endif							/* ROM_OUTBOX_SEND_H */
