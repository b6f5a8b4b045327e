/*-------------------------------------------------------------------------
 *
 * expect.h
 *		Work that an executor's transaction under way will make ready.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_EXPECT_H
#define ROM_EXPECT_H

/* rom_expect_executor tells this process, an executor, its place in the roster. */
extern void rom_expect_executor(int worker);

/*
 * rom_expect says that the transaction under way has so far made n members that will be ready at its commit, and of which nothing is known. An
 * executor tells the launcher, which starts others meanwhile if there are places that are not wanted. Elsewhere it does nothing.
 */
extern void rom_expect(int n);

/* Registers with the ends of transactions; called once from _PG_init. */
extern void rom_expect_init(void);

#endif							/* ROM_EXPECT_H */
