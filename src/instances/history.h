/*-------------------------------------------------------------------------
 *
 * history.h
 *		Events of an instance: types, storing, loading, showing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HISTORY_H
#define ROM_HISTORY_H

#include "utils/uuid.h"

#include "instances/event.h"

/*
 * Selects rows of last_seq and events of instance $1 after number $2, at most $3
 * and in order: its history, with the events that stand in its own row once it has ended. One
 * statement, so that a retry, which moves those, cannot come in between.
 */
#define ROM_HISTORY_SELECT \
	"SELECT last_seq, events FROM (" \
	"(SELECT last_seq, events FROM romancy.t_history" \
	" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3)" \
	" UNION ALL SELECT last_seq, events FROM romancy.t_instance" \
	" WHERE instance_id = $1 AND last_seq > $2 AND events IS NOT NULL) x" \
	" ORDER BY last_seq LIMIT $3"

/*
 * Loads all history of an instance in order into list; engine scope needed. live: the
 * caller holds the row of an instance that has not ended.
 */
extern void rom_history_load(const pg_uuid_t *id, bool live, RomEventList *list,
							 MemoryContext cxt);

/* The same from the archive. */
extern void rom_history_load_archived(const pg_uuid_t *id, RomEventList *list,
									  MemoryContext cxt);

/* Stores events [from, count) of list as rows of t_history, numbered after last_seq; returns the new last_seq. Engine scope needed. */
extern int64 rom_history_append(const pg_uuid_t *id, RomEventList *list,
								int from, int64 last_seq);

/*
 * Packs events [from, count) of list, numbered after *last_seq, for the row of an instance that ends,
 * and sets *last_seq; returns 0 where they take more than limit bytes.
 */
extern Datum rom_history_pack(RomEventList *list, int from, Size limit,
							  int64 *last_seq);

/* Moves the events in the row of an instance, which is to live again, to t_history. Engine scope needed. */
extern void rom_history_move(const pg_uuid_t *id);

#endif							/* ROM_HISTORY_H */
