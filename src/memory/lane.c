/*-------------------------------------------------------------------------
 *
 * lane.c
 *		Who may begin a step that is not quick, by what the other executors are
 *		doing.
 *
 * For ready.c, which has the ready lock and the roster's mutex.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/guc.h"
#include "memory/lane.h"

/* could_grow says whether one more executor could be started for quick work, while the one that asks is in a slow step. */
static bool
could_grow(const RomStaff *staff)
{
	if (staff->taken >= staff->places || rom_guc_executors == 1)
		return false;
	return staff->database < rom_guc_executors || staff->database_slow + 1 >= staff->database;
}

void
rom_lane_count_locked(RomRoster *roster, const RomWorker *me, TimestampTz now, RomStaff *staff)
{
	memset(staff, 0, sizeof(*staff));
	staff->places = roster->places;
	for (int i = 0; i < roster->nworkers; i++)
	{
		RomWorker  *worker = &roster->workers[i];
		bool		slow = rom_roster_slow_at(worker) <= now;

		if (worker->overtime)
		{
			if (worker->state != ROM_WORKER_FREE && worker->dbid == me->dbid && worker->owner == me->owner)
				staff->overtime++;
			continue;
		}
		if (worker->state != ROM_WORKER_FREE && worker->kind != ROM_WORKER_HTTP)
		{
			staff->taken++;
			if (worker->kind == ROM_WORKER_EXECUTOR && worker->dbid == me->dbid)
				staff->database++;
		}
		staff->starting += worker->state == ROM_WORKER_STARTING && worker->kind == ROM_WORKER_EXECUTOR && !worker->leave &&
			worker->dbid == me->dbid && worker->owner == me->owner;
		if (worker == me || worker->kind != ROM_WORKER_EXECUTOR ||
			(worker->state != ROM_WORKER_IDLE && worker->state != ROM_WORKER_RUNNING))
			continue;
		if (slow)
			staff->all_slow++;
		if (worker->dbid != me->dbid)
			continue;
		if (slow)
			staff->database_slow++;
		if (worker->owner != me->owner)
			continue;
		if (slow)
			staff->slow++;
		else if (!worker->leave)
			staff->quick++;
	}
}

/*
 * rom_lane_may_be_slow: an executor may begin a step that is not quick. It may not
 *	- when all places but one are in slow steps and its owner has one of these: the last
 *	  one is for others, and for quick work;
 *	- when its owner has such a step, and others for which places were added;
 *	- when as many as romancy.executors are in slow steps in its database, unless its owner has none: one
 *	  more was started for quick work;
 *	- when it is the last one of its owner's that is in no slow step, and there is quick work (work of which nothing is known is not
 *	  waited for, if one more starts, or could be started, for it). Then slow
 *	  ones that have waited for long are taken in turn with that: by an owner's only executor; and by one
 *	  of several, if one more could be started for the quick work.
 */
bool
rom_lane_may_be_slow(const RomDueQueue *queue, const RomStaff *staff, TimestampTz now)
{
	int			quick = queue ? queue->count[ROM_DUE_QUICK] : 0;
	int			unknown = queue ? rom_due_unknown(queue) : 0;

	if (staff->slow > 0 && (staff->all_slow + 2 > staff->places || staff->overtime > 0 ||
							staff->database_slow >= rom_guc_executors))
		return false;
	if (quick == 0 || staff->quick > 0 || (quick == unknown && (staff->starting > 0 || could_grow(staff))))
		return true;
	return queue->count[ROM_DUE_SLOW] > 0 && queue->slow_since + queue->slow_wait <= now &&
		(staff->slow == 0 || could_grow(staff));
}

int
rom_lane_share(const RomDueQueue *queue, const RomStaff *staff, bool may_be_slow, int max)
{
	int			quick = queue->count[ROM_DUE_QUICK] - (may_be_slow ? rom_due_unknown(queue) : 0);

	return quick < max ? Max((quick + staff->quick) / (staff->quick + 1), 1) : max;
}

void
rom_lane_ended(RomDueQueue *queue, TimestampTz began, TimestampTz now)
{
	queue->slow_since = now;
	queue->slow_wait = Min(Max(now - began, 0), ROM_SLOW_WAITS_MAX);
}
