/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		Shared memory: asked for at start, one part for each file that registers one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SHMEM_H
#define ROM_SHMEM_H

#include "memory/keep.h"
#include "memory/ways.h"

/* A part of it: what one file keeps there. */
typedef struct RomShmemPart
{
	const char *name;			/* as pg_shmem_allocations shows it */

	/* How much, from the settings at start. */
	Size		(*size) (void);

	/*
	 * Called by the postmaster with found false, to fill it, and where
	 * processes do not inherit it with found true.
	 */
	void		(*attach) (void *place, bool found);

	/* Forgets a database (dropped, or without the extension), or NULL. */
	void		(*purge) (Oid dbid);

	/* Name of a tranche of one lock, for GetNamedLWLockTranche(), or NULL. */
	const char *tranche;
} RomShmemPart;

/* Registers a part, which stays where it is; called from _PG_init. */
extern void rom_shmem_register(const RomShmemPart *part);

/* Registers a table as a part of its own; keep, which may be NULL, says in which file it outlives a clean restart. */
extern void rom_shmem_register_table(RomWays *table, const RomKeep *keep);

/* Installs the hooks; called from _PG_init while libraries are preloaded. */
extern void rom_shmem_init(void);

/* Is there shared memory, that is: was the library preloaded? */
extern bool rom_shmem_available(void);

/*
 * A random number of this server start that no user knows, for the hashes of names and ids that users choose: they could
 * choose ones of the same hash, and so fill a chain, or meet another's entry. Never stored.
 */
extern uint64 rom_shmem_salt(void);

/* Has all parts forget a database. */
extern void rom_shmem_purge(Oid dbid);

#endif							/* ROM_SHMEM_H */
