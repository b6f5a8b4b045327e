/*-------------------------------------------------------------------------
 *
 * running.c
 *		What runs now and who polls, out of shared memory, for views waiting, pollers
 *		and queues.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "instances/instance.h"
#include "memory/slot.h"
#include "tasks/poller.h"

PG_FUNCTION_INFO_V1(romancy_running);
PG_FUNCTION_INFO_V1(romancy_pollers);

/*
 * romancy.t_running(): id uuid, instance_id uuid, pid int, step text, since timestamptz
 *
 * Whose turns and tasks run in this database now. id: of the instance or of the task. step: null
 * while the handler itself runs. since: the step's begin, or the turn's.
 */
Datum
romancy_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < rom_slot_count(); i++)
	{
		RomSlotNow	now;
		Datum		values[5];
		bool		nulls[5] = {0};

		if (!rom_slot_now(i, &now))
			continue;
		values[0] = UUIDPGetDatum(&now.id);
		values[1] = UUIDPGetDatum(&now.instance);
		values[2] = Int32GetDatum(now.pid);
		nulls[3] = now.step[0] == '\0';
		values[3] = CStringGetTextDatum(now.step);
		values[4] = TimestampTzGetDatum(now.since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * romancy.t_pollers(): queue text, worker_id text, owner text, pid int, waiting boolean,
 * since timestamptz, last_poll timestamptz, polls bigint, tasks bigint
 *
 * The programs that have fetched from queues of this database. Of those that the current user may not see, only
 * that there is one: queue, waiting and last_poll.
 */
Datum
romancy_pollers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < rom_poller_count(); i++)
	{
		RomPoller	poller;
		char	   *owner;
		Datum		values[9];
		bool		nulls[9] = {0};

		if (!rom_poller_get(i, &poller))
			continue;
		owner = GetUserNameFromId(poller.role, true);
		if (owner == NULL || !rom_instance_may_read(owner))
			nulls[1] = nulls[2] = nulls[3] = nulls[5] = nulls[7] = nulls[8] = true;
		values[0] = CStringGetTextDatum(poller.queue);
		values[1] = CStringGetTextDatum(poller.worker_id);
		values[2] = CStringGetTextDatum(owner ? owner : "");
		values[3] = Int32GetDatum(poller.pid);
		values[4] = BoolGetDatum(poller.waits);
		values[5] = TimestampTzGetDatum(poller.first_at);
		values[6] = TimestampTzGetDatum(poller.last_at);
		values[7] = Int64GetDatum(poller.polls);
		values[8] = Int64GetDatum(poller.tasks);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
