/*-------------------------------------------------------------------------
 *
 * complete.c
 *		The results of claimed activities: complete_activity, complete_activities.
 *
 * A result ends the task in one visit of its row: it is deleted without a lock
 * before, and what was read of it says what the end entails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/table.h"
#include "instances/instance.h"
#include "tasks/complete.h"
#include "tasks/frames.h"
#include "tasks/lease.h"
#include "tasks/task.h"

/* A call that completes tasks. */
typedef struct Completing
{
	Oid			caller;
	RomRows		rows;			/* tasks, open for all of them */
	bool		is_part;		/* ends of canvases' tasks are to be written
								 * together, */
	bool		gathers;		/* and are gathered */
	/* the last answer of rom_task_live() */
	pg_uuid_t	instance_id;
	bool		known;
	bool		live;
	/* the owner before, "" for none, and whether the caller has its tasks */
	char		name[NAMEDATALEN];
	Oid			owner;			/* InvalidOid: it was dropped */
	bool		allowed;
} Completing;

/* may_complete: may the caller complete tasks of the owner? Finds the owner's oid, too. */
static bool
may_complete(Completing *c, const char *name)
{
	if (strcmp(c->name, name) != 0)
	{
		c->owner = get_role_oid(name, true);
		c->allowed = rom_instance_may_access(name, c->caller, true);
		strlcpy(c->name, name, NAMEDATALEN);
	}
	return c->allowed;
}

/*
 * take_away deletes the row of the task whose lease the token holds, without a lock before. NULL: the lease was lost, or another
 * transaction has the row, which rom_lease_lock() waits for.
 */
static RomTask *
take_away(Completing *c, const RomToken *token)
{
	RomTask    *task;
	RomStatus	status;
	MemoryContext old;
	bool		found;

	/* the scan is kept for the next task, after the engine scope */
	old = MemoryContextSwitchTo(c->rows.slot->tts_mcxt);
	found = rom_rows_find(&c->rows, &token->task_id);
	MemoryContextSwitchTo(old);
	if (!found || !rom_lease_holds(&c->rows, token))
		return NULL;
	task = rom_task_of(c->rows.slot);
	if (task->kind == ROM_TASK_WORKFLOW || !may_complete(c, task->owner) ||
		rom_table_delete(&rom_task_table, &c->rows.slot->tts_tid, false) != TM_Ok)
		return NULL;
	task->deleted = true;
	if (!c->known || memcmp(&c->instance_id, &task->instance_id, sizeof(pg_uuid_t)) != 0)
	{
		c->instance_id = task->instance_id;
		c->live = rom_task_live(&task->instance_id, &status);
		c->known = true;
	}
	task->live = c->live;
	return task;
}

/* complete records the result of one task. */
static bool
complete(Completing *c, const RomToken *token, Jsonb *result)
{
	RomTask    *task = take_away(c, token);

	if (task == NULL)
		task = rom_lease_lock(token, c->caller);
	if (task == NULL)
		return false;
	if (task->live && task->kind != ROM_TASK_WORKFLOW)
	{
		(void) may_complete(c, task->owner);
		/* (not before there is one: the table of ends is locked by it) */
		if (c->is_part && !c->gathers && task->kind == ROM_TASK_CANVAS)
			c->gathers = rom_table_gather(&rom_frames_ends);
		rom_task_succeed(task, c->owner, result ? result : rom_jb_null_document());
		return true;
	}
	if (!task->live)
		rom_task_delete(task);
	return false;
}

bool
rom_complete_task(const RomToken *token, Oid caller, Jsonb *result)
{
	Completing	c = {.caller = caller};
	RomEngine	engine;
	bool		done;

	rom_arg_check_payload(result, "result");
	rom_rows_open(&c.rows, &rom_task_table, "t_task_pkey", true);
	rom_engine_begin(&engine);
	done = complete(&c, token, result);
	rom_engine_end(&engine);
	rom_rows_close(&c.rows);
	return done;
}

PG_FUNCTION_INFO_V1(romancy_complete_activity);

/*
 * romancy.complete_activity(token text, result jsonb) -> boolean
 *
 * False, and nothing done, when the token's lease was lost or its instance is over. RM012:
 * no token; RM011: the result is too large.
 */
Datum
romancy_complete_activity(PG_FUNCTION_ARGS)
{
	RomToken	token;

	rom_lease_refuse(fcinfo);
	rom_token_read(rom_arg_text(fcinfo, 0, "token"), &token);
	PG_RETURN_BOOL(rom_complete_task(&token, GetUserId(), rom_arg_jsonb_opt(fcinfo, 1)));
}

/* The arguments of complete_activities(). */
typedef struct Results
{
	Datum	   *tokens;
	Datum	   *results;
	bool	   *token_nulls;
	bool	   *result_nulls;
	int			count;
} Results;

/*
 * complete_some completes those from number first up to end: in one engine scope, as if they were one statement, and with their
 * ends written together.
 */
static int64
complete_some(Completing *c, const Results *r, int first, int end)
{
	MemoryContext part;
	RomEngine	engine;
	int64		done = 0;

	rom_engine_begin(&engine);
	/* what is read of a task (its input may be large) goes with it */
	part = AllocSetContextCreate(CurrentMemoryContext, "romancy result", ALLOCSET_DEFAULT_SIZES);
	c->is_part = true;
	c->gathers = false;
	for (int i = first; i < end; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(part);
		Jsonb	   *result = r->result_nulls[i] ? NULL : DatumGetJsonbP(r->results[i]);
		RomToken	token;

		CHECK_FOR_INTERRUPTS();
		rom_token_read(r->token_nulls[i] ? "" : TextDatumGetCString(r->tokens[i]), &token);
		rom_arg_check_payload(result, "result");
		done += complete(c, &token, result);
		MemoryContextSwitchTo(old);
		MemoryContextReset(part);
	}
	/* (what a DBA's index evaluates is evaluated as the engine) */
	if (c->gathers)
		rom_table_gather_end(&rom_frames_ends);
	rom_engine_end(&engine);
	return done;
}

PG_FUNCTION_INFO_V1(romancy_complete_activities);

/*
 * romancy.complete_activities(tokens text[], results jsonb[]) -> bigint
 *
 * The same for many, in one call: how many were completed. Those whose lease was lost are left out. RM012: the arrays differ in length, or hold
 * what is no token.
 */
Datum
romancy_complete_activities(PG_FUNCTION_ARGS)
{
	Completing	c = {.caller = GetUserId()};
	Results		r;
	int			nresults;
	int64		done = 0;
	bool		opened;

	rom_lease_refuse(fcinfo);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", PG_ARGISNULL(0) ? "tokens" : "results")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &r.tokens, &r.token_nulls, &r.count);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT,
					  &r.results, &r.result_nulls, &nresults);
	if (r.count != nresults)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("tokens and results differ in length"),
				 errdetail("There are %d tokens and %d results.", r.count, nresults)));
	rom_rows_open(&c.rows, &rom_task_table, "t_task_pkey", true);
	opened = rom_table_keep_open();
	for (int first = 0; first < r.count; first += ROM_TABLE_GATHERED)
		done += complete_some(&c, &r, first, Min(first + ROM_TABLE_GATHERED, r.count));
	if (opened)
		rom_table_close_kept();
	rom_rows_close(&c.rows);
	PG_RETURN_INT64(done);
}
