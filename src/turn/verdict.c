/*-------------------------------------------------------------------------
 *
 * verdict.c
 *		How a turn ends: its verdicts, and their saving.
 *
 * A verdict is a status and what goes with it, in the turn alone; rom_turn_save()
 * writes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"


#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "memory/fanin.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "steps/report.h"
#include "turn/recur.h"
#include "turn/saga.h"
#include "turn/verdict.h"

/* Bytes of documents and events up to which the row of an instance stays below what is toasted. */
#define ROW_BYTES	1600


static struct
{
	int32		flags;
	RomEndHook	hook;
}			end_hooks[16];
static int	n_end_hooks = 0;

void
rom_turn_on_end(int32 flags, RomEndHook hook)
{
	if (n_end_hooks == lengthof(end_hooks))
		elog(ERROR, "too many end hooks");
	end_hooks[n_end_hooks].flags = flags;
	end_hooks[n_end_hooks++].hook = hook;
}

static struct
{
	int32		flags;
	RomPauseHook hook;
}			pause_hooks[4];
static int	n_pause_hooks = 0;

void
rom_turn_on_pause(int32 flags, RomPauseHook hook)
{
	if (n_pause_hooks == lengthof(pause_hooks))
		elog(ERROR, "too many pause hooks");
	pause_hooks[n_pause_hooks].flags = flags;
	pause_hooks[n_pause_hooks++].hook = hook;
}

static struct
{
	int32		flags;
	RomMoveHook hook;
}			move_hooks[16];
static int	n_move_hooks = 0;

void
rom_turn_on_move(int32 flags, RomMoveHook hook)
{
	if (n_move_hooks == lengthof(move_hooks))
		elog(ERROR, "too many move hooks");
	move_hooks[n_move_hooks].flags = flags;
	move_hooks[n_move_hooks++].hook = hook;
}

void
rom_turn_move(RomTurn *turn, const pg_uuid_t *successor)
{
	for (int i = 0; i < n_move_hooks; i++)
		if (move_hooks[i].flags == 0 || (move_hooks[i].flags & turn->inst->flags))
			move_hooks[i].hook(turn, successor);
}

static RomRenewHook renew_hooks[4];
static int	n_renew_hooks = 0;

void
rom_turn_on_renew(RomRenewHook hook)
{
	if (n_renew_hooks == lengthof(renew_hooks))
		elog(ERROR, "too many renew hooks");
	renew_hooks[n_renew_hooks++] = hook;
}

void
rom_turn_renew(RomTurn *turn)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	for (int i = 0; i < n_renew_hooks; i++)
		renew_hooks[i] (turn);
	rom_engine_end(&engine);
}

/* ---------------------------------------------------------------- verdicts */

void
rom_verdict_waiting(RomTurn *turn, RomStatus status, TimestampTz wake_at)
{
	turn->status = status;
	turn->wake_at = Min(wake_at, turn->inst->deadline);
	turn->changed = true;
}

void
rom_verdict_completed(RomTurn *turn, Jsonb *output)
{
	RomEvent   *event = rom_turn_event(turn, ROM_EVENT_WORKFLOW_COMPLETED, NULL);

	/* a canvas gathers the results of any number of tasks */
	if (VARSIZE(output) > rom_guc_max_payload_size &&
		!(turn->inst->flags & ROM_IS_CANVAS))
	{
		turn->fail_error =
			rom_turn_copy_jsonb(turn,
								rom_error_make(ERRCODE_ROM_LIMIT,
											   psprintf("output of workflow \"%s\" has %d bytes, the limit is %d",
														turn->inst->workflow, (int) VARSIZE(output),
														rom_guc_max_payload_size),
											   NULL,
											   "Keep large data in a table and return a key, or raise romancy.max_payload_size.",
											   NULL));
		return;
	}
	event->result = output;
	rom_turn_append(turn, event);
	turn->output = output;
	turn->status = ROM_STATUS_COMPLETED;
	turn->wait = NULL;
}

void
rom_verdict_final(RomTurn *turn, RomStatus status, Jsonb *error)
{
	RomEvent   *event = rom_turn_event(turn, status == ROM_STATUS_CANCELLED ?
									   ROM_EVENT_WORKFLOW_CANCELLED :
									   ROM_EVENT_WORKFLOW_FAILED, NULL);

	event->result = error;
	if (status == ROM_STATUS_FAILED)
		event->detail = turn->saga ? turn->saga->failed_step : turn->failed_step;
	rom_turn_append(turn, event);
	turn->error = error;
	turn->status = status;
	turn->wait = NULL;
	turn->saga = NULL;
}

void
rom_verdict_failed(RomTurn *turn, Jsonb *error)
{
	if (!rom_saga_begin(turn, ROM_STATUS_FAILED, error))
		rom_verdict_final(turn, ROM_STATUS_FAILED, error);
}

void
rom_verdict_paused(RomTurn *turn, Jsonb *error)
{
	if (error != NULL)
	{
		RomEvent   *event = rom_turn_event(turn, ROM_EVENT_WORKFLOW_PAUSED, NULL);

		/* nothing of what this evaluation asked for is kept */
		event->result = error;
		rom_turn_append(turn, event);
	}
	if (turn->inst->status != ROM_STATUS_PAUSED)
		turn->inst->resume_status = turn->inst->status;
	turn->error = error;
	turn->status = ROM_STATUS_PAUSED;
	turn->wake_at = DT_NOEND;
	turn->wait = turn->wait_before;
	turn->changed = true;
}

void
rom_turn_pause(RomTurn *turn, Jsonb *error)
{
	rom_verdict_paused(turn, rom_turn_copy_jsonb(turn, error));
}

/* cancel_error is the error of a cancelled instance as api.md describes it. */
static Jsonb *
cancel_error(RomTurn *turn, RomInboxItem *item)
{
	char	   *reason = rom_jb_get_text(item->detail, "reason");
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", "RM008");
	rom_jb_text(&jb, "message", reason ? reason : "cancelled");
	rom_jb_text(&jb, "cancelled_by", rom_jb_get_text(item->detail, "by"));
	rom_jb_time(&jb, "cancelled_at", item->created_at);
	rom_jb_text(&jb, "previous_status", rom_status_name(turn->inst->status));
	return rom_turn_copy_jsonb(turn, rom_jb_end(&jb));
}

void
rom_verdict_cancelled(RomTurn *turn, RomInboxItem *item)
{
	Jsonb	   *error;

	if (item->kind == ROM_INBOX_CANCEL && turn->saga != NULL &&
		turn->saga->status == ROM_STATUS_CANCELLED)
		error = turn->saga->error;
	else
		error = cancel_error(turn, item);
	if (turn->saga != NULL && turn->saga->status == ROM_STATUS_FAILED)
	{
		/* what it was compensating for */
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		error = rom_jb_with(error, "cause", turn->saga->error);
		MemoryContextSwitchTo(old);
	}
	if (item->kind == ROM_INBOX_TERMINATE ||
		!rom_saga_begin(turn, ROM_STATUS_CANCELLED, error))
		rom_verdict_final(turn, ROM_STATUS_CANCELLED, error);
}

Jsonb *
rom_verdict_saga_error(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	Jsonb	  **failures = palloc(sizeof(Jsonb *) * Max(turn->history.count, 1));
	int			n = 0;
	Jsonb	   *error = turn->saga->error;

	for (int i = 0; i < turn->history.count; i++)
	{
		RomEvent   *event = turn->history.events[i];
		RomJb		jb;

		if (event->type != ROM_EVENT_COMPENSATION_FAILED)
			continue;
		rom_jb_begin(&jb);
		rom_jb_text(&jb, "activity_id", event->step);
		rom_jb_text(&jb, "compensation", event->name);
		rom_jb_text(&jb, "sqlstate", rom_jb_get_text(event->result, "sqlstate"));
		rom_jb_text(&jb, "message", rom_jb_get_text(event->result, "message"));
		failures[n++] = rom_jb_end(&jb);
	}
	if (n > 0)
		error = rom_jb_with(error, "compensation_failures", rom_jb_array(failures, n));
	MemoryContextSwitchTo(old);
	return error;
}

void
rom_verdict_close_work(RomTurn *turn)
{
	RomEngine	engine;

	if (turn->saga->closed)
		return;
	turn->saga->closed = true;
	rom_engine_begin(&engine);
	for (int i = 0; i < n_end_hooks; i++)
		if (end_hooks[i].flags & turn->inst->flags & (ROM_HAS_CHILDREN | ROM_HAS_TASKS))
			end_hooks[i].hook(turn, turn->status);
	rom_engine_end(&engine);
}

/* ---------------------------------------------------------------- saving */

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
	rom_jb_text(&jb, "status", rom_status_name(wait->status));
	rom_jb_time(&jb, "since", wait->since);
	rom_jb_time(&jb, "until", wait->until);
	rom_jb_json(&jb, "detail", wait->detail);
	if (saga != NULL)
		rom_jb_json(&jb, "saga", rom_saga_to_jsonb(saga));
	return rom_jb_end(&jb);
}

RomWait *
rom_wait_from_jsonb(Jsonb *json)
{
	RomWait    *wait = palloc0_object(RomWait);
	char	   *status = rom_jb_get_text(json, "status");

	wait->kind = rom_jb_get_text(json, "kind");
	wait->step = rom_jb_get_text(json, "step");
	wait->name = rom_jb_get_text(json, "name");
	wait->status = status ? rom_status_from_name(status) : ROM_STATUS_RUNNING;
	wait->since = rom_jb_get_time(json, "since");
	wait->until = rom_jb_get_time(json, "until");
	wait->detail = rom_jb_get_json(json, "detail");
	return wait;
}

/* row_size adds up what is large in the row of an instance that ends. */
static Size
row_size(const RomTurn *turn)
{
	const Jsonb *parts[] = {turn->inst->input, turn->output, turn->error,
	turn->labels ? turn->labels : turn->inst->labels, turn->inst->progress};
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
	if (turn->history.count == turn->stored)
		return last_seq;
	/* a generation's history goes to the archive as a whole */
	if (ROM_STATUS_IS_FINAL(turn->status) && turn->status != ROM_STATUS_RECURRED &&
		!ROM_STATUS_IS_FINAL(inst->status) &&
		(size = row_size(turn)) < ROW_BYTES)
		*events = rom_history_pack(&turn->history, turn->stored, ROW_BYTES - size, &last_seq);
	if (*events == (Datum) 0)
		last_seq = rom_history_append(&inst->id, &turn->history, turn->stored, last_seq);
	return last_seq;
}

/* save_row updates the instance's row with the verdict, without the executor; events: or 0. The turn holds the row. */
static void
save_row(RomTurn *turn, int64 last_seq, Datum events, TimestampTz now)
{
	static RomTable columns = {
		"t_instance", 16, {
			"status", "wake_at", "wait", "output", "error", "started_at", "updated_at",
			"finished_at", "body_hash", "last_seq", "flags", "labels", "progress",
			"resume_status", "crashes", "events"
		}, true
	};
	RomInstance *inst = turn->inst;
	bool		final = ROM_STATUS_IS_FINAL(turn->status);
	Jsonb	   *wait = !final && (turn->wait || turn->saga) ?
		wait_to_jsonb(turn->wait, turn->saga) : NULL;
	Jsonb	   *labels = turn->labels ? turn->labels : inst->labels;
	Datum		values[16];
	bool		nulls[16] = {0};
	RomRows		rows;

	if (inst->started_at == 0)
		inst->started_at = now;
	values[0] = rom_status_datum(turn->status);
	values[1] = TimestampTzGetDatum(turn->wake_at);
	nulls[1] = final;
	values[2] = PointerGetDatum(wait);
	nulls[2] = wait == NULL;
	values[3] = PointerGetDatum(turn->output);
	nulls[3] = turn->output == NULL;
	values[4] = PointerGetDatum(turn->error);
	nulls[4] = turn->error == NULL;
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
	values[13] = rom_status_datum(inst->resume_status);
	nulls[13] = turn->status != ROM_STATUS_PAUSED;
	values[14] = Int16GetDatum(inst->crashes);
	values[15] = events;
	nulls[15] = events == (Datum) 0;
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
	bool		final = ROM_STATUS_IS_FINAL(turn->status);

	for (int i = 0; i < turn->ninbox; i++)
	{
		Datum		values[2];

		if (!turn->inbox[i].taken && !final)
			continue;
		values[0] = UUIDPGetDatum(&turn->inst->id);
		values[1] = Int64GetDatum(turn->inbox[i].id);
		rom_execute(&remove, values, NULL, 0);
	}
}

void
rom_turn_save(RomTurn *turn)
{
	RomInstance *inst = turn->inst;
	TimestampTz now = rom_now();
	int64		last_seq;
	Datum		events;
	bool		was_final = ROM_STATUS_IS_FINAL(inst->status) && !turn->changed;
	RomEngine	engine;
	ListCell   *lc;

	rom_engine_begin(&engine);
	foreach(lc, turn->pure_events)
	{
		RomDeferred *d = lfirst(lc);

		d->primitive->deferred(turn, d->event);
	}
	if (turn->ninbox > 0)
		delete_inbox(turn);
	if (turn->status != ROM_STATUS_PAUSED)
		inst->crashes = 0;
	if (!was_final)
	{
		bool		final = ROM_STATUS_IS_FINAL(turn->status);

		if (final)
			rom_report_keep(turn);
		last_seq = save_events(turn, &events);
		if (turn->status == ROM_STATUS_RECURRED)
			rom_recur_save(turn);
		if (final)
			for (int i = 0; i < n_end_hooks; i++)
				if (end_hooks[i].flags == 0 || (end_hooks[i].flags & inst->flags))
					end_hooks[i].hook(turn, turn->status);
		if (turn->was_paused != (turn->status == ROM_STATUS_PAUSED))
			for (int i = 0; i < n_pause_hooks; i++)
				if (pause_hooks[i].flags & inst->flags)
					pause_hooks[i].hook(turn, !turn->was_paused);
		save_row(turn, last_seq, events, now);
		if (turn->fan_in > 1 && turn->wait != NULL && !final)
			rom_fanin_set(&inst->id, turn->fan_in);
		if (final)
			rom_wake_key(rom_waiter_key('i', &inst->id, sizeof(pg_uuid_t)));
		else if (turn->status == ROM_STATUS_PAUSED && turn->error != NULL)
			rom_wake_key(rom_waiter_key('i', &inst->id, sizeof(pg_uuid_t)));
		else if (turn->wake_at <= now)
			rom_wake_ready(&inst->id, turn->owner, inst->priority);
		else if (!TIMESTAMP_NOT_FINITE(turn->wake_at))
			rom_wake_at(&inst->id, turn->owner, inst->priority, turn->wake_at);
	}
	rom_engine_end(&engine);
}
