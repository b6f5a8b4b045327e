/*-------------------------------------------------------------------------
 *
 * cost.h The cost of a piece of work: time, WAL and blocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_COST_H
#define ROM_COST_H

#include "portability/instr_time.h"

/* The cost of a piece of work. */
typedef struct RomCost
{
	int64		us;
	int64		wal_bytes;		/* without the commit record */
	int64		blks_read;
	int64		blks_hit;
} RomCost;

typedef struct RomCostMark
{
	instr_time	start;
	int64		wal_bytes;
	int64		blks_read;
	int64		blks_hit;
} RomCostMark;


extern void rom_cost_begin(RomCostMark *mark);

/* Adds what this process has spent since to cost. */
extern void rom_cost_end(const RomCostMark *mark, RomCost *cost);

#endif							/* ROM_COST_H */
