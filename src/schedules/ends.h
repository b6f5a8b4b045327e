/*-------------------------------------------------------------------------
 *
 * ends.h
 *		Ends of runs of schedules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ENDS_H
#define ROM_ENDS_H

#include "schedules/plan.h"

/*
 * Counts runs whose end found their schedule held by another transaction, of up to limit schedules that are free now, which it locks; and
 * has what waits for them started. How many schedules. owner: of this role alone; NULL: of all. The caller has locked none.
 */
extern int	rom_ends_count(const char *owner, int limit);

/* The same for a schedule that the caller has locked: whether its row has changed. Of very many runs it counts some, and leaves the rest to the sweep. */
extern bool rom_ends_count_of(const RomPlan *plan);

/* Is there such a run? */
extern bool rom_ends_uncounted(void);

/* Registers what happens when a run ends, is retried, and is deleted. */
extern void rom_ends_init(void);

#endif							/* ROM_ENDS_H */
