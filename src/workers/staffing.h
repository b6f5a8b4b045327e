/*-------------------------------------------------------------------------
 *
 * staffing.h
 *		The workers that are needed, and those that have to leave for them: the
 *		launcher's decisions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STAFFING_H
#define ROM_STAFFING_H

#include "datatype/timestamp.h"

/* Time (us) after which executors that have taken nothing from their queue get an additional one. */
#define ROM_GROW_AFTER INT64CONST(10000)

extern void rom_staffing_init(void);

/* Starts what is needed and possible; returns when to look again, DT_NOEND for when told. */
extern TimestampTz rom_staffing_plan(void);

/* romancy.executors has become less: the next plan sends the surplus away, after what they are doing. */
extern void rom_staffing_executors_lowered(void);

#endif							/* ROM_STAFFING_H */
