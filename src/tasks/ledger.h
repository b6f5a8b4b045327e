/*-------------------------------------------------------------------------
 *
 * ledger.h
 *		How many tasks of a queue run, of a key in it, of an activity in it, and
 *		what rate limits have left, in shared memory.
 *
 * A task that runs is on up to three accounts. The table says what runs; the
 * accounts are counted from it (rom_accounts_count_begin() and after) once after a
 * start, and follow what transactions do from then on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LEDGER_H
#define ROM_LEDGER_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "tasks/accounts.h"

/* Kinds of accounts: of a queue, of an activity on it, of a key of a queue with per_key. */
#define ROM_ACCOUNT_QUEUE		'q'
#define ROM_ACCOUNT_ACTIVITY	'a'
#define ROM_ACCOUNT_KEY			'k'

/* The key of an account: its kind, the queue (as stored), and the name of the activity, the key, or NULL. */
extern uint64 rom_ledger_key(char kind, const char *queue, const char *name);

/*
 * The transaction claims a task: takes its place and its tokens on all n accounts, or nothing.
 * *which is the account that is at its limit or not known, *when the time at which it has a token
 * (DT_NOEND: when something ends); the account's booked is what the claimer has booked there. Never held where there is no limit. The first account is that of the
 * queue. waiter: key of the queue's pollers, which are woken when a place is free, or when the
 * claim is rolled back, so that the task is ready again.
 */
extern RomLedgerAnswer rom_ledger_claim(RomAccount *accounts, int n, uint64 waiter,
										int *which, TimestampTz *when);

/* Takes the last claim with these accounts back: the task was not to be had. */
extern void rom_ledger_unclaim(const RomAccount *accounts, int n);

/* A running task has ended, if this transaction commits. True: an account of it is limited, so that others may wait. */
extern bool rom_ledger_end(const uint64 *keys, int n, int32 namespace, uint64 waiter);

/* The end of a counting (rom_accounts_count_begin()), with what that returned. */
extern void rom_ledger_count_end(uint32 counting);

/* Has them counted anew before the next limited claim, and wakes all that wait. To be called before what was prepared is committed or rolled back. */
extern void rom_ledger_recount(void);

/*
 * Called when there may be a task to fetch that was not announced: places were given back, or freed after a
 * commit without rom_ledger_end() having said so. Must not raise.
 */
extern void rom_ledger_on_freed(void (*freed) (void));

/* Registers what it does at the ends of transactions; called once from _PG_init. */
extern void rom_ledger_init(void);

#endif							/* ROM_LEDGER_H */
