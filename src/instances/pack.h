/*-------------------------------------------------------------------------
 *
 * pack.h
 *		Events as they are stored: type romancy.t_events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PACK_H
#define ROM_PACK_H

#include "lib/stringinfo.h"

#include "utils/uuid.h"

#include "instances/event.h"

/* The values that have been packed so far. */
typedef struct RomPack
{
	StringInfoData buf;
	int			count;
	TimestampTz at;				/* of the last event */
	Jsonb	   *input;			/* the last one; NULL for none yet */
	Jsonb	   *result;
	const pg_uuid_t *id;		/* whose events these are; NULL: large values
								 * are packed, too */
	Size		documents;		/* bytes of values that became documents */
} RomPack;

/*
 * Begins a pack in the current context, for events of instance id: its large values become documents (document.h), to which the
 * pack refers. id NULL: it holds all values itself.
 */
extern void rom_pack_begin(RomPack *pack, const pg_uuid_t *id);

/* Adds one event, which has to live until the end. At most 65,535 events. */
extern void rom_pack_add(RomPack *pack, const RomEvent *event);

/* The finished datum, of type romancy.t_events. */
extern Datum rom_pack_end(RomPack *pack);

/*
 * Adds the events of a datum to list, whose memory is cxt: numbered so that the
 * last one is last_seq. Events may share a document. Error XX001 where it cannot be read.
 */
extern void rom_pack_read(Datum events, int64 last_seq, RomEventList *list,
						  MemoryContext cxt);

/* How many events a datum holds. Error XX001 where it cannot be read. */
extern int	rom_pack_count(Datum events);

/* The ids of the documents that a datum refers to, at most two for each event; how many. Error XX001 where it cannot be read. */
extern int	rom_pack_documents(Datum events, pg_uuid_t *ids);

#endif							/* ROM_PACK_H */
