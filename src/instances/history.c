/*-------------------------------------------------------------------------
 *
 * history.c
 *		Events of an instance: storing, loading, showing.
 *
 * A row of t_history holds the events that one turn added, packed (pack.c).
 * One row and one index entry per turn instead of one per event is most of what
 * makes a turn cheap in WAL. The events of the turn that ends an instance are written with
 * its row, which is changed anyway, unless they are large; retry_workflow moves them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "utils/memutils.h"

#include "base/rows.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/history.h"
#include "instances/pack.h"

/* Events per row at the most, and bytes (about) after which a row is closed. */
#define CHUNK_EVENTS	128
#define CHUNK_BYTES		(256 * 1024)

/* Rows that are read at a time. */
#define LOAD_ROWS		64

/* load reads all rows of an instance by a statement of (id, after, limit). */
static void
load(RomStatement *stmt, const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	Datum		values[3];
	int64		after = 0;
	RomRowSet	set;

	/* by pages, so that the result of one query stays small */
	for (;;)
	{
		uint64		n;

		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(after);
		values[2] = Int64GetDatum(LOAD_ROWS);
		n = rom_execute_rows(&set, stmt, values, NULL, 0);
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			after = DatumGetInt64(rom_value(&set, i, 1, &isnull));
			rom_pack_read(rom_value(&set, i, 2, &isnull), after, list, cxt);
		}
		rom_execute_free(&set);
		if (n < LOAD_ROWS)
			break;
	}
}

/* load_live reads those of an instance that lives, as a SELECT would, without a plan: it is a turn's first look at what came before it. */
static void
load_live(const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	static RomTable table = {"t_history", 2, {"last_seq", "events"}, true};
	RomRows		rows;

	rom_rows_open_select(&rows, &table, "t_history_pkey", false);
	for (bool more = rom_rows_find(&rows, id); more; more = rom_rows_next(&rows))
	{
		bool		isnull;
		int64		seq = DatumGetInt64(rom_rows_column(&rows, 0, &isnull));

		CHECK_FOR_INTERRUPTS();
		rom_pack_read(rom_rows_column(&rows, 1, &isnull), seq, list, cxt);
	}
	rom_rows_close(&rows);
}

void
rom_history_load(const pg_uuid_t *id, bool live, RomEventList *list,
				 MemoryContext cxt)
{
	static RomStatement all = {ROM_HISTORY_SELECT, 3, {UUIDOID, INT8OID, INT8OID}};

	if (live)
		load_live(id, list, cxt);
	else
		load(&all, id, list, cxt);
}

void
rom_history_load_archived(const pg_uuid_t *id, RomEventList *list, MemoryContext cxt)
{
	static RomStatement stmt = {
		"SELECT last_seq, events FROM romancy.t_history_archive"
		" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
		3, {UUIDOID, INT8OID, INT8OID}
	};

	load(&stmt, id, list, cxt);
}

int64
rom_history_append(const pg_uuid_t *id, RomEventList *list, int from,
				   int64 last_seq)
{
	static RomTable table = {
		"t_history", 3, {"instance_id", "last_seq", "events"}
	};

	while (from < list->count)
	{
		RomPack		pack;
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		rom_pack_begin(&pack, id);
		while (from < list->count && pack.count < CHUNK_EVENTS &&
			   pack.buf.len + pack.documents < CHUNK_BYTES)
		{
			RomEvent   *event = list->events[from++];

			event->seq = ++last_seq;
			rom_pack_add(&pack, event);
		}
		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(last_seq);
		values[2] = rom_pack_end(&pack);
		rom_table_insert(&table, values, nulls);
	}
	return last_seq;
}

Datum
rom_history_pack(RomEventList *list, int from, Size limit, int64 *last_seq)
{
	RomPack		pack;
	int64		seq = *last_seq;

	rom_pack_begin(&pack, NULL);
	for (int i = from; i < list->count; i++)
	{
		list->events[i]->seq = ++seq;
		rom_pack_add(&pack, list->events[i]);
		if (pack.buf.len > limit)
			return (Datum) 0;
	}
	*last_seq = seq;
	return rom_pack_end(&pack);
}

void
rom_history_move(const pg_uuid_t *id)
{
	static RomStatement copy = {
		"INSERT INTO romancy.t_history (instance_id, last_seq, events)"
		" SELECT instance_id, last_seq, events FROM romancy.t_instance"
		" WHERE instance_id = $1 AND events IS NOT NULL",
		1, {UUIDOID}
	};
	Datum		values[1] = {UUIDPGetDatum(id)};

	rom_execute(&copy, values, NULL, 0);
}

void
rom_history_forget_documents(const pg_uuid_t *id)
{
	static RomStatement forget = {
		"WITH RECURSIVE kept (id) AS ((SELECT u.id FROM unnest($2) u (id)"
		" UNION ALL SELECT t.document FROM romancy.t_task t WHERE t.instance_id = $1"
		" UNION ALL SELECT v.document FROM romancy.t_value v WHERE v.instance_id = $1"
		" UNION ALL SELECT b.document FROM romancy.t_inbox b WHERE b.instance_id = $1)"
		" UNION SELECT p.part FROM kept k JOIN romancy.t_document d ON d.id = k.id, unnest(d.parts) p (part))"
		" DELETE FROM romancy.t_document d WHERE d.instance_id = $1 AND d.value IS NOT NULL AND NOT EXISTS (SELECT FROM kept k WHERE k.id = d.id)",
		2, {UUIDOID, UUIDARRAYOID}
	};
	static RomStatement select = {
		"SELECT events FROM romancy.t_history WHERE instance_id = $1"
		" UNION ALL SELECT events FROM romancy.t_history_archive WHERE instance_id = $1"
		" UNION ALL SELECT events FROM romancy.t_instance WHERE instance_id = $1 AND events IS NOT NULL",
		1, {UUIDOID}
	};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy documents", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	pg_uuid_t  *kept = palloc_array(pg_uuid_t, 1);
	int			n = 0;
	Datum		values[2];
	RomRowSet	set;
	uint64		rows;

	/*
	 * (the ids as they are stored: made anew they would be others where the
	 * rows come from a machine of another kind)
	 */
	values[0] = UUIDPGetDatum(id);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		events = rom_value(&set, i, 1, &isnull);

		kept = repalloc(kept, (n + 2 * rom_pack_count(events) + 1) * sizeof(pg_uuid_t));
		n += rom_pack_documents(events, kept + n);
	}
	rom_execute_free(&set);
	values[1] = rom_uuid_array(kept, n);
	rom_execute(&forget, values, NULL, 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

int64
rom_history_find_result(const RomEventList *list, const Jsonb *result)
{
	for (int i = list->count - 1; i >= 0; i--)
	{
		const RomEvent *event = list->events[i];

		if (event->seq > 0 && event->result != NULL && VARSIZE(event->result) == VARSIZE(result) &&
			memcmp(event->result, result, VARSIZE(result)) == 0)
			return event->seq;
	}
	return 0;
}
