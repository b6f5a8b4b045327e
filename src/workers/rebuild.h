/*-------------------------------------------------------------------------
 *
 * rebuild.h
 *		Rebuilds indexes that are mostly empty, in a process of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REBUILD_H
#define ROM_REBUILD_H

extern PGDLLEXPORT void rom_rebuild_main(Datum arg);

/*
 * Ends a rebuild that is under way in a database (InvalidOid: in any), for good, or so that the process ends by itself. The next one
 * drops what is left of it. True: there was one.
 */
extern bool rom_rebuild_stop(Oid dbid, bool terminate);

/* Registers the sweep and the part of shared memory; at the library's load. */
extern void rom_rebuild_init(void);

#endif							/* ROM_REBUILD_H */
