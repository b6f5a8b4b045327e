/*-------------------------------------------------------------------------
 *
 * drain.c
 *		Running everything that is ready in the caller's session.
 *
 * Outside a transaction block each turn is committed; inside one
 * nothing is, and every turn runs in a subtransaction, so that a test can
 * roll all of it back. Only instances of the calling role are run: a session
 * may be prepared (temporary tables, settings), and that must not reach
 * another role's work.
 *
 * Beside workers, outside a transaction block: the drain runs the instances
 * that it makes ready itself (memory/hold.c), waits for those that a worker of
 * the same role is running, and returns when nothing is ready. So its result
 * does not depend on whether there are workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/spi.h"
#include "instances/inbox.h"
#include "memory/hold.h"
#include "memory/slot.h"
#include "memory/suspect.h"
#include "memory/waiter.h"
#include "run/batch.h"
#include "run/borrowed.h"
#include "run/drain.h"
#include "run/failures.h"
#include "run/run.h"
#include "steps/throttle.h"
#include "turn/arrival.h"
#include "turn/limit.h"

/* So many are looked for at a time: each look reads all that are due, for their priority. */
#define FIND_MAX 256

/* Attempts at a turn of one instance. */
#define TRIES 5

/* A turn goes on in so many transactions, one for each step that is not known to be quick, before the others have theirs and it goes on. */
#define GOES_ON_MAX 100

/* A drain under way. */
typedef struct Drain
{
	MemoryContext cxt;
	Oid			owner;
	char	   *owner_name;
	bool		in_block;
	bool		advance_time;
	int64		max_turns;		/* 0: no limit */
	int64		turns;
	int64		held;			/* of them, only to wait for a slot that
								 * another process holds */
	int64		went_on;		/* transactions of turns that were counted
								 * before */
	pg_uuid_t	cut[FIND_MAX];	/* whose turns are to go on after the others
								 * had theirs */
	int			ncut;
	TimestampTz looked_at;		/* instances that were due by then were found */
	int			fired;			/* sources that handled something at the last
								 * look */
	pg_uuid_t	arrived[FIND_MAX];	/* for which something had come, and who
									 * were run */
	int			narrived;
} Drain;

static bool draining = false;

/* The function that starts other work that is due, or NULL. */
static const RomDrainSource *source = NULL;

void
rom_drain_register(const RomDrainSource *new_source)
{
	source = new_source;
}

/* find_ready fills ids with tasks (unless they are left out) or instances of the owner that are due (or have something in the inbox). */
static int
find_ready(Drain *d, pg_uuid_t *ids, int max, bool tasks)
{
	static RomStatement due = {
		"SELECT instance_id FROM romancy.t_instance"
		" WHERE wake_at <= $2 AND owner = $1 ORDER BY priority DESC, wake_at, instance_id LIMIT $3",
		3, {TEXTOID, TIMESTAMPTZOID, INT4OID}
	};
	static RomStatement arrived = {
		"SELECT DISTINCT b.instance_id FROM romancy.t_inbox b"
		" JOIN romancy.t_instance i USING (instance_id) WHERE i.owner = $1"

		/*
		 * a paused one takes nothing but requests (kinds up to
		 * ROM_INBOX_RESUME); what another transaction had is not looked for
		 * in circles
		 */
		" AND (i.status <> 'paused' OR b.kind <= " ROM_SQL_INBOX_RESUME ")"
		" AND (b.kind <> " ROM_SQL_INBOX_LOOK_AGAIN " OR b.created_at < pg_catalog.clock_timestamp() - interval '1 s') LIMIT $2",
		2, {TEXTOID, INT4OID}
	};
	RomEngine	engine;
	Datum		values[3];
	int			n = 0;
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	d->fired = source != NULL ? source->fire(d->owner_name, d->max_turns == 0) : 0;
	rom_engine_begin(&engine);
	d->looked_at = rom_now();

	/*
	 * tasks first: an instance with some of its results in the inbox is not
	 * worth a turn yet
	 */
	if (rom_run_hook() != NULL && tasks)
		n = rom_run_hook()->find(d->owner_name, d->looked_at, ids, max);
	if (n > 0)
	{
		rom_engine_end(&engine);
		return n;
	}
	values[0] = CStringGetTextDatum(d->owner_name);
	values[1] = Int32GetDatum(max);
	rows = rom_execute_rows(&set, &arrived, values, NULL, 0);
	for (uint64 i = 0; i < rows && n < max; i++)
		ids[n++] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
	if (n == 0)
	{
		values[1] = TimestampTzGetDatum(d->looked_at);
		values[2] = Int32GetDatum(max);
		rows = rom_execute_rows(&set, &due, values, NULL, 0);
		for (uint64 i = 0; i < rows && n < max; i++)
			ids[n++] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
	}
	if (n > 0)
		d->narrived = 0;
	else if (rom_arrival() != NULL)
	{
		n = rom_arrival()->find(d->owner_name, ids, max);
		/* the same again: they do not want it now */
		if (n == d->narrived && memcmp(d->arrived, ids, n * sizeof(pg_uuid_t)) == 0)
			n = 0;
		d->narrived = n;
		memcpy(d->arrived, ids, n * sizeof(pg_uuid_t));
	}
	rom_engine_end(&engine);
	return n;
}

/*
 * advance moves the clock to the owner's next timer; false when there is none. The next one after
 * what find_ready() looked at, that is: it may be due by now, without any help. Sources that would start nothing
 * again (a schedule whose run lives on) are no reason to advance; but where there is one, their times on the way are not left out.
 */
static bool
advance(Drain *d)
{
	static RomStatement next = {
		"SELECT wake_at FROM romancy.t_instance WHERE wake_at > $2 AND wake_at < 'infinity'"
		" AND owner = $1 ORDER BY wake_at LIMIT 1",
		2, {TEXTOID, TIMESTAMPTZOID}
	};
	RomEngine	engine;
	Datum		values[2];
	TimestampTz due = DT_NOEND;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(d->owner_name);
	values[1] = TimestampTzGetDatum(d->looked_at);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &next, values, NULL, 1) > 0)
	{
		bool		isnull;

		due = DatumGetTimestampTz(rom_value(&set, 0, 1, &isnull));
	}
	if (rom_run_hook() != NULL)
		due = Min(due, rom_run_hook()->next_due(d->owner_name, d->looked_at));
	if (source != NULL && (due != DT_NOEND || source->next_due(d->owner_name, d->looked_at, true) != DT_NOEND))
		due = Min(due, source->next_due(d->owner_name, d->looked_at, false));
	rom_engine_end(&engine);
	if (due == DT_NOEND)
		return false;
	rom_clock_advance(due);
	return true;
}

/*
 * leave_interpreter ends a session in which a handler was torn out of PL/Python's
 * interpreter: the next function in that language would take the server down. (Other
 * languages bear it. An executor leaves in any case.)
 */
static void
leave_interpreter(const RomRun *run)
{
	if (run->tainted && *find_rendezvous_variable("plpython_version_bitmask") != NULL)
		ereport(FATAL,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("terminating connection because a workflow's handler did not let itself be unwound"),
				 errdetail("PL/Python cannot be used any more in a session in which that happened."),
				 errhint("Do not catch query_canceled (57014) in a handler.")));
}

/* run_block runs turns inside the caller's transaction. */
static int
run_block(Drain *d, const pg_uuid_t *ids, int n)
{
	int			turns = 0;

	for (int i = 0; i < n; i++)
	{
		/* until its turn is over: a batch's limits do not apply here */
		for (int try = 0; try < 3; try++)
		{
			RomRun		run;

			memset(&run, 0, sizeof(run));
			run.in_session = run.in_block = true;
			run.solo = true;
			rom_borrowed_begin(d->owner);
			rom_run_members(&run, d->owner, &ids[i], 1);
			rom_borrowed_end();
			leave_interpreter(&run);
			CommandCounterIncrement();
			turns += run.nsaved;
			d->held += run.nheld;
			if (run.nalone == 0)
			{
				rom_suspect_clear(&ids[i]);
				break;
			}
		}
	}
	return turns;
}

/* note_cut notes that the turn of an instance goes on later. (There is no place: its rest counts as another turn.) */
static void
note_cut(Drain *d, const pg_uuid_t *id)
{
	if (d->ncut < FIND_MAX)
		d->cut[d->ncut++] = *id;
}

/* take_cut: is that so? It is no more. */
static bool
take_cut(Drain *d, const pg_uuid_t *id)
{
	for (int i = 0; i < d->ncut; i++)
		if (memcmp(&d->cut[i], id, sizeof(pg_uuid_t)) == 0)
		{
			d->cut[i] = d->cut[--d->ncut];
			return true;
		}
	return false;
}

/* run_apart runs a step that is not transactional; NULL: of an instance that was cancelled, which the next turn sees. */
static RomInjected *
run_apart(Drain *d, const pg_uuid_t *id, RomProcedure *procedure)
{
	RomInjected *outcome;

	rom_slot_begin(id, 1);
	rom_slot_member_begin(0);
	outcome = rom_procedure_run(procedure, d->owner, true, d->cxt);
	outcome->step = MemoryContextStrdup(d->cxt, outcome->step);
	outcome->cancelled = outcome->failed && (rom_slot_cancelled() || outcome->limit == ROM_LIMIT_EXECUTION);
	if (outcome->cancelled)
	{
		outcome->interrupt = NULL;
		if (!procedure->of_task)
			outcome = NULL;
	}
	rom_slot_member_end();
	rom_slot_end();
	return outcome;
}

/*
 * begin_anew takes the error of a turn, and the turn's transaction away. (SPI_rollback() would act on a connection that the error
 * left behind.)
 */
static ErrorData *
begin_anew(Drain *d)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(d->cxt);
	edata = rom_error_take();
	rom_borrowed_reset();
	AbortCurrentTransaction();
	StartTransactionCommand();
	MemoryContextSwitchTo(d->cxt);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	return edata;
}

/* commit_failure makes a failed commit the failure of the step that ran last. */
static RomInjected *
commit_failure(Drain *d, const RomRun *run, ErrorData *edata)
{
	RomInjected *outcome = MemoryContextAllocZero(d->cxt, sizeof(RomInjected));

	outcome->step = MemoryContextStrdup(d->cxt, run->last_step);
	outcome->failed = true;
	outcome->error = edata;
	return outcome;
}

/*
 * run_committed runs turns of one instance in transactions that are committed. Those that a step
 * that is not known to be quick adds count as one turn, or max_turns would depend on what is known.
 * The memory of a transaction, with history and values, goes with it; d->cxt has what the next one is given.
 */
static int
run_committed(Drain *d, const pg_uuid_t *id)
{
	MemoryContext cxt = AllocSetContextCreate(d->cxt, "romancy drain transaction", ALLOCSET_DEFAULT_SIZES);
	volatile int went_on = 0;
	volatile bool goes_on = take_cut(d, id);
	RomInjected *volatile injected = NULL;
	ErrorData  *volatile interrupt = NULL;
	volatile bool careful = false;
	volatile int turns = 0;

	for (volatile int try = 0; try < TRIES; try++)
	{
		RomRun	   *run;
		RomInjected *given = injected;
		volatile bool committing = false;
		volatile bool failed = false;

		MemoryContextReset(cxt);
		run = MemoryContextAllocZero(cxt, sizeof(RomRun));
		run->in_session = run->solo = true;
		run->careful = careful;
		run->injected = given;
		injected = NULL;
		rom_slot_begin(id, 1);
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			PushActiveSnapshot(GetTransactionSnapshot());
			rom_borrowed_begin(d->owner);
			rom_run_members(run, d->owner, id, 1);
			rom_borrowed_end();
			PopActiveSnapshot();
			committing = true;
			SPI_commit();
		}
		PG_CATCH();
		{
			ErrorData  *edata;

			MemoryContextSwitchTo(d->cxt);
			rom_limit_reset();
			rom_slot_member_end();
			failed = true;
			if (!committing)
			{
				if (given == NULL || try == TRIES - 1)
				{
					rom_slot_end();
					PG_RE_THROW();
				}

				/*
				 * what the step has done is done: its outcome has to be
				 * recorded
				 */
				edata = begin_anew(d);
				if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED && interrupt == NULL)
					interrupt = edata;
				injected = given;
			}
			else
			{
				edata = CopyErrorData();
				FlushErrorState();	/* SPI_commit() has rolled back and begun
									 * anew */
				if (given != NULL && given->outside ? try == TRIES - 1 : careful && run->last_step == NULL)
				{
					rom_slot_end();
					ReThrowError(edata);
				}
				injected = careful && (given == NULL || !given->outside) ? commit_failure(d, run, edata) : given;
				careful = true;
			}
		}
		PG_END_TRY();
		rom_slot_end();
		MemoryContextSwitchTo(d->cxt);
		leave_interpreter(run);
		if (failed)
			continue;
		rom_failures_log(&run->failures);
		if (goes_on)
			d->went_on += run->nsaved;
		else
		{
			turns += run->nsaved;
			d->held += run->nheld;
		}
		if (interrupt != NULL)
			break;				/* recorded; a step that was announced runs
								 * later */
		if (run->procedure != NULL && run->nsaved > 0)
		{
			injected = run_apart(d, id, run->procedure);

			/*
			 * what it has done is not known: it is recorded as a failed
			 * attempt, and then the call fails
			 */
			if (injected != NULL)
				interrupt = injected->interrupt;
			try = -1;
			continue;
		}
		goes_on = run->more;
		if (goes_on && ++went_on < GOES_ON_MAX)
		{
			CHECK_FOR_INTERRUPTS();
			try = -1;
			continue;
		}
		if (goes_on)
			note_cut(d, id);
		if (run->nalone == 0)
		{
			rom_suspect_clear(id);
			break;
		}
		injected = run->injected;
	}
	rom_slot_unkeep();
	rom_throttle_release();
	MemoryContextDelete(cxt);
	if (interrupt != NULL)
		ThrowErrorData(interrupt);
	return turns;
}

/* others_work: does a worker, or another session, run an instance of the owner now? In a transaction block the answer is always no. */
static bool
others_work(const Drain *d)
{
	return !d->in_block && rom_slot_owner_busy(d->owner);
}

/*
 * wait_for_others returns when another process has ended an instance of the owner that it was running. No snapshot,
 * and no lock, is held meanwhile.
 */
static void
wait_for_others(const Drain *d)
{
	SPI_commit();
	MemoryContextSwitchTo(d->cxt);
	PG_TRY();
	{
		rom_waiter_register(rom_slot_owner_key(d->owner));
		if (others_work(d))
			(void) rom_waiter_sleep(DT_NOEND);
	}
	PG_FINALLY();
	{
		rom_waiter_unregister();
	}
	PG_END_TRY();
}

/* look finds what is ready, with a snapshot of its own outside a transaction block. */
static int
look(Drain *d, pg_uuid_t *ids, int max, bool tasks)
{
	int			n;

	if (!d->in_block)
		PushActiveSnapshot(GetTransactionSnapshot());
	n = find_ready(d, ids, max, tasks);
	if (!d->in_block)
		PopActiveSnapshot();
	return n;
}

/* look_later advances the clock to what is due next, and finds it: past times at which a source starts nothing. False: nothing is. */
static bool
look_later(Drain *d, pg_uuid_t *ids, int max, int *n)
{
	bool		advanced;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!d->in_block)
			PushActiveSnapshot(GetTransactionSnapshot());
		advanced = advance(d);
		if (!d->in_block)
			PopActiveSnapshot();
		if (advanced)
			*n = look(d, ids, max, true);
	} while (advanced && *n == 0 && d->fired > 0);
	return advanced;
}

/* find finds what is to run next: what is ready, or of max_turns nothing is left, and the turns that were counted and cut go on. */
static int
find(Drain *d, pg_uuid_t *ids, int max)
{
	if (max > 0)
		return look(d, ids, max, true);
	memcpy(ids, d->cut, d->ncut * sizeof(pg_uuid_t));
	return d->ncut;
}

/* run_found runs what was found, and returns how many turns that came to. */
static int
run_found(Drain *d, const pg_uuid_t *ids, int n)
{
	int			turns = 0;

	if (d->in_block)
		return run_block(d, ids, n);
	for (int i = 0; i < n; i++)
		turns += run_committed(d, &ids[i]);
	return turns;
}

/* drain runs until nothing is ready. False: the turns were used up before, or it is not known who runs the instances that are ready. */
static bool
drain(Drain *d)
{
	pg_uuid_t	ids[FIND_MAX];
	int			idle = 0;

	for (;;)
	{
		int			max = FIND_MAX;
		int			n;
		int			turns;
		bool		advanced = false;
		bool		others;

		CHECK_FOR_INTERRUPTS();
		if (d->max_turns > 0)
			max = Min(max, d->max_turns - d->turns);
		if (max <= 0 && d->ncut == 0)
			return false;
		MemoryContextSwitchTo(d->cxt);

		/* work that they end from here on is found by the read of the tables */
		others = others_work(d);
		n = find(d, ids, max);
		if (n == 0 && others)
		{
			wait_for_others(d);
			continue;
		}
		if (n == 0 && d->advance_time)
			advanced = look_later(d, ids, max, &n);
		if (n == 0)
			return true;
		d->held = d->went_on = 0;
		turns = run_found(d, ids, n);
		if (turns == 0 && d->went_on == 0 && max > 0)
		{
			/*
			 * tasks that other processes are running: the instances beside
			 * them
			 */
			n = look(d, ids, max, false);
			turns = run_found(d, ids, n);
		}
		d->turns += turns;
		if (turns + d->went_on > 0 && source != NULL)
			source->ran();

		/* others that run the work they wait for use the wall clock */
		if (advanced)
			turns -= d->held;
		if (turns + d->went_on > 0)
			idle = 0;
		else if (others_work(d))
			wait_for_others(d);
		else if (++idle >= 3)
			return false;		/* it goes round in circles */
		if (!d->in_block)
			MemoryContextReset(d->cxt);
	}
}

PG_FUNCTION_INFO_V1(romancy_drain);

/*
 * romancy.drain(max_turns int, advance_time boolean, inout turns bigint), a procedure
 *
 * max_turns: null for no limit. advance_time: timers count as due, earliest first. turns: how many turns were run.
 * Errors: RM004 inside a handler or an activity; RM010 for a non-transactional activity in a transaction block; 42501
 * in a function of another role, or for what only a session of the owner's may run (borrowed.c).
 */
Datum
romancy_drain(PG_FUNCTION_ARGS)
{
	Drain		d = {0};
	volatile bool nothing_left = false;
	Oid			userid;
	int			sec_context;
	MemoryContext caller = CurrentMemoryContext;

	if (rom_context_turn != NULL || rom_context_activity != NULL || draining)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("romancy.drain() cannot be called inside a workflow, an activity or another drain")));
	GetUserIdAndSecContext(&userid, &sec_context);
	if (sec_context != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("romancy.drain() cannot be called inside a SECURITY DEFINER function"),
				 errhint("Call it from the top level of a session.")));
	d.in_block = !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
				   !castNode(CallContext, fcinfo->context)->atomic);
	d.max_turns = rom_arg_int32_opt(fcinfo, 0, 0);
	d.advance_time = rom_arg_bool_opt(fcinfo, 1, false);
	if (!PG_ARGISNULL(0) && d.max_turns <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_turns\" must be greater than zero")));
	d.owner = userid;
	d.cxt = AllocSetContextCreate(d.in_block ? CurrentMemoryContext : TopMemoryContext,
								  "romancy drain", ALLOCSET_DEFAULT_SIZES);
	draining = true;
	(void) rom_slot_attach();
	PG_TRY();
	{
		d.owner_name = MemoryContextStrdup(caller, GetUserNameFromId(userid, false));
		if (!d.in_block)
		{
			SPI_connect_ext(SPI_OPT_NONATOMIC);
			rom_hold_begin(d.owner);
		}
		if (source != NULL)
			source->begin();
		nothing_left = drain(&d);
		if (!d.in_block)
			SPI_finish();
	}
	PG_FINALLY();
	{
		draining = false;
		rom_hold_end(nothing_left);
		rom_borrowed_reset();
		rom_throttle_clock_reset();
		rom_clock_reset();
		rom_limit_reset();
		rom_throttle_release();
		rom_slot_detach();
		MemoryContextSwitchTo(caller);
		if (!d.in_block)
			MemoryContextDelete(d.cxt);
	}
	PG_END_TRY();
	{
		TupleDesc	tupdesc;
		Datum		values[1];
		bool		nulls[1] = {false};

		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		values[0] = Int64GetDatum(d.turns);
		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
	}
}
