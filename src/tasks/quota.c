/*-------------------------------------------------------------------------
 *
 * quota.c
 *		Limits of queues and of their activities.
 *
 * The numbers of running tasks, and the contents of buckets, are in shared memory (tasks/ledger.c): a
 * claim asks there, task by task, and takes what it is let have. Every task of a queue is on
 * the accounts of its queue, its activity and its key, whether there are limits
 * now or not, so that limits that are set later find what runs already.
 *
 * Running tasks are counted from t_task after a start. The contents of a bucket
 * cannot be computed from there, so claims that take from it write a row
 * (memory/bucket_rows.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "defs/activity_definition.h"
#include "defs/definition.h"
#include "defs/namespace.h"
#include "instances/document.h"
#include "memory/bucket_rows.h"
#include "memory/crossing.h"
#include "memory/sweep.h"
#include "tasks/accounts.h"
#include "tasks/front.h"
#include "tasks/ledger.h"
#include "tasks/notify.h"
#include "tasks/quota.h"
#include "tasks/rotation.h"
#include "tasks/running.h"

/* Class of the advisory lock of transactions that count. */
#define LOCK_COUNT 0x726f6d51	/* "romQ" */

/* A limit that has been reached has what runs counted anew, if that was longer ago (microseconds). */
#define RECOUNT_AFTER (60 * USECS_PER_SEC)

/* A claim that waits for a token looks at least this often (microseconds): other claims that have booked may have gone. */
#define LOOK_AFTER USECS_PER_MINUTE

/* Without room in shared memory a claim comes again after this time. */
#define NO_ROOM_MS 100

typedef struct ActivityLimits
{
	char	   *name;
	RomLimits	limits;
	bool		held;			/* this claim has been refused one */
} ActivityLimits;

/* A token that this claim has taken from a bucket. */
typedef struct Spent
{
	RomAccount	account;
	char	   *scope;
	char	   *key;
} Spent;

struct RomQuota
{
	RomClaim   *claim;
	bool		paused;
	bool		pushed;			/* to a URL */
	bool		counts;			/* turns of workflow code do not */
	bool		recounted;		/* by this claim */
	char	   *per_key;
	RomLimits	limits;
	ActivityLimits *activities; /* those with limits */
	int			nactivities;
	uint64		account;		/* of the queue */
	int32		namespace;		/* of the queue */
	int			admitted;		/* tasks, by this claim */
	uint64		waiter;
	List	   *spent;			/* of Spent */
	MemoryContext cxt;
};

/* ---------------------------------------------------------------- what is set */

/* set_limits reads a row's max_concurrency and rate_limit. */
static void
set_limits(RomLimits *limits, Datum max, bool no_max, Datum rate, bool no_rate)
{
	limits->max_concurrency = no_max ? 0 : DatumGetInt32(max);
	if (!no_rate)
		(void) rom_activity_definition_rate(TextDatumGetCString(rate), &limits->rate, &limits->period);
}

/* read_queue reads what is set for the queue itself. */
static void
read_queue(RomQuota *q, const char *queue)
{
	static RomTable queues = {
		"t_queue", 5, {"paused", "max_concurrency", "rate_limit", "per_key", "push_url"}, true
	};
	RomRows		rows;
	Datum		values[5];
	bool		nulls[5];

	rom_rows_open(&rows, &queues, "t_queue_pkey", false);
	if (rom_rows_find_text(&rows, queue))
	{
		for (int i = 0; i < lengthof(values); i++)
			values[i] = rom_rows_column(&rows, i, &nulls[i]);
		q->paused = DatumGetBool(values[0]);
		set_limits(&q->limits, values[1], nulls[1], values[2], nulls[2]);
		if (!nulls[3])
			q->per_key = TextDatumGetCString(values[3]);
		/* (the turns of workflow code are polled) */
		q->pushed = !nulls[4] && q->counts;
	}
	rom_rows_close(&rows);
}

/*
 * The queue that had no limited activity at the last look, while no definition has changed since (rom_definition_count()); for a second
 * at most, for rows may come without a definition, by logical replication.
 */
#define UNLIMITED_US USECS_PER_SEC
static char unlimited[128];
static uint64 unlimited_since;
static TimestampTz unlimited_until;

/* read_activities reads the limited activities of a queue. */
static void
read_activities(RomQuota *q, const char *stored)
{
	static RomStatement select = {
		"SELECT name, max_concurrency, rate_limit FROM romancy.t_activity"
		" WHERE namespace = $2 AND queue = $1 AND (max_concurrency IS NOT NULL OR rate_limit IS NOT NULL)",
		2, {TEXTOID, INT4OID}
	};
	static RomTable limited = {
		"t_activity", 1, {"name"}, true
	};
	Datum		values[3];
	RomRows		rows;
	bool		any;
	int32		namespace;
	const char *queue = rom_notify_queue_name(stored, &namespace);
	RomRowSet	set;
	uint64		generation;

	/*
	 * the locks are there already, in a transaction's second fetch: none of
	 * them asks for news
	 */
	AcceptInvalidationMessages();
	(void) rom_definition_prepare();
	generation = rom_definition_count();
	if (unlimited_since == generation && strcmp(unlimited, stored) == 0 && GetCurrentTimestamp() < unlimited_until)
		return;
	rom_rows_open(&rows, &limited, "t_activity_limited", false);
	any = rom_rows_find_text(&rows, queue);
	rom_rows_close(&rows);
	if (!any)
	{
		/* what changed during the look has made the number another one */
		if (strlcpy(unlimited, stored, sizeof(unlimited)) >= sizeof(unlimited))
			unlimited[0] = '\0';
		unlimited_since = generation;
		unlimited_until = GetCurrentTimestamp() + UNLIMITED_US;
		return;
	}
	values[0] = CStringGetTextDatum(queue);
	values[1] = Int32GetDatum(namespace);
	q->nactivities = rom_execute_rows(&set, &select, values, NULL, 0);
	q->activities = MemoryContextAllocZero(q->cxt, sizeof(ActivityLimits) * (q->nactivities + 1));
	for (int i = 0; i < q->nactivities; i++)
	{
		ActivityLimits *a = &q->activities[i];
		bool		nulls[3];

		for (int col = 0; col < 3; col++)
			values[col] = rom_value(&set, i, col + 1, &nulls[col]);
		a->name = rom_value_text(&set, i, 1, q->cxt);
		set_limits(&a->limits, values[1], nulls[1], values[2], nulls[2]);
	}
}

RomQuota *
rom_quota_open(RomClaim *claim)
{
	RomQuota   *q = palloc0_object(RomQuota);

	q->claim = claim;
	q->cxt = CurrentMemoryContext;
	q->counts = claim->queue[0] != ROM_QUEUE_WORKFLOWS[0];
	q->account = rom_ledger_key(ROM_ACCOUNT_QUEUE, claim->queue, NULL);
	(void) rom_notify_queue_name(claim->queue, &q->namespace);
	q->waiter = rom_notify_key(claim->queue);
	read_queue(q, q->counts ? claim->queue : claim->queue + 1);
	if (q->counts && !q->paused)
		read_activities(q, claim->queue);

	/*
	 * the accounts may be those of an extension that was dropped and made
	 * again
	 */
	if (q->nactivities > 0 || q->limits.max_concurrency > 0)
		(void) rom_accounts_counted_at(rom_relation_oid("t_task"));
	return q;
}

bool
rom_quota_paused(const RomQuota *quota)
{
	return quota->paused;
}

bool
rom_quota_pushed(const RomQuota *quota)
{
	return quota->pushed;
}

const char *
rom_quota_per_key(const RomQuota *quota)
{
	return quota->counts ? quota->per_key : NULL;
}

uint64
rom_quota_queue(const RomQuota *quota)
{
	return quota->account;
}

bool
rom_quota_holds(const RomQuota *quota, const char *activity)
{
	for (int i = 0; i < quota->nactivities; i++)
		if (quota->activities[i].held && strcmp(quota->activities[i].name, activity) == 0)
			return true;
	return false;
}

/* value_at is the text at a dotted path of input; "" when there is none. */
static char *
value_at(Jsonb *input, const char *path)
{
	char	   *rest = pstrdup(path);
	char	   *part;
	char	   *text;
	JsonbValue *v;

	while ((part = strsep(&rest, ".")) != NULL)
	{
		if (input == NULL || !JB_ROOT_IS_OBJECT(input))
			return "";
		input = rom_jb_get_json(input, part);
	}
	if (input == NULL || !JB_ROOT_IS_SCALAR(input))
		return "";
	v = getIthJsonbValueFromContainer(&input->root, 0);
	/* equal numbers are one key: 7 and 7.0 */
	text = v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) :
		v->type == jbvNumeric ? numeric_normalize(v->val.numeric) :
		JsonbToCString(NULL, &input->root, 0);
	text[		pg_mbcliplen(text, strlen(text), ROM_ROTATION_KEY_MAX)] = '\0';
	return text;
}

char *
rom_quota_path_of(const char *queue)
{
	static RomTable queues = {
		"t_queue", 1, {"per_key"}, true
	};
	RomRows		rows;
	char	   *path = NULL;

	if (queue[0] == '\0')
		return NULL;
	rom_rows_open(&rows, &queues, "t_queue_pkey", false);
	if (rom_rows_find_text(&rows, queue))
	{
		bool		isnull;
		Datum		value = rom_rows_column(&rows, 0, &isnull);

		if (!isnull)
			path = TextDatumGetCString(value);
	}
	rom_rows_close(&rows);
	return path;
}

char *
rom_quota_key_at(const char *path, Jsonb *input)
{
	return path ? value_at(input, path) : NULL;
}

char *
rom_quota_key_of(const char *queue, Jsonb *input)
{
	return rom_quota_key_at(rom_quota_path_of(queue), input);
}

/* ---------------------------------------------------------------- counting */

/* add_running adds what the snapshot sees to the accounts. */
static void
add_running(Snapshot snapshot)
{
	static RomStatement select = {
		"SELECT queue, activity, limit_key, count(*)::int FROM romancy.t_task"
		" WHERE state = " ROM_SQL_TASK_RUNNING " AND due_at IS NOT NULL AND queue <> '' AND kind <> " ROM_SQL_TASK_WORKFLOW " GROUP BY 1, 2, 3",
		0
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomRowSet	set;
	uint64		rows = rom_execute_rows_at(&set, &select, NULL, NULL, snapshot, 0);

	for (uint64 i = 0; i < rows; i++)
	{
		char	   *queue = rom_value_text(&set, i, 1, cxt);
		char	   *activity = rom_value_text(&set, i, 2, cxt);
		char	   *key = rom_value_text(&set, i, 3, cxt);
		bool		isnull;
		int			number = DatumGetInt32(rom_value(&set, i, 4, &isnull));
		int32		namespace;

		(void) rom_notify_queue_name(queue, &namespace);
		rom_accounts_count_add(rom_ledger_key(ROM_ACCOUNT_QUEUE, queue, NULL), namespace, number);
		rom_accounts_count_add(rom_ledger_key(ROM_ACCOUNT_ACTIVITY, queue, activity), namespace, number);
		if (key != NULL)
			rom_accounts_count_add(rom_ledger_key(ROM_ACCOUNT_KEY, queue, key), namespace, number);
	}
}

/* count_running counts what runs in this database, unless that was done after since. */
static void
count_running(TimestampTz since)
{
	Oid			relid = rom_relation_oid("t_task");
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_COUNT, 0, 3);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (!rom_accounts_is_shared() || rom_accounts_counted_at(relid) <= since)
	{
		uint32		counting;
		Snapshot	snapshot = rom_accounts_count_begin(relid, &counting);

		if (snapshot != NULL)
		{
			add_running(snapshot);
			UnregisterSnapshot(snapshot);
			rom_ledger_count_end(counting);
		}
	}
	/* without shared memory the lock is what keeps others away */
	if (rom_accounts_is_shared())
		LockRelease(&tag, ExclusiveLock, false);
}

/* recount counts if that has not been done for some time. False: it was. */
static bool
recount(RomQuota *q)
{
	TimestampTz at = rom_accounts_counted_at(rom_relation_oid("t_task"));

	if (q->recounted || (at > 0 && at > GetCurrentTimestamp() - RECOUNT_AFTER))
		return false;
	q->recounted = true;
	count_running(at);
	return true;
}

/* ---------------------------------------------------------------- buckets in t_bucket */

/* scope_of is what a bucket is known by in t_bucket, with *key. */
static char *
scope_of(RomQuota *q, const RomTask *task, int which, char **key)
{
	*key = which == ROM_RUNNING_KEY ? task->limit_key : which == ROM_RUNNING_ACTIVITY ? task->activity : "";
	return psprintf("%s:%s", which == ROM_RUNNING_ACTIVITY ? "activity" : "queue", q->claim->queue);
}

/* read_bucket tells the ledger what a bucket holds; one of which nothing is known is full. */
static void
read_bucket(RomQuota *q, const RomTask *task, const RomAccount *account, int which)
{
	char	   *key;
	char	   *scope = scope_of(q, task, which, &key);
	double		left = account->limits.rate;
	TimestampTz at = GetCurrentTimestamp();

	(void) rom_bucket_rows_read(scope, key, &left, &at);
	rom_accounts_bucket(account, left, at);
}

/* spend remembers what a claim has taken from a bucket. */
static void
spend(RomQuota *q, const RomTask *task, const RomAccount *account, int which)
{
	MemoryContext old;
	Spent	   *spent;
	ListCell   *lc;

	foreach(lc, q->spent)
	{
		spent = lfirst(lc);
		if (spent->account.key == account->key)
		{
			spent->account = *account;
			return;
		}
	}
	old = MemoryContextSwitchTo(q->cxt);
	spent = palloc0_object(Spent);
	spent->account = *account;
	spent->scope = scope_of(q, task, which, &spent->key);
	q->spent = lappend(q->spent, spent);
	MemoryContextSwitchTo(old);
}

void
rom_quota_close(RomQuota *quota)
{
	ListCell   *lc;

	foreach(lc, quota->spent)
	{
		Spent	   *spent = lfirst(lc);

		rom_bucket_rows_write(spent->scope, spent->key, spent->account.left, spent->account.at,
							  spent->account.limits.period);
	}
}

/* ---------------------------------------------------------------- admission */

/* activity_of finds an activity's limits; NULL for none. */
static ActivityLimits *
activity_of(const RomQuota *q, const char *activity)
{
	for (int i = 0; i < q->nactivities; i++)
		if (strcmp(q->activities[i].name, activity) == 0)
			return &q->activities[i];
	return NULL;
}

/* accounts_of lists a task's accounts, with the limits that hold, and returns how many they are. */
static int
accounts_of(const RomQuota *q, const RomTask *task, RomAccount *accounts)
{
	ActivityLimits *activity = activity_of(q, task->activity);
	RomClaim   *claim = q->claim;

	memset(accounts, 0, sizeof(RomAccount) * ROM_LEDGER_ACCOUNTS);
	for (int i = 0; i < ROM_LEDGER_ACCOUNTS; i++)
		accounts[i].namespace = q->namespace;
	accounts[ROM_RUNNING_QUEUE].key = q->account;
	accounts[ROM_RUNNING_ACTIVITY].key = rom_ledger_key(ROM_ACCOUNT_ACTIVITY, q->claim->queue, task->activity);
	if (activity != NULL)
		accounts[ROM_RUNNING_ACTIVITY].limits = activity->limits;
	accounts[q->per_key ? ROM_RUNNING_KEY : ROM_RUNNING_QUEUE].limits = q->limits;

	/*
	 * a claim that waits and has got nothing yet has one booking, of one
	 * account
	 */
	for (int i = 0; i < 2 && q->per_key == NULL && q->admitted == 0; i++)
	{
		bool		here = accounts[i].key == claim->booked_of;

		accounts[i].booked = here ? claim->booked : 0;
		accounts[i].until = here || claim->booked <= GetCurrentTimestamp() ? claim->until : 0;
	}
	if (q->per_key == NULL)
		return 2;
	accounts[ROM_RUNNING_KEY].key = rom_ledger_key(ROM_ACCOUNT_KEY, q->claim->queue, task->limit_key);
	return 3;
}

/* held is for a task that a limit of an account holds back until when (DT_NOEND: until something ends). */
static RomQuotaAnswer
held(RomQuota *q, const RomTask *task, int which, const RomAccount *account, TimestampTz when)
{
	RomClaim   *claim = q->claim;
	ActivityLimits *activity;

	if (account->booked > 0 || claim->booked_of == account->key)
	{
		claim->booked = account->booked;
		claim->booked_of = account->key;
	}
	/* (tokens that others have booked may be left) */
	if (when < DT_NOEND)
		when = Min(when, GetCurrentTimestamp() + LOOK_AFTER);
	claim->retry_at = Min(claim->retry_at, when);
	if (which == ROM_RUNNING_QUEUE)
		return ROM_QUOTA_HELD;
	if (which == ROM_RUNNING_KEY)
		return ROM_QUOTA_HELD_KEY;
	activity = activity_of(q, task->activity);
	if (activity != NULL)
		activity->held = true;
	return ROM_QUOTA_HELD_ACTIVITY;
}

/* refuse_share raises RM011 for a namespace that would take the accounts that others need. */
static void
refuse_share(const RomQuota *q)
{
	int			used = rom_accounts_used(q->namespace);
	char	   *name;

	name = pstrdup(rom_namespace_name(q->namespace));
	ereport(ERROR,
			(errcode(ERRCODE_ROM_LIMIT),
			 errmsg("too many limits are in use in namespace \"%s\"", name),
			 errdetail("%d queues, activities and values of per_key that tasks run under are counted for it in shared memory. It may have no more than it leaves free for others.",
					   used),
			 errhint("Complete or release activities that run, or choose a per_key with fewer values in romancy.set_queue.")));
}

RomQuotaAnswer
rom_quota_admit(RomQuota *quota, RomTask *task)
{
	RomAccount	accounts[ROM_LEDGER_ACCOUNTS];
	RomClaim   *claim = quota->claim;
	bool		counted = false;
	int			shares = 0;
	int			which = 0;
	int			n;
	TimestampTz when;

	if (!quota->counts)
		return ROM_QUOTA_ADMITTED;
	if (!rom_accounts_is_shared() && !quota->recounted &&
		(quota->nactivities > 0 || quota->limits.max_concurrency > 0))
	{
		quota->recounted = true;
		count_running(0);
	}
	task->limit_key = quota->per_key ? value_at(task->input, quota->per_key) : NULL;
	n = accounts_of(quota, task, accounts);
	for (;;)
	{
		switch (rom_ledger_claim(accounts, n, quota->waiter, &which, &when))
		{
			case ROM_LEDGER_OK:
				for (int i = 0; i < n; i++)
					if (accounts[i].record)
						spend(quota, task, &accounts[i], i);
				quota->admitted++;
				if (claim->booked <= GetCurrentTimestamp())
					claim->booked = 0;	/* it may have been used */
				return ROM_QUOTA_ADMITTED;
			case ROM_LEDGER_COUNT:
				if (!counted)
				{
					counted = true;
					count_running(0);
					continue;
				}
				break;
			case ROM_LEDGER_BUCKET:
				read_bucket(quota, task, &accounts[which], which);
				continue;
			case ROM_LEDGER_HELD:
				if (when == DT_NOEND && recount(quota))
					continue;
				return held(quota, task, which, &accounts[which], when);
			case ROM_LEDGER_SHARE:
				CHECK_FOR_INTERRUPTS();
				if (!rom_accounts_searched(++shares))
					continue;
				if (recount(quota))
				{
					shares = 0;
					continue;
				}
				if (quota->admitted == 0)
					refuse_share(quota);
				break;
			case ROM_LEDGER_FULL:
				break;
		}
		/* no room for all that runs */
		claim->retry_at = Min(claim->retry_at,
							  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_ROOM_MS));
		return ROM_QUOTA_HELD;
	}
}

void
rom_quota_refund(RomQuota *quota, const RomTask *task)
{
	RomAccount	accounts[ROM_LEDGER_ACCOUNTS];

	if (quota->counts)
		rom_ledger_unclaim(accounts, accounts_of(quota, task, accounts));
}

/* ---------------------------------------------------------------- keys of waiting tasks */

int
rom_quota_label(const char *queue, bool all, int limit)
{
	static RomStatement select = {
		"SELECT task_id, " ROM_SQL_VALUE("input", "document") ", limit_key FROM romancy.t_task WHERE queue = $1 AND state = " ROM_SQL_TASK_READY
		" AND ($2 OR limit_key IS NULL) LIMIT $3 FOR UPDATE SKIP LOCKED",
		3, {TEXTOID, BOOLOID, INT8OID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_task SET limit_key = $2 WHERE task_id = $1 AND limit_key IS DISTINCT FROM $2",
		2, {UUIDOID, TEXTOID}
	};
	Datum		values[3];
	uint64		rows;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(queue);
	values[1] = BoolGetDatum(all);
	values[2] = Int64GetDatum(all ? PG_INT64_MAX : limit);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		bool		nulls[2] = {false, false};
		Datum		input = rom_value(&set, i, 2, &isnull);
		char	   *key = rom_quota_key_of(queue, isnull ? NULL : DatumGetJsonbP(input));

		values[0] = rom_value(&set, i, 1, &isnull);
		nulls[1] = key == NULL;
		values[1] = key ? CStringGetTextDatum(key) : (Datum) 0;
		rom_execute(&update, values, nulls, 0);
	}
	rom_execute_free(&set);
	if (rows > 0)
		rom_front_reset(queue);
	return rows;
}

/* freed is called when there may be something to fetch again, and listeners have not been told. */
static void
freed(void)
{
	rom_crossing_ask_all(rom_sweep_find("queue_notify"));
}

/* defined is called when an activity of the queue was defined anew. */
static void
defined(int32 namespace, const char *queue)
{
	rom_notify_changed(rom_notify_queue_stored(namespace, queue));
}

void
rom_quota_init(void)
{
	rom_ledger_on_freed(freed);
	rom_activity_definition_on_defined(defined);
}
