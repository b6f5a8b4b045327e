/*-------------------------------------------------------------------------
 *
 * ledger.c
 *		The changes of this transaction to the accounts of queues (accounts.c).
 *
 * A claim takes its places at once: they are pending until its transaction has
 * ended, and an abort gives them back. The end of a task gives its places back
 * when other transactions can see it; for its own transaction they are free
 * before. So the number that runs according to the table is never more than the
 * accounts say.
 *
 * PREPARE TRANSACTION: places of claims under a limit cannot be in doubt, so
 * that is refused. Other prepared changes are not known when they are
 * committed, so COMMIT PREPARED has all counted anew, and wakes all that wait;
 * so does ROLLBACK PREPARED.
 *
 * Where the library is not preloaded, the accounts are the session's own, and
 * counted under a lock for each claim.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "memory/shmem.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "memory/xact.h"
#include "tasks/accounts.h"
#include "tasks/ledger.h"

/* The changes of this transaction to an account, at one level of subtransactions. */
typedef struct Note
{
	RomNote		note;
	RomAccountChange change;
	uint64		waiter;
	int			below;			/* of the same account, of a lower level; NONE */
	int			tasks;			/* claimed, on the account of their queue */
	bool		limited;		/* one of the claims had a limit */
	bool		told;			/* the ender knows that others may wait */
} Note;

/* The uppermost note of an account. */
typedef struct Top
{
	uint64		key;			/* hash key */
	int			note;
} Top;

#define NONE (-1)

static void (*on_freed) (void) = NULL;

static RomNotes notes = {.size = sizeof(Note)};

/* In TopMemoryContext. */
static HTAB *tops = NULL;

/* Has undo() freed what others may want? */
static bool freed = false;

/* note_at is note number i. */
static Note *
note_at(int i)
{
	return (Note *) notes.array + i;
}

/* prepare makes room for n more notes. */
static void
prepare(int n)
{
	rom_accounts_prepare();
	if (tops == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(Top);
		ctl.hcxt = TopMemoryContext;
		tops = hash_create("romancy accounts of a transaction", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	rom_xact_reserve(&notes, n);
}

/* note_of finds or makes a level's note of an account; there is room for one. */
static Note *
note_of(uint64 key, int32 namespace, uint64 waiter, int level)
{
	Top		   *top;
	Note	   *note;
	bool		found;

	top = hash_search(tops, &key, HASH_ENTER, &found);
	if (found && note_at(top->note)->note.level == level)
		return note_at(top->note);
	note = rom_xact_note(&notes, level);
	note->change.key = key;
	note->change.namespace = namespace;
	note->waiter = waiter;
	note->below = found ? top->note : NONE;
	top->note = notes.count - 1;
	return note;
}

/* unlink_note takes the last note, which is about to go, out of the chain of its account. Does not raise. */
static void
unlink_note(const Note *note)
{
	if (note->below == NONE)
		hash_search(tops, &note->change.key, HASH_REMOVE, NULL);
	else
		((Top *) hash_search(tops, &note->change.key, HASH_FIND, NULL))->note = note->below;
}

/* own_ends is how many of an account have ended in this transaction. */
static int
own_ends(uint64 key)
{
	Top		   *top = hash_search(tops, &key, HASH_FIND, NULL);
	int			ends = 0;

	for (int i = top ? top->note : NONE; i != NONE; i = note_at(i)->below)
		ends += note_at(i)->change.ends;
	return ends;
}

/* tell_freed tells the listeners, which are not woken by a key. */
static void
tell_freed(void)
{
	if (on_freed != NULL)
		on_freed();
}

/*
 * undo takes a note back. Then others may have the places, and the tasks, which a caller that looked meanwhile
 * has passed over.
 */
static void
undo(void *undone)
{
	Note	   *note = undone;
	bool		others = rom_accounts_give_back(&note->change);
	int			number = Max(note->tasks, others ? note->change.claims : 0);

	unlink_note(note);
	if (number == 0)
		return;
	rom_waiter_notify_some(note->waiter, number);
	freed = true;
}

static void
undone(void)
{
	if (freed)
		tell_freed();
	freed = false;
}

/* joined adds the notes of a subtransaction to those of the one around it. */
static void
joined(int first)
{
	int			end = notes.count;

	while (notes.count > first)
		unlink_note(note_at(--notes.count));
	for (int i = first; i < end; i++)
	{
		Note		above = *note_at(i);
		Note	   *note = note_of(above.change.key, above.change.namespace, above.waiter, above.note.level);

		note->change.claims += above.change.claims;
		note->change.ends += above.change.ends;
		note->change.held += above.change.held;
		note->change.tokens += above.change.tokens;
		note->change.covered = Max(note->change.covered, above.change.covered);
		note->tasks += above.tasks;
		note->limited = note->limited || above.limited;
		note->told = note->told || above.told;
	}
}

/* commit hands over what the transaction has done, now that others see it. */
static void
commit(void)
{
	FullTransactionId xid = GetTopFullTransactionIdIfAny();
	bool		tell = false;

	for (int i = notes.count - 1; i >= 0; i--)
	{
		Note	   *note = note_at(i);

		unlink_note(note);
		if (!rom_accounts_settle(&note->change, xid))
			continue;
		rom_waiter_notify_some(note->waiter, note->change.ends);
		tell = tell || !note->told;
	}
	rom_xact_forget(&notes);
	if (tell)
		tell_freed();
}

/* refuse_prepare raises an error when the transaction has claims under a limit, whose outcome would be unknown. */
static void
refuse_prepare(void)
{
	for (int i = 0; i < notes.count; i++)
		if (note_at(i)->limited && note_at(i)->change.claims > note_at(i)->change.ends)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has fetched activities of a queue with limits"),
					 errhint("Fetch in a transaction of its own, or end the activities in the same one.")));
}

static void
pre_commit(bool prepare)
{
	if (prepare)
		refuse_prepare();
}

static void
after_locks(bool is_commit)
{
	if (notes.count > 0 && is_commit)
		commit();
}

static void prepared(void);

static const RomXactPart part = {
	.name = "places and tokens of queues",
	.order = ROM_XACT_GIVE_BACK,
	.pre_commit = pre_commit,
	.prepared = prepared,
	.after_locks = after_locks,
	.notes = &notes,
	.undo = undo,
	.undone = undone,
	.joined = joined,
};

/* prepared gives claims back; tokens that were prepared stay spent. */
static void
prepared(void)
{
	for (int i = 0; i < notes.count; i++)
		note_at(i)->change.tokens = 0;
	rom_xact_undo(&part, 0);
}

void
rom_ledger_init(void)
{
	rom_xact_register(&part);
}

void
rom_ledger_on_freed(void (*freed) (void))
{
	on_freed = freed;
}

uint64
rom_ledger_key(char kind, const char *queue, const char *name)
{
	uint64		key = hash_bytes_extended((const unsigned char *) queue, strlen(queue), MyDatabaseId ^ rom_shmem_salt());

	if (name != NULL)
		key = hash_bytes_extended((const unsigned char *) name, strlen(name), key);
	key = hash_bytes_extended((const unsigned char *) &kind, 1, key);
	return Max(key, 1);
}

RomLedgerAnswer
rom_ledger_claim(RomAccount *accounts, int n, uint64 waiter,
				 int *which, TimestampTz *when)
{
	int			level = GetCurrentTransactionNestLevel();
	int			ends[ROM_LEDGER_ACCOUNTS] = {0};
	bool		pending[ROM_LEDGER_ACCOUNTS];
	RomLedgerAnswer answer;

	Assert(n <= ROM_LEDGER_ACCOUNTS);
	prepare(n);
	for (int i = 0; i < n; i++)
		if (accounts[i].limits.max_concurrency > 0)
			ends[i] = own_ends(accounts[i].key);
	answer = rom_accounts_claim(accounts, n, ends, which, when, pending);
	if (answer != ROM_LEDGER_OK)
		return answer;
	for (int i = 0; i < n; i++)
	{
		Note	   *note = note_of(accounts[i].key, accounts[i].namespace, waiter, level);

		note->change.claims++;
		note->change.held += pending[i] ? 1 : 0;
		note->change.tokens += accounts[i].limits.rate > 0 ? 1 : 0;
		note->tasks += i == 0 ? 1 : 0;
		note->limited = note->limited || accounts[i].limits.max_concurrency > 0;
		if (accounts[i].record)
			note->change.covered = Max(note->change.covered, accounts[i].at);
	}
	return ROM_LEDGER_OK;
}

void
rom_ledger_unclaim(const RomAccount *accounts, int n)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = 0; i < n; i++)
	{
		Note	   *note = note_of(accounts[i].key, accounts[i].namespace, 0, level);
		RomAccountChange back = {.key = accounts[i].key,.namespace = accounts[i].namespace,.claims = 1};

		back.held = Min(note->change.held, 1);
		back.tokens = accounts[i].limits.rate > 0 ? 1 : 0;
		note->change.claims -= back.claims;
		note->change.held -= back.held;
		note->change.tokens -= back.tokens;
		note->tasks -= i == 0 ? 1 : 0;

		/*
		 * (not all that wait: two that find a locked task would wake each
		 * other for ever)
		 */
		if (!rom_accounts_refund(&back))
			continue;
		rom_waiter_notify_some(note->waiter, 1);
		tell_freed();
	}
}

bool
rom_ledger_end(const uint64 *keys, int n, int32 namespace, uint64 waiter)
{
	int			level = GetCurrentTransactionNestLevel();
	bool		limited;

	prepare(n);
	limited = rom_accounts_limited(keys, n);
	for (int i = 0; i < n; i++)
	{
		Note	   *note = note_of(keys[i], namespace, waiter, level);

		note->change.ends++;
		note->told = limited;
	}
	return limited;
}

void
rom_ledger_count_end(uint32 counting)
{
	/* this transaction's own changes were seen: they count when it is over */
	for (int i = 0; i < notes.count; i++)
	{
		RomAccountChange *change = &note_at(i)->change;

		rom_accounts_count_add(change->key, change->namespace, change->ends - change->claims);
	}
	rom_accounts_counted(counting);
}

/* recount is called after the commit. It does not know which pollers were refused, or have passed over a prepared task. */
static void
recount(const void *arg)
{
	rom_accounts_recount();
	rom_waiter_notify_all();
	tell_freed();
}

void
rom_ledger_recount(void)
{
	if (rom_accounts_is_shared())
		rom_wake_call(recount, "", 1);
}
