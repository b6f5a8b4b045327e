/*-------------------------------------------------------------------------
 *
 * distributed.c
 *		Beside Citus: tables of other nodes, and tables of romancy's own.
 *
 * An activity may write to a distributed table. Citus commits on the other nodes before it does
 * here, in one phase unless it is told otherwise: after a crash in between the activity would run
 * again. So it is told, by two functions of its library.
 *
 * romancy's own tables are written without the executor and are of no use on other nodes. Citus puts a trigger of
 * its own (citus_truncate_trigger) on every table that it takes over, by whatever function; that is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "fmgr.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/distributed.h"
#include "base/spi.h"

#define CITUS_TRIGGER "citus_truncate_trigger"

static object_access_hook_type prev_hook = NULL;

/* call calls a function without arguments of Citus's library; false where that has none of this name. */
static bool
call(const char *name)
{
	void		(*function) (void) = (void (*) (void))
		load_external_function("citus", name, false, NULL);

	if (function == NULL)
		return false;
	function();
	return true;
}

void
rom_distributed_begin(void)
{
	static bool told = false;

	/* loaded? Then it has its settings */
	if (GetConfigOption("citus.shard_count", true, false) == NULL)
		return;
	if (call("UseCoordinatedTransaction") && call("Use2PCForCoordinatedTransaction"))
		return;
	if (!told)
		ereport(LOG,
				(errmsg("this version of Citus does not let romancy ask for two-phase commit"),
				 errdetail("An activity that writes to other nodes may run again after a crash during its commit.")));
	told = true;
}

/* check_trigger refuses a trigger, just made, by which Citus takes over a table of romancy's. */
static void
check_trigger(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			table = InvalidOid;

	ScanKeyInit(&key[0], Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, SnapshotSelf, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		char	   *function = get_func_name(form->tgfoid);

		if (function != NULL && strcmp(function, CITUS_TRIGGER) == 0)
			table = form->tgrelid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (OidIsValid(table) && OidIsValid(rom_extension_oid()) &&
		getExtensionOfObject(RelationRelationId, table) == rom_extension_oid())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" of romancy cannot be distributed", get_rel_name(table)),
				 errhint("Workflows run on the node where the extension is; distribute the tables that their activities write.")));
}

static void
hook(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_hook)
		prev_hook(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE && class == TriggerRelationId)
		check_trigger(object);
}

void
rom_distributed_init(void)
{
	prev_hook = object_access_hook;
	object_access_hook = hook;
}
