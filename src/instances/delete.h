/*-------------------------------------------------------------------------
 *
 * delete.h
 *		Deleting finished instances with all that belongs to them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DELETE_H
#define ROM_DELETE_H

#include "postgres_ext.h"

/*
 * Registers a function that deletes the rows of another room that belong to instances (messages,
 * tasks). It is called with a uuid[] in an engine scope, before the instances' rows are deleted.
 * Call it once, from _PG_init.
 */
typedef void (*RomDeleteHook) (Datum ids);
extern void rom_delete_on(RomDeleteHook hook);

/*
 * Deletes the instances of a uuid[] and all that belongs to them; how many.
 * The caller has seen to it that they are final, and holds their row locks.
 * Engine scope needed.
 */
extern int64 rom_delete_instances(Datum ids);

#endif							/* ROM_DELETE_H */
