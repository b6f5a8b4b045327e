/*-------------------------------------------------------------------------
 *
 * steer.c
 *		cancel, terminate, pause, resume and retry, one instance or many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/filter.h"
#include "instances/steer.h"
#include "steps/steps.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_cancel_workflow);
PG_FUNCTION_INFO_V1(romancy_terminate_workflow);
PG_FUNCTION_INFO_V1(romancy_pause_workflow);
PG_FUNCTION_INFO_V1(romancy_resume_workflow);
PG_FUNCTION_INFO_V1(romancy_retry_workflow);
PG_FUNCTION_INFO_V1(romancy_cancel_workflows);
PG_FUNCTION_INFO_V1(romancy_retry_workflows);
PG_FUNCTION_INFO_V1(romancy_resume_workflows);

/* Rows that a bulk call reads at a time. */
#define BULK_PAGE 1000

static RomStatement matching[] =
ROM_FILTER_STATEMENTS("SELECT i.instance_id, i.owner, i.priority, i.status,"
					  " i.flags FROM romancy.t_instance i");

/*
 * romancy.cancel_workflow(instance_id uuid, reason text) -> boolean
 *
 * Asks an instance to end as cancelled, after its compensations; a running step
 * is interrupted. True if it was live. reason may be null. Errors: RM002 unknown, or
 * another role's. In a workflow it is a recorded step.
 */
Datum
romancy_cancel_workflow(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	char	   *reason = rom_arg_text_opt(fcinfo, 1);

	if (rom_context_in_handler())
		PG_RETURN_BOOL(rom_step_cancel(id, reason));
	PG_RETURN_BOOL(rom_steer_request(id, ROM_INBOX_CANCEL, reason));
}

/*
 * romancy.terminate_workflow(instance_id uuid, reason text) -> boolean
 *
 * As cancel_workflow, without compensations. Errors: RM002, RM004 in a workflow.
 */
Datum
romancy_terminate_workflow(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("terminate_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_TERMINATE,
									 rom_arg_text_opt(fcinfo, 1)));
}

/*
 * romancy.pause_workflow(instance_id uuid) -> boolean
 *
 * Asks an instance to do nothing until it is resumed. False if it is paused,
 * compensating or final. Errors: RM002, RM004 in a workflow.
 */
Datum
romancy_pause_workflow(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("pause_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_PAUSE, NULL));
}

/*
 * romancy.resume_workflow(instance_id uuid) -> boolean
 *
 * Ends a pause. False if the instance is not paused. Errors: RM002, RM004 in a
 * workflow.
 */
Datum
romancy_resume_workflow(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("resume_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_RESUME, NULL));
}

static void
compensated(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_STATE),
			 errmsg("workflow instance \"%s\" cannot be retried: its compensations ran",
					rom_uuid_text(id)),
			 errhint("Use romancy.fork_workflow to start a new instance with a part of its history.")));
}

/*
 * romancy.retry_workflow(instance_id uuid) -> boolean
 *
 * A failed instance runs again from its failed step. False when another
 * transaction is just retrying or deleting it. Errors: RM002, RM010 if it has not
 * failed or its compensations ran, RM004 in a workflow.
 */
Datum
romancy_retry_workflow(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	Jsonb	   *detail = rom_steer_retry_detail();
	RomInstanceHead head;
	RomEngine	engine;
	bool		result;

	rom_context_refuse_handler("retry_workflow");
	rom_steer_head(id, true, &head);
	if (head.status != ROM_STATUS_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow instance \"%s\" is %s, and only a failed one can be retried",
						rom_uuid_text(id),
						rom_instance_status_name(head.status)),
				 errhint("%s", ROM_STATUS_IS_FINAL(head.status) ?
						 "Use romancy.fork_workflow to start a new instance with a part of its history." :
						 head.status == ROM_STATUS_PAUSED ?
						 "Use romancy.resume_workflow to continue it." :
						 "It continues by itself.")));
	if (head.flags & ROM_HAS_COMPENSATED)
		compensated(id);
	rom_engine_begin(&engine);
	result = rom_steer_retry(id, detail, &head.flags);
	rom_engine_end(&engine);
	if (result)
		rom_steer_wake(id, &head, ROM_INBOX_RESUME);
	PG_RETURN_BOOL(result);
}

/* An instance that a bulk call steers. */
typedef struct Match
{
	pg_uuid_t	id;
	RomInstanceHead head;
} Match;

/* read_match reads a row of set. */
static void
read_match(const RomRowSet *set, uint64 row, Match *match)
{
	bool		isnull;

	match->id = *DatumGetUUIDP(rom_value(set, row, 1, &isnull));
	match->head.owner_name = rom_value_text(set, row, 2, CurrentMemoryContext);
	match->head.priority = DatumGetInt32(rom_value(set, row, 3, &isnull));
	match->head.status = rom_instance_status_from_datum(rom_value(set, row, 4, &isnull));
	match->head.flags = DatumGetInt32(rom_value(set, row, 5, &isnull));
	match->head.owner = get_role_oid(match->head.owner_name, true);
}

/* cancel_one and retry_one are what the bulk calls do; true if it was done. Engine scope needed. */
static bool
cancel_one(const Match *match, Jsonb *detail)
{
	if (ROM_STATUS_IS_FINAL(match->head.status))
		return false;
	rom_inbox_insert(&match->id, ROM_INBOX_CANCEL, NULL, NULL, NULL, detail);
	rom_steer_wake(&match->id, &match->head, ROM_INBOX_CANCEL);
	return true;
}

static bool
retry_one(const Match *match, Jsonb *detail)
{
	int32		flags;

	if (match->head.status != ROM_STATUS_FAILED ||
		match->head.flags & ROM_HAS_COMPENSATED ||
		!rom_steer_retry(&match->id, detail, &flags))
		return false;
	rom_steer_wake(&match->id, &match->head, ROM_INBOX_RESUME);
	return true;
}

static bool
resume_one(const Match *match, Jsonb *detail)
{
	if (!rom_steer_fits(&match->id, ROM_INBOX_RESUME, match->head.status))
		return false;
	rom_inbox_insert(&match->id, ROM_INBOX_RESUME, NULL, NULL, NULL, detail);
	rom_steer_wake(&match->id, &match->head, ROM_INBOX_RESUME);
	return true;
}

/* for_each_match does something with each instance that a filter selects, and counts how often it did. */
static int64
for_each_match(Jsonb *json, bool (*action) (const Match *, Jsonb *),
			   Jsonb *detail)
{
	RomFilter	filter;
	RomEngine	engine;
	Portal		portal;
	Oid			role = GetUserId();
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "romancy bulk",
											  ALLOCSET_DEFAULT_SIZES);
	int64		count = 0;

	rom_filter_parse(json, &filter);
	rom_engine_begin(&engine);
	portal = rom_filter_open(matching, &filter, role, true);
	for (;;)
	{
		RomRowSet	page;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		if (rom_execute_fetch(&page, portal, BULK_PAGE) == 0)
			break;
		old = MemoryContextSwitchTo(cxt);
		for (uint64 i = 0; i < page.count; i++)
		{
			Match		match;

			read_match(&page, i, &match);
			count += action(&match, detail);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
		rom_execute_free(&page);
	}
	SPI_cursor_close(portal);
	rom_engine_end(&engine);
	MemoryContextDelete(cxt);
	return count;
}

/*
 * romancy.cancel_workflows(filter jsonb) -> bigint
 *
 * Asks all live instances that the filter selects, of those that the caller
 * may steer, to end as cancelled; how many. Errors: RM012 a wrong filter, RM004 in
 * a workflow.
 */
Datum
romancy_cancel_workflows(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("cancel_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   cancel_one, rom_steer_detail(NULL)));
}

/*
 * romancy.retry_workflows(filter jsonb) -> bigint
 *
 * Retries all failed instances that the filter selects, of those that the
 * caller may steer and whose compensations did not run; how many. Errors: RM012 a
 * wrong filter, RM004 in a workflow.
 */
Datum
romancy_retry_workflows(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("retry_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   retry_one, rom_steer_retry_detail()));
}

/*
 * romancy.resume_workflows(filter jsonb) -> bigint
 *
 * Resumes all paused instances that the filter selects, of those that the
 * caller may steer; how many. Errors: RM012 a wrong filter, RM004 in a workflow.
 */
Datum
romancy_resume_workflows(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("resume_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   resume_one, rom_steer_detail(NULL)));
}
