/*-------------------------------------------------------------------------
 *
 * observe.c
 *		Tells a room above about turns and attempts, for statistics.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "turn/context.h"
#include "turn/observe.h"

static const RomObserver *observer = NULL;

void
rom_observe_register(const RomObserver *wants_to_know)
{
	observer = wants_to_know;
}

const RomObserver *
rom_observe_get(void)
{
	return observer;
}

void
rom_observe_note(RomTurn *turn, const char *name, bool failed, int attempt,
				 const RomCost *cost)
{
	RomAttemptStat *stat;

	if (observer == NULL)
		return;
	if (turn->spent.nattempts == turn->spent.attempts_size)
	{
		turn->spent.attempts_size = Max(8, turn->spent.attempts_size * 2);
		turn->spent.attempts = turn->spent.attempts == NULL ?
			MemoryContextAlloc(turn->cxt, turn->spent.attempts_size * sizeof(RomAttemptStat)) :
			repalloc(turn->spent.attempts, turn->spent.attempts_size * sizeof(RomAttemptStat));
	}
	stat = &turn->spent.attempts[turn->spent.nattempts];
	if (turn->spent.nattempts > 0 && strcmp(stat[-1].name, name) == 0)
		stat->name = stat[-1].name;
	else
		stat->name = rom_context_copy_text(turn, name);
	turn->spent.nattempts++;
	stat->failed = failed;
	stat->again = attempt > 1;
	stat->measured = cost != NULL;
	if (cost != NULL)
		stat->cost = *cost;
	else
		memset(&stat->cost, 0, sizeof(stat->cost));
}
