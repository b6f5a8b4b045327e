/*-------------------------------------------------------------------------
 *
 * sweeps.h
 *		Running the sweeps of sweep.h, one process's share of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SWEEPS_H
#define ROM_SWEEPS_H

#include "datatype/timestamp.h"

/* Draws the first time of each sweep; those of the last scheduler hold. */
extern void rom_sweeps_begin(int part, int nparts);

/* Runs what is due, a batch of each; true if a sweep found rows. *next: when the next one is due. */
extern bool rom_sweeps_run(TimestampTz *next);

/* After a full scan: asks the sweeps that keep deadlines for them, and notes them in shared memory. */
extern void rom_sweeps_ask(void);

/* When there will be work next, as far as the tables tell; DT_NOEND for never. */
extern TimestampTz rom_sweeps_next_work(void);

#endif							/* ROM_SWEEPS_H */
