/*-------------------------------------------------------------------------
 *
 * inflight.h
 *		The file that tells after a crash whose turns were under way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INFLIGHT_H
#define ROM_INFLIGHT_H

#include "utils/uuid.h"

/* Instances of one transaction at the most: subtransactions with an xid stay under 32. */
#define ROM_BATCH_MAX 16

/* Tells add of each instance that was under way when the server went down, and removes the file; for the start. */
extern void rom_inflight_read(void (*add) (Oid dbid, const pg_uuid_t *id));

/* Writes the record of a slot: its process runs these instances (at most ROM_BATCH_MAX). */
extern void rom_inflight_write(int slot, Oid dbid, const pg_uuid_t *ids, int count);

/* Writes whose turn it is, of the instances of that record; -1: between turns, so any of them may be at fault. */
extern void rom_inflight_member(int slot, int member);

/* Empties the record, in a handler of a signal. */
extern void rom_inflight_clear_at_once(int slot);

/* Is the last record that this process wrote not empty? */
extern bool rom_inflight_written(void);

#endif							/* ROM_INFLIGHT_H */
