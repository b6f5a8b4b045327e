/*-------------------------------------------------------------------------
 *
 * claim.c
 *		Takes instances for a turn, and reads the requests that have arrived for
 *		them.
 *
 * An instance belongs to the transaction that holds its row's lock. A process
 * that finds it locked never waits, unless it has an outcome to record: it
 * tells the process that runs the instance to have it run again, so that no
 * wake-up is lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "base/uuid.h"
#include "instances/inbox.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "run/claim.h"
#include "turn/turn.h"

/* get_jsonb copies a jsonb column into the current context. */
static Jsonb *
get_jsonb(const RomRowSet *set, uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, CurrentMemoryContext);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* get_time reads a timestamptz column; fallback for null. */
static TimestampTz
get_time(const RomRowSet *set, uint64 row, int col, TimestampTz fallback)
{
	bool		isnull;
	Datum		value = rom_value(set, row, col, &isnull);

	return isnull ? fallback : DatumGetTimestampTz(value);
}

/* get_int reads an int4 or int2 column. */
static int32
get_int(const RomRowSet *set, uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value(set, row, col, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* read_instance makes an instance of a row of CLAIMED_ROWS, in the current context. */
static RomInstance *
read_instance(const RomRowSet *set, uint64 row)
{
	RomInstance *inst = palloc0(sizeof(RomInstance));
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;
	Datum		value;

	inst->id = *DatumGetUUIDP(rom_value(set, row, 1, &isnull));
	inst->def_id = get_int(set, row, 2);
	inst->priority = get_int(set, row, 3);
	inst->status = rom_instance_status_from_datum(rom_value(set, row, 4, &isnull));
	value = rom_value(set, row, 5, &isnull);
	inst->resume_status = isnull ? ROM_STATUS_PENDING : rom_instance_status_from_datum(value);
	inst->flags = get_int(set, row, 6);
	inst->crashes = DatumGetInt16(rom_value(set, row, 7, &isnull));
	inst->depth = DatumGetInt16(rom_value(set, row, 8, &isnull));
	inst->owner_name = rom_value_text(set, row, 9, cxt);
	inst->workflow = rom_value_text(set, row, 10, cxt);
	inst->input = get_jsonb(set, row, 11);
	inst->wait = get_jsonb(set, row, 12);
	inst->labels = get_jsonb(set, row, 13);
	inst->error = get_jsonb(set, row, 14);
	inst->progress = get_jsonb(set, row, 15);
	inst->last_seq = DatumGetInt64(rom_value(set, row, 16, &isnull));
	value = rom_value(set, row, 17, &isnull);
	inst->body_hash = isnull ? 0 : DatumGetInt64(value);
	value = rom_value(set, row, 18, &isnull);
	inst->has_parent = !isnull;
	if (!isnull)
		inst->parent_id = *DatumGetUUIDP(value);
	inst->parent_step = rom_value_text(set, row, 19, cxt);
	inst->parent_close = rom_value_text(set, row, 20, cxt);
	inst->created_at = get_time(set, row, 21, 0);
	inst->started_at = get_time(set, row, 22, 0);
	inst->wake_at = get_time(set, row, 23, DT_NOEND);
	inst->deadline = get_time(set, row, 24, DT_NOEND);
	value = rom_value(set, row, 25, &isnull);
	inst->has_continued_from = !isnull;
	if (!isnull)
		inst->continued_from = *DatumGetUUIDP(value);
	value = rom_value(set, row, 26, &isnull);
	inst->mailbox = isnull ? inst->id : *DatumGetUUIDP(value);
	inst->namespace = get_int(set, row, 27);
	inst->settings = get_int(set, row, 28);
	return inst;
}

#define CLAIMED_ROWS \
	"SELECT instance_id, def_id, priority, status, resume_status, flags, crashes, depth," \
	" owner, workflow, input, wait, labels, error, progress, last_seq, body_hash," \
	" parent_id, parent_step, parent_close, created_at, started_at, wake_at, deadline," \
	" continued_from, mailbox, namespace, settings" \
	" FROM romancy.t_instance WHERE instance_id = ANY ($1)"

int
rom_claim_instances(const pg_uuid_t *ids, int n, RomInstance **insts, bool note_busy, bool wait)
{
	/*
	 * (for an array of one, planning anew would always look cheaper than the
	 * plan for any)
	 */
	static RomStatement lock = {
		CLAIMED_ROWS " FOR NO KEY UPDATE SKIP LOCKED", 1, {UUIDARRAYOID},.generic = true
	};
	static RomStatement lock_or_wait = {
		CLAIMED_ROWS " FOR NO KEY UPDATE", 1, {UUIDARRAYOID},.generic = true
	};

	/*
	 * one that has ended is to run again, too, when a turn of it left
	 * something for later
	 */
	static RomStatement exists = {
		"SELECT owner, priority FROM romancy.t_instance i WHERE instance_id = $1 AND (wake_at IS NOT NULL"
		" OR EXISTS (SELECT FROM romancy.t_inbox b WHERE b.instance_id = i.instance_id AND b.kind = " ROM_SQL_INBOX_LOOK_AGAIN "))",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomInstance *found[ROM_BATCH_MAX];
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	int			count = 0;
	RomRowSet	set;

	values[0] = rom_uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, wait ? &lock_or_wait : &lock, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < rows; i++)
		found[i] = read_instance(&set, i);
	for (int i = 0; i < n; i++)
	{
		bool		here = rom_slot_kept(&ids[i]);

		for (uint64 j = 0; j < rows && !here; j++)
			if (memcmp(&found[j]->id, &ids[i], sizeof(pg_uuid_t)) == 0)
			{
				insts[count++] = found[j];
				here = true;
			}
		if (here || !note_busy || rom_slot_mark_again(&ids[i]))
			continue;
		values[0] = UUIDPGetDatum(&ids[i]);
		if (rom_execute_rows(&set, &exists, values, NULL, 1) > 0)
		{
			char	   *name = rom_value_text(&set, 0, 1, cxt);
			Oid			owner = get_role_oid(name, true);

			rom_wake_at(&ids[i], owner, get_int(&set, 0, 2),
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100));
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return count;
}

#define INBOX_ROWS \
	"SELECT instance_id, id, kind, step, result, error, detail, created_at FROM romancy.t_inbox"

void
rom_claim_inbox(RomTurn **turns, int n)
{
	static RomStatement select = {
		INBOX_ROWS " WHERE instance_id = ANY ($1) ORDER BY instance_id, id", 1, {UUIDARRAYOID}
	};

	/* an array of one would be planned anew each time */
	static RomStatement of_one = {
		INBOX_ROWS " WHERE instance_id = $1 ORDER BY id", 1, {UUIDOID}
	};
	pg_uuid_t	ids[ROM_BATCH_MAX];
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	RomRowSet	set;

	for (int i = 0; i < n; i++)
		ids[i] = turns[i]->inst->id;
	values[0] = n == 1 ? UUIDPGetDatum(&ids[0]) : rom_uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, n == 1 ? &of_one : &select, values, NULL, 0);
	for (int i = 0; i < n && rows > 0; i++)
	{
		RomTurn    *turn = turns[i];

		MemoryContextSwitchTo(turn->cxt);
		for (uint64 r = 0; r < rows; r++)
		{
			bool		isnull;
			RomInboxItem *item;

			if (memcmp(DatumGetUUIDP(rom_value(&set, r, 1, &isnull)), &ids[i],
					   sizeof(pg_uuid_t)) != 0)
				continue;
			if (turn->wait.inbox == NULL)
				turn->wait.inbox = palloc0(sizeof(RomInboxItem) * rows);
			item = &turn->wait.inbox[turn->wait.ninbox++];
			item->id = DatumGetInt64(rom_value(&set, r, 2, &isnull));
			item->kind = DatumGetInt16(rom_value(&set, r, 3, &isnull));
			item->step = rom_value_text(&set, r, 4, turn->cxt);
			item->result = get_jsonb(&set, r, 5);
			item->error = get_jsonb(&set, r, 6);
			item->detail = get_jsonb(&set, r, 7);
			item->created_at = get_time(&set, r, 8, 0);
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}
