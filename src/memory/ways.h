/*-------------------------------------------------------------------------
 *
 * ways.h
 *		Set-associative tables in shared memory, with a share of each set for
 *		each namespace.
 *
 * A key hashes to a set of a few entries. When the set is full, the namespace that holds most of it
 * loses its least recently used entry; the one that asks counts with the entry that it asks for.
 * So a namespace that asks for many entries takes its own, and at most its share of a set: half of it beside
 * one other that needs more.
 *
 * An entry is a struct of the caller's that begins with a RomWay, behind which comes the key, of fixed
 * size and with all of its padding zero: keys are compared byte by byte.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_WAYS_H
#define ROM_WAYS_H

#include "postgres_ext.h"

/* Most entries of a set. */
#define ROM_WAYS_MAX 8

/* The head of an entry. */
typedef struct RomWay
{
	uint64		holder;			/* rom_ways_holder(); 0: free */
	uint64		used;			/* number, in its set, of its last use */
} RomWay;

/* A table. Static, filled in by its owner but for area. */
typedef struct RomWays
{
	const char *name;			/* as pg_shmem_allocations shows it */
	uint32		sets;
	uint32		ways;			/* entries of a set */
	Size		key;			/* bytes */
	Size		entry;			/* bytes, with its head */
	char	   *area;			/* NULL: there is no shared memory */
} RomWays;

typedef struct RomWaysSet RomWaysSet;

/* The holder of what belongs to a namespace of this database. */
extern uint64 rom_ways_holder(int32 namespace);

/* For rom_shmem_register_table(): the size of a table, and its filling. */
extern Size rom_ways_size(const RomWays *ways);
extern void rom_ways_attach(RomWays *ways, void *place, bool found);

/* Locks the set of a key (a spinlock) and returns it; NULL without shared memory. */
extern RomWaysSet *rom_ways_lock(const RomWays *ways, const void *key);
extern void rom_ways_unlock(RomWaysSet *set);

/* Finds the entry of a key in its locked set; NULL for none. */
extern void *rom_ways_find(const RomWays *ways, RomWaysSet *set, const void *key);

/* The same; makes it, of zeros behind head and key, where there is none. Counts as a use of it. */
extern void *rom_ways_make(const RomWays *ways, RomWaysSet *set, const void *key, uint64 holder);

/* Frees an entry of a locked set. */
extern void rom_ways_free(void *entry);

/* How many places there are (0 without shared memory), and a copy of the entry in one of them; false when it is free. */
extern uint32 rom_ways_places(const RomWays *ways);
extern bool rom_ways_copy(const RomWays *ways, uint32 place, void *entry);

/* Forgets a database. */
extern void rom_ways_purge(const RomWays *ways, Oid dbid);

/* For RomKeep, when no other process is there: the entry in a place, NULL when it is free; and puts one back that was kept. */
extern const void *rom_ways_kept(const RomWays *ways, uint32 place);
extern void rom_ways_put_back(const RomWays *ways, const void *entry);

#endif							/* ROM_WAYS_H */
