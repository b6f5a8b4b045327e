/*-------------------------------------------------------------------------
 *
 * cost.c
 *		The cost of a piece of work: time, WAL and blocks.
 *
 * WAL and blocks are the differences of the server's own counters of this
 * process (those of EXPLAIN (WAL, BUFFERS)), which the server counts anyway.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/instrument.h"

#include "turn/cost.h"

void
rom_cost_begin(RomCostMark *mark)
{
	INSTR_TIME_SET_CURRENT(mark->start);
	mark->wal_bytes = pgWalUsage.wal_bytes;
	mark->blks_read = pgBufferUsage.shared_blks_read;
	mark->blks_hit = pgBufferUsage.shared_blks_hit;
}

void
rom_cost_end(const RomCostMark *mark, RomCost *cost)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, mark->start);
	cost->us += INSTR_TIME_GET_MICROSEC(now);
	cost->wal_bytes += pgWalUsage.wal_bytes - mark->wal_bytes;
	cost->blks_read += pgBufferUsage.shared_blks_read - mark->blks_read;
	cost->blks_hit += pgBufferUsage.shared_blks_hit - mark->blks_hit;
}
