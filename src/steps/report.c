/*-------------------------------------------------------------------------
 *
 * report.c
 *		set_progress: what a workflow or an activity says of how far it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "memory/progress.h"
#include "memory/waiter.h"
#include "steps/activity.h"
#include "steps/report.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/turn.h"

void
rom_report_put(const pg_uuid_t *id, int32 namespace, RomProgress *progress, const char *note)
{
	progress->first_at = progress->at = GetCurrentTimestamp();
	if (note != NULL)
		memcpy(progress->note, note, pg_mbcliplen(note, strlen(note), ROM_NOTE_MAX - 1));
	rom_progress_put(id, namespace, progress);
	rom_waiter_notify(rom_waiter_key(ROM_INSTANCE_PROGRESS_KEY, id, sizeof(pg_uuid_t)));
}

void
rom_report_read(FunctionCallInfo fcinfo, int n, RomProgress *progress)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"done\" must not be null")));
	progress->done = PG_GETARG_INT64(n);
	progress->total = rom_arg_int64_opt(fcinfo, n + 1, -1);
	if (progress->done < 0 || (!PG_ARGISNULL(n + 1) && progress->total < 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"done\" and \"total\" must not be negative")));
}

/*
 * was_said: has the handler said this before? In a turn before; or in an evaluation of this turn that came further, and was given up. Notes
 * that it has, otherwise.
 */
static bool
was_said(RomTurn *turn)
{
	RomTurnEval *eval = &turn->eval;

	if (rom_replay_peek(turn) != NULL || turn->how.checks)
		return true;
	if (eval->progress_in != eval->number && turn->replay.cursor < eval->progress_steps)
		return true;
	eval->progress_in = eval->number;
	eval->progress_steps = Max(eval->progress_steps, turn->replay.cursor + 1);
	return false;
}

PG_FUNCTION_INFO_V1(romancy_set_progress);

/*
 * romancy.set_progress(done bigint, total bigint, note text)
 *
 * Seen by others at once (it is not part of the transaction); the last one is kept with the
 * instance when the turn commits. Errors: RM004 outside a workflow or activity, 22023 for
 * negative numbers. Not repeated on replay.
 */
Datum
romancy_set_progress(PG_FUNCTION_ARGS)
{
	const RomRunning *running = rom_context_get("set_progress()");
	RomTurn    *turn = rom_context_turn;
	RomProgress progress = {0};
	char	   *note = rom_arg_text_opt(fcinfo, 2);

	rom_report_read(fcinfo, 0, &progress);
	if (rom_context_in_handler() && (turn->eval.unwinding || was_said(turn)))
		PG_RETURN_VOID();
	rom_report_put(&running->id, running->namespace, &progress, note);
	if (turn != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		turn->inst->progress = rom_progress_document(&progress, note);
		MemoryContextSwitchTo(old);
	}
	PG_RETURN_VOID();
}
