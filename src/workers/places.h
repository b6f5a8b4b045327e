/*-------------------------------------------------------------------------
 *
 * places.h
 *		Starting workers, and looking after those that start: for the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PLACES_H
#define ROM_PLACES_H

#include "workers/bgw.h"

extern void rom_places_init(int n);

/*
 * Lets go of processes that have ended, frees the places of those that never
 * came, in the roster and in workers, a copy of it. Returns when to look again.
 */
extern TimestampTz rom_places_reap(RomWorker *workers, TimestampTz now);

/*
 * Starts a worker: fills in its place and generation, and returns the place. -1: none is free, or no process can be started. Of one whose work is
 * only expected, nothing else comes of that: nothing is logged, no rebuild ends, and the next start does not wait.
 */
extern int	rom_places_start(RomWorkerParams *params, bool expected, TimestampTz now);

/* How many of these workers are executors of worker's owner? stay: not of those that are leaving, or torn out. */
extern int	rom_places_siblings(const RomWorker *workers, int n, const RomWorker *worker, bool stay);

/*
 * Interrupts the step of one of n workers that were asked to leave, so that it leaves at once; another runs the step again. It is
 * the one that was asked longest ago of those whose step may run twice. Returns its place; -1: there is none. Reorders candidates.
 */
extern int	rom_places_tear_out(int *candidates, int n, TimestampTz now);

/* Was the worker's step interrupted so? (Its code may still be ending.) */
extern bool rom_places_torn(int place);

/*
 * The first of n workers, which were asked to leave, that is in a step that must not run twice goes on beyond its time: its place counts as
 * free, in the roster and in workers, a copy of it. False: there is none, or there are too many of these.
 */
extern bool rom_places_overtime(RomWorker *workers, const int *candidates, int n);

/* No start is tried before, since max_worker_processes was used up. */
extern TimestampTz rom_places_wait_until(void);

/* A worker has left its place: its process will be free in a moment. */
extern void rom_places_worker_left(TimestampTz now);

/* The worker of a place is asked to leave; when was it? */
extern void rom_places_asked(int place, TimestampTz now);
extern TimestampTz rom_places_asked_at(int place);

#endif							/* ROM_PLACES_H */
