/*-------------------------------------------------------------------------
 *
 * queue.c
 *		Queues: finding the next tasks, and claiming them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/sweep.h"
#include "base/waiter.h"
#include "base/wake.h"
#include "tasks/lease.h"
#include "tasks/notify.h"
#include "tasks/queue.h"
#include "tasks/quota.h"

void
rom_queue_note(const char *queue)
{
	rom_wake_one(rom_task_queue_key(queue));
	rom_notify_ask(queue);
}

/* candidates finds the ids of the next ready tasks, their rows locked; none that others are claiming. */
static int
candidates(const RomClaim *claim, Oid caller, int max, pg_uuid_t *ids)
{
	static RomStatement select = {
		"SELECT task_id FROM romancy.t_task WHERE queue = $1 AND state = 0"
		" AND romancy.may_access(owner, $2, true)"
		" ORDER BY (- priority::bigint), task_id LIMIT 100 FOR UPDATE SKIP LOCKED",
		2, {TEXTOID, OIDOID}, NULL, true
	};
	Datum		values[2];
	uint64		rows;
	bool		isnull;

	values[0] = CStringGetTextDatum(claim->queue);
	values[1] = ObjectIdGetDatum(caller);
	/* the limit of the statement is for the planner; this one stops it earlier */
	rows = rom_execute(&select, values, NULL, max);
	for (uint64 i = 0; i < rows; i++)
		ids[i] = *DatumGetUUIDP(rom_value(i, 1, &isnull));
	return rows;
}

/* uuid_array makes a uuid[] of ids. */
static Datum
uuid_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elems = palloc_array(Datum, Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false,
										   TYPALIGN_CHAR));
}

/* take gives the tasks ids to the claimer, in the order of ids, leaving out those of instances that are over. */
static int
take(const RomClaim *claim, const pg_uuid_t *ids, int n, RomClaimed *claimed,
	 MemoryContext cxt)
{
	static RomStatement update = {
		"UPDATE romancy.t_task t SET state = 1, attempt = t.attempt + 1,"
		" started_at = coalesce(t.started_at, $2), claimed_at = $2, beat_at = $2, fence = $3,"
		" lease_us = $4, worker_id = $5, due_at = least($2 + $4 * interval '1 microsecond',"
		" $2 + t.close_us * interval '1 microsecond', $2 + t.beat_us * interval '1 microsecond')"
		" WHERE t.task_id = ANY ($1) AND t.state = 0 RETURNING " ROM_TASK_COLUMNS ","
		" EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = t.instance_id AND i.wake_at IS NOT NULL)",
		5, {UUIDARRAYOID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID}, NULL, true
	};
	Datum		values[5];
	RomTask   **found;
	uint64		rows;
	int64		fence;
	TimestampTz first_due = DT_NOEND;
	int			count = 0;

	if (!pg_strong_random(&fence, sizeof(fence)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	values[0] = uuid_array(ids, n);
	values[1] = TimestampTzGetDatum(rom_now());
	values[2] = Int64GetDatum(fence);
	values[3] = Int64GetDatum(claim->lease_us);
	values[4] = CStringGetTextDatum(claim->worker_id);
	rows = rom_execute(&update, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	found = palloc_array(RomTask *, rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		found[i] = rom_task_read(i);
		found[i]->live = DatumGetBool(rom_value(i, ROM_TASK_NCOLUMNS + 1, &isnull));
	}
	for (int i = 0; i < n; i++)
		for (uint64 j = 0; j < rows; j++)
		{
			RomTask    *task = found[j];

			if (memcmp(&task->id, &ids[i], sizeof(pg_uuid_t)) != 0)
				continue;
			if (!task->live)
			{
				rom_task_delete(task);
				break;
			}
			claimed[count].task = task;
			claimed[count].token = rom_token_make(&task->id, task->attempt, fence);
			claimed[count].deadline = task->due_at;
			first_due = Min(first_due, task->due_at);
			count++;
			break;
		}
	if (count > 0)
		rom_wake_sweep(rom_sweep_find("lock_cleanup"), first_due);
	return count;
}

/* promote makes tasks ready whose next attempt is due, where no executor has done so. */
static bool
promote(const RomClaim *claim)
{
	static RomStatement update = {
		"UPDATE romancy.t_task SET state = 0, due_at = NULL WHERE task_id = ANY (ARRAY"
		"(SELECT task_id FROM romancy.t_task WHERE due_at <= $2 AND due_at IS NOT NULL AND state = 2 AND queue = $1"
		" ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED))",
		2, {TEXTOID, TIMESTAMPTZOID}, NULL, true
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(claim->queue);
	values[1] = TimestampTzGetDatum(rom_now());
	return rom_execute(&update, values, NULL, 0) > 0;
}

int
rom_queue_claim(RomClaim *claim, RomClaimed *claimed)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			caller = GetUserId();
	pg_uuid_t  *ids = palloc_array(pg_uuid_t, claim->max);
	RomEngine	engine;
	int			count = 0;
	bool		promoted = false;
	RomQuotaKind quota;

	claim->retry_at = DT_NOEND;
	rom_engine_begin(&engine);
	quota = rom_quota_of(claim->queue);
	while (count < claim->max && quota != ROM_QUOTA_PAUSED)
	{
		int			n;

		if (quota == ROM_QUOTA_LIMITED)
			n = rom_quota_candidates(claim, caller, claim->max - count, ids);
		else
			n = candidates(claim, caller, claim->max - count, ids);

		if (n == 0)
		{
			if (count > 0 || promoted || !promote(claim))
				break;
			promoted = true;
			continue;
		}
		count += take(claim, ids, n, claimed + count, cxt);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return count;
}
