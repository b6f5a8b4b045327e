/*-------------------------------------------------------------------------
 *
 * claim.h
 *		Taking instances for a turn, and reading what has arrived for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CLAIM_H
#define ROM_CLAIM_H

#include "turn/turn.h"

/*
 * rom_claim_instances locks the rows of ids that no other process runs, and puts them into insts in
 * the order of ids; returns their number. Those that are locked are marked to run again when their
 * present turn is over, or noted for a little later when their holder is not known. wait: wait for
 * the holder, because there is an outcome to record.
 */
extern int	rom_claim_instances(const pg_uuid_t *ids, int n, RomInstance **insts,
								bool note_busy, bool wait);

/* rom_claim_inbox attaches what has arrived to the turns. */
extern void rom_claim_inbox(RomTurn **turns, int n);

#endif							/* ROM_CLAIM_H */
