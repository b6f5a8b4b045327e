/*-------------------------------------------------------------------------
 *
 * park.h
 *		Tasks of paused instances.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PARK_H
#define ROM_PARK_H

#include "tasks/task.h"

/*
 * Parks a task that was found ready though its instance is paused: it was made so, or held, by a
 * transaction that the pause did not see. False when that cannot be said now, as a turn of
 * the instance is under way: look again a little later. Engine scope needed.
 */
extern bool rom_park_task(const RomTask *task);

/* Registers with the engine; called once from _PG_init. */
extern void rom_park_init(void);

/*
 * rom_park_orphans has the instances of these tasks run, whose owner was dropped: their turns pause them,
 * which parks the tasks.
 */
extern void rom_park_orphans(const pg_uuid_t *ids, int n);

#endif							/* ROM_PARK_H */
