/*-------------------------------------------------------------------------
 *
 * shortage.h
 *		Work that waits for a place, and which setting bounds the places.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SHORTAGE_H
#define ROM_SHORTAGE_H

#include "datatype/timestamp.h"
#include "memory/roster.h"

/* A plan begins: nothing is known to wait. */
extern void rom_shortage_begin(void);

/*
 * Work of owner in dbid has waited since then, none of it was taken meanwhile, and the plan finds no place for it.
 * of: what bounds the places.
 */
extern void rom_shortage_add(Oid dbid, Oid owner, TimestampTz since, RomShortage of);

/*
 * The plan has ended: writes into the roster, for health(), what waits in each database, and into
 * the log what has waited for romancy.worker_wait_warning. Returns when to look again.
 */
extern TimestampTz rom_shortage_end(TimestampTz now);

#endif							/* ROM_SHORTAGE_H */
