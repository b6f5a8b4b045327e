/*-------------------------------------------------------------------------
 *
 * query.c
 *		list_instances, get_history, get_archived_history, get_value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/filter.h"
#include "instances/history.h"
#include "instances/pack.h"
#include "instances/steer.h"
#include "steps/values.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_list_instances);
PG_FUNCTION_INFO_V1(romancy_get_history);
PG_FUNCTION_INFO_V1(romancy_get_archived_history);
PG_FUNCTION_INFO_V1(romancy_index_labels);
PG_FUNCTION_INFO_V1(romancy_get_value);

#define LIST_PAGE_MAX 1000
#define HISTORY_PAGE_MAX 10000

/* Rows of t_history read at a time; each holds the events of a turn. */
#define HISTORY_ROWS 20

/* Columns of list_instances; those that the statement gives are all but the last, the page token. */
#define LIST_COLUMNS 20
#define LIST_CREATED_AT 16

static RomStatement list_statements[] =
ROM_FILTER_STATEMENTS("SELECT i.instance_id, n.name, i.workflow, w.version,"
					  " romancy.t_shown_status(i.instance_id, i.status), i.input, " ROM_SQL_OUTPUT ", i.error, w.queue, i.owner,"
					  " i.priority, i.labels, i.idempotency_key, i.parent_id,"
					  " i.continued_from, i.created_at, i.started_at, i.updated_at,"
					  " i.finished_at FROM romancy.t_instance i"
					  " LEFT JOIN romancy.t_workflow w ON w.def_id = i.def_id"
					  " LEFT JOIN romancy.t_namespace n ON n.namespace_id = i.namespace");

static RomStatement select_history = {
	ROM_HISTORY_SELECT, 3, {UUIDOID, INT8OID, INT8OID}
};

static RomStatement select_archive = {
	"SELECT last_seq, events FROM romancy.t_history_archive"
	" WHERE instance_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
	3, {UUIDOID, INT8OID, INT8OID}
};

static RomStatement select_output = {
	"SELECT " ROM_SQL_OUTPUT " FROM romancy.t_instance i WHERE instance_id = $1", 1, {UUIDOID}
};

static RomStatement select_value = {
	"SELECT " ROM_SQL_VALUE("value", "document") " FROM romancy.t_value WHERE instance_id = $1 AND key = $2",
	2, {UUIDOID, TEXTOID}
};

/* page_size_arg reads a page size from 1 to most. */
static int
page_size_arg(FunctionCallInfo fcinfo, int n, int value, int most)
{
	int			size = rom_arg_int32_opt(fcinfo, n, value);

	if (size < 1 || size > most)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("page_size must be between 1 and %d", most)));
	return size;
}

/* put_page stores the rows of set, at most size of them, with the token of the last where there are more. */
static void
put_page(const RomRowSet *set, ReturnSetInfo *rsinfo, uint64 n, int size)
{
	Datum		values[LIST_COLUMNS];
	bool		nulls[LIST_COLUMNS];
	Datum		token = (Datum) 0;
	bool		isnull;

	if (n > size)
	{
		RomFilterPos last;

		last.id = *DatumGetUUIDP(rom_value(set, size - 1, 1, &isnull));
		last.created_at = DatumGetTimestampTz(rom_value(set, size - 1,
														LIST_CREATED_AT,
														&isnull));
		token = CStringGetTextDatum(rom_filter_token(&last));
	}
	for (int i = 0; i < size && i < n; i++)
	{
		heap_deform_tuple(set->table->vals[i], set->table->tupdesc,
						  values, nulls);
		values[LIST_COLUMNS - 1] = token;
		nulls[LIST_COLUMNS - 1] = n <= size;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
}

/*
 * romancy.list_instances(filter jsonb, page_size int, page_token text) ->
 * setof instances and next_page_token
 *
 * A page of instances that the caller may see, newest first. filter (null: none):
 * keys status, workflow, search, created_after, created_before, input, labels.
 * page_size: 1 to 1000 (null: 50). page_token: next_page_token of the page before
 * (null: the first page). Errors: RM012 naming what is wrong with an argument.
 */
Datum
romancy_list_instances(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			size = page_size_arg(fcinfo, 1, 50, LIST_PAGE_MAX);
	char	   *token = rom_arg_text_opt(fcinfo, 2);
	Oid			role = GetUserId();
	RomFilter	filter;
	RomFilterPos pos;
	RomEngine	engine;
	uint64		n;
	RomRowSet	set;

	rom_filter_parse(rom_arg_jsonb_opt(fcinfo, 0), &filter);
	if (token != NULL)
		rom_filter_from_token(&filter, token, &pos);
	else
		rom_filter_start(&filter, &pos);
	InitMaterializedSRF(fcinfo, 0);
	rom_engine_begin(&engine);
	n = rom_filter_execute(&set, list_statements, &filter, &pos, role, false,
						   (int64) size + 1);
	put_page(&set, rsinfo, n, size);
	rom_engine_end(&engine);
	return (Datum) 0;
}

/*
 * romancy.index_labels() → boolean
 *
 * Makes the index by which list_instances, cancel_workflows and retry_workflows find instances by labels: true;
 * false where it is there. Starts wait until it is made. Errors: 42501 for others than a superuser or the extension's owner, RM004
 * in a workflow.
 */
Datum
romancy_index_labels(PG_FUNCTION_ARGS)
{
	RomEngine	engine;

	rom_context_refuse_handler("index_labels");
	if (!superuser() && !has_privs_of_role(GetUserId(), rom_extension_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to make an index of romancy"),
				 errhint("Only a superuser or the owner of extension \"romancy\" may do this.")));
	if (OidIsValid(rom_filter_labels_index()))
		PG_RETURN_BOOL(false);
	rom_engine_begin(&engine);
	if (SPI_execute("create index if not exists " ROM_FILTER_LABELS_INDEX " on romancy.t_instance"
					" using gin (labels jsonb_path_ops) where labels is not null", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make index %s", ROM_FILTER_LABELS_INDEX);
	rom_engine_end(&engine);
	PG_RETURN_BOOL(true);
}

/* read_output is the output of a completed instance, or NULL. Engine scope needed. */
static Jsonb *
read_output(const pg_uuid_t *id)
{
	Datum		value = UUIDPGetDatum(id);
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull = true;
	RomRowSet	set;

	if (rom_execute_rows(&set, &select_output, &value, NULL, 1) == 1)
		value = rom_value_copy(&set, 0, 1, &isnull, cxt);
	return isnull ? NULL : DatumGetJsonbP(value);
}

/* put_event stores one event as get_history shows it. id: whose it is. Engine scope needed. */
static void
put_event(ReturnSetInfo *rsinfo, const pg_uuid_t *id, RomEvent *event)
{
	Datum		values[5];
	bool		nulls[5] = {false};
	Jsonb	   *data;

	/* a large one is with the instance alone (turn/verdict.c) */
	if (event->type == ROM_EVENT_WORKFLOW_COMPLETED && event->result == NULL)
		event->result = read_output(id);
	data = rom_event_data(event);
	values[0] = Int64GetDatum(event->seq);
	values[1] = CStringGetTextDatum(rom_event_name(event->type));
	nulls[2] = event->step == NULL;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(event->step);
	nulls[3] = data == NULL;
	values[3] = PointerGetDatum(data);
	values[4] = TimestampTzGetDatum(event->at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* put_rows stores the events after *after of the rows of set, until count reaches size. Returns whether there may be more. */
static bool
put_rows(const RomRowSet *set, ReturnSetInfo *rsinfo, const pg_uuid_t *id, uint64 n, int64 *after, int *count, int size)
{
	for (uint64 i = 0; i < n; i++)
	{
		RomEventList list = {0};
		bool		isnull;
		int64		last_seq = DatumGetInt64(rom_value(set, i, 1, &isnull));

		rom_pack_read(rom_value(set, i, 2, &isnull), last_seq, &list,
					  CurrentMemoryContext);
		for (int j = 0; j < list.count; j++)
		{
			if (list.events[j]->seq <= *after)
				continue;
			if (*count == size)
				return false;
			put_event(rsinfo, id, list.events[j]);
			*after = list.events[j]->seq;
			(*count)++;
		}
	}
	return n == HISTORY_ROWS && *count < size;
}

/* history_page stores a page of a history, some rows at a time: memory stays bounded whatever a row holds. */
static void
history_page(FunctionCallInfo fcinfo, RomStatement *statement)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	int64		after = rom_arg_int64_opt(fcinfo, 1, 0);
	int			size = page_size_arg(fcinfo, 2, 1000, HISTORY_PAGE_MAX);
	int			count = 0;
	bool		more = true;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "romancy history page",
											  ALLOCSET_DEFAULT_SIZES);
	RomInstanceHead head;
	RomEngine	engine;
	RomRowSet	set;

	rom_steer_head(id, false, &head);
	InitMaterializedSRF(fcinfo, 0);
	rom_engine_begin(&engine);
	while (more)
	{
		Datum		values[3];
		MemoryContext old;
		uint64		n;

		CHECK_FOR_INTERRUPTS();
		values[0] = UUIDPGetDatum(id);
		values[1] = Int64GetDatum(after);
		values[2] = Int64GetDatum(HISTORY_ROWS);
		n = rom_execute_rows(&set, statement, values, NULL, 0);
		old = MemoryContextSwitchTo(cxt);
		more = put_rows(&set, rsinfo, id, n, &after, &count, size);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
		rom_execute_free(&set);
	}
	rom_engine_end(&engine);
	MemoryContextDelete(cxt);
}

/*
 * romancy.get_history(instance_id uuid, after bigint, page_size int) -> setof
 * (seq bigint, event_type text, activity_id text, data jsonb, created_at
 * timestamptz)
 *
 * The events of an instance after number after (null: 0), in order; page_size: 1
 * to 10000 (null: 1000). Errors: RM002 unknown, or another role's and the caller
 * no monitor; RM012 a wrong page_size.
 */
Datum
romancy_get_history(PG_FUNCTION_ARGS)
{
	history_page(fcinfo, &select_history);
	return (Datum) 0;
}

/*
 * romancy.get_archived_history(instance_id uuid, after bigint, page_size int) ->
 * setof as get_history
 *
 * The archived events of an instance that continued in another. Errors as for
 * get_history.
 */
Datum
romancy_get_archived_history(PG_FUNCTION_ARGS)
{
	history_page(fcinfo, &select_archive);
	return (Datum) 0;
}

/*
 * romancy.get_value(instance_id uuid, key text) -> jsonb
 *
 * The value that the instance's handler put under the key last, with set_value;
 * null when it put nothing there. Errors: RM002 unknown, or another role's and the
 * caller no monitor.
 */
Datum
romancy_get_value(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	char	   *key = rom_arg_text(fcinfo, 1, "key");
	MemoryContext cxt = CurrentMemoryContext;
	RomInstanceHead head;
	RomEngine	engine;
	Datum		values[2];
	Datum		result = (Datum) 0;
	Jsonb	   *own;
	bool		isnull = true;
	RomRowSet	set;

	if (rom_context_in_handler() && rom_values_own(id, key, &own))
	{
		if (own == NULL)
			PG_RETURN_NULL();
		PG_RETURN_JSONB_P(own);
	}
	rom_steer_head(id, false, &head);
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(key);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_value, values, NULL, 1) == 1)
		result = rom_value_copy(&set, 0, 1, &isnull, cxt);
	rom_engine_end(&engine);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
