/*-------------------------------------------------------------------------
 *
 * accounts.h
 *		The accounts of the ledger (ledger.h), in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ACCOUNTS_H
#define ROM_ACCOUNTS_H

#include "access/transam.h"

#include "tasks/ledger.h"

/* What a transaction has done to an account. */
typedef struct RomAccountChange
{
	uint64		key;
	int			claims;
	int			ends;
	int			held;			/* of the claims, those that are pending on
								 * the account */
	int			tokens;
	TimestampTz covered;		/* it writes down what its bucket holds until
								 * then */
} RomAccountChange;

/* Makes sure that there are accounts, shared or the session's own. May raise: out of memory. */
extern void rom_accounts_prepare(void);

/*
 * As rom_ledger_claim(). ends[i]: how many of account i have ended in this transaction; pending[i], out: is the
 * claim pending there, or was there no room for it?
 */
extern RomLedgerAnswer rom_accounts_claim(RomAccount *accounts, int n, const int *ends, TimestampTz book_until,
										  int *which, TimestampTz *when, bool *pending);

/* Is one of them limited? */
extern bool rom_accounts_limited(const uint64 *keys, int n);

/* Takes the change's claims back, which were rolled back. True: others may wait for them. */
extern bool rom_accounts_give_back(const RomAccountChange *change);

/* The same of a task that was not to be had. True: somebody was refused meanwhile. */
extern bool rom_accounts_refund(const RomAccountChange *change);

/* The transaction is committed. True: others may wait for what has ended. */
extern bool rom_accounts_settle(const RomAccountChange *change, FullTransactionId xid);

/* The end of a counting, after the transaction's own changes were allowed for. */
extern void rom_accounts_counted(uint32 counting);

/* They are to be counted anew. Called after the commit; does not raise. */
extern void rom_accounts_recount(void);

#endif							/* ROM_ACCOUNTS_H */
