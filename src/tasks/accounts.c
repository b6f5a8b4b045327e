/*-------------------------------------------------------------------------
 *
 * accounts.c
 *		The accounts of the ledger, in shared memory.
 *
 * The number that runs on an account is the sum of the settled ones, of
 * committed transactions, and the pending ones, claimed by transactions that
 * have not ended.
 *
 * Counting while others go on: the counter takes a snapshot and publishes it in
 * the same instant in which all accounts become zero. From then on a finished
 * transaction adds its changes only if that snapshot does not see it, and the
 * counter adds what the snapshot sees. It is the same instant because each
 * finished transaction increments "over" here, after it has become visible. If
 * "over" has not changed since before the snapshot was taken, each transaction
 * that comes later finds out for itself whether the snapshot sees it.
 *
 * An account that is not needed is reused: the contents of its bucket are in a
 * table (tasks/quota.c), and nothing runs on it.
 *
 * No namespace has more accounts than it leaves free: however many of them take
 * all that they can get, there is room for one more. A claim that would need
 * more is refused. A recount may find that a namespace has more than its share
 * (others have come meanwhile): the rest is not counted, and the namespace's
 * claims are refused until the rest has ended or a later recount has room for
 * all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "memory/bucket.h"
#include "memory/roster.h"
#include "memory/shmem.h"
#include "tasks/accounts.h"

#define ACCOUNTS 65536
#define HASHES 32768
#define SHARES 4096
#define DATABASES ROM_MAX_DATABASES
#define NONE (-1)
#define TRANCHE "RomancyLedger"

/* Accounts that are looked at for one to give away. */
#define VICTIMS 64

typedef struct Account
{
	uint64		key;			/* 0: free */
	int			next;			/* in its chain, or of the free ones */
	int			db;
	int			share;			/* whose it is */
	uint32		counting;		/* settled is of this one; else it is 0 */
	int			settled;		/* run, by what is committed */
	int			pending;		/* claimed by transactions that are not over */
	bool		limited;		/* the last claim had a limit here */
	bool		refused;		/* a claim was refused, and no poller was
								 * woken since */
	TimestampTz covered;		/* what is written down holds until then */
	RomBucket	bucket;
} Account;

typedef struct Database
{
	Oid			dbid;			/* invalid: free */
	Oid			relid;			/* of the table that was counted */
	uint32		counting;		/* number of the last counting */
	bool		counted;		/* it is complete */
	uint32		asked;			/* for another one */
	uint32		asked_then;
	TimestampTz counted_at;
	/* its snapshot */
	uint64		xmin;
	uint64		xmax;
	int			nxip;
	TransactionId xip[FLEXIBLE_ARRAY_MEMBER];
} Database;

/* The accounts of all namespaces with the same hash; ids are small integers, so few share one. */
typedef struct Share
{
	int			used;			/* accounts */
	Oid			dbid;			/* in this database, */
	uint32		over;			/* this counting had no room for all */
	int			left;			/* the number that it has left out */
} Share;

typedef struct Ledger
{
	uint64		over;			/* transactions that came here when they were
								 * over */
	int			free;
	int			victim;
	int			nfree;
	Share		shares[SHARES];
	int			hashes[HASHES];
	Account		accounts[ACCOUNTS];
	/* DATABASES records of Database follow */
} Ledger;

static Ledger *area = NULL;
static bool shared = false;
static int	my_database = NONE;

/* Guards all that is in area: places are searched, and a snapshot is copied, which is too long for a spinlock. */
static LWLock *lock = NULL;

static int
max_xids(void)
{
	return MaxBackends + max_prepared_xacts + 1;
}

static Size
database_size(void)
{
	return MAXALIGN(offsetof(Database, xip) + max_xids() * sizeof(TransactionId));
}

static Database *
database(int i)
{
	return (Database *) ((char *) area + MAXALIGN(sizeof(Ledger)) + i * database_size());
}

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(Ledger)) + DATABASES * database_size();
}

/* clear makes an empty ledger. */
static void
clear(void)
{
	memset(area, 0, shmem_size());
	area->nfree = ACCOUNTS;
	for (int i = 0; i < HASHES; i++)
		area->hashes[i] = NONE;
	for (int i = 0; i < ACCOUNTS; i++)
		area->accounts[i].next = i + 1 < ACCOUNTS ? i + 1 : NONE;
}

static void
shmem_attach(void *place, bool found)
{
	area = place;
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	shared = true;
	if (!found)
		clear();
}

bool
rom_accounts_is_shared(void)
{
	return shared;
}

void
rom_accounts_prepare(void)
{
	if (area != NULL)
		return;
	area = MemoryContextAlloc(TopMemoryContext, shmem_size());
	lock = MemoryContextAlloc(TopMemoryContext, sizeof(LWLock));
	LWLockInitialize(lock, LWTRANCHE_FIRST_USER_DEFINED);
	clear();
}

/* ---------------------------------------------------------------- finding them: the lock is held */

/* find_database finds this database's record; NULL for none. create: makes one, if there is room. */
static Database *
find_database(bool create)
{
	int			place = NONE;

	if (my_database != NONE && database(my_database)->dbid == MyDatabaseId)
		return database(my_database);
	my_database = NONE;
	for (int i = 0; i < DATABASES; i++)
	{
		if (database(i)->dbid == MyDatabaseId)
		{
			my_database = i;
			return database(i);
		}
		if (place == NONE && !OidIsValid(database(i)->dbid))
			place = i;
	}
	if (!create || place == NONE)
		return NULL;
	my_database = place;
	database(place)->dbid = MyDatabaseId;
	database(place)->relid = InvalidOid;
	database(place)->counted = false;
	database(place)->counting++;
	database(place)->nxip = 0;
	/* everything is seen: nothing is added before the first counting */
	database(place)->xmin = database(place)->xmax = PG_UINT64_MAX;
	return database(place);
}

/* is_idle: nothing runs on it. */
static bool
is_idle(const Account *a)
{
	return a->pending == 0 &&
		(a->settled == 0 || a->db == NONE || a->counting != database(a->db)->counting);
}

/* share_of is the number of a namespace's share. */
static int
share_of(int32 namespace)
{
	return (namespace + hash_bytes_uint32(MyDatabaseId)) % SHARES;
}

/* is_over: had the last counting no room for all that runs in the namespace? */
static bool
is_over(const Database *db, int32 namespace)
{
	const Share *share = &area->shares[share_of(namespace)];

	return share->dbid == MyDatabaseId && share->over == db->counting;
}

static int *
chain_of(uint64 key)
{
	return &area->hashes[key % HASHES];
}

/* free_some gives idle accounts away, a few of them looked at: the share's own, and those of shares that have as many. */
static void
free_some(const Share *share)
{
	for (int i = 0; i < VICTIMS; i++)
	{
		int			n = area->victim;
		Account    *a = &area->accounts[n];
		int		   *chain = chain_of(a->key);

		area->victim = (n + 1) % ACCOUNTS;
		if (a->key == 0 || area->shares[a->share].used < share->used || !is_idle(a))
			continue;
		while (*chain != n)
			chain = &area->accounts[*chain].next;
		*chain = a->next;
		area->shares[a->share].used--;
		memset(a, 0, sizeof(Account));
		a->next = area->free;
		area->free = n;
		area->nfree++;
	}
}

/* find finds an account, its count up to date; NULL for none. create: makes one, if there is room for the namespace. */
static Account *
find(uint64 key, int32 namespace, bool create)
{
	Share	   *share = &area->shares[share_of(namespace)];
	Database   *db = find_database(create);
	int		   *chain = chain_of(key);
	Account    *a;
	int			n = *chain;

	if (db == NULL)
		return NULL;
	while (n != NONE && area->accounts[n].key != key)
		n = area->accounts[n].next;
	if (n == NONE)
	{
		if (!create)
			return NULL;
		if (share->used >= area->nfree)
			free_some(share);
		if (share->used >= area->nfree)
			return NULL;
		n = area->free;
		area->free = area->accounts[n].next;
		area->nfree--;
		share->used++;
		a = &area->accounts[n];
		memset(a, 0, sizeof(Account));
		a->key = key;
		a->share = share_of(namespace);
		a->db = NONE;
		a->next = *chain;
		*chain = n;
	}
	a = &area->accounts[n];
	if (a->db != my_database || a->counting != db->counting)
	{
		a->db = my_database;
		a->counting = db->counting;
		a->settled = 0;
	}
	return a;
}

/* sees: did the snapshot of the last counting see the transaction? */
static bool
sees(const Database *db, FullTransactionId xid)
{
	uint64		value = U64FromFullTransactionId(xid);

	if (value < db->xmin)
		return true;
	if (value >= db->xmax)
		return false;
	for (int i = 0; i < db->nxip; i++)
		if (db->xip[i] == XidFromFullTransactionId(xid))
			return false;
	return true;
}

/* ---------------------------------------------------------------- claims and ends */

/* check: may one more run on the account, of which ends have ended in this transaction? Its own place is taken already. */
static RomLedgerAnswer
check(Account *a, RomAccount *account, int ends, TimestampTz now, TimestampTz *when)
{
	RomBucket  *bucket = &a->bucket;

	a->limited = account->limits.max_concurrency > 0;
	if (account->limits.max_concurrency > 0 &&
		Max(a->settled, 0) + a->pending - ends > account->limits.max_concurrency)
	{
		a->refused = true;
		return ROM_LEDGER_HELD;
	}
	if (account->limits.rate == 0)
		return ROM_LEDGER_OK;
	if (bucket->rate == 0)
		return ROM_LEDGER_BUCKET;
	rom_bucket_refill(bucket, &account->limits, now);
	if (rom_bucket_may_take(bucket, account->booked, now))
		return ROM_LEDGER_OK;
	a->refused = true;
	account->booked = rom_bucket_book(bucket, account->booked, now, account->until);
	*when = account->booked > 0 ? account->booked :
		now + (rom_bucket_has_token(bucket) ? (int64) rom_bucket_every(bucket) : rom_bucket_until_next(bucket));
	return ROM_LEDGER_HELD;
}

RomLedgerAnswer
rom_accounts_claim(RomAccount *accounts, int n, const int *ends,
				   int *which, TimestampTz *when, bool *pending)
{
	TimestampTz now = GetCurrentTimestamp();
	Account    *found[ROM_LEDGER_ACCOUNTS] = {NULL};
	RomLedgerAnswer answer = ROM_LEDGER_OK;
	bool		limited = false;
	bool		counts = false;
	Database   *db;

	*when = DT_NOEND;
	for (int i = 0; i < n; i++)
	{
		limited = limited || ROM_LIMITED(&accounts[i].limits);
		counts = counts || accounts[i].limits.max_concurrency > 0;
		accounts[i].record = false;
	}
	LWLockAcquire(lock, LW_EXCLUSIVE);
	db = find_database(true);
	if (counts && (db == NULL || !db->counted))
		answer = db == NULL ? ROM_LEDGER_FULL : ROM_LEDGER_COUNT;
	else if (counts && is_over(db, accounts[0].namespace))
		answer = ROM_LEDGER_SHARE;
	/* (pending keeps one from being given away for the next) */
	for (int i = 0; i < n && answer == ROM_LEDGER_OK; i++)
	{
		found[i] = find(accounts[i].key, accounts[i].namespace, true);
		if (found[i] != NULL)
			found[i]->pending++;
		else if (db != NULL)
			answer = ROM_LEDGER_SHARE;
		else if (limited)
			answer = ROM_LEDGER_FULL;
	}
	for (int i = 0; i < n && answer == ROM_LEDGER_OK; i++)
	{
		*which = i;
		if (found[i] != NULL)
			answer = check(found[i], &accounts[i], ends[i], now, when);
	}
	for (int i = 0; i < n; i++)
	{
		pending[i] = found[i] != NULL && answer == ROM_LEDGER_OK;
		if (found[i] != NULL && !pending[i])
			found[i]->pending--;
		else if (pending[i] && accounts[i].limits.rate > 0)
			accounts[i].record = rom_bucket_take(&found[i]->bucket, now, found[i]->covered,
												 &accounts[i].left, &accounts[i].at);
	}
	LWLockRelease(lock);
	return answer;
}

bool
rom_accounts_limited(const uint64 *keys, int n)
{
	bool		limited = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		Account    *a = find(keys[i], 0, false);

		limited = limited || (a != NULL && a->limited);
	}
	LWLockRelease(lock);
	return limited;
}

/* put_back puts what was claimed back; NULL: there was no account. The lock is held. */
static Account *
put_back(const RomAccountChange *change)
{
	Account    *a = find(change->key, change->namespace, false);

	if (a != NULL)
	{
		a->pending -= change->held;
		rom_bucket_give_back(&a->bucket, change->tokens);
	}
	return a;
}

bool
rom_accounts_give_back(const RomAccountChange *change)
{
	bool		others;
	Account    *a;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	a = put_back(change);
	others = a != NULL && change->claims > 0 && (a->limited || change->tokens > 0);
	if (others)
		a->refused = false;
	LWLockRelease(lock);
	return others;
}

bool
rom_accounts_refund(const RomAccountChange *change)
{
	bool		others;
	Account    *a;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	a = put_back(change);
	others = a != NULL && a->refused;
	if (others)
		a->refused = false;
	LWLockRelease(lock);
	return others;
}

bool
rom_accounts_settle(const RomAccountChange *change, FullTransactionId xid)
{
	bool		others = false;
	bool		counts;
	bool		over;
	Database   *db;
	Account    *a;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	area->over++;
	db = find_database(false);
	counts = db != NULL && !sees(db, xid) && change->claims != change->ends;
	over = counts && is_over(db, change->namespace);
	a = find(change->key, change->namespace, counts && !over);
	if (a != NULL)
	{
		a->pending -= change->held;
		a->covered = Max(a->covered, change->covered);
		if (counts)
			a->settled += change->claims - change->ends;
		others = a->limited && change->ends > 0;
		if (others)
			a->refused = false;
	}
	else if (over)
	{
		Share	   *share = &area->shares[share_of(change->namespace)];

		share->left += change->claims - change->ends;
		if (share->left <= 0)
			share->dbid = InvalidOid;
	}
	else if (counts)
		db->counted = false;	/* no room: again */
	LWLockRelease(lock);
	return others;
}

void
rom_accounts_bucket(const RomAccount *account, double left, TimestampTz at)
{
	Account    *a;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	a = find(account->key, account->namespace, true);
	if (a != NULL && a->bucket.rate == 0)
		rom_bucket_begin(&a->bucket, &account->limits, left, at);
	LWLockRelease(lock);
}

/* ---------------------------------------------------------------- counting */

/* publish makes the snapshot that of a new counting, unless a transaction that may not be seen by it has come here since. */
static bool
publish(Oid relid, uint64 over, Snapshot snapshot, uint32 *counting, bool *room)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint64		value = U64FromFullTransactionId(next);
	TransactionId own = GetTopTransactionIdIfAny();
	bool		done;
	Database   *db;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	db = find_database(true);
	*room = db != NULL;
	done = area->over == over && db != NULL;
	if (done)
	{
		*counting = ++db->counting;
		db->relid = relid;
		db->counted = false;
		db->asked_then = db->asked;
		db->xmin = value - (XidFromFullTransactionId(next) - snapshot->xmin);
		db->xmax = value - (XidFromFullTransactionId(next) - snapshot->xmax);
		db->nxip = Min(snapshot->xcnt, max_xids() - 1);
		memcpy(db->xip, snapshot->xip, db->nxip * sizeof(TransactionId));
		/* it sees its own changes, but they are not committed */
		if (TransactionIdIsValid(own))
			db->xip[db->nxip++] = own;
	}
	LWLockRelease(lock);
	return done;
}

Snapshot
rom_accounts_count_begin(Oid relid, uint32 *counting)
{
	rom_accounts_prepare();
	for (;;)
	{
		Snapshot	snapshot;
		uint64		over;
		bool		room;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		over = area->over;
		LWLockRelease(lock);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		if (publish(relid, over, snapshot, counting, &room))
			return snapshot;
		UnregisterSnapshot(snapshot);
		if (!room)
			return NULL;
		CHECK_FOR_INTERRUPTS();
	}
}

void
rom_accounts_count_add(uint64 key, int32 namespace, int number)
{
	Account    *a;
	Database   *db;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	a = find(key, namespace, true);
	db = find_database(false);
	if (a != NULL)
		a->settled += number;
	else if (db != NULL)
	{
		Share	   *share = &area->shares[share_of(namespace)];

		if (!is_over(db, namespace))
			share->left = 0;
		share->dbid = MyDatabaseId;
		share->over = db->counting;
		share->left += number;
	}
	LWLockRelease(lock);
}

int
rom_accounts_used(int32 namespace)
{
	int			used;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	used = area->shares[share_of(namespace)].used;
	LWLockRelease(lock);
	return used;
}

bool
rom_accounts_searched(int claims)
{
	return claims >= ACCOUNTS / VICTIMS;
}

void
rom_accounts_counted(uint32 counting)
{
	TimestampTz now = GetCurrentTimestamp();
	Database   *db;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	db = find_database(false);
	if (db != NULL && db->counting == counting)
	{
		db->counted = db->asked == db->asked_then;
		db->counted_at = now;
	}
	LWLockRelease(lock);
}

TimestampTz
rom_accounts_counted_at(Oid relid)
{
	TimestampTz at = 0;
	Database   *db;

	rom_accounts_prepare();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	db = find_database(true);
	if (db != NULL && db->relid != relid)
		db->counted = false;
	if (db != NULL && db->counted)
		at = db->counted_at;
	LWLockRelease(lock);
	return at;
}

void
rom_accounts_recount(void)
{
	Database   *db;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	db = find_database(false);
	if (db != NULL)
	{
		db->counted = false;
		db->asked++;
	}
	LWLockRelease(lock);
}

void
rom_accounts_purge(Oid dbid)
{
	if (!shared)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < DATABASES; i++)
		if (database(i)->dbid == dbid)
		{
			/* its accounts are of no counting now */
			database(i)->dbid = InvalidOid;
			database(i)->counting++;
		}
	LWLockRelease(lock);
}

void
rom_accounts_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy ledger",
		.size = shmem_size,
		.attach = shmem_attach,
		.purge = rom_accounts_purge,
		.tranche = TRANCHE,
	};

	rom_shmem_register(&part);
}
