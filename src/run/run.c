/*-------------------------------------------------------------------------
 *
 * run.c
 *		The work of one transaction that runs turns: each member within its limits, then
 *		all that they changed.
 *
 * While others' uncommitted work is in the transaction, a turn may neither wait long nor
 * take the others with it: it is cancelled after ROM_BATCH_LIMIT_MS, rolled back by its own
 * subtransaction, and run again alone. So are, from the start, turns of workflows that are known to
 * take longer. No further member begins when the transaction has taken its time, or has
 * as many subtransactions as it should.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/distributed.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/spi.h"
#include "instances/event.h"
#include "instances/start.h"
#include "memory/fanin.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "run/claim.h"
#include "run/failures.h"
#include "run/run.h"
#include "steps/activity.h"
#include "steps/profile.h"
#include "steps/throttle.h"
#include "turn/arrival.h"
#include "turn/context.h"
#include "turn/limit.h"
#include "turn/observe.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/save.h"
#include "turn/turn.h"
#include "turn/verdict.h"

/* Microseconds: a workflow whose turns take longer on average, without steps that are not quick, is run alone. */
#define SLOW_TURN_US		10000

/* Turns that die with their process, in a row, before the instance is paused. */
#define CRASHES_MAX			3

static const RomRunHook *run_hook = NULL;

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

/* profile_key says what the profile of turns, or of first turns, of a version is kept under. */
static RomProfileKey
profile_key(RomProfileKind kind, int32 namespace, int32 def_id)
{
	RomProfileKey key;

	key.dbid = MyDatabaseId;
	key.namespace = namespace;
	key.kind = kind;
	key.object = def_id;
	key.body = rom_extension_oid(); /* versions are numbered anew by the next
									 * one */
	return key;
}

void
rom_run_note_first(const RomInstance *inst, int64 us, bool ended)
{
	RomProfileKey key = profile_key(ROM_PROFILE_FIRST, inst->namespace, inst->def_id);

	rom_profile_note(&key, us, ended ? ROM_PROFILE_OK : ROM_PROFILE_FAILED);
}

bool
rom_run_ends_at_once(const RomWorkflow *workflow, int64 us)
{
	RomProfileKey key = profile_key(ROM_PROFILE_FIRST, workflow->namespace, workflow->def_id);

	return rom_profile_quick(&key, us);
}

void
rom_run_note_looks(const RomInstance *inst)
{
	RomProfileKey key = profile_key(ROM_PROFILE_LOOKS, inst->namespace, inst->def_id);

	rom_profile_note(&key, 0, ROM_PROFILE_OK);
}

bool
rom_run_looks(const RomInstance *inst)
{
	RomProfileKey key = profile_key(ROM_PROFILE_LOOKS, inst->namespace, inst->def_id);

	return rom_profile_exists(&key);
}

/* is_unknown is rom_start_on_unknown()'s. */
static bool
is_unknown(const RomWorkflow *workflow)
{
	RomProfileKey key = profile_key(ROM_PROFILE_FIRST, workflow->namespace, workflow->def_id);

	return !rom_profile_short(&key, ROM_QUICK_US);
}

void
rom_run_init(void)
{
	rom_start_on_unknown(is_unknown);
}

/* note_turn adds a turn to the profile of its version, unless a slow step or a cancel made it what it was. */
static void
note_turn(const RomTurn *turn, RomTurnEnd end, int64 us, bool disturbed)
{
	RomProfileKey key = profile_key(ROM_PROFILE_WORKFLOW, turn->inst->namespace, turn->inst->def_id);

	/*
	 * a first turn that is to run again is noted then; one in the session
	 * that starts it, by that. One that stops before a long step counts as
	 * long: the next one is to be where it can go on.
	 */
	if (turn->inst->started_at == 0 && !turn->how.eager && (end == ROM_TURN_SAVE || turn->out.slow_next))
		rom_run_note_first(turn->inst, turn->out.slow_next ? Max(us, ROM_QUICK_US) : us,
						   end == ROM_TURN_SAVE && turn->out.status == ROM_STATUS_COMPLETED && !turn->out.slow_ran);
	if (turn->out.slow_ran || (end == ROM_TURN_AGAIN && !disturbed))
		return;
	rom_profile_note(&key, us, disturbed ? ROM_PROFILE_DISTURBED : ROM_PROFILE_OK);
}

/* is_slow: are turns of its version known to be too long to share a transaction? Unknown ones are not; the limit sees to the rest. */
static bool
is_slow(const RomInstance *inst)
{
	RomProfileKey key = profile_key(ROM_PROFILE_WORKFLOW, inst->namespace, inst->def_id);

	return rom_profile_slow(&key, SLOW_TURN_US);
}

/*
 * is_decided: is the turn decided by a request, or by the time, without the workflow's code? Then it is short, whatever turns of its
 * version take, and the steps under way may be waiting for it to end them.
 */
static bool
is_decided(const RomTurn *turn)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
		if (turn->wait.inbox[i].kind == ROM_INBOX_CANCEL || turn->wait.inbox[i].kind == ROM_INBOX_TERMINATE ||
			turn->wait.inbox[i].kind == ROM_INBOX_PAUSE)
			return true;
	return ROM_STATUS_IS_FINAL(turn->inst->status) || turn->inst->deadline <= rom_now();
}

/* owner_error: the role that owned the instance was dropped. */
static Jsonb *
owner_error(RomInstance *inst)
{
	return rom_error_make(ERRCODE_UNDEFINED_OBJECT,
						  psprintf("role \"%s\", the owner of the instance, does not exist", inst->owner_name),
						  NULL,
						  "Create the role again, then call romancy.resume_workflow(); or end the instance with romancy.terminate_workflow().",
						  NULL);
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

/*
 * set_right has a wait that began ahead of now, by a clock that has been set back, end as long after now as it was
 * to last. An instant that the handler named stays.
 */
static void
set_right(RomTurn *turn)
{
	RomWait    *wait = turn->wait.before;
	int64		ahead = wait->since - rom_now();

	if (TIMESTAMP_NOT_FINITE(wait->since) || ahead < ROM_AHEAD_MIN)
		return;
	wait->since -= ahead;
	if (!TIMESTAMP_NOT_FINITE(wait->until) &&
		!(wait->name != NULL && strcmp(wait->kind, "timer") == 0 && strcmp(wait->name, "sleep_until") == 0))
		wait->until -= ahead;
	turn->wait.set_right = true;
}

/* begin_turn makes the turn of a claimed instance. */
static RomTurn *
begin_turn(RomInstance *inst, Oid owner, RomRun *run)
{
	RomTurn    *turn = rom_turn_create(inst, owner, CurrentMemoryContext);

	turn->how.solo = run->solo;
	turn->how.careful = run->careful;
	turn->how.apart = run->eager || !run->in_block;
	turn->how.eager = run->eager;
	turn->how.slow_done = run->slow_done;
	turn->how.in_session = run->in_session;
	turn->how.in_block = run->in_block;
	turn->how.injected = run->injected;
	if (inst->wait != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(turn->cxt);

		turn->wait.before = rom_save_read_wait(inst->wait);
		MemoryContextSwitchTo(old);
		set_right(turn);
		rom_saga_load(turn);
	}
	return turn;
}

/* woken_in_vain: it waits for a message, and neither that nor anything else has come. */
static bool
woken_in_vain(RomTurn *turn)
{
	return rom_arrival() != NULL && turn->wait.ninbox == 0 &&
		turn->how.injected == NULL && !turn->wait.set_right &&
		turn->inst->status == ROM_STATUS_WAITING_MESSAGE &&
		turn->inst->wake_at > rom_now() && rom_arrival()->in_vain(turn);
}

/* woken_for_others: it is paused, and was woken for what others may take. */
static bool
woken_for_others(RomTurn *turn)
{
	return rom_arrival() != NULL && turn->wait.ninbox == 0 &&
		turn->inst->status == ROM_STATUS_PAUSED &&
		(turn->inst->flags & ROM_HAS_SUBSCRIPTIONS) != 0;
}

/* ends_without_owner: can the instance end without running code of its owner, whose role was dropped? */
static bool
ends_without_owner(RomTurn *turn)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
		if (turn->wait.inbox[i].kind == ROM_INBOX_TERMINATE ||
			(turn->wait.inbox[i].kind == ROM_INBOX_CANCEL &&
			 (turn->inst->flags & ROM_HAS_COMPENSATIONS) == 0))
			return true;
	return ROM_STATUS_IS_FINAL(turn->inst->status);
}

/* pause_member pauses an instance by itself. (Requests to resume it have been tried without success.) */
static RomTurnEnd
pause_member(RomTurn *turn, Jsonb *error)
{
	turn->inst->crashes = 0;
	rom_verdict_pause(turn, error);
	return ROM_TURN_SAVE;
}

void
rom_run_begin_member(const RomMember *member)
{
	rom_slot_member_begin(member->place);
	if (member->others_wait)
	{
		RomLimit	limit = {ROM_LIMIT_BATCH, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROM_BATCH_LIMIT_MS)};

		(void) rom_limit_arm(&limit, 1);
	}
}

void
rom_run_end_member(void)
{
	rom_limit_reset();
	rom_slot_member_end();
}

/* run_turn runs one turn within its limits. */
static RomTurnEnd
run_turn(RomTurn *turn, const RomMember *member, bool wrap, const ErrorData *pause_error)
{
	TimestampTz start = GetCurrentTimestamp();
	Oid			owner = get_role_oid(turn->inst->owner_name, true);
	RomCostMark mark;
	RomTurnEnd	end;
	bool		disturbed;

	rom_cost_begin(&mark);
	rom_run_begin_member(member);
	rom_context_step(&turn->inst->id, turn->inst->workflow, NULL);
	if (!OidIsValid(owner) && !ends_without_owner(turn))
	{
		end = ROM_TURN_NOTHING;
		if (turn->inst->status != ROM_STATUS_PAUSED)	/* else it is known */
			end = pause_member(turn, owner_error(turn->inst));
	}
	else if (pause_error != NULL && !ROM_STATUS_IS_FINAL(turn->inst->status))
		end = pause_member(turn, rom_error_to_jsonb(pause_error));
	else if (turn->inst->crashes >= CRASHES_MAX && !ends_without_owner(turn))
		end = pause_member(turn, crash_error(turn->inst));
	else if (rom_slot_cancelled())
		end = ROM_TURN_AGAIN;	/* since its inbox was read: no error that
								 * takes the others with it */
	else if (woken_in_vain(turn))
		end = ROM_TURN_NOTHING;
	else if (woken_for_others(turn))
	{
		rom_arrival()->pass_on(turn);
		end = ROM_TURN_NOTHING;
	}
	else
	{
		RomTurn    *outer = rom_context_turn;

		PG_TRY();
		{
			rom_context_turn = turn;
			rom_replay_load(turn, true);
			end = rom_turn_run(turn, wrap);
		}
		PG_FINALLY();
		{
			rom_context_turn = outer;
		}
		PG_END_TRY();
	}
	disturbed = rom_limit_fired() == ROM_LIMIT_BATCH;
	turn->out.interrupted = rom_slot_interrupted() && !rom_slot_cancelled();
	rom_run_end_member();
	rom_cost_end(&mark, &turn->spent.cost);
	note_turn(turn, end, GetCurrentTimestamp() - start, disturbed);
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

/*
 * save_turn saves a turn, and tells the observer of it. settle: has the last word, or NULL; false: the turn will be rolled back, and
 * the observer, which knows no subtransactions, is told nothing.
 */
static bool
save_turn(RomTurn *turn, bool (*settle) (void))
{
	bool		first = turn->inst->started_at == 0;
	bool		was_final = ROM_STATUS_IS_FINAL(turn->inst->status) && !turn->out.changed;
	RomCostMark mark;

	turn->out.first = first;
	if (first)
		turn->inst->started_at = Max(rom_now() - turn->spent.cost.us, turn->inst->created_at);
	rom_cost_begin(&mark);
	rom_save_turn(turn);
	rom_cost_end(&mark, &turn->spent.cost);
	if (settle != NULL && !settle())
		return false;
	if (rom_observe_get() != NULL && !was_final)
		rom_observe_get()->turn(turn, first, ROM_STATUS_IS_FINAL(turn->out.status));
	return true;
}

/* claim_turns is the claim() of turns: instances, with what has arrived for them. */
static int
claim_turns(RomRun *run, Oid owner, const pg_uuid_t *ids, int n, RomMember *members, pg_uuid_t *others, int *nothers)
{
	RomInstance *insts[ROM_BATCH_MAX];
	RomTurn    *turns[ROM_BATCH_MAX];
	int			count = rom_claim_instances(ids, n, insts, !run->in_session, run->injected != NULL);

	*nothers = 0;
	for (int i = 0; i < count; i++)
	{
		turns[i] = begin_turn(insts[i], owner, run);

		/*
		 * before the inbox is read: what ends after that wakes the instance
		 * again
		 */
		if (insts[i]->flags & ROM_HAS_TASKS)
			rom_fanin_forget(&insts[i]->id);
		members[i].id = insts[i]->id;
		members[i].of = turns[i];
	}
	if (count > 0)
		rom_claim_inbox(turns, count);
	return count;
}

/* run_member is the run() of turns. */
static void
run_member(RomRun *run, Oid owner, RomMember *member)
{
	RomTurn    *turn = member->of;
	Oid			its_owner = get_role_oid(turn->inst->owner_name, true);
	RomTurnEnd	end;

	if (OidIsValid(its_owner) && its_owner != owner &&
		!ROM_STATUS_IS_FINAL(turn->inst->status))
	{
		/* the role was made anew since it was handed to us */
		rom_wake_ready(&turn->inst->id, its_owner, turn->inst->priority);
		return;
	}
	/* (an outcome is kept by this process alone: it is recorded at once) */
	if (turn->how.apart && is_slow(turn->inst) && !is_decided(turn) && run->injected == NULL &&
		(!run->solo || !rom_ready_enter_slow()))
	{
		rom_wake_slow(&turn->inst->id, owner, turn->inst->priority);
		run->nslow++;
		return;
	}
	end = run_turn(turn, member, member->shares || run->in_block, run->pause_error);
	run->tainted |= turn->out.tainted;
	if (turn->out.raise_error)
		ThrowErrorData(turn->out.raise_error);
	if (end == ROM_TURN_SAVE && rom_arrival() != NULL &&
		(turn->inst->flags & ROM_HAS_SUBSCRIPTIONS) != 0)
		rom_arrival()->pass_on(turn);
	run->slow_ran |= turn->out.slow_ran;
	if (end == ROM_TURN_AGAIN)
	{
		/*
		 * one that was interrupted, maybe for the sake of others, was no
		 * quick one
		 */
		bool		lane = turn->out.slow_next ||
			(run->solo && run->injected == NULL && turn->out.interrupted && turn->how.apart && !rom_ready_enter_slow());

		if (lane)
			run->nslow++;
		else
			run->nalone++;
		if (!run->solo || lane)
			rom_wake_slow(&turn->inst->id, owner, turn->inst->priority);
	}
	else if (end == ROM_TURN_NOTHING)
	{
		/*
		 * woken early: its deadline may have been taken off the list for this
		 * turn
		 */
		if (!TIMESTAMP_NOT_FINITE(turn->inst->wake_at))
			rom_wake_at(&turn->inst->id, owner, turn->inst->priority, turn->inst->wake_at);
	}
	else if (end == ROM_TURN_SAVE)
	{
		member->save = true;
		run->nheld += turn->wait.now != NULL && turn->replay.history.count == turn->replay.stored &&
			strcmp(turn->wait.now->kind, ROM_WAIT_SLOT) == 0;
	}
	run->subxacts += turn->spent.subxacts + 1;
	member->torn = end == ROM_TURN_AGAIN && !turn->out.slow_next;
}

/* save_member is the save() of turns. */
static void
save_member(RomRun *run, RomMember *member)
{
	RomTurn    *turn = member->of;

	(void) save_turn(turn, NULL);
	rom_failures_note(&run->failures, turn);
	run->nsaved++;
	if (turn->out.slow_next && (!run->solo || turn->how.slow_done))
		run->nslow++;
	run->more |= turn->out.goes_on;
	run->procedure = turn->out.procedure;
	if (run->procedure != NULL)
	{
		rom_slot_keep(&turn->inst->id);
		rom_guc_outlast();
	}
	if (run->careful)
		for (int e = turn->replay.history.count - 1; e >= turn->replay.stored; e--)
		{
			RomEvent   *event = turn->replay.history.events[e];

			if (event->type == ROM_EVENT_ACTIVITY_COMPLETED)
				run->last_step = event->step;
			else if (event->type == ROM_EVENT_COMPENSATION_EXECUTED)
				run->last_step = rom_saga_step_id(event->step);
			if (run->last_step != NULL)
				break;
		}
}

static const RomMemberKind turns_kind = {claim_turns, run_member, NULL, save_member};

/* run_members does what rom_run_members() says: first the members of the hook's kind, then turns. */
static void
run_members(RomRun *run, Oid owner, const pg_uuid_t *ids, int n)
{
	const RomMemberKind *kinds[] = {run_hook != NULL ? &run_hook->kind : NULL, &turns_kind};
	TimestampTz start = GetCurrentTimestamp();
	pg_uuid_t	left[ROM_BATCH_MAX];
	int			nleft = n;
	int			done = 0;
	bool		full = false;

	run->nagain = run->nalone = run->nslow = run->nsaved = run->nheld = run->subxacts = 0;
	memcpy(left, ids, n * sizeof(pg_uuid_t));
	for (int k = 0; k < lengthof(kinds) && nleft > 0; k++)
	{
		RomMember	members[ROM_BATCH_MAX];
		pg_uuid_t	others[ROM_BATCH_MAX];
		int			nothers;
		int			count;
		int			before = done;

		if (kinds[k] == NULL)
			continue;
		memset(members, 0, sizeof(members));
		count = kinds[k]->claim(run, owner, left, nleft, members, others, &nothers);
		for (int i = 0; i < count; i++)
		{
			RomMember  *member = &members[i];
			int			saved = run->nsaved;

			if (full)
			{
				run->again[run->nagain++] = member->id;
				continue;
			}
			member->place = place_of(&member->id, ids, n);
			member->shares = count > 1 || before > 0 || nothers > 0;
			member->others_wait = !run->solo && (done > 0 || i < count - 1 || nothers > 0);
			kinds[k]->run(run, owner, member);
			done += run->nsaved - saved + member->save;
			full = member->torn || run->subxacts > ROM_SUBXACTS_MAX || run->tainted ||
				(MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0 ||
				(!run->in_block &&
				 TimestampDifferenceExceeds(start, GetCurrentTimestamp(), ROM_BATCH_BUDGET_MS));
		}
		if (kinds[k]->ran != NULL)
			kinds[k]->ran();
		for (int i = 0; i < count; i++)
			if (members[i].save)
				kinds[k]->save(run, &members[i]);
		memcpy(left, others, nothers * sizeof(pg_uuid_t));
		nleft = nothers;
	}
}

void
rom_run_members(RomRun *run, Oid owner, const pg_uuid_t *ids, int n)
{
	rom_distributed_begin();
	run_members(run, owner, ids, n);
	rom_turnstile_settle(ids, n);
}

bool
rom_run_eager(RomRun *run, RomInstance *inst, Oid owner, bool (*can_save) (void), bool (*settle) (void), Jsonb **output)
{
	RomTurn    *turn = begin_turn(inst, owner, run);
	RomMember	member;
	RomTurnEnd	end;

	memset(&member, 0, sizeof(member));
	member.others_wait = true;
	rom_distributed_begin();
	end = run_turn(turn, &member, false, NULL);
	run->tainted = turn->out.tainted;
	run->interrupt = turn->out.raise_error;
	if (end != ROM_TURN_SAVE || turn->out.status != ROM_STATUS_COMPLETED || turn->out.slow_ran || run->tainted ||
		run->interrupt != NULL || !can_save())
		return false;
	if (!save_turn(turn, settle))
		return false;
	*output = turn->out.output;
	return true;
}
