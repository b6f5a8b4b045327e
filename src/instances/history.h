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

/*
 * The output of an instance, for a statement that reads t_instance as i. A large one that is a step's result, too, is written
 * once, with the step: output_seq is the number of that event. View instances has the same.
 */
#define ROM_SQL_OUTPUT \
	"CASE WHEN i.output_seq IS NULL THEN coalesce(i.output, romancy.t_document_value(i.output_document)) ELSE" \
	" (SELECT (u.e[pg_catalog.cardinality(u.e) - (h.last_seq - i.output_seq)::int]).result" \
	" FROM romancy.t_history h, LATERAL (SELECT romancy.t_events_unpack(h.events)) u (e)" \
	" WHERE h.instance_id = i.instance_id AND h.last_seq >= i.output_seq ORDER BY h.last_seq LIMIT 1) END"

/* Deletes documents of an instance, whose results have expired: those that neither its history nor a task that is left needs. Engine scope needed. */
extern void rom_history_forget_documents(const pg_uuid_t *id);

/* The number of a stored event of the list whose result has the same bytes; 0: none. */
extern int64 rom_history_find_result(const RomEventList *list, const Jsonb *result);

#endif							/* ROM_HISTORY_H */
