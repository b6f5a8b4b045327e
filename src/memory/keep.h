/*-------------------------------------------------------------------------
 *
 * keep.h
 *		Tables in shared memory that outlive a clean restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_KEEP_H
#define ROM_KEEP_H

#include "memory/ways.h"

/* Where a table is kept. Static, filled in by the table's owner. */
typedef struct RomKeep
{
	const RomWays *table;
	const char *file;			/* below the data directory */
	uint32		magic;
	uint32		format;			/* raised with every change of an entry */
} RomKeep;

/*
 * rom_keep_attach reads the file into the empty table, removes it, and has the table written at the next
 * clean shutdown. Called by the postmaster when it makes shared memory. A file that is damaged, or of
 * another format, is logged and ignored.
 */
extern void rom_keep_attach(const RomKeep *keep);

#endif							/* ROM_KEEP_H */
