/*-------------------------------------------------------------------------
 *
 * queue.c
 *		Queues: finding the next tasks, and claiming them.
 *
 * In a queue with keys (per_key), keys take turns: a claim begins after the key that was
 * served last, and takes one task of each until it has enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/instance.h"
#include "memory/sweep.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "tasks/front.h"
#include "tasks/lease.h"
#include "tasks/notify.h"
#include "tasks/park.h"
#include "tasks/queue.h"
#include "tasks/quota.h"
#include "tasks/rotation.h"

/* Retry delay (ms) of a claim that could not decide about a task. */
#define UNSURE_MS 100

/* Largest number of keys without a task that one claim visits. */
#define KEYS_MAX 500

/* Tasks without a key that one claim gives theirs. */
#define LABEL_MAX 1000

/* A claim under way. */
typedef struct Claiming
{
	RomClaim   *claim;
	Oid			caller;
	RomClaimed *claimed;
	int			count;
	MemoryContext cxt;			/* of what is claimed */
	TimestampTz now;
	int64		fence;
	bool		missed;			/* a task was changed by others just now: it
								 * may be ready still */
	bool		unsure;			/* one may have to be parked, or not: a turn
								 * of its instance is under way */
	RomQuota   *quota;
	RomQuotaAnswer answer;		/* about the last task that was looked at */
	bool		holds;			/* some activity is held back */
	/* the last answers */
	pg_uuid_t	instance_id;
	bool		live;
	RomStatus	status;
	char		owner[NAMEDATALEN];
	bool		allowed;
} Claiming;

/* may_take: may the caller have tasks of the row's owner? */
static bool
may_take(Claiming *c, RomRows *rows)
{
	bool		isnull;
	char		owner[NAMEDATALEN];

	text_to_cstring_buffer(DatumGetTextPP(rom_rows_column(rows, ROM_TASK_OWNER, &isnull)),
						   owner, sizeof(owner));
	if (strcmp(owner, c->owner) != 0)
	{
		strlcpy(c->owner, owner, sizeof(c->owner));
		c->allowed = rom_instance_may_access(owner, c->caller, true);

		/*
		 * requests are sent by the rights of the owner: of one that was
		 * dropped they wait for a role of that name
		 */
		if (c->claim->sends && !OidIsValid(get_role_oid(owner, true)))
			c->allowed = false;
	}
	return c->allowed;
}

/* is_live: is the task's instance not over? */
static bool
is_live(Claiming *c, const RomTask *task)
{
	if (c->count == 0 || memcmp(&task->instance_id, &c->instance_id, sizeof(pg_uuid_t)) != 0)
	{
		c->instance_id = task->instance_id;
		c->live = rom_task_live(&task->instance_id, &c->status);
	}
	return c->live;
}

/* lease_row gives the row that was found to the claimer; false when others have it. */
static bool
lease_row(Claiming *c, RomRows *rows, RomTask *task)
{
	TM_Result	result;

	task->state = ROM_TASK_RUNNING;
	task->attempt++;
	if (task->started_at == 0)
		task->started_at = c->now;
	task->fence = c->fence;
	task->lease_us = c->claim->lease_us;
	task->due_at = c->now + task->lease_us;
	if (task->close_us > 0)
		task->due_at = Min(task->due_at, c->now + task->close_us);
	if (task->beat_us > 0)
		task->due_at = Min(task->due_at, c->now + task->beat_us);
	result = rom_state_claim(rows, task, c->claim->worker_id, c->claim->sends, c->now);
	if (result != TM_Ok && result != TM_BeingModified)
		c->missed = true;
	return result == TM_Ok;
}

/* take claims the ready task that was found, unless others do, a limit holds it back, or its instance is over or paused. */
static void
take(Claiming *c, RomRows *rows)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);
	RomTask    *task = rom_task_of(rows->slot);

	if (!is_live(c, task))
		(void) rom_table_delete(&rom_task_table, &rows->slot->tts_tid, false);
	else if (c->status == ROM_STATUS_PAUSED)
	{
		if (!rom_park_task(task))
			c->unsure = true;
	}
	else if ((c->answer = rom_quota_admit(c->quota, task)) != ROM_QUOTA_ADMITTED)
		c->holds = c->holds || c->answer == ROM_QUOTA_HELD_ACTIVITY;
	else if (!lease_row(c, rows, task))
		rom_quota_refund(c->quota, task);
	else
	{
		RomClaimed *claimed = &c->claimed[c->count++];

		task->live = true;
		claimed->task = task;
		claimed->token = rom_token_make(&task->id, task->attempt, task->fence);
		claimed->deadline = task->due_at;
	}
	MemoryContextSwitchTo(old);
}

/* is_held: does this claim know already that the activity of the row that was found is held back? */
static bool
is_held(Claiming *c, RomRows *rows)
{
	bool		isnull;

	return c->holds &&
		rom_quota_holds(c->quota, TextDatumGetCString(rom_rows_column(rows, ROM_TASK_ACTIVITY_NAME, &isnull)));
}

/* compare_names is an order of names; qsort and bsearch. */
static int
compare_names(const void *a, const void *b)
{
	text	   *x = *(text *const *) a;
	text	   *y = *(text *const *) b;
	int			len = VARSIZE_ANY_EXHDR(x);

	if (len != (int) VARSIZE_ANY_EXHDR(y))
		return len < (int) VARSIZE_ANY_EXHDR(y) ? -1 : 1;
	return memcmp(VARDATA_ANY(x), VARDATA_ANY(y), len);
}

void
rom_queue_sort(RomClaim *claim)
{
	qsort(claim->unknown, claim->nunknown, sizeof(text *), compare_names);
}

/* is_unknown: is the row that was found of a name that the claim passes over? */
static bool
is_unknown(Claiming *c, RomRows *rows)
{
	bool		isnull;
	text	   *name;

	if (c->claim->nunknown == 0)
		return false;
	name = DatumGetTextPP(rom_rows_column(rows, ROM_TASK_ACTIVITY_NAME, &isnull));
	if (bsearch(&name, c->claim->unknown, c->claim->nunknown, sizeof(text *), compare_names) == NULL)
		return false;
	c->claim->passed++;
	return true;
}

/* begin_scan begins to read the queue's index entries, best first, as far as the pass says. */
static IndexScanDesc
begin_scan(RomRows *rows, const char *queue, const RomFrontPass *pass)
{
	IndexScanDesc scan = rom_index_beginscan(rows->rel, rows->index, SnapshotAny,
											 pass->whole ? 1 : 2);
	ScanKeyData keys[2];
	ScanKeyData from[2];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(queue));
	/* (rank, id) >= from, compared as a row */
	ScanKeyEntryInitialize(&from[0], SK_ROW_MEMBER, 2, BTGreaterEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_BTINT8CMP, Int64GetDatum(pass->from.rank));
	ScanKeyEntryInitialize(&from[1], SK_ROW_MEMBER | SK_ROW_END, 3, BTGreaterEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_UUID_CMP, UUIDPGetDatum(&pass->from.id));
	memset(&keys[1], 0, sizeof(ScanKeyData));
	keys[1].sk_flags = SK_ROW_HEADER;
	keys[1].sk_attno = 2;
	keys[1].sk_strategy = BTGreaterEqualStrategyNumber;
	keys[1].sk_argument = PointerGetDatum(memcpy(palloc(sizeof(from)), from, sizeof(from)));
	index_rescan(scan, keys, pass->whole ? 1 : 2, NULL, 0);
	return scan;
}

/* A scan of index entries, those of dead rows, too. */
typedef struct Entries
{
	IndexScanDesc scan;
	bool		gone;			/* were all row versions of the last entry
								 * dead to everybody? */
} Entries;

/*
 * next_entry reads the next row version into the slot; false: there is none. An entry whose row versions are dead to everybody is
 * marked in the index, so that later claims pass it without a look at the table, and the next insert into its page may remove it.
 * The server does so itself in scans with an MVCC snapshot (index_fetch_heap() in indexam.c), which cannot see dead rows.
 */
static bool
next_entry(Entries *entries, TupleTableSlot *slot)
{
	IndexScanDesc scan = entries->scan;

	for (;;)
	{
		if (!scan->xs_heap_continue)
		{
			scan->kill_prior_tuple = entries->gone;
			if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
				return false;
			entries->gone = true;
		}
		if (index_fetch_heap(scan, slot))
			return true;
	}
}

/*
 * look_at examines the row version that was found: is it dead, however the transactions under way end; may the claim take it?
 * gone: unset where a snapshot may still need the version.
 */
static bool
look_at(Claiming *c, RomRows *rows, bool *dead, bool *gone)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) rows->slot)->buffer;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(rows->slot, false, NULL);
	TransactionId dead_after;
	HTSV_Result result;
	bool		visible;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	result = HeapTupleSatisfiesVacuumHorizon(tuple, buffer, &dead_after);
	*dead = result == HEAPTUPLE_DEAD || result == HEAPTUPLE_RECENTLY_DEAD;
	visible = result != HEAPTUPLE_DEAD &&
		HeapTupleSatisfiesVisibility(tuple, rows->snapshot, buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (result != HEAPTUPLE_DEAD &&
		(result != HEAPTUPLE_RECENTLY_DEAD || !GlobalVisTestIsRemovableXid(GlobalVisTestFor(rows->rel), dead_after)))
		*gone = false;
	if (visible && *dead)
		c->missed = true;
	return visible && !*dead && may_take(c, rows);
}

/*
 * claim_pass claims the next ready tasks, skipping those that others are claiming.
 * It reads the index entries itself, dead ones too, so as to know where
 * the next claim may begin (tasks/front.c).
 */
static void
claim_pass(Claiming *c, RomFrontPass *pass)
{
	RomFrontKey key;
	RomRows		rows;
	Entries		entries = {0};
	bool		moving = true;
	bool		moved = false;

	c->missed = false;
	rom_rows_open(&rows, &rom_task_table, "t_task_ready", true);
	entries.scan = begin_scan(&rows, c->claim->queue, pass);
	while (c->count < c->claim->max && c->answer != ROM_QUOTA_HELD && next_entry(&entries, rows.slot))
	{
		bool		dead;
		bool		wanted = look_at(c, &rows, &dead, &entries.gone);
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (moving)
		{
			key.rank = -(int64) DatumGetInt32(rom_rows_column(&rows, ROM_TASK_PRIORITY, &isnull));
			key.id = *DatumGetUUIDP(rom_rows_column(&rows, 0, &isnull));
			moved = true;
			moving = dead;
		}
		if (wanted && !is_unknown(c, &rows) && !is_held(c, &rows))
			take(c, &rows);
	}
	index_endscan(entries.scan);
	rom_rows_close(&rows);
	CommandCounterIncrement();
	rom_front_end(pass, c->claim->queue, moved ? &key : NULL);
}

/* claim_ready claims the next ready tasks of a queue without keys. */
static void
claim_ready(Claiming *c)
{
	bool		whole = false;

	for (;;)
	{
		RomFrontPass pass;

		c->answer = ROM_QUOTA_ADMITTED;
		rom_front_begin(&pass, c->claim->queue, whole);
		claim_pass(c, &pass);
		if (c->count > 0 || c->answer == ROM_QUOTA_HELD || (!c->missed && !pass.distrust))
			return;
		whole = whole || pass.distrust;
	}
}

/* begin_keys begins to read the entries of keys after from (NULL: from the first) up to until (NULL: to the last). */
static IndexScanDesc
begin_keys(RomRows *rows, const char *queue, const char *from, const char *until)
{
	IndexScanDesc scan = rom_index_beginscan(rows->rel, rows->index, SnapshotAny,
											 1 + (from != NULL) + (until != NULL));
	ScanKeyData keys[3];
	int			n = 0;

	ScanKeyEntryInitialize(&keys[n++], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(queue));
	if (from != NULL)
		ScanKeyEntryInitialize(&keys[n++], 0, 2, BTGreaterStrategyNumber, InvalidOid,
							   DEFAULT_COLLATION_OID, F_TEXT_GT, CStringGetTextDatum(from));
	if (until != NULL)
		ScanKeyEntryInitialize(&keys[n++], 0, 2, BTLessEqualStrategyNumber, InvalidOid,
							   DEFAULT_COLLATION_OID, F_TEXT_LE, CStringGetTextDatum(until));
	index_rescan(scan, keys, n, NULL, 0);
	return scan;
}

/*
 * next_key looks for a task to take with the next key after from, or, if that has none, with one
 * after it: claims one task at the most. Returns the key that it has reached, which needs no
 * further look now; NULL when there is none up to until.
 */
static char *
next_key(Claiming *c, RomRows *rows, const char *from, const char *until)
{
	Entries		entries = {begin_keys(rows, c->claim->queue, from, until), false};
	int			before = c->count;
	char	   *key = NULL;

	c->answer = ROM_QUOTA_ADMITTED;
	while (c->count == before && c->answer != ROM_QUOTA_HELD && c->answer != ROM_QUOTA_HELD_KEY &&
		   next_entry(&entries, rows->slot))
	{
		bool		dead;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (!look_at(c, rows, &dead, &entries.gone) || is_unknown(c, rows) || is_held(c, rows))
			continue;
		key = TextDatumGetCString(rom_rows_column(rows, ROM_TASK_LIMIT_KEY, &isnull));
		take(c, rows);
	}
	index_endscan(entries.scan);
	return key;
}

/* rotation says where the turns of the queue's keys are kept. */
static RomRotation
rotation(const Claiming *c)
{
	RomRotation queue;

	queue.key = rom_quota_queue(c->quota);
	(void) rom_notify_queue_name(c->claim->queue, &queue.namespace);
	return queue;
}

/*
 * claim_round goes once through the keys that have ready tasks, beginning after the one that was served
 * last, and claims a task of each. False: it ended before that.
 */
static bool
claim_round(Claiming *c, int *visits)
{
	RomRotation queue = rotation(c);
	char		last[ROM_ROTATION_KEY_MAX + 1];
	bool		wrapped = !rom_rotation_last(&queue, last);
	char	   *until = wrapped ? NULL : pstrdup(last);
	char	   *from = until;
	RomRows		rows;

	rom_rows_open(&rows, &rom_task_table, "t_task_keyed", true);
	while (c->count < c->claim->max && c->answer != ROM_QUOTA_HELD && *visits < KEYS_MAX)
	{
		int			before = c->count;
		char	   *key = next_key(c, &rows, from, wrapped ? until : NULL);

		if (key == NULL && wrapped)
			break;
		*visits += key != NULL && c->count == before ? 1 : 0;
		wrapped = wrapped || key == NULL;
		from = key;

		/*
		 * (with too many keys for one claim the next claim continues where
		 * this one ends)
		 */
		if (c->count > before || (key != NULL && *visits == KEYS_MAX))
			rom_rotation_served(&queue, key);
	}
	rom_rows_close(&rows);
	CommandCounterIncrement();
	return c->count < c->claim->max && c->answer != ROM_QUOTA_HELD && *visits < KEYS_MAX;
}

/* claim_keyed claims the next ready tasks of a queue with keys, in turn. */
static void
claim_keyed(Claiming *c)
{
	RomRotation queue = rotation(c);
	TimestampTz begun;
	int			visits = 0;
	int			labelled;

	for (;;)
	{
		int			before = c->count;

		c->missed = false;
		if (!claim_round(c, &visits) || (c->count == before && (before > 0 || !c->missed)))
			break;
	}
	if (visits >= KEYS_MAX)
		c->claim->retry_at = Min(c->claim->retry_at, rom_now() + 10000);
	if (c->answer == ROM_QUOTA_HELD || !rom_rotation_look(&queue))
		return;

	/*
	 * Tasks without a key, from when the queue had none: they were made by a
	 * transaction that has committed since, or ran then and are tried again.
	 * They are to have their turn where there are always others, too.
	 */
	begun = GetCurrentTimestamp();
	labelled = rom_quota_label(c->claim->queue, false, LABEL_MAX);
	rom_rotation_looked(&queue, labelled == LABEL_MAX, GetCurrentTimestamp() - begun);
	if (labelled > 0 && c->count < c->claim->max)
		(void) claim_round(c, &visits);
}

/* promote makes tasks ready whose next attempt is due, where no executor has done so. */
static bool
promote(const RomClaim *claim)
{
	if (!rom_state_promote(claim->queue, rom_now()))
		return false;
	rom_front_reset(claim->queue);
	return true;
}

/* claim_from claims the next ready tasks of the queue. */
static void
claim_from(Claiming *c)
{
	void		(*from_queue) (Claiming *) = rom_quota_per_key(c->quota) ? claim_keyed : claim_ready;

	bool		opened = rom_table_keep_open();

	from_queue(c);
	if (c->count == 0 && promote(c->claim))
		from_queue(c);
	if (opened)
		rom_table_close_kept();
}

/* refuse raises RM010 for a program that fetches from a queue whose activities are served by a URL. */
static void
refuse(const char *queue)
{
	int32		namespace;

	ereport(ERROR,
			(errcode(ERRCODE_ROM_STATE),
			 errmsg("queue \"%s\" is served by a URL", rom_notify_queue_name(queue, &namespace)),
			 errdetail("The server sends its activities there, so no program can fetch them."),
			 errhint("romancy.set_queue() without push_url lets programs fetch.")));
}

int
rom_queue_claim(RomClaim *claim, RomClaimed *claimed)
{
	Claiming	c = {0};
	RomEngine	engine;
	TimestampTz first_due = DT_NOEND;

	c.claim = claim;
	c.caller = OidIsValid(claim->caller) ? claim->caller : GetUserId();
	c.claimed = claimed;
	c.cxt = CurrentMemoryContext;
	c.now = rom_now();
	rom_uuid_random(&c.fence, sizeof(c.fence));
	claim->retry_at = DT_NOEND;
	claim->passed = 0;

	/*
	 * before it counts what a standby sees, which is not what is there when
	 * it is promoted
	 */
	PreventCommandDuringRecovery("a fetch");
	rom_engine_begin(&engine);
	c.quota = rom_quota_open(claim);
	if (rom_quota_pushed(c.quota) && !claim->sends)
		refuse(claim->queue);
	/* a queue without a URL, or any more, is not for the HTTP worker */
	if (!rom_quota_paused(c.quota) && (!claim->sends || rom_quota_pushed(c.quota) || rom_notify_queue_internal(claim->queue)))
		claim_from(&c);
	rom_quota_close(c.quota);
	if (c.unsure)
		claim->retry_at = Min(claim->retry_at, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), UNSURE_MS));
	for (int i = 0; i < c.count; i++)
		first_due = Min(first_due, claimed[i].deadline);
	if (c.count > 0)
		rom_wake_sweep(rom_sweep_find("lock_cleanup"), first_due);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(c.cxt);
	return c.count;
}
