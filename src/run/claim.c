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
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/rows.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/inbox.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "run/claim.h"
#include "turn/turn.h"

/* get_jsonb copies a jsonb column into the current context. */
static Jsonb *
get_jsonb(RomRows *rows, int col)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/* get_text copies a text column into the current context. */
static char *
get_text(RomRows *rows, int col)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* get_time reads a timestamptz column; fallback for null. */
static TimestampTz
get_time(RomRows *rows, int col, TimestampTz fallback)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? fallback : DatumGetTimestampTz(value);
}

/* get_int64 reads an int8 column; 0 for null. */
static int64
get_int64(RomRows *rows, int col)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* get_int reads an int4 column; 0 for null. */
static int32
get_int(RomRows *rows, int col)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* get_int16 reads an int2 column. */
static int16
get_int16(RomRows *rows, int col)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? 0 : DatumGetInt16(value);
}

/* get_id copies a uuid column, unless it is null. */
static bool
get_id(RomRows *rows, int col, pg_uuid_t *id)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	if (!isnull)
		memcpy(id, DatumGetUUIDP(value), sizeof(*id));
	return !isnull;
}

/* get_status reads a status; fallback for null. */
static RomStatus
get_status(RomRows *rows, int col, RomStatus fallback)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, col, &isnull);

	return isnull ? fallback : rom_instance_status_from_datum(value);
}

/* The columns that read_instance() reads. */
static RomTable claimed = {
	"t_instance", 28, {
		"instance_id", "def_id", "priority", "status", "resume_status", "flags", "crashes", "depth",
		"owner", "workflow", "input", "wait", "labels", "error", "progress", "last_seq", "body_hash",
		"parent_id", "parent_step", "parent_close", "created_at", "started_at", "wake_at", "deadline",
		"continued_from", "mailbox", "namespace", "settings"
	}, true
};

/* read_instance makes an instance of its row, in the current context. */
static RomInstance *
read_instance(RomRows *rows)
{
	RomInstance *inst = palloc0(sizeof(RomInstance));

	(void) get_id(rows, 0, &inst->id);
	inst->def_id = get_int(rows, 1);
	inst->priority = get_int(rows, 2);
	inst->status = get_status(rows, 3, ROM_STATUS_PENDING);
	inst->resume_status = get_status(rows, 4, ROM_STATUS_PENDING);
	inst->flags = get_int(rows, 5);
	inst->crashes = get_int16(rows, 6);
	inst->depth = get_int16(rows, 7);
	inst->owner_name = get_text(rows, 8);
	inst->workflow = get_text(rows, 9);
	inst->input = get_jsonb(rows, 10);
	inst->wait = get_jsonb(rows, 11);
	inst->labels = get_jsonb(rows, 12);
	inst->error = get_jsonb(rows, 13);
	inst->progress = get_jsonb(rows, 14);
	inst->last_seq = get_int64(rows, 15);
	inst->body_hash = get_int64(rows, 16);
	inst->has_parent = get_id(rows, 17, &inst->parent_id);
	inst->parent_step = get_text(rows, 18);
	inst->parent_close = get_text(rows, 19);
	inst->created_at = get_time(rows, 20, 0);
	inst->started_at = get_time(rows, 21, 0);
	inst->wake_at = get_time(rows, 22, DT_NOEND);
	inst->deadline = get_time(rows, 23, DT_NOEND);
	inst->has_continued_from = get_id(rows, 24, &inst->continued_from);
	if (!get_id(rows, 25, &inst->mailbox))
		inst->mailbox = inst->id;
	inst->namespace = get_int(rows, 26);
	inst->settings = get_int(rows, 27);
	return inst;
}

/* wake_later has an instance that another process holds, and that was not told of it, looked at again. */
static void
wake_later(const pg_uuid_t *id)
{
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
	RomEngine	engine;
	Datum		values[1];
	RomRowSet	set;

	values[0] = UUIDPGetDatum(id);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &exists, values, NULL, 1) > 0)
	{
		char	   *name = rom_value_text(&set, 0, 1, cxt);
		bool		isnull;

		rom_wake_at(id, get_role_oid(name, true), DatumGetInt32(rom_value(&set, 0, 2, &isnull)),
					TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100));
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/* (Without the executor: to set it up for a row of so many columns took four fifths of the instructions of a claim.) */
int
rom_claim_instances(const pg_uuid_t *ids, int n, RomInstance **insts, bool note_busy, bool wait)
{
	bool		had[ROM_BATCH_MAX] = {0};
	int			count = 0;
	RomRows		rows;

	/* (those who wait for more than one row would have to do so in one order) */
	Assert(!wait || n == 1);
	rom_rows_open_select(&rows, &claimed, "t_instance_pkey", true);
	for (int i = 0; i < n; i++)
		if (rom_rows_find(&rows, &ids[i]) && rom_rows_claim(&rows, LockTupleNoKeyExclusive, wait))
		{
			had[i] = true;
			if (!rom_slot_kept(&ids[i]))
				insts[count++] = read_instance(&rows);
		}
	rom_rows_close(&rows);
	for (int i = 0; i < n; i++)
		if (!had[i] && !rom_slot_kept(&ids[i]) && note_busy && !rom_slot_mark_again(&ids[i]))
			wake_later(&ids[i]);
	return count;
}

void
rom_claim_inbox(RomTurn **turns, int n)
{
	static RomTable inbox = {
		"t_inbox", 9, {"instance_id", "id", "kind", "step", "result", "error", "detail", "created_at", "document"}, true
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomRows		rows;

	rom_rows_open_select(&rows, &inbox, "t_inbox_pkey", false);
	for (int i = 0; i < n; i++)
	{
		RomTurn    *turn = turns[i];
		int			max = 0;

		for (bool more = rom_rows_find(&rows, &turn->inst->id); more; more = rom_rows_next(&rows))
		{
			RomInboxItem *item;
			Datum		document;
			bool		isnull;

			MemoryContextSwitchTo(turn->cxt);
			if (turn->wait.ninbox == max)
			{
				max = max > 0 ? 2 * max : 4;
				turn->wait.inbox = turn->wait.inbox == NULL ? palloc_array(RomInboxItem, max) :
					repalloc(turn->wait.inbox, max * sizeof(RomInboxItem));
			}
			item = &turn->wait.inbox[turn->wait.ninbox++];
			item->id = get_int64(&rows, 1);
			item->kind = get_int16(&rows, 2);
			item->step = get_text(&rows, 3);
			item->result = get_jsonb(&rows, 4);
			item->error = get_jsonb(&rows, 5);
			item->detail = get_jsonb(&rows, 6);
			item->created_at = get_time(&rows, 7, 0);
			item->taken = false;
			document = rom_rows_column(&rows, 8, &isnull);
			/* (what came late for an instance that has ended is dropped) */
			if (!isnull)
				item->result = ROM_STATUS_IS_FINAL(turn->inst->status) ? rom_document_find(DatumGetUUIDP(document)) :
					rom_document_get(DatumGetUUIDP(document));
			MemoryContextSwitchTo(cxt);
		}
	}
	rom_rows_close(&rows);
}
