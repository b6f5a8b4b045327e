/*-------------------------------------------------------------------------
 *
 * verdict.c
 *		How a turn ends: its verdicts, and their saving.
 *
 * A verdict is a status and what goes with it, in the turn alone; rom_save_turn()
 * writes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"



#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "instances/event.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/verdict.h"

/* An output of fewer bytes than this is stored in WorkflowCompleted, too. */
#define OUTPUT_TWICE 1000

/* ---------------------------------------------------------------- verdicts */

void
rom_verdict_waiting(RomTurn *turn, RomStatus status, TimestampTz wake_at)
{
	turn->out.status = status;
	turn->out.wake_at = Min(wake_at, turn->inst->deadline);
	turn->out.changed = true;
}

bool
rom_verdict_fits(RomTurn *turn, Jsonb *output)
{
	/* a canvas gathers the results of any number of tasks */
	if (VARSIZE(output) <= rom_guc_max_payload_size || (turn->inst->flags & ROM_IS_CANVAS) != 0)
		return true;
	turn->out.fail_error =
		rom_context_copy_jsonb(turn,
							   rom_error_make(ERRCODE_ROM_LIMIT,
											  psprintf("output of workflow \"%s\" has %d bytes, the limit is %d",
													   turn->inst->workflow, (int) VARSIZE(output),
													   rom_guc_max_payload_size),
											  NULL,
											  "Keep large data in a table and return a key, or raise romancy.max_payload_size.",
											  NULL));
	return false;
}

void
rom_verdict_completed(RomTurn *turn, Jsonb *output)
{
	RomEvent   *event = rom_replay_event(turn, ROM_EVENT_WORKFLOW_COMPLETED, NULL);

	/*
	 * a large one is written once, as the instance's output; get_history()
	 * looks there
	 */
	if (VARSIZE(output) < OUTPUT_TWICE)
		event->result = output;
	rom_replay_append(turn, event);
	turn->out.output = output;
	turn->out.status = ROM_STATUS_COMPLETED;
	turn->wait.now = NULL;
}

void
rom_verdict_final(RomTurn *turn, RomStatus status, Jsonb *error)
{
	RomEvent   *event = rom_replay_event(turn, status == ROM_STATUS_CANCELLED ?
										 ROM_EVENT_WORKFLOW_CANCELLED :
										 ROM_EVENT_WORKFLOW_FAILED, NULL);

	event->result = error;
	if (status == ROM_STATUS_FAILED)
		event->detail = turn->saga ? turn->saga->failed_step : turn->out.failed_step;
	rom_replay_append(turn, event);
	turn->out.error = error;
	turn->out.status = status;
	turn->wait.now = NULL;
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
	rom_saga_take_injected(turn);
	if (error != NULL)
	{
		RomEvent   *event = rom_replay_event(turn, ROM_EVENT_WORKFLOW_PAUSED, NULL);

		/* nothing of what this evaluation asked for is kept */
		event->result = error;
		rom_replay_append(turn, event);

		/*
		 * what came before the fault was known does not resume the instance:
		 * later requests do
		 */
		for (int i = 0; i < turn->wait.ninbox; i++)
			if (turn->wait.inbox[i].kind == ROM_INBOX_RESUME)
				turn->wait.inbox[i].taken = true;
	}
	if (turn->inst->status != ROM_STATUS_PAUSED)
		turn->inst->resume_status = turn->inst->status;
	turn->out.error = error;
	turn->out.status = ROM_STATUS_PAUSED;
	turn->out.wake_at = DT_NOEND;
	turn->wait.now = turn->wait.before;
	turn->out.changed = true;
}

void
rom_verdict_pause(RomTurn *turn, Jsonb *error)
{
	rom_verdict_paused(turn, rom_context_copy_jsonb(turn, error));
}

/* cancel_error is the error of a cancelled instance as doc/errors.md describes it. */
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
	rom_jb_text(&jb, "previous_status", rom_instance_status_name(turn->inst->status));
	return rom_context_copy_jsonb(turn, rom_jb_end(&jb));
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
	if (item->kind == ROM_INBOX_TERMINATE ?
		!rom_saga_close(turn, ROM_STATUS_CANCELLED, NULL, error) :
		!rom_saga_begin(turn, ROM_STATUS_CANCELLED, error))
		rom_verdict_final(turn, ROM_STATUS_CANCELLED, error);
}

Jsonb *
rom_verdict_saga_error(RomTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->cxt);
	Jsonb	  **failures = palloc(sizeof(Jsonb *) * Max(turn->replay.history.count, 1));
	int			n = 0;
	Jsonb	   *error = turn->saga->error;

	for (int i = 0; i < turn->replay.history.count; i++)
	{
		RomEvent   *event = turn->replay.history.events[i];
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
