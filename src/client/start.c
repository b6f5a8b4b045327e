/*-------------------------------------------------------------------------
 *
 * start.c
 *		start_workflow and start_workflows, as clients and handlers call them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "instances/start.h"
#include "steps/steps.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_start_workflow);
PG_FUNCTION_INFO_V1(romancy_start_workflows);

/*
 * romancy.start_workflow(name text, input jsonb, instance_id uuid,
 * idempotency_key text, start_at timestamptz, priority int, labels jsonb,
 * version int, execution_timeout interval) -> uuid
 *
 * Starts an instance and returns its id. All but the name may be null: input;
 * instance_id (default: a new one); idempotency_key (per owner and workflow);
 * start_at (default: now); priority (default 0, higher first); labels (an object);
 * version (default: the current one); execution_timeout (longer than 0; default:
 * the definition's). Errors: RM001 unknown name or version, RM011 input too
 * large, RM012 bad labels, times or handler, 23505 an instance_id that exists, 42501
 * no right to execute the handler. In a workflow it is a recorded step.
 */
Datum
romancy_start_workflow(PG_FUNCTION_ARGS)
{
	RomStartRequest request = {0};
	pg_uuid_t  *id = palloc_object(pg_uuid_t);

	request.name = rom_arg_text(fcinfo, 0, "name");
	request.input = rom_arg_jsonb_opt(fcinfo, 1);
	request.has_id = !PG_ARGISNULL(2);
	if (request.has_id)
		request.id = *PG_GETARG_UUID_P(2);
	request.idempotency_key = rom_arg_key_opt(fcinfo, 3);
	request.has_start_at = rom_arg_timestamp_opt(fcinfo, 4, "start_at",
												 &request.start_at);
	request.priority = rom_arg_int32_opt(fcinfo, 5, 0);
	request.labels = rom_arg_jsonb_opt(fcinfo, 6);
	request.version = rom_definition_version_arg(fcinfo, 7, request.name);
	request.execution_timeout = rom_arg_duration_opt(fcinfo, 8,
													 "execution_timeout");
	if (rom_context_in_handler())
		rom_step_start(&request, id);
	else
	{
		rom_start_warn();
		rom_start_request(&request, NULL, id);
	}
	PG_RETURN_UUID_P(id);
}

/* keys_arg reads idempotency_keys, of which there must be as many as inputs. */
static char **
keys_arg(FunctionCallInfo fcinfo, int n, int count)
{
	Datum	   *elements;
	bool	   *nulls;
	int			nkeys;
	char	  **keys;

	if (PG_ARGISNULL(n))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &nkeys);
	if (nkeys != count)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("idempotency_keys and inputs differ in length"),
				 errdetail("There are %d keys and %d inputs.", nkeys, count)));
	keys = palloc_array(char *, Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		keys[i] = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
		if (keys[i] != NULL)
			rom_arg_check_key(keys[i], "idempotency_keys");
	}
	return keys;
}

/*
 * romancy.start_workflows(name text, inputs jsonb[], idempotency_keys text[],
 * start_at timestamptz, priority int, labels jsonb, version int) -> setof uuid
 *
 * Starts an instance for each input, in one statement, and returns their ids in
 * the order of the inputs. idempotency_keys: null, or one for each input, which may
 * be null; equal keys give the same id. Others as for start_workflow. Errors:
 * as there, and RM012 where the lengths differ.
 */
Datum
romancy_start_workflows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RomStartMany many = {{0}};
	pg_uuid_t  *ids;

	many.common.name = rom_arg_text(fcinfo, 0, "name");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"inputs\" must not be null")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false,
					  TYPALIGN_INT, &many.inputs, &many.input_nulls,
					  &many.count);
	for (int i = 0; i < many.count; i++)
	{
		if (!many.input_nulls[i])
			many.inputs[i] = PointerGetDatum(PG_DETOAST_DATUM(many.inputs[i]));
	}
	many.keys = keys_arg(fcinfo, 2, many.count);
	many.common.has_start_at = rom_arg_timestamp_opt(fcinfo, 3, "start_at",
													 &many.common.start_at);
	many.common.priority = rom_arg_int32_opt(fcinfo, 4, 0);
	many.common.labels = rom_arg_jsonb_opt(fcinfo, 5);
	many.common.version = rom_definition_version_arg(fcinfo, 6, many.common.name);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (rom_context_in_handler())
		ids = rom_step_start_many(&many);
	else
	{
		rom_start_warn();
		ids = rom_start_many(&many, NULL);
	}
	for (int i = 0; i < many.count; i++)
	{
		Datum		value = UUIDPGetDatum(&ids[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value,
							 &isnull);
	}
	return (Datum) 0;
}
