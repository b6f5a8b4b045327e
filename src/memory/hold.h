/*-------------------------------------------------------------------------
 *
 * hold.h
 *		Ready work that a session runs itself and does not hand to the workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HOLD_H
#define ROM_HOLD_H

#include "datatype/timestamp.h"

/* From now on, what this process makes ready of an owner's is not put into the ready queue: the caller looks for it itself. */
extern void rom_hold_begin(Oid owner);

/*
 * The end of that. nothing_left: the caller has run all of it. Otherwise, and when the process ends
 * before, the workers look for what is left. Does not raise.
 */
extern void rom_hold_end(bool nothing_left);

/* For rom_ready_put(): is an owner's item of this database, due at an instant, held back? Takes no lock. */
extern bool rom_hold_keeps(Oid dbid, Oid owner, TimestampTz at, TimestampTz now);

#endif							/* ROM_HOLD_H */
