/*-------------------------------------------------------------------------
 *
 * execute.c
 *		Tasks that run in the database, in an executor's transaction.
 *
 * A task's effects, the end of its row and the row in the instance's inbox
 * commit together: exactly once. Quick ones share a transaction, each in a
 * subtransaction; the loop over them, and its rules, are those of run.c: what is
 * cancelled for the others' sake runs again alone, and no attempt is charged.
 *
 * A task for programs outside comes here when its next attempt is due: it is only made ready.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "memory/cancelled.h"
#include "memory/ready.h"
#include "memory/slot.h"
#include "memory/wake.h"
#include "run/run.h"
#include "steps/activity.h"
#include "steps/attempt.h"
#include "steps/invoke.h"
#include "steps/throttle.h"
#include "tasks/cancel.h"
#include "tasks/canvas.h"
#include "tasks/execute.h"
#include "tasks/park.h"
#include "tasks/task.h"
#include "turn/context.h"
#include "turn/kinds.h"
#include "turn/limit.h"

/* look_at_instance reads what an attempt has to know of the task's instance: whether it is live, with which settings it runs, and up to when. */
static void
look_at_instance(RomTask *task, RomRows *instances)
{
	bool		isnull;
	Datum		value;

	if (!rom_rows_find(instances, &task->instance_id))
		return;
	value = rom_rows_column(instances, 3, &isnull);
	task->settings = isnull ? 0 : DatumGetInt32(value);
	value = rom_rows_column(instances, 4, &isnull);
	task->deadline = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	(void) rom_rows_column(instances, 0, &isnull);
	task->live = !isnull;
	if (!task->live)
		return;
	value = rom_rows_column(instances, 2, &isnull);
	task->ending = !isnull && rom_jb_has(DatumGetJsonbP(value), "saga");
	task->paused = !task->ending &&
		rom_instance_status_from_datum(rom_rows_column(instances, 1, &isnull)) == ROM_STATUS_PAUSED;
}

/*
 * claim locks the tasks among ids and returns them in the order of ids. wait: for another transaction that
 * has locked the one, since the outcome of an attempt would be lost; otherwise it is left out. Without the executor, as rom_claim_instances():
 * the plan was a third of what a process did up to its first task.
 */
static int
claim(const pg_uuid_t *ids, int n, Oid owner, bool wait, RomTask **tasks)
{
	static RomTable instance_table = {"t_instance", 5, {"wake_at", "status", "wait", "settings", "deadline"}, true};
	char	   *name = GetUserNameFromId(owner, true);
	RomRows		rows;
	RomRows		instances;
	RomRows		requests;
	bool		canvas = false;
	int			count = 0;

	if (name == NULL)
	{
		rom_park_orphans(ids, n);
		return 0;
	}
	Assert(!wait || n == 1);
	rom_rows_open_select(&rows, &rom_task_table, "t_task_pkey", true);
	for (int i = 0; i < n; i++)
		if (rom_rows_find(&rows, &ids[i]) && strcmp(rom_rows_text(&rows, ROM_TASK_OWNER), name) == 0 &&
			rom_rows_claim(&rows, LockTupleExclusive, wait))
		{
			tasks[count] = rom_task_of(rows.slot);
			canvas |= tasks[count++]->kind == ROM_TASK_CANVAS;
		}
	rom_rows_close(&rows);
	if (count == 0)
		return 0;

	rom_rows_open_select(&instances, &instance_table, "t_instance_pkey", false);
	for (int i = 0; i < count; i++)
		look_at_instance(tasks[i], &instances);
	rom_rows_close(&instances);
	if (canvas)
	{
		rom_cancel_open(&requests);
		for (int i = 0; i < count; i++)
			tasks[i]->cancelled = tasks[i]->kind == ROM_TASK_CANVAS && rom_cancel_find(&requests, tasks[i]);
		rom_rows_close(&requests);
	}
	return count;
}

/* How many cancels there were when the tasks were claimed. */
static uint64 cancels_made = 0;

/* One task's attempt under way. */
typedef struct Attempt
{
	RomRun	   *run;
	RomTask    *task;
	RomInvocation of;
	RomActivity *activity;
	RomActivityRun how;
	Jsonb	   *result;
	MemoryContext cxt;			/* for the result */
	ErrorData  *error;
	RomAdmission admission;		/* by the activity's limits */
	bool		slow;			/* not known to be quick: it did not run
								 * beside others */
	bool		ending;			/* its instance is about to end: it did not
								 * run */
} Attempt;

/* invocation says what the task runs for, and with; an error when its workflow is no longer defined. */
static void
invocation(Attempt *a)
{
	RomWorkflow *workflow = rom_definition_by_id(a->task->def_id);

	a->of.running.workflow = MemoryContextStrdup(a->cxt, workflow->name);
	a->of.running.namespace = workflow->namespace;
	a->of.search_path = MemoryContextStrdup(a->cxt, workflow->search_path);
	a->of.settings = a->task->settings;
	a->of.deadline = a->task->deadline;
	a->of.careful = a->run->careful;
}

/* announce has the caller run a non-transactional activity after this transaction. */
static void
announce(Attempt *a)
{
	ErrorData  *refusal = rom_procedure_refusal(a->task->activity, a->run->in_block, a->of.owner);
	RomEngine	engine;

	if (refusal != NULL)
		ThrowErrorData(refusal);
	a->task->fence = a->how.attempt;
	rom_engine_begin(&engine);
	rom_state_announce(a->task);
	ItemPointerSetInvalid(&a->task->locked);
	rom_engine_end(&engine);
	rom_guc_outlast();
	a->run->procedure = rom_invoke_later(&a->of, a->activity, &a->how, a->task->input, a->cxt);
	a->run->procedure->deadline = a->of.deadline;
	a->run->procedure->of_task = true;
	rom_slot_keep(&a->task->id);
	a->run->nsaved++;
}

/* admit asks the activity's limits whether the attempt may begin; a->task has when to ask again. */
static bool
admit(Attempt *a)
{
	RomAsker	asker = {0};
	RomRun	   *run = a->run;

	if (!ROM_LIMITED(&a->activity->limits) ||
		(!a->activity->transactional && (!run->solo || run->in_block)))
		return true;
	asker.id = a->task->id;
	asker.owner = a->of.owner;
	asker.priority = a->task->priority;
	asker.waits = true;
	asker.keep = !a->activity->transactional;
	/* a failure of the attempt does not take it back */
	asker.level = GetCurrentTransactionNestLevel() - 1;
	asker.held_at = a->task->held_at;
	asker.held_until = a->task->held_until;
	a->admission = rom_throttle_admit(a->activity->namespace, a->activity->name, &a->activity->limits, &asker);
	if (a->admission == ROM_ADMITTED)
		return true;
	a->task->held_at = asker.held_at;
	a->task->held_until = asker.held_until;
	return false;
}

/* try_task is rom_invoke_try()'s attempt(). */
static void
try_task(void *arg)
{
	Attempt    *a = arg;
	RomRun	   *run = a->run;
	bool		quick;

	invocation(a);
	a->activity = rom_invoke_find(&a->of, a->task->activity, false);
	if (a->activity->queue != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("activity \"%s\" was given a queue after the task was scheduled",
						a->task->activity)));
	quick = rom_invoke_quick(a->activity);

	/*
	 * the instance's turn may wait for this executor, where that is the only
	 * one, and must not wait for a step that takes long. (From the claim on,
	 * a cancel of the instance interrupts us.)
	 */
	a->ending = a->task->deadline <= rom_now() ||
		((rom_cancelled_lately(&a->task->instance_id, !quick && run->solo) || (run->in_session && rom_wake_has_cancels())) &&
		 rom_cancel_is_ending(a->task));
	if (!quick && !a->ending && !run->in_session)
	{
		a->slow = !run->solo || !rom_ready_enter_slow();
		run->slow_ran |= !a->slow;
	}
	if (!a->ending && !a->slow && admit(a) && a->activity->transactional)
	{
		rom_context_set(&a->of.running);
		a->result = rom_invoke(&a->of, a->activity, &a->how, a->task->input, a->cxt);
	}
}

/* attempt runs the activity in a subtransaction; false, and a->error, when it fails. */
static bool
attempt(Attempt *a)
{
	RomTried	tried;
	bool		ok;

	a->how.name = a->task->activity;
	a->how.step = a->task->step;
	a->how.attempt = a->task->attempt + 1;
	a->how.last_details = a->task->details;
	a->how.close_us = a->task->close_us;
	ok = rom_invoke_try(&a->of, &a->how, try_task, a, a->cxt, &tried);
	rom_context_set(NULL);
	a->run->tainted |= tried.torn;
	a->run->subxacts += tried.wrote;
	a->error = tried.error;
	a->task->cost = palloc_object(RomCost);
	*a->task->cost = a->how.cost;
	if (a->activity != NULL && !a->ending && !a->slow && a->admission == ROM_ADMITTED && a->activity->transactional)
		rom_invoke_note_task(a->activity->namespace, a->activity->name, a->how.cost.us);
	return ok;
}

/* is_shared_trouble: an error that may be due to the others in the transaction. */
static bool
is_shared_trouble(RomRun *run, int sqlerrcode)
{
	return !run->solo && !run->in_block && rom_invoke_shared_trouble(sqlerrcode);
}

/* record_failure notes the failed attempt. */
static void
record_failure(RomRun *run, Attempt *a, Oid owner, RomLimitKind limit)
{
	RomEngine	engine;
	RomRetryPolicy policy;
	Jsonb	   *error = rom_attempt_error(a->task->activity, rom_error_to_jsonb(a->error), limit);

	rom_engine_begin(&engine);
	policy = rom_task_policy(a->task);
	a->task->attempt++;
	rom_task_fail(a->task, owner, &policy, error,
				  rom_error_is_terminal(a->error) ? ROM_TASK_RETRY_NEVER :
				  rom_error_is_of_result(a->error) ? ROM_TASK_RETRY_NAMED : ROM_TASK_RETRY_POLICY);
	rom_engine_end(&engine);
	run->nsaved++;
}

/* record_success notes its result. */
static void
record_success(RomRun *run, Attempt *a, Oid owner)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	a->task->attempt++;
	rom_task_succeed(a->task, owner, a->result);
	rom_engine_end(&engine);
	run->nsaved++;
	run->last_step = a->task->step;
}

/* hold lets it wait for a limit of its activity: ready, but not before held_until, unless it is woken. */
static void
hold(RomRun *run, Attempt *a, Oid owner)
{
	RomTask    *task = a->task;
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_state_hold(task);
	rom_engine_end(&engine);
	rom_wake_at(&task->id, owner, task->priority, task->held_until);
	run->nsaved++;
	run->nheld += a->admission == ROM_HELD_SLOT;
}

/* drop deletes a task whose instance is over. */
static void
drop(RomTask *task)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_task_delete(task);
	rom_engine_end(&engine);
}

/* drop_ending ends a task whose instance waits for that, or is about to end, and wakes the instance. */
static void
drop_ending(RomTask *task, Oid owner)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	if (rom_task_unknown(task))
		rom_cancel_unknown(task, owner);
	else
		rom_task_delete(task);
	rom_wake_ready(&task->instance_id, owner, task->priority);
	rom_engine_end(&engine);
}

/*
 * end_unknown ends a task whose instance is about to end, and whose activity was interrupted outside of any transaction: how far it came is not
 * known. False where the instance goes on.
 */
static bool
end_unknown(RomRun *run, RomTask *task, Oid owner)
{
	if ((task->kind != ROM_TASK_ACTIVITY && task->kind != ROM_TASK_CANVAS) || (!task->ending && !rom_cancel_is_ending(task)))
		return false;
	run->injected = NULL;
	drop_ending(task, owner);
	run->nsaved++;
	return true;
}

/* leave_paused parks a task whose instance is paused, if it is not parked; or has it looked at again a little later. */
static void
leave_paused(RomTask *task, Oid owner)
{
	RomEngine	engine;

	if (task->state != ROM_TASK_READY && task->state != ROM_TASK_WAITING)
		return;
	rom_engine_begin(&engine);
	if (!rom_park_task(task))
		rom_wake_at(&task->id, owner, task->priority,
					TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100));
	rom_engine_end(&engine);
}

/* end_cancelled ends a task that cancel_task() was to end. */
static void
end_cancelled(RomRun *run, RomTask *task, Oid owner)
{
	RomEngine	engine;
	MemoryContext old = CurrentMemoryContext;

	rom_engine_begin(&engine);
	MemoryContextSwitchTo(old);
	rom_cancel_end(task, owner);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(old);
	run->nsaved++;
}

/* is_cancelled: was it to be ended when it was claimed, or by an activity that ran since then in this transaction? */
static bool
is_cancelled(RomTask *task, uint64 made)
{
	if (task->kind == ROM_TASK_CANVAS && made != rom_cancel_made())
		task->cancelled = rom_cancel_requested(task);
	return task->cancelled;
}

/* has_outcome: did its non-transactional activity run between two transactions? */
static bool
has_outcome(RomRun *run, RomTask *task)
{
	return run->injected != NULL && strcmp(run->injected->step, task->step) == 0;
}

/* forget_outcome: it was ended while its activity ran. */
static void
forget_outcome(RomRun *run, RomTask *task)
{
	if (has_outcome(run, task))
		run->injected = NULL;
}

/* leave_to_lane has a task run later, alone. */
static void
leave_to_lane(RomRun *run, RomTask *task, Oid owner)
{
	if (run->solo)
		run->nalone++;			/* at once, by the caller */
	else
		rom_wake_slow(&task->id, owner, task->priority);
}

/* run_task makes one attempt. */
static void
run_task(RomRun *run, RomTask *task, Oid owner, RomMember *member)
{
	Attempt		a = {.run = run,.task = task,.cxt = CurrentMemoryContext};
	bool		ok;
	int			mark = rom_throttle_mark();
	RomLimitKind limit;

	a.of.running.id = task->instance_id;
	a.of.owner = owner;
	if (has_outcome(run, task))
	{
		RomInjected *injected = run->injected;

		run->injected = NULL;
		task->fence = 0;		/* it is known what the attempt came to */
		a.result = injected->result;
		a.error = injected->error;
		if (injected->measured)
			task->cost = &injected->cost;
		if (injected->failed)
			record_failure(run, &a, owner, injected->limit);
		else
			record_success(run, &a, owner);
		return;
	}
	if (run->in_block)
		member->others_wait = false;	/* it could not run again alone */
	rom_run_begin_member(member);
	ok = attempt(&a);
	limit = rom_limit_fired();
	if (ok && a.ending)
		drop_ending(task, owner);
	else if (ok && a.slow)
	{
		rom_wake_slow(&task->id, owner, task->priority);
		run->nslow++;
	}
	else if (ok && a.admission != ROM_ADMITTED)
		hold(run, &a, owner);
	else if (ok && !a.activity->transactional)
		announce(&a);
	else if (ok)
		record_success(run, &a, owner);
	else if (rom_slot_cancelled() || limit == ROM_LIMIT_EXECUTION)
	{
		/* its instance is over, or was, or will be by its next turn */
		rom_throttle_back(mark);
		rom_limit_reset();
		if (rom_cancel_is_ending(task))
			drop_ending(task, owner);
		else
			run->again[run->nagain++] = task->id;
	}
	else if (limit == ROM_LIMIT_BATCH || is_shared_trouble(run, a.error->sqlerrcode))
	{
		rom_throttle_back(mark);
		leave_to_lane(run, task, owner);
		member->torn = true;
	}
	else if (rom_limit_is_outside(a.error))
	{
		/* no fault of the activity: drain fails, an executor tries it again */
		rom_throttle_back(mark);
		if (run->in_session)
			ThrowErrorData(rom_limit_outside_error(a.error));
		rom_slot_forget_interrupt();
		/* behind those that wait to begin: it was no quick one */
		rom_wake_slow(&task->id, owner, task->priority);
		run->nslow++;
		member->torn = true;
	}
	else
	{
		rom_limit_reset();
		record_failure(run, &a, owner, limit);
	}
	rom_run_end_member();
}

/* make_ready makes a task whose next attempt is due ready, so that programs can fetch it. */
static void
make_ready(RomTask *task, Oid owner)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	rom_state_ready(&task->id);
	rom_task_wake(task, owner);
	rom_engine_end(&engine);
}

/* place_of finds id among ids. */
static int
place_of(const pg_uuid_t *id, const pg_uuid_t *ids, int n)
{
	int			i = 0;

	while (i < n - 1 && memcmp(id, &ids[i], sizeof(pg_uuid_t)) != 0)
		i++;
	return i;
}

/* claim_tasks is the claim() of tasks. */
static int
claim_tasks(RomRun *run, Oid owner, const pg_uuid_t *ids, int n, RomMember *members, pg_uuid_t *others, int *nothers)
{
	RomTask    *tasks[ROM_BATCH_MAX];
	pg_uuid_t	mine[ROM_BATCH_MAX];
	int			nmine = 0;
	int			nmembers = 0;
	int			count;

	*nothers = 0;
	for (int i = 0; i < n; i++)
		if (rom_task_id(&ids[i]))
		{
			/* one that another process keeps is not locked, either */
			if (!rom_slot_kept(&ids[i]))
				mine[nmine++] = ids[i];
		}
		else
			others[(*nothers)++] = ids[i];
	if (nmine == 0)
		return 0;
	cancels_made = rom_cancel_made();
	count = claim(mine, nmine, owner, run->injected != NULL, tasks);
	rom_cancel_claimed(mine, nmine);
	for (int i = 0, t = 0; i < nmine; i++)
	{
		if (t == count || memcmp(&tasks[t]->id, &mine[i], sizeof(pg_uuid_t)) != 0)
		{
			others[(*nothers)++] = mine[i];
			continue;
		}
		if (!rom_slot_kept(&mine[i]))
		{
			rom_slot_belongs(place_of(&mine[i], ids, n), &tasks[t]->instance_id);
			members[nmembers].id = mine[i];
			members[nmembers++].of = tasks[t];
		}
		t++;
	}
	return nmembers;
}

/* put_off does what is to be done instead of running a task that has no outcome; false: it is to run. */
static bool
put_off(RomRun *run, RomTask *task, Oid owner)
{
	if (is_cancelled(task, cancels_made))
		end_cancelled(run, task, owner);
	else if (task->paused)
		leave_paused(task, owner);
	else if (task->state == ROM_TASK_WAITING && task->due_at > rom_now())
		rom_wake_at(&task->id, owner, task->priority, task->due_at);
	else if (task->queue[0] != '\0')
	{
		if (task->state == ROM_TASK_WAITING)
			make_ready(task, owner);
	}
	else
		return task->state == ROM_TASK_PARKED;
	return true;
}

/* run_member is the run() of tasks. */
static void
run_member(RomRun *run, Oid owner, RomMember *member)
{
	RomTask    *task = member->of;

	if (task->live && has_outcome(run, task) && run->injected->cancelled)
	{
		if (task->state != ROM_TASK_DEAD && end_unknown(run, task, owner))
			return;
		run->injected = NULL;
	}
	if (!task->live)
		drop(task);
	else if (task->state == ROM_TASK_DEAD)
		forget_outcome(run, task);
	else if (task->ending && task->kind != ROM_TASK_COMPENSATION && task->queue[0] == '\0' && !has_outcome(run, task))
		drop_ending(task, owner);
	else if (has_outcome(run, task) || !put_off(run, task, owner))
		run_task(run, task, owner, member); /* parked meanwhile, perhaps */
}

/* ran is the ran() of tasks. */
static void
ran(void)
{
	rom_cancel_claimed(NULL, 0);
}

/* find is RomRunHook's find(): in the database, or of a queue and to be made ready. */
static int
find(const char *owner, TimestampTz now, pg_uuid_t *ids, int max)
{
	static RomStatement ready = {
		"SELECT task_id FROM romancy.t_task WHERE queue = '' AND state = " ROM_SQL_TASK_READY " AND owner = $1"
		" AND (held_until IS NULL OR held_until <= $3) ORDER BY (- priority::bigint), task_id LIMIT $2",
		3, {TEXTOID, INT4OID, TIMESTAMPTZOID}
	};
	static RomStatement due = {
		"SELECT task_id FROM romancy.t_task WHERE due_at <= $3 AND due_at IS NOT NULL AND state = " ROM_SQL_TASK_WAITING
		" AND owner = $1 ORDER BY due_at LIMIT $2",
		3, {TEXTOID, INT4OID, TIMESTAMPTZOID}
	};
	Datum		values[3];
	uint64		rows;
	bool		isnull;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(owner);
	values[1] = Int32GetDatum(max);
	values[2] = TimestampTzGetDatum(now);
	rows = rom_execute_rows(&set, &ready, values, NULL, 0);
	if (rows == 0)
		rows = rom_execute_rows(&set, &due, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		ids[i] = *DatumGetUUIDP(rom_value(&set, i, 1, &isnull));
	if (rows == 0)
		rows = rom_canvas_find(owner, ids, max);
	return rows;
}

/* next_due is RomRunHook's next_due(). */
static TimestampTz
next_due(const char *owner, TimestampTz after)
{
	static RomStatement next = {
		"SELECT least((SELECT due_at FROM romancy.t_task WHERE due_at > $2 AND due_at IS NOT NULL AND state = " ROM_SQL_TASK_WAITING
		" AND owner = $1 ORDER BY due_at LIMIT 1),"
		" (SELECT held_until FROM romancy.t_task WHERE held_until > $2 AND held_until IS NOT NULL AND state = " ROM_SQL_TASK_READY
		" AND owner = $1 ORDER BY held_until LIMIT 1))",
		2, {TEXTOID, TIMESTAMPTZOID}
	};
	Datum		values[2];
	bool		isnull;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(owner);
	values[1] = TimestampTzGetDatum(after);
	rom_execute_rows(&set, &next, values, NULL, 1);
	values[0] = rom_value(&set, 0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(values[0]);
}

/* instance_of is RomRunHook's instance(). */
static bool
instance_of(const pg_uuid_t *id, pg_uuid_t *instance)
{
	static RomStatement stmt = {"SELECT instance_id FROM romancy.t_task WHERE task_id = $1", 1, {UUIDOID}};
	Datum		value = UUIDPGetDatum(id);
	RomEngine	engine;
	bool		isnull;
	RomRowSet	set;

	if (!rom_task_id(id))
		return false;
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &stmt, &value, NULL, 1) == 1)
		*instance = *DatumGetUUIDP(rom_value(&set, 0, 1, &isnull));
	rom_engine_end(&engine);
	return true;
}

static const RomRunHook hook = {{claim_tasks, run_member, ran, NULL}, find, next_due, instance_of};

void
rom_execute_init(void)
{
	rom_run_register(&hook);
}
