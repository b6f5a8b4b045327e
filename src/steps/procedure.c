/*-------------------------------------------------------------------------
 *
 * procedure.c
 *		Non-transactional activities: procedures that commit inside.
 *
 * A procedure may commit only when it is called through a portal of its own at
 * top level; SPI in a background worker has none. So a CALL statement is built
 * as a parse tree (no SQL text) and run as a portal. Functions declared
 * non-transactional are called in a transaction of their own.
 *
 * An executor is a session of the owner's (base/session.c), so commits and
 * rollbacks inside keep the owner as user, and the procedure may do anything
 * that it may do in a session of its owner, such as SET ROLE. Settings that it
 * changed are reset at its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/distributed.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/session.h"
#include "memory/slot.h"
#include "steps/activity.h"
#include "steps/throttle.h"
#include "turn/context.h"
#include "turn/limit.h"
#include "turn/settings.h"

/* param_ref is $n of the CALL. */
static Node *
param_ref(int n)
{
	ParamRef   *ref = makeNode(ParamRef);

	ref->number = n;
	ref->location = -1;
	return (Node *) ref;
}

/* call_portal runs CALL handler($1, $2) and returns the INOUT argument's value, copied into cxt; NULL for SQL NULL. */
static Jsonb *
call_portal(RomProcedure *p, MemoryContext cxt)
{
	Oid			argtypes[2] = {JSONBOID, JSONBOID};
	CallStmt   *call = makeNode(CallStmt);
	RawStmt    *raw = makeNode(RawStmt);
	ParamListInfo params = makeParamList(2);
	Tuplestorestate *store;
	DestReceiver *dest;
	TupleTableSlot *slot;
	MemoryContext old;
	Portal		portal;
	List	   *querytrees;
	List	   *plans;
	Jsonb	   *result = NULL;

	portal = CreateNewPortal();
	portal->visible = false;
	old = MemoryContextSwitchTo(portal->portalContext);
	call->funccall = makeFuncCall(list_make2(makeString(get_namespace_name(get_func_namespace(p->handler))),
											 makeString(get_func_name(p->handler))),
								  list_make2(param_ref(1), param_ref(2)),
								  COERCE_EXPLICIT_CALL, -1);
	raw->stmt = (Node *) call;
	raw->stmt_location = 0;
	raw->stmt_len = 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	querytrees = pg_analyze_and_rewrite_fixedparams(raw, "CALL", argtypes, 2, NULL);
	plans = pg_plan_queries(querytrees, "CALL", 0, NULL);
	PopActiveSnapshot();
	for (int i = 0; i < 2; i++)
	{
		params->params[i].ptype = JSONBOID;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].isnull = true;
		params->params[i].value = (Datum) 0;
	}
	if (p->input != NULL)
	{
		Jsonb	   *copy = palloc(VARSIZE(p->input));

		memcpy(copy, p->input, VARSIZE(p->input));
		params->params[0].value = PointerGetDatum(copy);
		params->params[0].isnull = false;
	}
	PortalDefineQuery(portal, NULL, "CALL", CMDTAG_CALL, plans, NULL);
	PortalStart(portal, params, 0, InvalidSnapshot);

	/* outlives the commits inside */
	MemoryContextSwitchTo(cxt);
	store = tuplestore_begin_heap(false, true, work_mem);
	dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(dest, store, cxt, true, NULL, NULL);
	MemoryContextSwitchTo(old);
	(void) rom_portal_run(portal, dest);
	if (portal->tupDesc != NULL)
	{
		slot = MakeSingleTupleTableSlot(portal->tupDesc, &TTSOpsMinimalTuple);
		if (tuplestore_gettupleslot(store, true, false, slot))
		{
			bool		isnull;
			Datum		value = slot_getattr(slot, 1, &isnull);

			MemoryContextSwitchTo(cxt);
			if (!isnull)
				result = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
			MemoryContextSwitchTo(old);
		}
		ExecDropSingleTupleTableSlot(slot);
	}
	dest->rDestroy(dest);
	tuplestore_end(store);
	PortalDrop(portal, false);
	return result;
}

/* call_function calls a non-transactional function. */
static Jsonb *
call_function(RomProcedure *p, MemoryContext cxt)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	Datum		value;
	Jsonb	   *result = NULL;
	MemoryContext old;

	PushActiveSnapshot(GetTransactionSnapshot());
	fmgr_info(p->handler, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(p->input);
	fcinfo->args[0].isnull = p->input == NULL;
	value = FunctionCallInvoke(fcinfo);
	old = MemoryContextSwitchTo(cxt);
	if (!fcinfo->isnull)
		result = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	return result;
}

/* invoke calls it one way or the other, within limits. */
static Jsonb *
invoke(RomProcedure *p, MemoryContext cxt)
{
	RomLimit	limits[2] = {{.kind = ROM_LIMIT_NONE}, {.kind = ROM_LIMIT_NONE}};
	ErrorContextCallback cancels;
	RomUserCode code;
	Jsonb	   *result;

	if (!TIMESTAMP_NOT_FINITE(p->limit))
		limits[0] = (RomLimit)
	{
		.kind = ROM_LIMIT_ACTIVITY,.at = p->limit
	};
	if (!TIMESTAMP_NOT_FINITE(p->deadline))
		limits[1] = (RomLimit)
	{
		.kind = ROM_LIMIT_EXECUTION,.at = p->deadline
	};
	(void) rom_limit_arm(limits, 2);
	rom_context_push(&code, &p->running.id, p->running.workflow, p->step);
	rom_limit_heed_cancel(&cancels, false);
	result = p->is_procedure ? call_portal(p, cxt) : call_function(p, cxt);
	rom_limit_unheed_cancel(&cancels);
	rom_context_pop(&code);
	if (rom_limit_fired() != ROM_LIMIT_NONE || rom_slot_cancelled())
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling activity \"%s\"", p->name)));
	rom_invoke_check_result(p->name, result);
	if (result == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = rom_jb_null_document();
		MemoryContextSwitchTo(old);
	}
	return result;
}

/* run_in_session runs it inside a drain, in the transaction that is open. */
static void
run_in_session(RomProcedure *p, RomInjected *outcome, MemoryContext cxt)
{
	char	   *path = MemoryContextStrdup(cxt, namespace_search_path);
	List	   *before = NIL;

	PG_TRY();
	{
		SetConfigOption("search_path", p->search_path, PGC_USERSET, PGC_S_SESSION);
		rom_settings_set(p->settings, cxt, &before);
		outcome->result = invoke(p, cxt);
		SPI_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		outcome->error = rom_error_take();
		outcome->failed = true;

		/*
		 * SPI_rollback() would act on the procedure's own SPI connection,
		 * which the error left behind; the abort takes all of them away.
		 */
		AbortCurrentTransaction();
		StartTransactionCommand();
		MemoryContextSwitchTo(cxt);
		SPI_connect_ext(SPI_OPT_NONATOMIC);
	}
	PG_END_TRY();
	SetConfigOption("search_path", path, PGC_USERSET, PGC_S_SESSION);
	rom_settings_put_back(before);
}

/* run_in_worker runs it in transactions of an executor, which is a session of owner's. */
static void
run_in_worker(RomProcedure *p, Oid owner, RomInjected *outcome, MemoryContext cxt)
{
	rom_session_require(owner);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		SetConfigOption("search_path", p->search_path, PGC_USERSET, PGC_S_SESSION);
		/* these may read tables, and no portal of ours has a snapshot */
		PushActiveSnapshot(GetTransactionSnapshot());
		rom_settings_set(p->settings, cxt, NULL);
		rom_distributed_begin();
		PopActiveSnapshot();
		outcome->result = invoke(p, cxt);
		PortalHashTableDeleteAll();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(cxt);
		outcome->error = rom_error_take();
		outcome->failed = true;
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	/* the worker's pins are defaults (PGC_S_OVERRIDE) */
	rom_session_settle(true);
}

ErrorData *
rom_procedure_refusal(const char *activity, bool in_block, Oid owner)
{
	ErrorData  *edata;

	if (!in_block && rom_session_is(owner))
		return NULL;
	edata = palloc0_object(ErrorData);
	edata->elevel = ERROR;
	edata->assoc_context = CurrentMemoryContext;
	if (in_block)
	{
		edata->sqlerrcode = ERRCODE_ROM_STATE;
		edata->message = psprintf("activity \"%s\" is not transactional and cannot run inside a transaction block",
								  activity);
		edata->hint = pstrdup("Call romancy.drain() outside a transaction block.");
	}
	else
	{
		edata->sqlerrcode = ERRCODE_INSUFFICIENT_PRIVILEGE;
		edata->message = psprintf("activity \"%s\" is not transactional and cannot run in a session of another role than the workflow's owner",
								  activity);
		edata->hint = pstrdup("Call romancy.drain() in a session of the owner (SET ROLE does not make one), or let the workers run it.");
	}
	return edata;
}

RomInjected *
rom_procedure_run(RomProcedure *p, Oid owner, bool in_session, MemoryContext cxt)
{
	RomInjected *outcome = MemoryContextAllocZero(cxt, sizeof(RomInjected));
	RomActivityRun run = {0};
	RomActivityRun *outer = rom_context_activity;

	outcome->step = p->step;
	outcome->outside = true;
	run.name = p->name;
	run.step = p->step;
	run.attempt = p->attempt;
	rom_cost_begin(&run.begun);
	rom_context_activity = &run;
	rom_context_set(&p->running);
	rom_context_step(&p->running.id, p->running.workflow, p->step);
	if (in_session)
		run_in_session(p, outcome, cxt);
	else
		run_in_worker(p, owner, outcome, cxt);
	rom_context_activity = outer;
	rom_context_set(NULL);
	/* its limit is no other code's */
	outcome->limit = rom_limit_fired();
	MemoryContextSwitchTo(cxt);
	if (in_session && rom_limit_is_outside(outcome->error))
		outcome->interrupt = rom_limit_outside_error(outcome->error);
	rom_limit_reset();
	rom_throttle_release();
	rom_cost_end(&run.begun, &outcome->cost);
	outcome->measured = true;
	MemoryContextSwitchTo(cxt);
	return outcome;
}
