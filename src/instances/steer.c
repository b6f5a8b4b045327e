/*-------------------------------------------------------------------------
 *
 * steer.c
 *		cancel, terminate, pause, resume and retry of instances.
 *
 * The first four are requests: a row in the instance's inbox and a wake-up.
 * They never touch the instance's row, so they do not wait for a running turn;
 * what they return is what the caller's snapshot shows. A failed instance has no
 * turns: retry_workflow changes its row itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "client/define.h"
#include "instances/filter.h"
#include "instances/history.h"
#include "instances/start.h"
#include "instances/steer.h"
#include "memory/wake.h"
#include "turn/primitive.h"

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

static RomStatement select_head = {
	"select status, owner, priority, flags, last_seq"
	" from romancy.t_instance where instance_id = $1",
	1, {UUIDOID}
};

/*
 * The status, and the last request to pause or resume that no turn has applied
 * yet (kinds: inbox.h): of one snapshot, since the turn that applies the request
 * changes the one and deletes the other.
 */
static RomStatement select_pause = {
	"select i.status, (select b.kind from romancy.t_inbox b"
	" where b.instance_id = i.instance_id and b.kind in (3, 4) order by b.id desc limit 1)"
	" from romancy.t_instance i where i.instance_id = $1",
	1, {UUIDOID}
};

static RomStatement lock_failed = {
	"select flags, last_seq from romancy.t_instance"
	" where instance_id = $1 and status = 'failed' for update skip locked",
	1, {UUIDOID}
};

/*
 * An execution timeout begins anew, with the length that it had.
 */
static RomStatement update_retried = {
	"update romancy.t_instance set status = 'pending', error = null, events = null,"
	" finished_at = null, wait = null, resume_status = null, crashes = 0,"
	" wake_at = $2, last_seq = $3, updated_at = clock_timestamp(),"
	" deadline = $2 + (deadline - coalesce(started_at, created_at))"
	" where instance_id = $1",
	3, {UUIDOID, TIMESTAMPTZOID, INT8OID}
};

static RomStatement matching[] =
ROM_FILTER_STATEMENTS("select i.instance_id, i.owner, i.priority, i.status,"
					  " i.flags from romancy.t_instance i");

void
rom_instance_missing(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_NO_INSTANCE),
			 errmsg("workflow instance \"%s\" does not exist",
					DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(id))))));
}

void
rom_instance_head(const pg_uuid_t *id, bool steer, RomInstanceHead *head)
{
	Datum		values[1] = {UUIDPGetDatum(id)};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	bool		isnull;
	bool		found;

	rom_engine_begin(&engine);
	found = rom_execute(&select_head, values, NULL, 1) == 1;
	if (found)
	{
		head->status = rom_status_from_datum(rom_value(0, 1, &isnull));
		head->owner_name = rom_value_text(0, 2, cxt);
		head->priority = DatumGetInt32(rom_value(0, 3, &isnull));
		head->flags = DatumGetInt32(rom_value(0, 4, &isnull));
		head->last_seq = DatumGetInt64(rom_value(0, 5, &isnull));
	}
	rom_engine_end(&engine);
	/* another role's looks like none at all */
	if (!found || !(steer ? rom_may_steer(head->owner_name) :
					rom_may_read(head->owner_name)))
		rom_instance_missing(id);
	head->owner = get_role_oid(head->owner_name, true);
}

/* request_detail says who asks, why and when. */
static Jsonb *
request_detail(const char *reason)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "reason", reason);
	rom_jb_text(&jb, "by", GetUserNameFromId(GetUserId(), false));
	rom_jb_time(&jb, "at", rom_now());
	return rom_jb_end(&jb);
}

/*
 * fits says whether a request makes sense: for a pause or a resume, once what is in the inbox
 * is applied. status: as the caller has seen it. Engine scope needed.
 */
static bool
fits(const pg_uuid_t *id, RomInboxKind kind, RomStatus status)
{
	Datum		values[1] = {UUIDPGetDatum(id)};
	bool		isnull;
	bool		paused;
	int			request;

	if (ROM_STATUS_IS_FINAL(status))
		return false;
	if (kind != ROM_INBOX_PAUSE && kind != ROM_INBOX_RESUME)
		return true;
	if (rom_execute(&select_pause, values, NULL, 1) == 0)
		return false;
	status = rom_status_from_datum(rom_value(0, 1, &isnull));
	request = DatumGetInt16(rom_value(0, 2, &isnull));
	paused = isnull ? status == ROM_STATUS_PAUSED : request == ROM_INBOX_PAUSE;
	if (kind == ROM_INBOX_RESUME)
		return paused && !ROM_STATUS_IS_FINAL(status);
	return !paused && !ROM_STATUS_IS_FINAL(status) && status != ROM_STATUS_COMPENSATING;
}

/* wake notes that the instance has something in its inbox. */
static void
wake(const pg_uuid_t *id, const RomInstanceHead *head, RomInboxKind kind)
{
	if (OidIsValid(head->owner))
		rom_wake_ready(id, head->owner, head->priority);
	if (kind == ROM_INBOX_CANCEL || kind == ROM_INBOX_TERMINATE)
		rom_wake_cancel(id);
}

bool
rom_steer_request(const pg_uuid_t *id, RomInboxKind kind, const char *reason)
{
	RomInstanceHead head;
	RomEngine	engine;
	Jsonb	   *detail = request_detail(reason);
	bool		result;

	rom_payload_check(detail, "reason");
	rom_instance_head(id, true, &head);
	rom_engine_begin(&engine);
	result = fits(id, kind, head.status);
	if (result)
		rom_inbox_insert(id, kind, NULL, NULL, NULL, detail);
	rom_engine_end(&engine);
	if (result)
		wake(id, &head, kind);
	return result;
}

/*
 * romancy.cancel_workflow(instance_id uuid, reason text) → boolean
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

	if (rom_turn_in_handler())
		PG_RETURN_BOOL(rom_step_cancel(id, reason));
	PG_RETURN_BOOL(rom_steer_request(id, ROM_INBOX_CANCEL, reason));
}

/*
 * romancy.terminate_workflow(instance_id uuid, reason text) → boolean
 *
 * As cancel_workflow, without compensations. Errors: RM002, RM004 in a workflow.
 */
Datum
romancy_terminate_workflow(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("terminate_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_TERMINATE,
									 rom_arg_text_opt(fcinfo, 1)));
}

/*
 * romancy.pause_workflow(instance_id uuid) → boolean
 *
 * Asks an instance to do nothing until it is resumed. False if it is paused,
 * compensating or final. Errors: RM002, RM004 in a workflow.
 */
Datum
romancy_pause_workflow(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("pause_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_PAUSE, NULL));
}

/*
 * romancy.resume_workflow(instance_id uuid) → boolean
 *
 * Ends a pause. False if the instance is not paused. Errors: RM002, RM004 in a
 * workflow.
 */
Datum
romancy_resume_workflow(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("resume_workflow");
	PG_RETURN_BOOL(rom_steer_request(rom_arg_uuid(fcinfo, 0, "instance_id"),
									 ROM_INBOX_RESUME, NULL));
}

/*
 * retry_failed makes a failed instance pending, if nobody else changes it at
 * the moment. *flags: as of the locked row. Engine scope needed.
 */
static bool
retry_failed(const pg_uuid_t *id, Jsonb *detail, int32 *flags)
{
	Datum		values[3] = {UUIDPGetDatum(id)};
	RomEvent	event = {0};
	RomEventList list = {0};
	int64		last_seq;
	bool		isnull;

	if (rom_execute(&lock_failed, values, NULL, 1) == 0)
		return false;
	*flags = DatumGetInt32(rom_value(0, 1, &isnull));
	last_seq = DatumGetInt64(rom_value(0, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	if (*flags & ROM_HAS_COMPENSATED)
		return false;

	rom_history_move(id);
	event.type = ROM_EVENT_WORKFLOW_RETRIED;
	event.detail = detail;
	event.at = rom_now();
	rom_event_list_add(&list, &event, CurrentMemoryContext);
	last_seq = rom_history_append(id, &list, 0, last_seq);
	values[1] = TimestampTzGetDatum(event.at);
	values[2] = Int64GetDatum(last_seq);
	rom_execute(&update_retried, values, NULL, 0);
	return true;
}

static void
compensated(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_STATE),
			 errmsg("workflow instance \"%s\" cannot be retried: its compensations ran",
					DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(id)))),
			 errhint("Use romancy.fork_workflow to start a new instance with a part of its history.")));
}

/* retry_detail says who asked for the retry. */
static Jsonb *
retry_detail(void)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "by", GetUserNameFromId(GetUserId(), false));
	rom_jb_time(&jb, "at", rom_now());
	return rom_jb_end(&jb);
}

/*
 * romancy.retry_workflow(instance_id uuid) → boolean
 *
 * A failed instance runs again from its failed step. False when another
 * transaction is just retrying or deleting it. Errors: RM002, RM010 if it has not
 * failed or its compensations ran, RM004 in a workflow.
 */
Datum
romancy_retry_workflow(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	Jsonb	   *detail = retry_detail();
	RomInstanceHead head;
	RomEngine	engine;
	bool		result;

	rom_refuse_in_handler("retry_workflow");
	rom_instance_head(id, true, &head);
	if (head.status != ROM_STATUS_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("workflow instance \"%s\" is %s, and only a failed one can be retried",
						DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))),
						rom_status_name(head.status)),
				 errhint("%s", ROM_STATUS_IS_FINAL(head.status) ?
						 "Use romancy.fork_workflow to start a new instance with a part of its history." :
						 head.status == ROM_STATUS_PAUSED ?
						 "Use romancy.resume_workflow to let it go on." :
						 "It goes on by itself.")));
	if (head.flags & ROM_HAS_COMPENSATED)
		compensated(id);
	rom_engine_begin(&engine);
	result = retry_failed(id, detail, &head.flags);
	rom_engine_end(&engine);
	if (result)
		wake(id, &head, ROM_INBOX_RESUME);
	PG_RETURN_BOOL(result);
}

/* What a bulk call knows of an instance. */
typedef struct Match
{
	pg_uuid_t	id;
	RomInstanceHead head;
} Match;

/* read_match reads a row of SPI_tuptable. */
static void
read_match(uint64 row, Match *match)
{
	bool		isnull;

	match->id = *DatumGetUUIDP(rom_value(row, 1, &isnull));
	match->head.owner_name = rom_value_text(row, 2, CurrentMemoryContext);
	match->head.priority = DatumGetInt32(rom_value(row, 3, &isnull));
	match->head.status = rom_status_from_datum(rom_value(row, 4, &isnull));
	match->head.flags = DatumGetInt32(rom_value(row, 5, &isnull));
	match->head.owner = get_role_oid(match->head.owner_name, true);
}

/* cancel_one and retry_one are what the bulk calls do; true if it was done. Engine scope needed. */
static bool
cancel_one(const Match *match, Jsonb *detail)
{
	if (ROM_STATUS_IS_FINAL(match->head.status))
		return false;
	rom_inbox_insert(&match->id, ROM_INBOX_CANCEL, NULL, NULL, NULL, detail);
	wake(&match->id, &match->head, ROM_INBOX_CANCEL);
	return true;
}

static bool
retry_one(const Match *match, Jsonb *detail)
{
	int32		flags;

	if (match->head.status != ROM_STATUS_FAILED ||
		match->head.flags & ROM_HAS_COMPENSATED ||
		!retry_failed(&match->id, detail, &flags))
		return false;
	wake(&match->id, &match->head, ROM_INBOX_RESUME);
	return true;
}

static bool
resume_one(const Match *match, Jsonb *detail)
{
	if (!fits(&match->id, ROM_INBOX_RESUME, match->head.status))
		return false;
	rom_inbox_insert(&match->id, ROM_INBOX_RESUME, NULL, NULL, NULL, detail);
	wake(&match->id, &match->head, ROM_INBOX_RESUME);
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
		SPITupleTable *page;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, BULK_PAGE);
		page = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(cxt);
		for (uint64 i = 0; i < page->numvals; i++)
		{
			Match		match;

			/* the action's own statements change it */
			SPI_tuptable = page;
			read_match(i, &match);
			count += action(&match, detail);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
		SPI_freetuptable(page);
	}
	SPI_cursor_close(portal);
	rom_engine_end(&engine);
	MemoryContextDelete(cxt);
	return count;
}

/*
 * romancy.cancel_workflows(filter jsonb) → bigint
 *
 * Asks all live instances that the filter selects, of those that the caller
 * may steer, to end as cancelled; how many. Errors: RM012 a wrong filter, RM004 in
 * a workflow.
 */
Datum
romancy_cancel_workflows(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("cancel_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   cancel_one, request_detail(NULL)));
}

/*
 * romancy.retry_workflows(filter jsonb) → bigint
 *
 * Retries all failed instances that the filter selects, of those that the
 * caller may steer and whose compensations did not run; how many. Errors: RM012 a
 * wrong filter, RM004 in a workflow.
 */
Datum
romancy_retry_workflows(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("retry_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   retry_one, retry_detail()));
}

/*
 * romancy.resume_workflows(filter jsonb) → bigint
 *
 * Resumes all paused instances that the filter selects, of those that the
 * caller may steer; how many. Errors: RM012 a wrong filter, RM004 in a workflow.
 */
Datum
romancy_resume_workflows(PG_FUNCTION_ARGS)
{
	rom_refuse_in_handler("resume_workflows");
	PG_RETURN_INT64(for_each_match(rom_arg_jsonb(fcinfo, 0, "filter"),
								   resume_one, request_detail(NULL)));
}
