/*-------------------------------------------------------------------------
 *
 * failures.c
 *		A line in the server's log for each instance that failed, or that the engine
 *		paused.
 *
 * It is written after the commit, so that a turn which is rolled back and run again is
 * told of once. It holds names, the SQLSTATE and the message, never a payload.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "base/jb.h"
#include "base/uuid.h"
#include "instances/event.h"
#include "run/failures.h"
#include "run/guc.h"

/* Bytes of a message that the log shows. */
#define MESSAGE_MAX 2000

/* An instance that failed or was paused. */
typedef struct FailureNote
{
	char	   *workflow;
	char	   *id;
	char	   *step;			/* or NULL */
	char	   *message;
	int			sqlstate;
	bool		paused;
} FailureNote;

/* step_of names the step whose error it is, or NULL. */
static char *
step_of(RomTurn *turn, RomEvent *event)
{
	if (event->type == ROM_EVENT_WORKFLOW_FAILED)
		return event->detail ? rom_jb_get_text(event->detail, "failed_step") : NULL;
	if (turn->eval.call != NULL)
		return pstrdup(turn->eval.call->step);
	return NULL;
}

void
rom_failures_note(List **failures, RomTurn *turn)
{
	for (int i = turn->replay.stored; i < turn->replay.history.count; i++)
	{
		RomEvent   *event = turn->replay.history.events[i];
		FailureNote *note;
		char	   *message;

		if (event->result == NULL ||
			(event->type != ROM_EVENT_WORKFLOW_FAILED && event->type != ROM_EVENT_WORKFLOW_PAUSED))
			continue;
		note = palloc0_object(FailureNote);
		message = rom_error_field(event->result, "message");
		note->workflow = pstrdup(turn->inst->workflow);
		note->id = rom_uuid_text(&turn->inst->id);
		note->step = step_of(turn, event);
		note->message = message ? pnstrdup(message, pg_mbcliplen(message, strlen(message), MESSAGE_MAX)) : pstrdup("");
		note->sqlstate = rom_error_sqlstate(event->result);
		note->paused = event->type == ROM_EVENT_WORKFLOW_PAUSED;
		*failures = lappend(*failures, note);
	}
}

void
rom_failures_log(List **failures)
{
	ListCell   *lc;

	if (!rom_guc_log_failures)
		return;
	foreach(lc, *failures)
	{
		FailureNote *note = lfirst(lc);

		ereport(LOG_SERVER_ONLY,
				(errcode(note->sqlstate),
				 errhidestmt(true),
				 errmsg_internal("workflow \"%s\", instance %s %s%s%s%s: %s: %s",
								 note->workflow, note->id, note->paused ? "is paused" : "failed",
								 note->step ? " at step \"" : "", note->step ? note->step : "",
								 note->step ? "\"" : "",
								 unpack_sql_state(note->sqlstate), note->message),
				 note->paused ? errhint("Mend the cause, then call romancy.resume_workflow('%s').", note->id) : 0));
	}
	*failures = NIL;
}
