/*-------------------------------------------------------------------------
 *
 * evaluate.c
 *		One evaluation of a handler.
 *
 * The handler is an ordinary function that is run from the top in every
 * evaluation; rom_call_step() answers each of its calls from history. A call
 * that history does not answer is carried out
 *
 * - inside the evaluation (the inline path), when the turn is expected to run
 *   through without waiting: the evaluation's subtransaction is then kept; or
 * - after unwinding the evaluation with an error and rolling its
 *   subtransaction back (step by step); then the handler is run from the top
 *   again.
 *
 * The unwind is SQLSTATE 57014, which PL/pgSQL's "when others" lets through,
 * but other languages catch everything. So turn->eval.unwinding decides, not the
 * SQLSTATE: while it is up every call raises again, and whatever the handler
 * returns or raises is dropped.
 *
 * In the inline path a rollback under the evaluation (an exception block of
 * the handler) takes back what steps in it did, while their events would stay.
 * sub_aborted() sees that and abandons the evaluation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "memory/slot.h"
#include "memory/suspect.h"
#include "memory/xact.h"
#include "turn/ahead.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/evaluate.h"
#include "turn/guc.h"
#include "turn/identity.h"
#include "turn/limit.h"
#include "turn/quiet.h"
#include "turn/replay.h"


/*
 * With at least AHEAD_STEPS_MIN steps before a wait it may pay to run them twice, inline and ahead: if
 * that takes less time than to replay the handler once for each, at this many microseconds for a
 * call.
 */
#define AHEAD_STEPS_MIN	100
#define REPLAY_US		1.0

/* Does a turn of a version that begins after a given number of steps run through without waiting? */
typedef struct HintKey
{
	int32		def_id;
	int32		steps;
} HintKey;

typedef struct HintEntry
{
	HintKey		key;
	float		lost;			/* share of turns, of late, that an inline
								 * evaluation would have lost */
	bool		ahead;			/* waits, but after so many steps that it pays
								 * to run them inline first (ahead.c) */
	int			uses;
} HintEntry;

/*
 * An inline evaluation assumes that the turn runs through. It is tried while the share of such
 * turns that did not is below this limit. A wait is a property of the version, so its weight is
 * that of all earlier turns together. A failure is a property of one instance: a few failures do
 * not change the decision for others.
 */
#define LOST_MAX		0.5
#define WEIGHT_WAIT		0.5
#define WEIGHT_FAILURE	(1.0 / 16)
#define WEIGHT_THROUGH	(1.0 / 8)

static HTAB *hints = NULL;

/* steps carried out before each nest level's subtransaction began, for sub_aborted() */
#define NEST_MAX 64
static int	steps_at_start[NEST_MAX];

/* inside: is this the level of a subtransaction under an inline evaluation? */
static bool
inside(int level)
{
	RomTurn    *turn = rom_context_turn;

	return turn != NULL && turn->eval.active && turn->eval.inlined && level > turn->eval.nest;
}

static void
sub_began(int level)
{
	if (inside(level) && level < NEST_MAX)
		steps_at_start[level] = rom_context_turn->eval.inline_steps;
}

/* sub_aborted notices that a part of an inline evaluation that ran steps is rolled back. */
static void
sub_aborted(int level)
{
	if (inside(level) &&
		(level >= NEST_MAX || rom_context_turn->eval.inline_steps > steps_at_start[level]))
		rom_context_end(rom_context_turn, ROM_EVAL_ABANDONED);
}

void
rom_evaluate_init(void)
{
	static const RomXactPart part = {
		.name = "steps under an exception block of a handler",
		.order = ROM_XACT_WATCH,
		.sub_began = sub_began,
		.sub_aborted = sub_aborted,
	};

	rom_xact_register(&part);
}

/* ---------------------------------------------------------------- evaluation */

/* call_handler calls the workflow's function with the instance's input and copies the result. */
static Jsonb *
call_handler(RomTurn *turn, FmgrInfo *flinfo)
{
	LOCAL_FCINFO(fcinfo, 1);
	ErrorContextCallback cancels;
	Datum		result;
	Jsonb	   *copy;

	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(turn->inst->input);
	fcinfo->args[0].isnull = turn->inst->input == NULL;
	rom_limit_heed_outside(&cancels);
	result = FunctionCallInvoke(fcinfo);
	rom_limit_unheed_cancel(&cancels);
	if (fcinfo->isnull)
		copy = rom_jb_null_document();
	else
		copy = DatumGetJsonbP(result);
	return rom_context_copy_jsonb(turn, copy);
}

/* judge decides what an evaluation that ended (returned, or raised edata) means. */
static RomEvaluation
judge(RomTurn *turn, ErrorData *edata)
{
	if (turn->out.tainted && turn->out.fail_error)
		return ROM_EVAL_FAIL;	/* torn out: nothing of it may run here again */
	if (rom_slot_cancelled())
	{
		turn->out.tainted |= rom_limit_torn();
		return ROM_EVAL_AGAIN;
	}
	if (rom_limit_is_outside(edata))
	{
		turn->out.tainted |= rom_limit_torn();
		if (turn->how.in_session)
			turn->out.raise_error = rom_limit_outside_error(edata);
		return ROM_EVAL_AGAIN;
	}
	switch (rom_limit_fired())
	{
		case ROM_LIMIT_NONE:
		case ROM_LIMIT_CANCEL:	/* (while the slot is cancelled or
								 * interrupted, see above) */
			break;
		case ROM_LIMIT_BATCH:
		case ROM_LIMIT_ACTIVITY:
			if (rom_limit_torn())
			{
				/* again in another process: alone, and step by step */
				turn->out.tainted = true;
				rom_suspect_add(&turn->inst->id);
				return ROM_EVAL_AGAIN;
			}
			/* in an inlined activity: it fails by itself, step by step */
			return rom_limit_fired() == ROM_LIMIT_BATCH ? ROM_EVAL_AGAIN : ROM_EVAL_ABANDONED;
		case ROM_LIMIT_EXECUTION:
		case ROM_LIMIT_EVALUATION:
			if (rom_limit_fired_count() > 15)
				turn->out.tainted = true;
			if (rom_limit_fired() == ROM_LIMIT_EXECUTION)
				turn->out.fail_error = rom_error_make(ERRCODE_ROM_TIMEOUT,
													  psprintf("workflow \"%s\" exceeded its execution_timeout",
															   turn->inst->workflow),
													  NULL, NULL, NULL);
			else
				turn->out.fail_error = rom_error_make(ERRCODE_ROM_LIMIT,
													  psprintf("handler of workflow \"%s\" ran %d ms without reaching a step",
															   turn->inst->workflow, rom_guc_evaluation_timeout),
													  NULL,
													  "Move long work into an activity, or raise romancy.evaluation_timeout.",
													  NULL);
			return ROM_EVAL_FAIL;
	}
	if (turn->eval.end != ROM_EVAL_RETURNED)
		return turn->eval.end;
	return edata ? ROM_EVAL_ERROR : ROM_EVAL_RETURNED;
}

/*
 * lacks_usage: was the right to use romancy taken from the instance's owner? Then its handler's error is none of the
 * program's: the instance waits, paused, for the right.
 */
static bool
lacks_usage(const RomTurn *turn)
{
	Oid			schema = get_namespace_oid("romancy", true);

	return OidIsValid(schema) &&
		rom_namespace_aclcheck(schema, turn->owner, ACL_USAGE) != ACLCHECK_OK;
}

/* begin forgets what belongs to the evaluation before. handler: the handler runs, and not only its steps (ahead.h). */
static void
begin(RomTurn *turn, bool inlined, bool handler)
{
	turn->replay.cursor = 0;
	turn->eval.counters = NULL;
	turn->eval.given_step = NULL;
	turn->eval.used = NULL;
	turn->eval.call = NULL;
	turn->wait.now = NULL;
	turn->wait.over = false;
	turn->eval.unwinding = false;
	turn->eval.end = ROM_EVAL_RETURNED;
	turn->eval.swallowed = 0;
	turn->eval.inline_steps = 0;
	turn->eval.spawned = 0;
	turn->eval.inlined = inlined;
	turn->eval.number++;
	rom_slot_forget_interrupt();
	if (inlined && handler)
		rom_ahead_begin(turn);
}

RomEvaluation
rom_evaluate(RomTurn *turn, FmgrInfo *flinfo, bool inlined, Jsonb **output,
			 ErrorData **edata)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RomTurn    *outer = rom_context_turn;
	RomActivityRun *outer_run = rom_context_activity;
	sigjmp_buf *outer_tear_out = rom_context_tear_out;
	volatile RomEvaluation result = ROM_EVAL_ERROR;
	RomIdentity identity;
	RomUserCode code;
	RomQuiet	quiet = {client_min_messages, log_min_messages};
	RomLimit	limits[2];
	RomLimit	before;
	bool		outer_override = rom_spi_override_read_only;
	int			history_count = turn->replay.history.count;
	int			program_count = turn->replay.program.count;
	int			nattempts = turn->spent.nattempts;
	TimestampTz start;

	begin(turn, inlined, flinfo != NULL);
	*output = NULL;
	*edata = NULL;

	limits[0].kind = rom_guc_evaluation_timeout > 0 && flinfo != NULL ?
		ROM_LIMIT_EVALUATION : ROM_LIMIT_NONE;
	limits[0].at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   rom_guc_evaluation_timeout);
	limits[1].kind = ROM_LIMIT_EXECUTION;
	limits[1].at = rom_clock_wall(turn->inst->deadline);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	turn->eval.nest = GetCurrentTransactionNestLevel();
	rom_context_turn = turn;
	rom_spi_override_read_only = true;
	turn->eval.active = true;
	start = GetCurrentTimestamp();
	before = rom_limit_arm(limits, 2);

	PG_TRY();
	{
		Jsonb	   *value = NULL;

		rom_context_tear_out = PG_exception_stack;
		rom_limit_tear_out = PG_exception_stack;
		rom_identity_enter(&identity, turn->owner, turn->workflow->search_path,
						   turn->inst->settings, true);
		PushActiveSnapshot(GetTransactionSnapshot());
		rom_quiet_begin(turn, &quiet);
		rom_context_push(&code, &turn->inst->id, turn->inst->workflow, NULL);
		if (flinfo != NULL)
			value = call_handler(turn, flinfo);
		else
			rom_ahead_run(turn);
		rom_context_pop(&code);
		turn->eval.active = false;
		result = judge(turn, NULL);
		if (result == ROM_EVAL_RETURNED)
		{
			*output = value;
			if (turn->replay.cursor < turn->replay.program.count)
			{
				/* it ended before what history holds */
				rom_call_mismatch(turn, "its end", rom_replay_peek(turn), "another step", "");
				result = ROM_EVAL_PAUSE;
			}
		}
		PopActiveSnapshot();
		rom_identity_leave(&identity);
		if (inlined && result == ROM_EVAL_RETURNED)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *copy;

		HOLD_INTERRUPTS();
		turn->eval.active = false;
		rom_context_activity = outer_run;	/* torn out of one, it was not
											 * reset */
		MemoryContextSwitchTo(turn->cxt);
		copy = rom_error_take();
		result = judge(turn, copy);
		if (copy->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION && copy->hint == NULL)
			copy->hint = pstrdup("A workflow's handler only decides and may be run many times: write in an activity, a function of its own that the handler calls with romancy.activity().");
		*edata = copy;
		rom_spi_torn_out();
		/* torn out, the handler's own subtransactions are still there */
		while (GetCurrentTransactionNestLevel() >= turn->eval.nest)
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(turn->cxt);
		if (result == ROM_EVAL_ERROR && copy->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && lacks_usage(turn))
		{
			turn->out.pause_error = rom_error_to_jsonb(copy);
			result = ROM_EVAL_PAUSE;
		}
		if (result == ROM_EVAL_ERROR && turn->replay.cursor < turn->replay.program.count)
		{
			/* before, it went on from here */
			rom_call_mismatch(turn, psprintf("its end with an error (%s: %s)",
											 unpack_sql_state(copy->sqlerrcode), copy->message),
							  rom_replay_peek(turn), "an error", "");
			result = ROM_EVAL_PAUSE;
		}
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	rom_context_tear_out = outer_tear_out;
	rom_limit_tear_out = outer_tear_out;
	rom_limit_reset();
	rom_limit_restore(before);
	rom_quiet_end(turn, &quiet, flinfo != NULL);
	rom_context_turn = outer;
	rom_spi_override_read_only = outer_override;

	if (inlined)
		turn->eval.inline_us = GetCurrentTimestamp() - start;
	if (turn->out.pause_error)
		turn->out.pause_error = rom_context_copy_jsonb(turn, turn->out.pause_error);
	if (turn->out.fail_error)
		turn->out.fail_error = rom_context_copy_jsonb(turn, turn->out.fail_error);

	/* what an inline evaluation recorded went with its subtransaction */
	if (inlined && result != ROM_EVAL_RETURNED)
	{
		turn->replay.history.count = history_count;
		turn->replay.program.count = program_count;
		turn->spent.nattempts = nattempts;
		turn->out.pure_events = NIL;
		if (turn->replay.steps != NULL)
		{
			/* scheduled by it as well: file anew */
			turn->replay.steps = NULL;
			turn->replay.program.count = 0;
			for (int i = 0; i < turn->replay.history.count; i++)
				rom_replay_index(turn, turn->replay.history.events[i]);
		}
	}
	return result;
}

/* ---------------------------------------------------------------- hints */

/* hint_entry finds (or makes) the entry for turns of this version that begin after this many steps. */
static HintEntry *
hint_entry(RomTurn *turn, bool *found)
{
	HintKey		key;

	if (hints == NULL || hash_get_num_entries(hints) > 10000)
	{
		HASHCTL		ctl;

		if (hints)
			hash_destroy(hints);
		ctl.keysize = sizeof(HintKey);
		ctl.entrysize = sizeof(HintEntry);
		ctl.hcxt = TopMemoryContext;
		hints = hash_create("romancy inline hints", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	key.def_id = turn->inst->def_id;
	key.steps = turn->replay.stored;
	return hash_search(hints, &key, HASH_ENTER, found);
}

/* hint_reset: nothing is known. */
static void
hint_reset(HintEntry *hint)
{
	hint->lost = 0;
	hint->ahead = false;
	hint->uses = 0;
}

bool
rom_evaluate_through(RomTurn *turn)
{
	HintEntry  *hint;
	bool		found;

	if (turn->how.careful || turn->how.injected != NULL || rom_suspect_is(&turn->inst->id))
		return false;
	if (rom_guc_turn_mode == ROM_TURN_MODE_STEP)
		return false;
	if (rom_guc_turn_mode == ROM_TURN_MODE_INLINE)
		return true;
	if (turn->wait.before != NULL && turn->wait.before->status == ROM_STATUS_WAITING_ACTIVITY)
		return false;			/* a retry: its attempts are counted step by
								 * step */
	hint = hint_entry(turn, &found);
	if (!found)
		hint_reset(hint);
	/* look again now and then: code changes */
	if (hint->lost >= LOST_MAX && ++hint->uses >= 1000)
	{
		hint->uses = 0;
		return true;
	}
	return hint->lost < LOST_MAX || hint->ahead;
}

void
rom_evaluate_note(RomTurn *turn, RomBetEnd end, bool ahead)
{
	bool		found;
	HintEntry  *hint = hint_entry(turn, &found);
	double		steps = turn->eval.inline_steps;

	if (!found)
		hint_reset(hint);
	switch (end)
	{
		case ROM_BET_THROUGH:
			hint->lost -= hint->lost * WEIGHT_THROUGH;
			break;
		case ROM_BET_WAIT:
			hint->lost += (1 - hint->lost) * WEIGHT_WAIT;
			break;
		case ROM_BET_FAILURE:
			hint->lost += (1 - hint->lost) * WEIGHT_FAILURE;
			return;				/* tells nothing of waits */
	}
	hint->ahead = ahead && steps >= AHEAD_STEPS_MIN &&
		turn->eval.inline_us < steps * steps / 2 * REPLAY_US;
}
