/*-------------------------------------------------------------------------
 *
 * save.c
 *		Saving a turn: the verdict becomes rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"

#include "base/clock.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/history.h"
#include "instances/start.h"
#include "memory/fanin.h"
#include "memory/progress.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "turn/hooks.h"
#include "turn/recur.h"
#include "turn/saga.h"
#include "turn/save.h"

/* Bytes of documents and events up to which the row of an instance stays below what is toasted. */
#define ROW_BYTES	1600


/* wait_to_jsonb is the stored form of a wait; view romancy.waiting reads it. */
static Jsonb *
wait_to_jsonb(RomWait *wait, RomSaga *saga)
{
	static RomWait none = {.status = ROM_STATUS_COMPENSATING,.kind = "compensate",.until = DT_NOEND};
	RomJb		jb;

	if (wait == NULL)
	{
		wait = &none;
		none.since = rom_now();
	}
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "kind", wait->kind);
	rom_jb_text(&jb, "step", wait->step);
	rom_jb_text(&jb, "name", wait->name);
	if (wait->await)
		rom_jb_bool(&jb, "await", true);
	rom_jb_text(&jb, "undoes", wait->undoes);
	rom_jb_text(&jb, "status", rom_instance_status_name(wait->status));
	rom_jb_time(&jb, "since", wait->since);
	rom_jb_time(&jb, "until", wait->until);
	rom_jb_json(&jb, "detail", wait->detail);
	if (saga != NULL)
		rom_jb_json(&jb, "saga", rom_saga_to_jsonb(saga));
	return rom_jb_end(&jb);
}

RomWait *
rom_save_read_wait(Jsonb *json)
{
	RomWait    *wait = palloc0_object(RomWait);
	char	   *status = rom_jb_get_text(json, "status");

	wait->kind = rom_jb_get_text(json, "kind");
	wait->step = rom_jb_get_text(json, "step");
	wait->name = rom_jb_get_text(json, "name");
	wait->await = rom_jb_get_bool(json, "await", false);
	wait->undoes = rom_jb_get_text(json, "undoes");
	wait->status = status ? rom_instance_status_from_name(status) : ROM_STATUS_RUNNING;
	wait->since = rom_jb_get_time(json, "since");
	wait->until = rom_jb_get_time(json, "until");
	wait->detail = rom_jb_get_json(json, "detail");
	return wait;
}

/* row_size adds up what is large in the row of an instance that ends. */
static Size
row_size(const RomTurn *turn)
{
	const Jsonb *parts[] = {turn->inst->input, turn->out.output, turn->out.error,
	turn->out.labels ? turn->out.labels : turn->inst->labels, turn->inst->progress};
	Size		size = 0;

	for (int i = 0; i < lengthof(parts); i++)
		if (parts[i] != NULL)
			size += VARSIZE(parts[i]);
	return size;
}

/*
 * save_events stores what the turn added to history, and returns the number of the last event. With
 * *events it is to be stored in the row of an instance that ends here.
 */
static int64
save_events(RomTurn *turn, Datum *events)
{
	RomInstance *inst = turn->inst;
	int64		last_seq = inst->last_seq;
	Size		size;

	*events = (Datum) 0;
	if (turn->replay.history.count == turn->replay.stored)
		return last_seq;
	/* a generation's history goes to the archive as a whole */
	if (ROM_STATUS_IS_FINAL(turn->out.status) && turn->out.status != ROM_STATUS_RECURRED &&
		!ROM_STATUS_IS_FINAL(inst->status) &&
		(size = row_size(turn)) < ROW_BYTES)
		*events = rom_history_pack(&turn->replay.history, turn->replay.stored, ROW_BYTES - size, &last_seq);
	if (*events == (Datum) 0)
		last_seq = rom_history_append(&inst->id, &turn->replay.history, turn->replay.stored, last_seq);
	return last_seq;
}

/* save_row updates (or, where it is not there yet, inserts) the instance's row with the verdict, without the executor; events: or 0. The turn holds the row. */
static void
save_row(RomTurn *turn, int64 last_seq, Datum events, TimestampTz now)
{
	static RomTable columns = {
		"t_instance", ROM_TURN_COLUMNS, {ROM_TURN_COLUMN_NAMES}, true
	};
	RomInstance *inst = turn->inst;
	bool		final = ROM_STATUS_IS_FINAL(turn->out.status);
	Jsonb	   *wait = !final && (turn->wait.now || turn->saga) ?
		wait_to_jsonb(turn->wait.now, turn->saga) : NULL;
	Jsonb	   *labels = turn->out.labels ? turn->out.labels : inst->labels;
	Datum		values[ROM_TURN_COLUMNS];
	bool		nulls[ROM_TURN_COLUMNS] = {0};
	int64		output_seq = 0;
	pg_uuid_t	output_document;
	RomRows		rows;

	if (inst->started_at == 0)
		inst->started_at = now;
	values[0] = rom_instance_status_datum(turn->out.status);
	values[1] = TimestampTzGetDatum(turn->out.wake_at);
	nulls[1] = final;
	values[2] = PointerGetDatum(wait);
	nulls[2] = wait == NULL;
	/* a large one that is a step's result, too, is written with that alone */
	if (turn->out.output != NULL && events == (Datum) 0 && VARSIZE(turn->out.output) >= ROW_BYTES)
		output_seq = rom_history_find_result(&turn->replay.history, turn->out.output);
	rom_document_columns(&inst->id, output_seq > 0 ? NULL : turn->out.output, &output_document, values, nulls, 3, 18);
	values[4] = PointerGetDatum(turn->out.error);
	nulls[4] = turn->out.error == NULL;
	values[5] = TimestampTzGetDatum(inst->started_at);
	values[6] = TimestampTzGetDatum(now);
	values[7] = TimestampTzGetDatum(now);
	nulls[7] = !final;
	values[8] = Int64GetDatum(inst->body_hash);
	nulls[8] = inst->body_hash == 0;
	values[9] = Int64GetDatum(last_seq);
	values[10] = Int32GetDatum(inst->flags);
	values[11] = PointerGetDatum(labels);
	nulls[11] = labels == NULL;
	values[12] = PointerGetDatum(inst->progress);
	nulls[12] = inst->progress == NULL;
	values[13] = rom_instance_status_datum(inst->resume_status);
	nulls[13] = turn->out.status != ROM_STATUS_PAUSED;
	values[14] = Int16GetDatum(inst->crashes);
	values[15] = events;
	nulls[15] = events == (Datum) 0;
	values[16] = Int32GetDatum(inst->settings);
	nulls[16] = inst->settings == 0;
	values[17] = Int64GetDatum(output_seq);
	nulls[17] = output_seq == 0;
	if (inst->unwritten != NULL)
	{
		rom_start_write_turn(inst, values, nulls);
		return;
	}
	rom_rows_open(&rows, &columns, "t_instance_pkey", true);
	if (rom_rows_find(&rows, &inst->id))
	{
		if (events == (Datum) 0)
			values[15] = rom_rows_column(&rows, 15, &nulls[15]);
		if (rom_table_update(&columns, rows.slot, values, nulls, rows.snapshot, true) != TM_Ok)
			elog(ERROR, "the row of an instance was changed during its turn");
	}
	rom_rows_close(&rows);
	CommandCounterIncrement();
}

/* delete_inbox takes the rows away that this turn has seen and used. */
static void
delete_inbox(RomTurn *turn)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_inbox WHERE instance_id = $1 AND id = $2",
		2, {UUIDOID, INT8OID}
	};
	bool		final = ROM_STATUS_IS_FINAL(turn->out.status);

	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		Datum		values[2];

		if (!turn->wait.inbox[i].taken && !final)
			continue;
		values[0] = UUIDPGetDatum(&turn->inst->id);
		values[1] = Int64GetDatum(turn->wait.inbox[i].id);
		rom_execute(&remove, values, NULL, 0);
	}
}

/*
 * look_again is for what turns before this one noted by rom_hooks_look_later(). A turn that ends the instance, or the pause, looks at
 * everything by itself; one that pauses it leaves its tasks as they are, but makes the one of a step.
 */
static void
look_again(RomTurn *turn, bool was_final)
{
	bool		paused = turn->out.status == ROM_STATUS_PAUSED;

	if (!was_final && ROM_STATUS_IS_FINAL(turn->out.status))
		return;
	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		RomInboxItem *item = &turn->wait.inbox[i];

		if (item->kind == ROM_INBOX_LOOK_AGAIN && (item->taken || was_final) && (item->step != NULL || !paused))
			rom_hooks_look_again(turn, item->step);
	}
}

/* keep_report has the row keep the last report of an activity that ran outside a turn. */
static void
keep_report(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	RomProgress live;
	MemoryContext old;

	if (!rom_progress_get(&inst->id, &live) ||
		(inst->progress != NULL && rom_jb_get_time(inst->progress, "at") >= live.at))
		return;
	old = MemoryContextSwitchTo(turn->cxt);
	inst->progress = rom_progress_document(&live, live.note[0] != '\0' ? live.note : NULL);
	MemoryContextSwitchTo(old);
}

/* End is what the commit hook tells the sessions that wait for an instance's end. */
typedef struct End
{
	uint64		key;
	RomTold		told;
} End;

/* tell is called by the commit hook. */
static void
tell(const void *arg)
{
	const End  *end = arg;

	rom_waiter_tell(end->key, &end->told);
}

/* wake_waiting wakes, at the commit, the sessions that wait for the instance's end, and tells them the outcome if it is small. */
static void
wake_waiting(RomTurn *turn)
{
	const pg_uuid_t *id = &turn->inst->id;
	uint64		key = rom_waiter_key(ROM_INSTANCE_END_KEY, id, sizeof(*id));
	Jsonb	   *outcome = turn->out.status == ROM_STATUS_COMPLETED ? turn->out.output : turn->out.error;
	End			end;

	if (!ROM_STATUS_IS_FINAL(turn->out.status) || turn->out.status == ROM_STATUS_RECURRED ||
		outcome == NULL || VARSIZE(outcome) > ROM_TOLD_MAX)
	{
		rom_wake_key(key);
		return;
	}
	end.key = key;
	end.told.id = *id;
	end.told.what = turn->out.status;
	end.told.len = VARSIZE(outcome);
	memcpy(end.told.data, outcome, end.told.len);
	rom_wake_call(tell, &end, offsetof(End, told) + offsetof(RomTold, data) + end.told.len);
}

/*
 * may_go_on: may its caller run it on at once, as the same turn? An attempt that failed ends the turn of a session, which counts them: else
 * max_turns would not bound attempts that follow at once.
 */
static bool
may_go_on(const RomTurn *turn)
{
	if (!turn->how.solo || (!turn->out.slow_next && !turn->out.slow_ran))
		return false;
	return !turn->how.in_session || turn->out.slow_next || turn->wait.now == NULL ||
		strcmp(turn->wait.now->kind, "retry") != 0;
}

void
rom_save_turn(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	TimestampTz now = rom_now();
	int64		last_seq;
	Datum		events;
	bool		was_final = ROM_STATUS_IS_FINAL(inst->status) && !turn->out.changed;
	RomEngine	engine;
	ListCell   *lc;

	rom_engine_begin(&engine);
	foreach(lc, turn->out.pure_events)
	{
		RomDeferred *d = lfirst(lc);

		d->primitive->deferred(turn, d->event);
	}
	if (turn->wait.ninbox > 0)
		delete_inbox(turn);
	look_again(turn, was_final);
	if (turn->out.status != ROM_STATUS_PAUSED)
		inst->crashes = 0;
	if (!was_final)
	{
		bool		final = ROM_STATUS_IS_FINAL(turn->out.status);

		if (final)
			keep_report(turn);
		last_seq = save_events(turn, &events);
		if (turn->out.status == ROM_STATUS_RECURRED)
			rom_recur_save(turn);
		if (final)
			rom_hooks_end(turn);
		if (turn->wait.was_paused != (turn->out.status == ROM_STATUS_PAUSED))
			rom_hooks_pause(turn, !turn->wait.was_paused);
		rom_hooks_save(turn);
		save_row(turn, last_seq, events, now);
		if (turn->wait.fan_in > 1 && turn->wait.now != NULL && !final)
			rom_fanin_set(&inst->id, inst->namespace, turn->wait.fan_in);
		if (final || (turn->out.status == ROM_STATUS_PAUSED && turn->out.error != NULL))
			wake_waiting(turn);
		else if (turn->out.wake_at <= now && turn->out.slow_next &&
				 (!turn->how.solo || turn->how.slow_done))
			rom_wake_slow(&inst->id, turn->owner, inst->priority);
		else if (turn->out.wake_at <= now)
		{
			turn->out.goes_on = may_go_on(turn);
			/* a session may end before it runs it on */
			if (!turn->out.goes_on || turn->how.in_session)
				rom_wake_ready(&inst->id, turn->owner, inst->priority);
		}
		else if (!TIMESTAMP_NOT_FINITE(turn->out.wake_at))
			rom_wake_at(&inst->id, turn->owner, inst->priority, turn->out.wake_at);
	}
	rom_engine_end(&engine);
}
