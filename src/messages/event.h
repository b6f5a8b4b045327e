/*-------------------------------------------------------------------------
 *
 * event.h
 *		CloudEvents that come in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EVENT_H
#define ROM_EVENT_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Longest source and id of an event, in bytes. */
#define ROM_EVENT_ID_MAX 1000

/* NULL where there is nothing. */
typedef struct RomCloudEvent
{
	char	   *id;				/* NULL: a new one */
	char	   *type;
	char	   *source;
	char	   *specversion;
	bool		has_time;
	TimestampTz time;
	char	   *subject;
	char	   *datacontenttype;
	Jsonb	   *data;
	bytea	   *binary;
	Jsonb	   *extensions;		/* an object */
	bool		has_target;		/* for one instance */
	pg_uuid_t	target;
} RomCloudEvent;

/*
 * Takes an event in: for instances that wait for its type, and for workflows defined on it. One that
 * came before (same source and id) is ignored, and so is an unknown target. Returns the event's id.
 */
extern char *rom_event_raise(const RomCloudEvent *event);

/* Starts an instance of each workflow of the namespace that is defined on the type of an event, which has an id. Nothing else is done with it. */
extern void rom_event_start(int32 namespace, const RomCloudEvent *event);

#endif							/* ROM_EVENT_H */
