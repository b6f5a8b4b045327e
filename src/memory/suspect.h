/*-------------------------------------------------------------------------
 *
 * suspect.h
 *		Instances and tasks that may be at fault for the death of a process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SUSPECT_H
#define ROM_SUSPECT_H

#include "utils/uuid.h"

/* Did a turn of this instance die with its process before the last crash restart, or since? */
extern bool rom_suspect_is(const pg_uuid_t *id);

/* Makes it one: it has to be run alone, and step by step. When there are too many, it is left out. */
extern void rom_suspect_add(const pg_uuid_t *id);

/* It ran to the end of a turn: no longer a suspect. */
extern void rom_suspect_clear(const pg_uuid_t *id);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_suspect_init(void);

#endif							/* ROM_SUSPECT_H */
