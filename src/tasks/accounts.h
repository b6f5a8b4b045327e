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
#include "datatype/timestamp.h"
#include "memory/bucket.h"
#include "utils/snapshot.h"

/* Largest number of accounts of a task. */
#define ROM_LEDGER_ACCOUNTS 3

/* An account, for a claim: its limits at the moment. */
typedef struct RomAccount
{
	uint64		key;			/* of rom_ledger_key() */
	int32		namespace;		/* that it belongs to */
	RomLimits	limits;
	TimestampTz until;			/* the claimer waits until then, and books a
								 * token; 0: it does not */
	TimestampTz booked;			/* in and out: it has booked the one of then;
								 * 0: none */
	/* out, of one with a rate, if the claim went through */
	double		left;			/* tokens */
	TimestampTz at;				/* when */
	bool		record;			/* that is to be written down */
} RomAccount;

typedef enum RomLedgerAnswer
{
	ROM_LEDGER_OK,
	ROM_LEDGER_HELD,			/* an account is at its limit */
	ROM_LEDGER_COUNT,			/* what runs is not known: count */
	ROM_LEDGER_BUCKET,			/* what a bucket holds is not known:
								 * rom_accounts_bucket() */
	ROM_LEDGER_FULL,			/* there is no room for the database: later */
	ROM_LEDGER_SHARE			/* the namespace has all the accounts that it
								 * may have */
} RomLedgerAnswer;

/* The changes of a transaction to an account. */
typedef struct RomAccountChange
{
	uint64		key;
	int32		namespace;
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
extern RomLedgerAnswer rom_accounts_claim(RomAccount *accounts, int n, const int *ends,
										  int *which, TimestampTz *when, bool *pending);

/* Is one of them limited? */
extern bool rom_accounts_limited(const uint64 *keys, int n);

/* Takes the change's claims back, which were rolled back. True: others may wait for them. */
extern bool rom_accounts_give_back(const RomAccountChange *change);

/* The same for a task that could not be locked. True: another claim was refused meanwhile. */
extern bool rom_accounts_refund(const RomAccountChange *change);

/* The transaction is committed. True: others may wait for what has ended. */
extern bool rom_accounts_settle(const RomAccountChange *change, FullTransactionId xid);

/* The end of a counting, after the transaction's own changes were allowed for. */
extern void rom_accounts_counted(uint32 counting);

/* They have to be counted anew. Called after the commit; does not raise. */
extern void rom_accounts_recount(void);

/* Is it shared? If not, a claim under a limit has to lock others out and to count. */
extern bool rom_accounts_is_shared(void);

/* Sets how many tokens were left in the bucket of an account at a time; does nothing if that is known. */
extern void rom_accounts_bucket(const RomAccount *account, double left, TimestampTz at);

/*
 * Counting: everything that the snapshot sees is added to the accounts, in this order. The snapshot sees this
 * transaction's own changes, which are allowed for. Other transactions continue meanwhile, and none waits.
 * rom_ledger_count_end()'s argument is what count_begin returned.
 */
extern Snapshot rom_accounts_count_begin(Oid relid, uint32 *counting);
extern void rom_accounts_count_add(uint64 key, int32 namespace, int number);

/* How many accounts a namespace of this database has. */
extern int	rom_accounts_used(int32 namespace);

/* Have this many claims that were answered ROM_LEDGER_SHARE looked at every account once, for one to reuse? */
extern bool rom_accounts_searched(int claims);

/* The accounts of this database are those of the table relid; when they were counted last (0: not yet). */
extern TimestampTz rom_accounts_counted_at(Oid relid);

/* Forgets a database (dropped, or without the extension). */
extern void rom_accounts_purge(Oid dbid);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_accounts_init(void);

#endif							/* ROM_ACCOUNTS_H */
