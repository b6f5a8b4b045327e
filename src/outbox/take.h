/*-------------------------------------------------------------------------
 *
 * take.h
 *		Giving events out, under a lease.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_TAKE_H
#define ROM_OUTBOX_TAKE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* The events that rom_take_events() takes. */
typedef struct RomTake
{
	int32		namespace;
	const char *destination;	/* NULL: of all that are not paused */
	Oid			caller;			/* takes what it may have; InvalidOid: the
								 * server, of one destination: */
	int32		id;				/* its id, and */
	TimestampTz defined_at;		/* its definition; nothing of a later one */
	int			max;			/* up to ROM_OUTBOX_CALL_MAX */
	TimestampTz deadline;		/* end of the lease */
} RomTake;

/* An event that was taken; NULL where there is nothing. */
typedef struct RomTaken
{
	int64		outbox_id;
	int64		fence;			/* another one for each lease */
	int32		attempt;		/* from 1 */
	TimestampTz time;			/* when it was sent */
	char	   *destination;
	char	   *ordering_key;
	char	   *owner;
	char	   *type;
	char	   *source;
	char	   *id;
	char	   *subject;
	char	   *datacontenttype;
	Jsonb	   *data;
	bytea	   *binary;
	Jsonb	   *extensions;
} RomTaken;

/*
 * Takes events that are due, in the caller's transaction, and returns how many are in taken (room for take->max), copied to the current
 * context. Nothing is waited for: what others hold is passed over. Of each ordering key at most one event is under way. Has the sweep look
 * when the lease ends. Enters the engine by itself.
 */
extern int	rom_take_events(const RomTake *take, RomTaken *taken);

#endif							/* ROM_OUTBOX_TAKE_H */
