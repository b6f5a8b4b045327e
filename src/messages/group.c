/*-------------------------------------------------------------------------
 *
 * group.c
 *		Groups of instances.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/arg.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/delete.h"
#include "instances/event.h"
#include "messages/group.h"
#include "messages/message.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/hooks.h"
#include "turn/turn.h"

/* change runs a statement on a group and the turn's instance. */
static void
change(RomTurn *turn, RomStatement *stmt, const char *name)
{
	RomEngine	engine;
	Datum		values[3];

	values[0] = CStringGetTextDatum(name);
	values[1] = UUIDPGetDatum(&turn->inst->id);
	values[2] = Int32GetDatum(turn->inst->namespace);
	rom_engine_begin(&engine);
	rom_execute(stmt, values, NULL, 0);
	rom_engine_end(&engine);
}

static RomOutcome
join_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_group (name, instance_id, namespace) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		3, {TEXTOID, UUIDOID, INT4OID}
	};

	change(turn, &insert, call->name);
	turn->inst->flags |= ROM_HAS_GROUPS;
	event->type = ROM_EVENT_GROUP_JOINED;
	return ROM_OUTCOME_DONE;
}

static RomOutcome
leave_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_group WHERE namespace = $3 AND name = $1 AND instance_id = $2",
		3, {TEXTOID, UUIDOID, INT4OID}
	};

	change(turn, &remove, call->name);
	event->type = ROM_EVENT_GROUP_LEFT;
	return ROM_OUTCOME_DONE;
}

/* find_members makes a uuid[] of the members, in the order in which they joined. Copied to the caller's context. */
static ArrayType *
find_members(int32 namespace, const char *name)
{
	static RomStatement find = {
		"SELECT coalesce(array_agg(instance_id ORDER BY joined_at, instance_id), '{}')"
		" FROM romancy.t_group WHERE namespace = $2 AND name = $1",
		2, {TEXTOID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[2];
	Datum		result;
	bool		isnull;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(name);
	values[1] = Int32GetDatum(namespace);
	rom_engine_begin(&engine);
	rom_execute_rows(&set, &find, values, NULL, 1);
	result = rom_value_copy(&set, 0, 1, &isnull, cxt);
	rom_engine_end(&engine);
	return DatumGetArrayTypeP(result);
}

static RomOutcome
members_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	Datum	   *elems;
	int			n;
	Jsonb	  **documents;

	deconstruct_array(find_members(turn->inst->namespace, call->name), UUIDOID, UUID_LEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	documents = palloc_array(Jsonb *, Max(n, 1));
	for (int i = 0; i < n; i++)
		documents[i] = rom_jb_string_document(rom_uuid_text(DatumGetUUIDP(elems[i])));
	event->type = ROM_EVENT_STATEMENT_RECORDED;
	event->result = rom_context_copy_jsonb(turn, rom_jb_array(documents, n));
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_join = {
	.name = "join_group",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_GROUP_JOINED},
	.execute = join_execute,
};

static const RomPrimitive primitive_leave = {
	.name = "leave_group",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_GROUP_LEFT},
	.execute = leave_execute,
};

static const RomPrimitive primitive_members = {
	.name = "group_members",
	.kind = ROM_PRIMITIVE_EFFECT,
	.events = {ROM_EVENT_STATEMENT_RECORDED},
	.execute = members_execute,
};

/* ask asks for the step. */
static RomEvent *
ask(const RomPrimitive *primitive, const char *name)
{
	RomCall		call = {0};

	(void) rom_context_require(psprintf("%s()", primitive->name));
	rom_arg_check_short_name(name, "name");
	call.primitive = primitive;
	call.step_base = psprintf("%s_%s", primitive->name, name);
	call.name = name;
	return rom_call_step(&call);
}

PG_FUNCTION_INFO_V1(romancy_join_group);

/* romancy.join_group(name text): the instance is a member until it leaves or ends; RM004 outside a handler */
Datum
romancy_join_group(PG_FUNCTION_ARGS)
{
	(void) rom_context_require("join_group()");
	(void) ask(&primitive_join, rom_arg_text(fcinfo, 0, "name"));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_leave_group);

/* romancy.leave_group(name text): it is a member no longer; RM004 outside a handler */
Datum
romancy_leave_group(PG_FUNCTION_ARGS)
{
	(void) rom_context_require("leave_group()");
	(void) ask(&primitive_leave, rom_arg_text(fcinfo, 0, "name"));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_group_members);

/* romancy.group_members(name text) -> setof uuid: the members, in the order in which they joined; in a handler recorded */
Datum
romancy_group_members(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (rom_context_in_handler())
	{
		JsonbIterator *it;
		JsonbValue	item;
		JsonbIteratorToken token;

		it = JsonbIteratorInit(&ask(&primitive_members, name)->result->root);
		while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
		{
			Datum		value;
			bool		isnull = false;

			if (token != WJB_ELEM)
				continue;
			value = DirectFunctionCall1(uuid_in,
										CStringGetDatum(pnstrdup(item.val.string.val,
																 item.val.string.len)));
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
		}
	}
	else
	{
		Datum	   *elems;
		int			n;

		deconstruct_array(find_members(rom_namespace_current(), name), UUIDOID, UUID_LEN, false,
						  TYPALIGN_CHAR, &elems, NULL, &n);
		for (int i = 0; i < n; i++)
		{
			bool		isnull = false;

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &elems[i], &isnull);
		}
	}
	return (Datum) 0;
}

/* at_end: membership ends with the instance. */
static void
at_end(RomTurn *turn, RomStatus status)
{
	static RomStatement remove = {
		"DELETE FROM romancy.t_group WHERE instance_id = $1", 1, {UUIDOID}
	};
	Datum		values[1];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	rom_execute(&remove, values, NULL, 0);
}

/* at_move: it goes over to the instance that continues this one. */
static void
at_move(RomTurn *turn, const pg_uuid_t *successor)
{
	static RomStatement move = {
		"UPDATE romancy.t_group SET instance_id = $2 WHERE instance_id = $1",
		2, {UUIDOID, UUIDOID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&turn->inst->id);
	values[1] = UUIDPGetDatum(successor);
	rom_execute(&move, values, NULL, 0);
}

/* renew: a fork, or an instance that is retried, is a member of the groups that it has joined and not left. */
static void
renew(RomTurn *turn)
{
	static RomStatement join = {
		"INSERT INTO romancy.t_group (name, instance_id, namespace) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		3, {TEXTOID, UUIDOID, INT4OID}
	};
	static RomStatement leave = {
		"DELETE FROM romancy.t_group WHERE namespace = $3 AND name = $1 AND instance_id = $2",
		3, {TEXTOID, UUIDOID, INT4OID}
	};
	Datum		values[3];

	values[1] = UUIDPGetDatum(&turn->inst->id);
	values[2] = Int32GetDatum(turn->inst->namespace);
	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];

		if (event->type != ROM_EVENT_GROUP_JOINED && event->type != ROM_EVENT_GROUP_LEFT)
			continue;
		values[0] = CStringGetTextDatum(event->name);
		rom_execute(event->type == ROM_EVENT_GROUP_JOINED ? &join : &leave, values, NULL, 0);
		turn->inst->flags |= ROM_HAS_GROUPS;
	}
}

void
rom_group_init(void)
{
	rom_hooks_on_renew(renew);
	rom_hooks_on_end(ROM_HAS_GROUPS, at_end);
	rom_hooks_on_move(ROM_HAS_GROUPS, at_move);
}
