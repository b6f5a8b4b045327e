/*-------------------------------------------------------------------------
 *
 * bloat.h
 *		Which of romancy's own indexes are mostly empty.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BLOAT_H
#define ROM_BLOAT_H

#include "nodes/pg_list.h"
#include "storage/block.h"

typedef struct RomBloated
{
	Oid			index;
	Oid			table;
	bool		leftover;		/* invalid: of a rebuild that was interrupted */
	BlockNumber pages;
	NameData	schema;
	NameData	name;
} RomBloated;

/*
 * A list of RomBloated in the current context: leftovers first, then indexes that a rebuild would make half as large at least, of
 * those that is_due() names (pages: by vacuum's count). In a transaction.
 */
extern List *rom_bloat_find(bool (*is_due) (const char *name, BlockNumber pages));

/* Is it still there, as it was found? */
extern bool rom_bloat_is_there(const RomBloated *bloated);

/* Pages of the index of that name by now; 0 when there is none. */
extern BlockNumber rom_bloat_pages(const RomBloated *bloated);

/* Would a transaction that has lasted for a while hold up a rebuild? */
extern bool rom_bloat_is_busy(const RomBloated *bloated);

#endif							/* ROM_BLOAT_H */
