/*-------------------------------------------------------------------------
 *
 * sweep.h
 *		The table of sweeps: the periodic work of schedulers.
 *
 * Each room registers its own from _PG_init; a scheduler runs them
 * (workers/sweeps.c). Several entries may share a name: they are parts of one
 * sweep, which runs them one after the other. The number of a sweep is its
 * place in the table, the same in every process of a server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SWEEP_H
#define ROM_SWEEP_H

#include "datatype/timestamp.h"

#define ROM_SWEEP_MAX 24		/* sweeps */
#define ROM_SWEEP_PARTS 4		/* entries of one name */

/* A letter for rom_waiter_key(): sessions wait for a run of a sweep, by its number. */
#define ROM_SWEEP_KEY 's'

/* The arguments of a batch. */
typedef struct RomSweepArgs
{
	int			limit;			/* rows at the most */
	int			part;			/* handle instances whose id's hash is part */
	int			nparts;			/* modulo nparts; 1: all */
	bool		manual;			/* asked for by run_sweep(): no grace for what
								 * exact wake-ups are about to do */
} RomSweepArgs;

typedef struct RomSweep
{
	const char *name;
	const int  *interval;		/* setting, in milliseconds */

	/*
	 * Handles a batch in the caller's transaction and returns how many rows.
	 * Enters the engine by itself. Two at once may run, for run_sweep() takes
	 * no lock: work on rows by "for update skip locked", or by notes.
	 */
	int64		(*batch) (const RomSweepArgs *args);

	/*
	 * When there will be work next, from an index: DT_NOEND for none that is
	 * known. Asked before a scheduler leaves, in a transaction. NULL: never
	 * by the clock alone.
	 */
	TimestampTz (*next_due) (void);

	/* next_due() is a deadline: to be kept whatever the interval is. */
	bool		exact;
} RomSweep;

/* Adds an entry; sweep must live for ever. */
extern void rom_sweep_register(const RomSweep *sweep);

extern int	rom_sweep_count(void);

/* By number; -1 when there is no sweep of that name. */
extern int	rom_sweep_find(const char *name);
extern const char *rom_sweep_name(int sweep);
extern int	rom_sweep_interval(int sweep);

/* Entry part of a sweep, or NULL past the last. */
extern const RomSweep *rom_sweep_part(int sweep, int part);

#endif							/* ROM_SWEEP_H */
