/*-------------------------------------------------------------------------
 *
 * clean.h
 *		A client's session in the state of an executor's, for the length of a turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CLEAN_H
#define ROM_CLEAN_H

#include "nodes/nodes.h"

/*
 * rom_clean_possible says whether code of the current user's that runs here, between rom_clean_enter() and
 * rom_clean_leave(), finds what it would find in an executor: the session is that role's alone, its transaction has
 * just begun, and it holds no temporary objects, cursors, advisory locks or settings that cannot be put aside.
 */
extern bool rom_clean_possible(void);

/*
 * rom_clean_enter puts the session's own settings aside, and keeps messages from the client. In the subtransaction
 * that the turn runs in, right after rom_clean_possible(). rom_clean_leave undoes it; rolled_back: the subtransaction
 * will be, with the settings, and rom_clean_rolled_back is to be called then.
 */
extern void rom_clean_enter(void);
extern void rom_clean_leave(bool rolled_back);
extern void rom_clean_rolled_back(void);

/* rom_clean_broken: was a command refused since rom_clean_enter() that works on the session itself? */
extern bool rom_clean_broken(void);

/* rom_clean_check refuses such a command, and has the evaluation abandoned; called for each one. */
extern void rom_clean_check(const Node *command);

/* rom_clean_scrub removes, after the transaction, what the turn may have left in the session. */
extern void rom_clean_scrub(void);

#endif							/* ROM_CLEAN_H */
