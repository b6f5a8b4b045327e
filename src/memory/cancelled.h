/*-------------------------------------------------------------------------
 *
 * cancelled.h
 *		Instances that were cancelled in the last ten minutes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CANCELLED_H
#define ROM_CANCELLED_H

#include "utils/uuid.h"

/* For the commit hook: this instance (or task) was cancelled. Spinlock only, does not raise. */
extern void rom_cancelled_note(const pg_uuid_t *id);

/* Was this one cancelled in the last ten minutes? maybe: true also where that is not known, since more were than are kept. */
extern bool rom_cancelled_lately(const pg_uuid_t *id, bool maybe);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_cancelled_init(void);

#endif							/* ROM_CANCELLED_H */
