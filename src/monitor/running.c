/*-------------------------------------------------------------------------
 *
 * running.c
 *		Running work and polling programs, from shared memory, for views instances,
 *		waiting, pollers and queues.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "defs/namespace.h"
#include "instances/instance.h"
#include "memory/roster.h"
#include "memory/slot.h"
#include "memory/unwritten.h"
#include "tasks/poller.h"

PG_FUNCTION_INFO_V1(romancy_running);
PG_FUNCTION_INFO_V1(romancy_in_turn);
PG_FUNCTION_INFO_V1(romancy_pollers);
PG_FUNCTION_INFO_V1(romancy_senders);
PG_FUNCTION_INFO_V1(romancy_unwritten);

/* may_see marks those of n instances that the current user may see. */
static void
may_see(const pg_uuid_t *ids, bool *seen, int n)
{
	static RomStatement select = {
		"SELECT instance_id FROM romancy.t_instance WHERE instance_id = ANY ($1) AND romancy.t_may_access(owner, $2, false)",
		2, {UUIDARRAYOID, OIDOID}
	};
	Datum		values[2];
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;

	if (n <= 0)
		return;
	memset(seen, 0, n * sizeof(bool));
	values[1] = ObjectIdGetDatum(GetUserId());
	rom_engine_begin(&engine);
	values[0] = rom_uuid_array(ids, n);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 row = 0; row < rows; row++)
	{
		bool		isnull;
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(&set, row, 1, &isnull));

		for (int i = 0; i < n; i++)
			seen[i] = seen[i] || memcmp(&ids[i], id, sizeof(pg_uuid_t)) == 0;
	}
	rom_engine_end(&engine);
}

/*
 * romancy.t_running(): id uuid, instance_id uuid, pid int, step text, since timestamptz
 *
 * Which turns and tasks run in this database now, of instances that the current user may see. id: of the instance or of the task. step: null
 * while the handler itself runs. since: the step's begin, or the turn's.
 */
Datum
romancy_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			count = rom_slot_count();
	RomSlotNow *running = palloc_array(RomSlotNow, count + 1);
	pg_uuid_t  *instances = palloc_array(pg_uuid_t, count + 1);
	bool	   *seen = palloc_array(bool, count + 1);
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
		if (rom_slot_now(i, &running[n]))
		{
			instances[n] = running[n].instance;
			n++;
		}
	may_see(instances, seen, n);
	for (int i = 0; i < n; i++)
	{
		RomSlotNow *now = &running[i];
		Datum		values[5];
		bool		nulls[5] = {0};

		if (!seen[i])
			continue;
		values[0] = UUIDPGetDatum(&now->id);
		values[1] = UUIDPGetDatum(&now->instance);
		values[2] = Int32GetDatum(now->pid);
		nulls[3] = now->step[0] == '\0';
		values[3] = CStringGetTextDatum(now->step);
		values[4] = TimestampTzGetDatum(now->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * romancy.t_unwritten(): instance_id uuid, at timestamptz, until timestamptz, error jsonb
 *
 * Errors of turns that could not be written into the rows of their instances, of those that the current user may see. error: sqlstate, message,
 * tries, and unwritten, the SQLSTATE of what kept it from being written.
 */
Datum
romancy_unwritten(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	RomUnwritten *list = rom_unwritten_list(&n);
	pg_uuid_t  *instances = palloc_array(pg_uuid_t, n + 1);
	bool	   *seen = palloc_array(bool, n + 1);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		instances[i] = list[i].instance;
	may_see(instances, seen, n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {0};
		RomJb		jb;

		if (!seen[i])
			continue;
		rom_jb_begin(&jb);
		rom_jb_text(&jb, "sqlstate", unpack_sql_state(list[i].code));
		rom_jb_text(&jb, "message", list[i].message);
		rom_jb_int(&jb, "tries", list[i].tries);
		rom_jb_text(&jb, "unwritten", unpack_sql_state(list[i].why));
		values[0] = UUIDPGetDatum(&list[i].instance);
		values[1] = TimestampTzGetDatum(list[i].at);
		values[2] = TimestampTzGetDatum(list[i].until);
		values[3] = PointerGetDatum(rom_jb_end(&jb));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * romancy.t_in_turn() -> uuid[]
 *
 * The instances, of those that the current user may see, of which a turn is under way in this database.
 */
Datum
romancy_in_turn(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *ids;
	int			n = rom_slot_running(&ids);
	bool	   *seen = palloc_array(bool, n + 1);
	int			count = 0;

	may_see(ids, seen, n);
	for (int i = 0; i < n; i++)
		if (seen[i])
			ids[count++] = ids[i];
	return rom_uuid_array(ids, count);
}

/*
 * romancy.t_pollers(): queue text, worker_id text, owner text, pid int, waiting boolean,
 * since timestamptz, last_poll timestamptz, polls bigint, tasks bigint, passes_over int, unknown int[]
 *
 * The programs that have fetched from queues of this database. Of those that the current user may not see, only
 * that there is one: queue, waiting, last_poll and unknown; nothing, where the queue's namespace is not granted to it.
 */
Datum
romancy_pollers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *granted = rom_namespace_granted();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < rom_poller_count(); i++)
	{
		RomPoller	poller;
		char	   *owner;
		Datum		values[11];
		bool		nulls[11] = {0};
		Datum		unknown[ROM_POLLER_UNKNOWN];
		int			kept;

		if (!rom_poller_get(i, &poller))
			continue;
		owner = GetUserNameFromId(poller.role, true);
		if (owner == NULL || !rom_instance_may_read(owner))
		{
			const char *queue = poller.key.queue[0] == '@' ? poller.key.queue + 1 : poller.key.queue;

			/* (a queue is stored as namespace/name) */
			if (!list_member_int(granted, atoi(queue)))
				continue;
			nulls[1] = nulls[2] = nulls[3] = nulls[5] = nulls[7] = nulls[8] = nulls[9] = true;
		}
		values[0] = CStringGetTextDatum(poller.key.queue);
		values[1] = CStringGetTextDatum(poller.key.worker_id);
		values[2] = CStringGetTextDatum(owner ? owner : "");
		values[3] = Int32GetDatum(poller.pid);
		values[4] = BoolGetDatum(poller.waits);
		values[5] = TimestampTzGetDatum(poller.first_at);
		values[6] = TimestampTzGetDatum(poller.last_at);
		values[7] = Int64GetDatum(poller.polls);
		values[8] = Int64GetDatum(poller.tasks);
		values[9] = Int32GetDatum(poller.nunknown);
		kept = Min(poller.nunknown, ROM_POLLER_UNKNOWN);
		for (int n = 0; n < kept; n++)
			unknown[n] = Int32GetDatum(poller.unknown[n]);
		nulls[10] = kept == 0;
		values[10] = PointerGetDatum(construct_array(unknown, kept, INT4OID, sizeof(int32), true, TYPALIGN_INT));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* romancy.t_senders() -> bigint: processes of this database that send requests. */
Datum
romancy_senders(PG_FUNCTION_ARGS)
{
	RomRoster  *roster = rom_roster_get();
	int64		n = 0;

	if (roster == NULL)
		PG_RETURN_INT64(0);
	SpinLockAcquire(&roster->mutex);
	for (int i = 0; i < roster->nworkers; i++)
	{
		const RomWorker *worker = &roster->workers[i];

		if ((worker->state == ROM_WORKER_IDLE || worker->state == ROM_WORKER_RUNNING) && worker->kind == ROM_WORKER_HTTP &&
			worker->dbid == MyDatabaseId)
			n++;
	}
	SpinLockRelease(&roster->mutex);
	PG_RETURN_INT64(n);
}
