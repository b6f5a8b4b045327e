/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Running turns: several instances of one owner in one transaction.
 *
 * A commit costs as much as several short workflows, so an executor runs up to
 * ROM_BATCH_MAX turns before it commits. While others' uncommitted work is in
 * the transaction, a turn may neither wait long nor take the others with it: it
 * is cancelled after ROM_BATCH_LIMIT_MS, rolled back by its own subtransaction, and run
 * again alone. A batch that fails as a whole (at COMMIT) is run again member
 * by member; a member that fails at COMMIT is run again with a commit after
 * each activity, so that the error is known to be that activity's.
 *
 * The transaction commits while the owner's id is set: what a user's activity
 * defers to the commit (constraint triggers, holdable cursors) must never run as the
 * worker's superuser.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/prepare.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/fanin.h"
#include "base/slot.h"
#include "base/spi.h"
#include "base/throttle.h"
#include "base/wake.h"
#include "engine/activity.h"
#include "engine/arrival.h"
#include "engine/batch.h"
#include "engine/limit.h"
#include "engine/observe.h"
#include "engine/run.h"
#include "engine/saga.h"
#include "engine/turn.h"

/* A workflow whose turns take longer on average is run alone. */
#define QUICK_TURN_US		10000.0

/* Attempts at running one instance alone before it is put back for later. */
#define SOLO_TRIES			4

/* Turns that die with their process, in a row, before the instance is paused. */
#define CRASHES_MAX			3

typedef struct TurnMean
{
	int32		def_id;
	double		mean_us;
} TurnMean;

static const RomRunHook *run_hook = NULL;
static HTAB *turn_means = NULL;
static MemoryContext batch_cxt = NULL;

void
rom_run_register(const RomRunHook *hook)
{
	run_hook = hook;
}

const RomRunHook *
rom_run_hook(void)
{
	return run_hook;
}

/* turn_mean finds the running mean of turns of a workflow version. */
static TurnMean *
turn_mean(int32 def_id, bool *found)
{
	if (turn_means == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(int32);
		ctl.entrysize = sizeof(TurnMean);
		ctl.hcxt = TopMemoryContext;
		turn_means = hash_create("romancy turn times", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return hash_search(turn_means, &def_id, HASH_ENTER, found);
}

/* note_turn updates it (weight 1/8 for the newest). */
static void
note_turn(int32 def_id, double us)
{
	bool		found;
	TurnMean   *mean = turn_mean(def_id, &found);

	mean->mean_us = found ? mean->mean_us + (us - mean->mean_us) / 8 : us;
}

/* is_quick: are turns of this version short enough to share a transaction? Unknown ones are; the limit sees to the rest. */
static bool
is_quick(int32 def_id)
{
	bool		found;
	TurnMean   *mean = turn_mean(def_id, &found);

	if (!found)
		mean->mean_us = 0;
	return mean->mean_us < QUICK_TURN_US;
}

/* uuid_array makes a uuid[] of ids. */
static Datum
uuid_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false,
										   TYPALIGN_CHAR));
}

/* get_jsonb copies a jsonb column into the current context. */
static Jsonb *
get_jsonb(uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value_copy(row, col, &isnull, CurrentMemoryContext);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* get_time reads a timestamptz column; fallback for null. */
static TimestampTz
get_time(uint64 row, int col, TimestampTz fallback)
{
	bool		isnull;
	Datum		value = rom_value(row, col, &isnull);

	return isnull ? fallback : DatumGetTimestampTz(value);
}

/* get_int reads an int4 or int2 column. */
static int32
get_int(uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value(row, col, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* read_instance makes an instance of a row of claim's statement, in the current context. */
static RomInstance *
read_instance(uint64 row)
{
	RomInstance *inst = palloc0(sizeof(RomInstance));
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;
	Datum		value;

	inst->id = *DatumGetUUIDP(rom_value(row, 1, &isnull));
	inst->def_id = get_int(row, 2);
	inst->priority = get_int(row, 3);
	inst->status = rom_status_from_datum(rom_value(row, 4, &isnull));
	value = rom_value(row, 5, &isnull);
	inst->resume_status = isnull ? ROM_STATUS_PENDING : rom_status_from_datum(value);
	inst->flags = get_int(row, 6);
	inst->crashes = DatumGetInt16(rom_value(row, 7, &isnull));
	inst->depth = DatumGetInt16(rom_value(row, 8, &isnull));
	inst->owner_name = rom_value_text(row, 9, cxt);
	inst->workflow = rom_value_text(row, 10, cxt);
	inst->input = get_jsonb(row, 11);
	inst->wait = get_jsonb(row, 12);
	inst->labels = get_jsonb(row, 13);
	inst->error = get_jsonb(row, 14);
	inst->progress = get_jsonb(row, 15);
	inst->last_seq = DatumGetInt64(rom_value(row, 16, &isnull));
	value = rom_value(row, 17, &isnull);
	inst->body_hash = isnull ? 0 : DatumGetInt64(value);
	value = rom_value(row, 18, &isnull);
	inst->has_parent = !isnull;
	if (!isnull)
		inst->parent_id = *DatumGetUUIDP(value);
	inst->parent_step = rom_value_text(row, 19, cxt);
	inst->parent_close = rom_value_text(row, 20, cxt);
	inst->created_at = get_time(row, 21, 0);
	inst->started_at = get_time(row, 22, 0);
	inst->wake_at = get_time(row, 23, DT_NOEND);
	inst->deadline = get_time(row, 24, DT_NOEND);
	value = rom_value(row, 25, &isnull);
	inst->has_continued_from = !isnull;
	if (!isnull)
		inst->continued_from = *DatumGetUUIDP(value);
	return inst;
}

#define CLAIMED_ROWS \
	"SELECT instance_id, def_id, priority, status, resume_status, flags, crashes, depth," \
	" owner, workflow, input, wait, labels, error, progress, last_seq, body_hash," \
	" parent_id, parent_step, parent_close, created_at, started_at, wake_at, deadline," \
	" continued_from" \
	" FROM romancy.t_instance WHERE instance_id = ANY ($1)"

/*
 * claim locks the rows of ids that no other process runs, and returns them in
 * the order of ids. Those that are locked are marked to run again when their
 * present turn is over, or noted for a little later when nobody knows who holds them.
 * wait: for whoever holds them, as there is an outcome to record.
 */
static int
claim(const pg_uuid_t *ids, int n, RomInstance **insts, bool note_busy, bool wait)
{
	/*
	 * (for an array of one, planning anew would always look cheaper than the
	 * plan for any)
	 */
	static RomStatement lock = {
		CLAIMED_ROWS " FOR NO KEY UPDATE SKIP LOCKED", 1, {UUIDARRAYOID},.generic = true
	};
	static RomStatement lock_or_wait = {
		CLAIMED_ROWS " FOR NO KEY UPDATE", 1, {UUIDARRAYOID},.generic = true
	};
	static RomStatement exists = {
		"SELECT owner, priority FROM romancy.t_instance WHERE instance_id = $1 AND wake_at IS NOT NULL",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomInstance *found[ROM_BATCH_MAX];
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	int			count = 0;

	values[0] = uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute(wait ? &lock_or_wait : &lock, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < rows; i++)
		found[i] = read_instance(i);
	for (int i = 0; i < n; i++)
	{
		bool		here = rom_slot_kept(&ids[i]);

		for (uint64 j = 0; j < rows && !here; j++)
			if (memcmp(&found[j]->id, &ids[i], sizeof(pg_uuid_t)) == 0)
			{
				insts[count++] = found[j];
				here = true;
			}
		if (here || !note_busy || rom_slot_mark_again(&ids[i]))
			continue;
		values[0] = UUIDPGetDatum(&ids[i]);
		if (rom_execute(&exists, values, NULL, 1) > 0)
		{
			char	   *name = rom_value_text(0, 1, cxt);
			Oid			owner = get_role_oid(name, true);

			rom_wake_at(&ids[i], owner, get_int(0, 2),
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100));
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return count;
}

#define INBOX_ROWS \
	"SELECT instance_id, id, kind, step, result, error, detail, created_at FROM romancy.t_inbox"

/* read_inbox attaches what has arrived to the turns. */
static void
read_inbox(RomTurn **turns, int n)
{
	static RomStatement select = {
		INBOX_ROWS " WHERE instance_id = ANY ($1) ORDER BY instance_id, id", 1, {UUIDARRAYOID}
	};

	/* an array of one would be planned anew each time */
	static RomStatement of_one = {
		INBOX_ROWS " WHERE instance_id = $1 ORDER BY id", 1, {UUIDOID}
	};
	pg_uuid_t	ids[ROM_BATCH_MAX];
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;

	for (int i = 0; i < n; i++)
		ids[i] = turns[i]->inst->id;
	values[0] = n == 1 ? UUIDPGetDatum(&ids[0]) : uuid_array(ids, n);
	rom_engine_begin(&engine);
	rows = rom_execute(n == 1 ? &of_one : &select, values, NULL, 0);
	for (int i = 0; i < n && rows > 0; i++)
	{
		RomTurn    *turn = turns[i];

		MemoryContextSwitchTo(turn->cxt);
		for (uint64 r = 0; r < rows; r++)
		{
			bool		isnull;
			RomInboxItem *item;

			if (memcmp(DatumGetUUIDP(rom_value(r, 1, &isnull)), &ids[i],
					   sizeof(pg_uuid_t)) != 0)
				continue;
			if (turn->inbox == NULL)
				turn->inbox = palloc0(sizeof(RomInboxItem) * rows);
			item = &turn->inbox[turn->ninbox++];
			item->id = DatumGetInt64(rom_value(r, 2, &isnull));
			item->kind = DatumGetInt16(rom_value(r, 3, &isnull));
			item->step = rom_value_text(r, 4, turn->cxt);
			item->result = get_jsonb(r, 5);
			item->error = get_jsonb(r, 6);
			item->detail = get_jsonb(r, 7);
			item->created_at = get_time(r, 8, 0);
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

/* owner_error: the instance's owner is not there any more (or is somebody else than the executor serves). */
static Jsonb *
owner_error(RomInstance *inst)
{
	return rom_error_make(ERRCODE_UNDEFINED_OBJECT,
						  psprintf("role \"%s\", the owner of the instance, does not exist", inst->owner_name),
						  NULL,
						  "Create the role again, then call romancy.resume_workflow().", NULL);
}

/* crash_error: the turn has died with its process again and again. */
static Jsonb *
crash_error(RomInstance *inst)
{
	return rom_error_make(ERRCODE_ROM_LIMIT,
						  psprintf("the process that ran workflow \"%s\" died %d times in a row",
								   inst->workflow, CRASHES_MAX),
						  NULL,
						  "Look at the server's log for the cause, mend it, then call romancy.resume_workflow().",
						  NULL);
}

/* begin_turn makes the turn of a claimed instance. */
static RomTurn *
begin_turn(RomInstance *inst, Oid owner, RomRun *run)
{
	RomTurn    *turn = rom_turn_create(inst, owner, CurrentMemoryContext);

	turn->solo = run->solo;
	turn->careful = run->careful;
	turn->in_block = run->in_block;
	turn->injected = run->injected;
	if (inst->wait != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		turn->wait_before = rom_wait_from_jsonb(inst->wait);
		MemoryContextSwitchTo(old);
		rom_saga_load(turn);
	}
	return turn;
}

/* woken_in_vain: it waits for a message, and neither that nor anything else has come. */
static bool
woken_in_vain(RomTurn *turn)
{
	return rom_arrival() != NULL && turn->ninbox == 0 &&
		turn->injected == NULL &&
		turn->inst->status == ROM_STATUS_WAITING_MESSAGE &&
		turn->inst->wake_at > rom_now() && rom_arrival()->in_vain(turn);
}

/* woken_for_others: it is paused, and was woken for what others may take. */
static bool
woken_for_others(RomTurn *turn)
{
	return rom_arrival() != NULL && turn->ninbox == 0 &&
		turn->inst->status == ROM_STATUS_PAUSED &&
		(turn->inst->flags & ROM_HAS_SUBSCRIPTIONS) != 0;
}

/* run_member runs one turn within its limits. */
static RomTurnEnd
run_member(RomTurn *turn, int member, bool others_wait, bool wrap)
{
	TimestampTz start = GetCurrentTimestamp();
	Oid			owner = get_role_oid(turn->inst->owner_name, true);
	RomCostMark mark;
	RomTurnEnd	end;

	rom_cost_begin(&mark);
	rom_slot_member_begin(member);
	if (others_wait)
	{
		RomLimit	limit = {ROM_LIMIT_BATCH, TimestampTzPlusMilliseconds(start, ROM_BATCH_LIMIT_MS)};

		(void) rom_limit_arm(&limit, 1);
	}
	if (owner != turn->owner && !ROM_STATUS_IS_FINAL(turn->inst->status))
	{
		rom_turn_pause(turn, owner_error(turn->inst));
		end = ROM_TURN_SAVE;
	}
	else if (turn->inst->crashes >= CRASHES_MAX && turn->ninbox == 0)
	{
		rom_turn_pause(turn, crash_error(turn->inst));
		end = ROM_TURN_SAVE;
	}
	else if (woken_in_vain(turn))
		end = ROM_TURN_NOTHING;
	else if (woken_for_others(turn))
	{
		rom_arrival()->pass_on(turn);
		end = ROM_TURN_NOTHING;
	}
	else
	{
		RomTurn    *outer = rom_turn_current;

		PG_TRY();
		{
			rom_turn_current = turn;
			rom_turn_load(turn, true);
			end = rom_turn_run(turn, wrap);
		}
		PG_FINALLY();
		{
			rom_turn_current = outer;
		}
		PG_END_TRY();
	}
	rom_limit_reset();
	rom_slot_member_end();
	rom_cost_end(&mark, &turn->cost);
	note_turn(turn->inst->def_id, (double) (GetCurrentTimestamp() - start));
	return end;
}

/* place_of finds id among the members that the slot was told of. */
static int
place_of(const pg_uuid_t *id, const pg_uuid_t *ids, int n)
{
	for (int i = 0; i < n; i++)
		if (memcmp(id, &ids[i], sizeof(pg_uuid_t)) == 0)
			return i;
	return 0;
}

/* save_turn saves a turn, and tells the observer of it. */
static void
save_turn(RomTurn *turn)
{
	bool		first = turn->inst->started_at == 0;
	bool		was_final = ROM_STATUS_IS_FINAL(turn->inst->status) && !turn->changed;
	RomCostMark mark;

	if (first)
		turn->inst->started_at = Max(rom_now() - turn->cost.us, turn->inst->created_at);
	rom_cost_begin(&mark);
	rom_turn_save(turn);
	rom_cost_end(&mark, &turn->cost);
	if (rom_observer() != NULL && !was_final)
		rom_observer()->turn(turn, first, ROM_STATUS_IS_FINAL(turn->status));
}

/* run_members does what rom_run_members() says. */
static void
run_members(RomRun *run, Oid owner, const pg_uuid_t *ids, int n)
{
	RomInstance *insts[ROM_BATCH_MAX];
	RomTurn    *turns[ROM_BATCH_MAX];
	bool		save[ROM_BATCH_MAX] = {0};
	TimestampTz start = GetCurrentTimestamp();
	bool		full = false;
	pg_uuid_t	others[ROM_BATCH_MAX];
	int			nothers = n;
	int			subxacts;
	int			count;
	int			done;

	run->nagain = run->nsaved = run->nheld = run->subxacts = 0;
	if (run_hook != NULL)
		nothers = run_hook->run(run, owner, ids, n, others);
	else
		memcpy(others, ids, n * sizeof(pg_uuid_t));
	done = run->nsaved;
	subxacts = run->subxacts;
	count = nothers > 0 ? claim(others, nothers, insts, !run->in_session, run->injected != NULL) : 0;
	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		turns[i] = begin_turn(insts[i], owner, run);

		/*
		 * before the inbox is read: what ends after that wakes the instance
		 * again
		 */
		if (insts[i]->flags & ROM_HAS_TASKS)
			rom_fanin_forget(&insts[i]->id);
	}
	read_inbox(turns, count);

	for (int i = 0; i < count; i++)
	{
		RomTurn    *turn = turns[i];
		RomTurnEnd	end;

		if (full)
		{
			run->again[run->nagain++] = turn->inst->id;
			continue;
		}
		if ((count > 1 || done > 0) && !is_quick(turn->inst->def_id) && !run->solo)
		{
			run->alone[run->nalone++] = turn->inst->id;
			continue;
		}
		end = run_member(turn, place_of(&turn->inst->id, ids, n),
						 done > 0 && !run->in_block,
						 count > 1 || done > 0 || run->in_block);
		run->tainted |= turn->tainted;
		if (turn->raise_error)
			ThrowErrorData(turn->raise_error);
		if (end == ROM_TURN_SAVE && rom_arrival() != NULL &&
			(turn->inst->flags & ROM_HAS_SUBSCRIPTIONS) != 0)
			rom_arrival()->pass_on(turn);
		if (end == ROM_TURN_AGAIN)
			run->alone[run->nalone++] = turn->inst->id;
		else if (end == ROM_TURN_NOTHING)
		{
			/*
			 * woken early: its deadline may have been taken off the list for
			 * this turn
			 */
			if (!TIMESTAMP_NOT_FINITE(turn->inst->wake_at))
				rom_wake_at(&turn->inst->id, owner, turn->inst->priority, turn->inst->wake_at);
		}
		else if (end == ROM_TURN_SAVE)
		{
			save[i] = true;
			done++;
			run->nheld += turn->wait != NULL && turn->history.count == turn->stored &&
				strcmp(turn->wait->kind, ROM_WAIT_SLOT) == 0;
		}
		subxacts += turn->subxacts + 1;
		full = subxacts > ROM_SUBXACTS_MAX || turn->tainted ||
			(MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0 ||
			(!run->in_block &&
			 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), ROM_BATCH_BUDGET_MS));
	}

	for (int i = 0; i < count; i++)
	{
		RomTurn    *turn = turns[i];

		if (!save[i])
			continue;
		save_turn(turn);
		run->nsaved++;
		run->procedure = turn->procedure;
		if (run->procedure != NULL)
			rom_slot_keep(&turn->inst->id);
		if (run->careful)
			for (int e = turn->history.count - 1; e >= turn->stored; e--)
			{
				RomEvent   *event = turn->history.events[e];

				if (event->type == ROM_EVENT_ACTIVITY_COMPLETED)
					run->last_step = event->step;
				else if (event->type == ROM_EVENT_COMPENSATION_EXECUTED)
					run->last_step = rom_saga_step_id(event->step);
				if (run->last_step != NULL)
					break;
			}
	}
}

void
rom_run_members(RomRun *run, Oid owner, const pg_uuid_t *ids, int n)
{
	run_members(run, owner, ids, n);
	rom_throttle_settle(ids, n);
}

/* ---------------------------------------------------------------- the worker's transactions */

/* scrub takes away what user code may have left in the session. temp: it touched temporary tables. */
static void
scrub(bool temp)
{
	LockReleaseAll(USER_LOCKMETHOD, true);
	DropAllPreparedStatements();
	if (temp)
	{
		StartTransactionCommand();
		/* what it deletes in the catalogs may be toasted */
		PushActiveSnapshot(GetTransactionSnapshot());
		ResetTempTableNamespace();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
}

typedef enum TxnResult
{
	TXN_COMMITTED,
	TXN_FAILED,					/* before the commit */
	TXN_COMMIT_FAILED
} TxnResult;

/*
 * run_transaction runs turns of ids in one transaction. The outcome is in run;
 * *error is set (in batch_cxt) when it failed.
 */
static TxnResult
run_transaction(RomRun *run, Oid owner, const pg_uuid_t *ids, int n,
				ErrorData **error)
{
	volatile bool committing = false;
	volatile bool temp = false;
	volatile TxnResult result = TXN_COMMITTED;

	*error = NULL;
	rom_slot_begin(ids, n);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(batch_cxt);
		if (rom_extension_lock())
			rom_run_members(run, owner, ids, n);
		temp = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
		for (int i = 0; i < run->nagain; i++)
			rom_wake_ready(&run->again[i], owner, 0);
		PopActiveSnapshot();
		committing = true;
		PortalHashTableDeleteAll();
		if (OidIsValid(owner))
			SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(batch_cxt);
		*error = CopyErrorData();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		rom_limit_reset();
		rom_slot_member_end();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		result = committing ? TXN_COMMIT_FAILED : TXN_FAILED;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	MemoryContextSwitchTo(batch_cxt);
	rom_slot_end();
	scrub(temp);
	return result;
}

/* note_in_transaction runs a note (a wake-up) in a transaction of its own. */
static void
wake_later(const pg_uuid_t *id, Oid owner, int ms)
{
	StartTransactionCommand();
	rom_wake_at(id, owner, 0, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
	CommitTransactionCommand();
	MemoryContextSwitchTo(batch_cxt);
}

/*
 * mark_suspect counts, in a transaction of its own, that this instance's turn has died with its
 * process and is about to be tried again. It is looked at by the turn.
 */
static void
mark_suspect(const pg_uuid_t *id)
{
	static RomStatement mark = {
		"UPDATE romancy.t_instance SET crashes = crashes + 1 WHERE instance_id ="
		" (SELECT instance_id FROM romancy.t_instance WHERE instance_id = $1"
		" AND wake_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED)",
		1, {UUIDOID}
	};

	PG_TRY();
	{
		RomEngine	engine;
		Datum		values[1];

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		values[0] = UUIDPGetDatum(id);
		rom_engine_begin(&engine);
		rom_execute(&mark, values, NULL, 0);
		rom_engine_end(&engine);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(batch_cxt);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(batch_cxt);
}

/* Turns of an instance that failed in the engine itself, in a row, in this process. */
typedef struct FailureEntry
{
	pg_uuid_t	id;
	int			failures;
} FailureEntry;

#define FAILURES_KEPT 1000

static HTAB *failures = NULL;

/* next_delay is how long to wait before the next try: 1 s, doubled each time up to a minute. */
static int
next_delay(const pg_uuid_t *id)
{
	FailureEntry *entry;
	bool		found;

	if (failures == NULL || hash_get_num_entries(failures) >= FAILURES_KEPT)
	{
		HASHCTL		ctl;

		if (failures)
			hash_destroy(failures);
		ctl.keysize = sizeof(pg_uuid_t);
		ctl.entrysize = sizeof(FailureEntry);
		ctl.hcxt = TopMemoryContext;
		failures = hash_create("romancy failed turns", 64, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(failures, id, HASH_ENTER, &found);
	if (!found)
		entry->failures = 0;
	if (entry->failures >= 6)
		return 60000;
	return 1000 << entry->failures++;
}

/* forget_failures: its turn was committed. */
static void
forget_failures(const pg_uuid_t *id)
{
	if (failures != NULL)
		(void) hash_search(failures, id, HASH_REMOVE, NULL);
}

/* report logs an error of the engine itself, once per instance and try. */
static void
report(ErrorData *error, const pg_uuid_t *id, int delay_ms)
{
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("turn of workflow instance %s failed: %s",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))),
					error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("It is tried again in %d ms.", delay_ms)));
}

/* try_alone runs a turn of one instance in a transaction of its own, and again as far as it takes. */
static int
try_alone(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	RomRun		run;
	ErrorData  *error = NULL;
	RomInjected *injected = NULL;
	bool		careful = false;
	int			turns = 0;

	if (rom_slot_suspect(id))
		mark_suspect(id);
	for (int try = 0; try < SOLO_TRIES; try++)
	{
		TxnResult	result;

		memset(&run, 0, sizeof(run));
		run.solo = true;
		run.careful = careful;
		run.injected = injected;
		injected = NULL;
		result = run_transaction(&run, owner, id, 1, &error);
		*tainted |= run.tainted;
		if (result == TXN_COMMITTED)
		{
			turns += run.nsaved;
			forget_failures(id);
			rom_slot_clear_suspect(id);
			if (run.procedure != NULL && run.nsaved > 0)
			{
				rom_slot_begin(id, 1);
				rom_slot_member_begin(0);
				injected = rom_procedure_run(run.procedure, owner, false, batch_cxt);
				if (injected->failed && rom_slot_cancelled())
					injected = NULL;	/* no failure of its own: the cancel
										 * is in the inbox */
				rom_slot_member_end();
				rom_slot_end();
				scrub(true);
				try = -1;		/* the procedure's outcome must be recorded */
				continue;
			}
			if (run.nalone == 0 || *tainted)
				return turns;
			continue;			/* interrupted: look at the inbox again */
		}
		if (result == TXN_COMMIT_FAILED)
		{
			if (careful && run.last_step != NULL)
			{
				/* the activity that ran last is the one whose commit failed */
				injected = palloc0(sizeof(RomInjected));
				injected->step = run.last_step;
				injected->failed = true;
				injected->error = error;
			}
			careful = true;
			continue;
		}
		break;
	}
	{
		int			delay = next_delay(id);

		if (error != NULL)
			report(error, id, delay);
		wake_later(id, owner, delay);
	}
	return turns;
}

/* run_alone is try_alone(); what a procedure kept from others is theirs again. */
static int
run_alone(Oid owner, const pg_uuid_t *id, bool *tainted)
{
	int			turns = try_alone(owner, id, tainted);

	rom_slot_unkeep();
	rom_throttle_release();		/* if it did not come to run */
	return turns;
}

int
rom_batch_run(Oid owner, const pg_uuid_t *ids, int n, bool *tainted)
{
	pg_uuid_t	batch[ROM_BATCH_MAX];
	pg_uuid_t	alone[ROM_BATCH_MAX * 2];
	int			nbatch = 0;
	int			nalone = 0;
	int			turns = 0;

	if (batch_cxt == NULL)
		batch_cxt = AllocSetContextCreate(TopMemoryContext, "romancy batch",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(batch_cxt);
	MemoryContextSwitchTo(batch_cxt);
	*tainted = false;

	for (int i = 0; i < n; i++)
	{
		bool		twice = false;

		for (int j = 0; j < nbatch; j++)
			twice |= memcmp(&batch[j], &ids[i], sizeof(pg_uuid_t)) == 0;
		if (twice)
			continue;
		if (rom_slot_suspect(&ids[i]))
			alone[nalone++] = ids[i];
		else
			batch[nbatch++] = ids[i];
	}
	if (nbatch == 1)
		alone[nalone++] = batch[0];
	else if (nbatch > 1)
	{
		RomRun		run;
		ErrorData  *error;

		memset(&run, 0, sizeof(run));
		if (run_transaction(&run, owner, batch, nbatch, &error) == TXN_COMMITTED)
		{
			turns += run.nsaved;
			*tainted |= run.tainted;
			for (int i = 0; i < run.nalone; i++)
				alone[nalone++] = run.alone[i];
		}
		else
			for (int i = 0; i < nbatch; i++)
				alone[nalone++] = batch[i];
	}
	for (int i = 0; i < nalone; i++)
	{
		if (*tainted)
			wake_later(&alone[i], owner, 0);
		else
			turns += run_alone(owner, &alone[i], tainted);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	return turns;
}
