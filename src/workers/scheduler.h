/*-------------------------------------------------------------------------
 *
 * scheduler.h
 *		The process that scans a database for work and runs its sweeps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SCHEDULER_H
#define ROM_SCHEDULER_H

extern PGDLLEXPORT void rom_scheduler_main(Datum arg);

#endif							/* ROM_SCHEDULER_H */
