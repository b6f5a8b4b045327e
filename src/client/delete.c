/*-------------------------------------------------------------------------
 *
 * delete.c
 *		delete_workflow.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/delete.h"
#include "instances/steer.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_delete_workflow);

static RomStatement lock_final = {
	"SELECT 1 FROM romancy.t_instance WHERE instance_id = $1"
	" AND status IN ('completed', 'failed', 'cancelled', 'recurred')"
	" FOR UPDATE SKIP LOCKED",
	1, {UUIDOID}
};

static RomStatement live_child = {
	"SELECT instance_id FROM romancy.t_instance"
	" WHERE parent_id = $1 AND wake_at IS NOT NULL LIMIT 1",
	1, {UUIDOID}
};

static void
refuse(const pg_uuid_t *id, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_STATE),
			 errmsg("workflow instance \"%s\" cannot be deleted",
					rom_uuid_text(id)),
			 errdetail_internal("%s", why),
			 errhint("%s", hint)));
}

/*
 * romancy.delete_workflow(instance_id uuid) -> boolean
 *
 * Deletes a finished instance with its history, values and messages. False
 * when another transaction is just retrying or deleting it. Errors: RM002 unknown
 * or another role's, RM010 while it or a child of it is live, RM004 in a workflow.
 */
Datum
romancy_delete_workflow(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = rom_arg_uuid(fcinfo, 0, "instance_id");
	RomInstanceHead head;
	RomEngine	engine;
	Datum		value = UUIDPGetDatum(id);
	bool		deleted = false;

	rom_context_refuse_handler("delete_workflow");
	rom_steer_head(id, true, &head);
	if (!ROM_STATUS_IS_FINAL(head.status))
		refuse(id, "It is live.",
			   "Cancel it with romancy.cancel_workflow first.");
	rom_engine_begin(&engine);
	if (rom_execute(&lock_final, &value, NULL, 1) == 1)
	{
		if (rom_execute(&live_child, &value, NULL, 1) == 1)
			refuse(id, "A child of it is live.",
				   "Wait for the child to end, or cancel it.");
		rom_delete_instances(PointerGetDatum(construct_array(&value, 1, UUIDOID,
															 UUID_LEN, false,
															 TYPALIGN_CHAR)));
		deleted = true;
	}
	rom_engine_end(&engine);
	PG_RETURN_BOOL(deleted);
}
