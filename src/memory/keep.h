/*-------------------------------------------------------------------------
 *
 * keep.h
 *		Tables in shared memory that outlive a clean restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_KEEP_H
#define ROM_KEEP_H

#include "c.h"

/* A table of entries of one size that is kept in a file. Static, filled in by the table's owner. */
typedef struct RomKeep
{
	const char *file;			/* below the data directory */
	uint32		magic;
	uint32		format;			/* raised with every change of an entry */
	uint32		size;			/* of an entry, bytes */
	uint32		capacity;		/* entries at the most */

	/* entry number n, or NULL when that place is free */
	const void *(*entry) (uint32 n);
	/* puts an entry that was read into the table */
	void		(*put) (const void *entry);
} RomKeep;

/*
 * rom_keep_attach reads the file into the empty table, removes it, and has the table written at the next
 * clean shutdown. Called by the postmaster when it makes shared memory. A file that is damaged, or of
 * another format, is logged and ignored.
 */
extern void rom_keep_attach(const RomKeep *keep);

#endif							/* ROM_KEEP_H */
