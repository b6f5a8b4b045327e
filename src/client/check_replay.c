/*-------------------------------------------------------------------------
 *
 * check_replay.c
 *		check_replay: what would be RM003, before it is.
 *
 * A history is loaded and the handler evaluated against it, as a turn does first; the
 * evaluation ends where history does, is rolled back, and nothing of it is saved.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/definition.h"
#include "defs/handler.h"
#include "instances/filter.h"
#include "run/borrowed.h"
#include "turn/context.h"
#include "turn/evaluate.h"
#include "turn/replay.h"
#include "turn/save.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_check_replay);

/* Instances that are read at a time. */
#define PAGE 100

static RomStatement page_statements[] =
ROM_FILTER_STATEMENTS("SELECT i.instance_id, i.created_at, i.def_id, i.namespace, i.status, i.flags, i.last_seq,"
					  " i.body_hash, i.settings, i.owner, i.workflow, i.input, i.wait"
					  " FROM romancy.t_instance i");

/* The function to check with, in place of each instance's own; oid invalid: its own. */
typedef struct Other
{
	Oid			oid;
	FmgrInfo	flinfo;
} Other;

/* get_jsonb copies a jsonb column, NULL for null. */
static Jsonb *
get_jsonb(const RomRowSet *set, uint64 row, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value_copy(set, row, col, &isnull, cxt);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* read_instance makes an instance of a row of the page, in cxt. */
static RomInstance *
read_instance(const RomRowSet *set, uint64 row, RomFilterPos *pos, MemoryContext cxt)
{
	RomInstance *inst = MemoryContextAllocZero(cxt, sizeof(RomInstance));
	bool		isnull;
	Datum		value;

	inst->id = pos->id = *DatumGetUUIDP(rom_value(set, row, 1, &isnull));
	inst->created_at = pos->created_at = DatumGetTimestampTz(rom_value(set, row, 2, &isnull));
	inst->def_id = DatumGetInt32(rom_value(set, row, 3, &isnull));
	inst->namespace = DatumGetInt32(rom_value(set, row, 4, &isnull));
	inst->status = rom_instance_status_from_datum(rom_value(set, row, 5, &isnull));
	inst->flags = DatumGetInt32(rom_value(set, row, 6, &isnull));
	inst->last_seq = DatumGetInt64(rom_value(set, row, 7, &isnull));
	value = rom_value(set, row, 8, &isnull);
	inst->body_hash = isnull ? 0 : DatumGetInt64(value);
	value = rom_value(set, row, 9, &isnull);
	inst->settings = isnull ? 0 : DatumGetInt32(value);
	inst->owner_name = rom_value_text(set, row, 10, cxt);
	inst->workflow = rom_value_text(set, row, 11, cxt);
	inst->input = get_jsonb(set, row, 12, cxt);
	inst->wait = get_jsonb(set, row, 13, cxt);
	inst->wake_at = inst->deadline = DT_NOEND;
	return inst;
}

/* put_difference adds a row of the result. */
static void
put_difference(ReturnSetInfo *rsinfo, RomTurn *turn)
{
	Datum		values[4];
	bool		nulls[4] = {false};
	char	   *message = rom_error_field(turn->out.pause_error, "message");

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = Int64GetDatum(turn->out.differs_at);
	nulls[1] = turn->out.differs_at == 0;
	nulls[2] = turn->out.recorded == NULL;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(turn->out.recorded);
	values[3] = CStringGetTextDatum(turn->out.asked ? turn->out.asked : message);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* replay evaluates the handler against the history of an instance, and reports a difference. */
static void
replay(ReturnSetInfo *rsinfo, RomInstance *inst, Other *other)
{
	Oid			owner = get_role_oid(inst->owner_name, false);
	RomTurn    *turn = rom_turn_create(inst, owner, CurrentMemoryContext);
	bool		borrowed = owner != GetSessionUserId();
	RomWorkflow workflow = *rom_definition_by_id(inst->def_id);
	FmgrInfo   *flinfo;
	Jsonb	   *output;
	ErrorData  *edata;

	if (OidIsValid(other->oid))
	{
		rom_handler_check_execute(other->oid, owner);
		workflow.handler_oid = other->oid;
		workflow.handler = rom_handler_signature(other->oid);
		flinfo = &other->flinfo;
	}
	else if (workflow.handler == NULL)
		return;					/* its code is outside */
	else
	{
		flinfo = rom_definition_handler(rom_definition_by_id(inst->def_id), owner);
		workflow = *rom_definition_by_id(inst->def_id);
	}
	turn->workflow = &workflow;
	turn->how.in_session = true;
	turn->how.checks = true;
	if (inst->wait != NULL && !ROM_STATUS_IS_FINAL(inst->status))
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		turn->wait.before = rom_save_read_wait(inst->wait);
		MemoryContextSwitchTo(old);
	}
	rom_replay_load(turn, false);
	if (borrowed)
		rom_borrowed_begin(owner);
	PG_TRY();
	{
		if (rom_evaluate(turn, flinfo, false, &output, &edata) == ROM_EVAL_PAUSE)
			put_difference(rsinfo, turn);
		if (borrowed)
			rom_borrowed_end();
	}
	PG_FINALLY();
	{
		if (borrowed)
			rom_borrowed_reset();
	}
	PG_END_TRY();
	if (turn->out.raise_error != NULL)
		ThrowErrorData(turn->out.raise_error);
	CHECK_FOR_INTERRUPTS();
}

/* find_other resolves argument handler, as define_workflow does. */
static void
find_other(char *handler, Other *other)
{
	char	   *why;

	other->oid = InvalidOid;
	if (handler == NULL)
		return;
	other->oid = rom_handler_by_text(handler, false, &why);
	if (!OidIsValid(other->oid))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 why ? errmsg("invalid handler \"%s\": %s", handler, why) :
				 errmsg("function \"%s\" does not exist", handler),
				 errhint("Name a function of one jsonb argument, such as 'fulfil_order_v2(jsonb)'.")));
	rom_handler_check(other->oid, false, "workflow", handler);
	fmgr_info(other->oid, &other->flinfo);
}

/*
 * romancy.check_replay(workflow text, handler text, filter jsonb) -> setof (instance_id uuid, position bigint, recorded text, asked text)
 *
 * Replays the histories of a workflow's instances that the caller may steer, live, finished and archived, against a handler
 * (null: what each of them runs, as it is now), carrying out nothing. A row for each that would be paused with RM003: where, what
 * history holds there, and what the handler asks for. filter: as for list_instances (null: all). Workflows whose code is outside are
 * left out. Errors: RM012 an invalid handler or filter, RM004 in a workflow, 42501 where code of another role's leaves something that
 * would run later as the session's; those that stand in the way of the handler itself.
 */
Datum
romancy_check_replay(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *workflow = rom_arg_text(fcinfo, 0, "workflow");
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy check_replay", ALLOCSET_DEFAULT_SIZES);
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "romancy check_replay turn", ALLOCSET_DEFAULT_SIZES);
	Oid			role = GetUserId();
	RomFilter	filter;
	RomFilterPos pos;
	Other		other;
	uint64		n;

	rom_context_refuse_handler("check_replay");
	rom_filter_parse(rom_arg_jsonb_opt(fcinfo, 2), &filter);
	if (filter.workflow == NULL)
		filter.workflow = workflow;
	find_other(rom_arg_text_opt(fcinfo, 1), &other);
	rom_filter_start(&filter, &pos);
	InitMaterializedSRF(fcinfo, 0);
	do
	{
		RomInstance *page[PAGE];
		RomRowSet	set;
		RomEngine	engine;
		MemoryContext old;

		MemoryContextReset(cxt);
		rom_engine_begin(&engine);
		n = rom_filter_execute(&set, page_statements, &filter, &pos, role, true, PAGE);
		for (uint64 i = 0; i < n; i++)
			page[i] = read_instance(&set, i, &pos, cxt);
		rom_engine_end(&engine);
		for (uint64 i = 0; i < n; i++)
		{
			if (page[i]->last_seq == 0 || strcmp(page[i]->workflow, workflow) != 0)
				continue;
			MemoryContextReset(one);
			old = MemoryContextSwitchTo(one);
			replay(rsinfo, page[i], &other);
			MemoryContextSwitchTo(old);
		}
	} while (n == PAGE);
	MemoryContextDelete(one);
	MemoryContextDelete(cxt);
	return (Datum) 0;
}
