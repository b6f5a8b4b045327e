/*-------------------------------------------------------------------------
 *
 * retention.h
 *		Old instances and outputs go: the sweep "retention".
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RETENTION_H
#define ROM_RETENTION_H

#include "memory/sweep.h"

/* Deletes instances that have been finished for longer than their workflow's retention, or romancy.retention. */
extern int64 rom_retention_sweep(const RomSweepArgs *args);
extern TimestampTz rom_retention_next_due(void);

/* Empties outputs whose instance has been finished for longer than its result_expires. */
extern int64 rom_retention_expire(const RomSweepArgs *args);
extern TimestampTz rom_retention_next_expiry(void);

#endif							/* ROM_RETENTION_H */
