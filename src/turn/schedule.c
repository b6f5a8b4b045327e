/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		await, await_all, await_any and spawn_timer.
 *
 * Awaiting is no step: it looks for outcome events, which stand in history in
 * the order in which they came. Only await_any's timeout is one, because it
 * says that something had not come yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "access/htup_details.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "defs/activity_definition.h"
#include "instances/event.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/failure.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/saga.h"
#include "turn/schedule.h"

/* Handles that a call awaits; kept over the unwind. */
typedef struct AwaitOptions
{
	int			n;
	bool		any;
	TimestampTz until;			/* fixed at first; DT_NOEND: no limit */
	char	  **handles;
} AwaitOptions;

/* is_request: was the step scheduled by spawn_http()? No definition is behind its name. */
static bool
is_request(RomTurn *turn, const char *step)
{
	RomEvent   *scheduled = rom_replay_scheduled(turn, step);
	char	   *queue = scheduled && scheduled->detail ? rom_jb_get_text(scheduled->detail, "queue") : NULL;

	return queue != NULL && strcmp(queue, ROM_QUEUE_HTTP_CALL) == 0;
}

/* append_outcome appends the outcome of a scheduled step; an activity's with what undoes it. */
static void
append_outcome(RomTurn *turn, RomEvent *outcome)
{
	if (outcome->type == ROM_EVENT_ACTIVITY_COMPLETED && !is_request(turn, outcome->step))
		rom_saga_note_scheduled(turn, outcome);
	rom_replay_append(turn, outcome);
	/* (after its outcome, which it is not, in replay) */
	if (outcome->type == ROM_EVENT_ACTIVITY_FAILED && outcome->detail != NULL && rom_jb_has(outcome->detail, ROM_OUTCOME_UNKNOWN))
		rom_saga_undo_scheduled(turn, outcome);
}

void
rom_schedule_absorb(RomTurn *turn)
{
	for (int i = 0; i < turn->wait.ninbox; i++)
	{
		RomInboxItem *item = &turn->wait.inbox[i];
		RomEvent   *scheduled;
		RomEvent   *outcome;
		const RomScheduleKind *kind;

		if (item->taken || item->step == NULL)
			continue;
		scheduled = rom_replay_scheduled(turn, item->step);
		if (scheduled == NULL)
			continue;
		item->taken = true;
		if (rom_replay_completion(turn, item->step) != NULL)
			continue;
		kind = rom_kinds_find(scheduled->type);
		outcome = kind && kind->arrived ? kind->arrived(turn, scheduled, item) : NULL;
		if (outcome != NULL)
			append_outcome(turn, outcome);
	}
}

/* ---------------------------------------------------------------- awaiting */

/* poll looks whether a pending step is over, and appends its outcome if so. */
static bool
poll(RomTurn *turn, const char *handle, TimestampTz *due)
{
	RomEvent   *scheduled = rom_replay_scheduled(turn, handle);
	const RomScheduleKind *kind = scheduled ? rom_kinds_find(scheduled->type) : NULL;
	TimestampTz this_due = DT_NOEND;
	RomEvent   *outcome;

	if (kind == NULL || kind->poll == NULL)
		return false;
	outcome = kind->poll(turn, scheduled, &this_due);
	*due = Min(*due, this_due);
	if (outcome == NULL)
		return false;
	append_outcome(turn, outcome);
	return true;
}

/* timeout_error is the error of an await_any of n handles whose timeout expired. */
static Jsonb *
timeout_error(int n)
{
	return rom_error_make(ERRCODE_ROM_TIMEOUT,
						  psprintf("none of %d awaited steps ended in time", n),
						  NULL, NULL, NULL);
}

/* is_repeated: does the handle at place i stand before it as well? */
static bool
is_repeated(char **handles, int i)
{
	for (int j = 0; j < i; j++)
		if (strcmp(handles[j], handles[i]) == 0)
			return true;
	return false;
}

/* await_execute runs outside the evaluation: has any awaited step ended? */
static RomOutcome
await_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	AwaitOptions *options = call->options;
	RomWait    *before = rom_call_waited(turn, call);
	RomStatus	status = ROM_STATUS_WAITING_ACTIVITY;
	const char *kind_name = "activity";
	TimestampTz due = DT_NOEND;
	TimestampTz limit = options->until;
	bool		news = false;
	int			pending = 0;
	RomEvent   *first = NULL;	/* of those that have not ended */
	RomOutcome	outcome;
	RomJb		jb;

	if (before != NULL && before->detail != NULL)
		limit = rom_jb_get_time(before->detail, "limit");
	for (int i = 0; i < options->n; i++)
	{
		RomEvent   *scheduled = rom_replay_scheduled(turn, options->handles[i]);
		const RomScheduleKind *kind = rom_kinds_find(scheduled->type);

		if (rom_replay_completion(turn, options->handles[i]) != NULL)
			continue;
		if (poll(turn, options->handles[i], &due))
		{
			news = true;

			/*
			 * a receive takes its message: a message that the handler may
			 * never read is not taken
			 */
			if (options->any)
				break;
			continue;
		}
		if (is_repeated(options->handles, i))
			continue;			/* it ends but once */
		if (pending++ == 0)
		{
			first = scheduled;
			status = kind->waiting;
			kind_name = kind->wait_kind;
		}
	}
	if (news)
		return ROM_OUTCOME_LOOK;	/* the evaluation finds the outcome */
	if (limit <= rom_now())
	{
		event->type = ROM_EVENT_AWAIT_TIMEOUT;
		event->result = rom_context_copy_jsonb(turn, timeout_error(options->n));
		return ROM_OUTCOME_DONE;
	}
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "limit", limit);
	rom_jb_int(&jb, "pending", pending);
	if (first != NULL && strcmp(kind_name, "activity") != 0)
	{
		/*
		 * for view waiting, which finds an activity's task: the wait's own
		 * step and name are those of the call of await
		 */
		rom_jb_text(&jb, "awaited", first->step);
		rom_jb_text(&jb, "awaited_name", first->name ? first->name : pnstrdup(first->step, strcspn(first->step, ":")));
	}
	outcome = rom_call_wait(turn, call, status, kind_name, Min(due, limit), rom_jb_end(&jb));
	if (!options->any)
		turn->wait.fan_in = pending;
	return outcome;
}

static const RomPrimitive primitive_await = {
	.name = "await",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_AWAIT_TIMEOUT},
	.execute = await_execute,
	.awaits = true,
};

/* check_handle: has this handle been given out in this evaluation's past? */
static void
check_handle(RomTurn *turn, const char *handle)
{
	if (rom_replay_scheduled(turn, handle) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("\"%s\" is not a handle of a spawned step", handle),
				 errhint("Handles come from romancy.spawn(), spawn_workflow(), spawn_timer() and spawn_receive().")));
}

/* wait_for ends the evaluation until one of (any) or all of the handles have an outcome. */
static void
wait_for(RomTurn *turn, RomCall *call, char **handles, int n, bool any, TimestampTz until)
{
	AwaitOptions *options = MemoryContextAlloc(turn->cxt, sizeof(AwaitOptions));

	options->n = n;
	options->any = any;
	options->until = until;
	options->handles = MemoryContextAlloc(turn->cxt, sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		options->handles[i] = rom_context_copy_text(turn, handles[i]);
	call->options = options;
	rom_call_block(turn, call);
}

void
rom_schedule_wait(RomTurn *turn, const char *label, char **handles, int n, bool any)
{
	rom_schedule_wait_until(turn, label, handles, n, any, DT_NOEND);
}

void
rom_schedule_wait_until(RomTurn *turn, const char *label, char **handles, int n, bool any, TimestampTz until)
{
	RomCall		call = {0};
	char	   *base = pstrdup(label);
	char	   *colon = strrchr(base, ':');

	/* a label that is numbered has no name of its own in history */
	if (colon != NULL)
		*colon = '\0';
	call.primitive = &primitive_await;
	call.step = label;
	call.step_base = base;
	wait_for(turn, &call, handles, n, any, until);
}

Jsonb *
rom_schedule_value(RomTurn *turn, const char *handle)
{
	const RomScheduleKind *kind = rom_kinds_find(rom_replay_scheduled(turn, handle)->type);

	rom_failure_observe(turn, handle);
	return kind->value(turn, rom_replay_completion(turn, handle));
}

PG_FUNCTION_INFO_V1(romancy_await);

/*
 * romancy.await(handle text) -> jsonb
 *
 * Waits for a spawned step and returns its result, or raises its error. Awaiting a handle
 * again gives the same. Errors: RM010 for what is no handle, RM004 outside a handler.
 */
Datum
romancy_await(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("await()");
	char	   *handle = rom_arg_text(fcinfo, 0, "handle");
	RomCall		call = {0};

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	check_handle(turn, handle);
	call.primitive = &primitive_await;
	call.step = call.step_base = psprintf("await_%s", handle);
	if (rom_replay_completion(turn, handle) == NULL)
		wait_for(turn, &call, &handle, 1, false, DT_NOEND);
	rom_call_wait_over(turn, call.step);
	PG_RETURN_JSONB_P(rom_schedule_value(turn, handle));
}

/* handle_array reads a text[] argument without nulls. */
static char **
handle_array(FunctionCallInfo fcinfo, int n, int *count)
{
	ArrayType  *array;
	Datum	   *elems;
	bool	   *nulls;
	char	  **handles;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"handles\" must not be null")));
	array = PG_GETARG_ARRAYTYPE_P(n);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, count);
	handles = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"handles\" must not contain nulls")));
		handles[i] = TextDatumGetCString(elems[i]);
	}
	return handles;
}

PG_FUNCTION_INFO_V1(romancy_await_all);

/*
 * romancy.await_all(handles text[]) -> jsonb[]
 *
 * Results in the order of the handles, when all have come; raises the first error in that order.
 */
Datum
romancy_await_all(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("await_all()");
	int			n;
	char	  **handles = handle_array(fcinfo, 0, &n);
	bool		pending = false;
	Datum	   *values;
	RomCall		call = {0};

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	for (int i = 0; i < n; i++)
	{
		check_handle(turn, handles[i]);
		pending |= rom_replay_completion(turn, handles[i]) == NULL;
	}
	if (n > 0)
	{
		call.primitive = &primitive_await;
		call.step = call.step_base = psprintf("await_all_%s", handles[0]);
		if (pending)
			wait_for(turn, &call, handles, n, false, DT_NOEND);
		rom_call_wait_over(turn, call.step);
	}
	values = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
		values[i] = PointerGetDatum(rom_schedule_value(turn, handles[i]));
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, JSONBOID, -1, false, TYPALIGN_INT));
}

PG_FUNCTION_INFO_V1(romancy_await_any);

/*
 * romancy.await_any(handles text[], timeout interval, out handle text, out result jsonb)
 *
 * The first of the handles to have an outcome, and its result (or its error raised). Past the
 * timeout RM006, recorded. The others stay and can be awaited.
 */
Datum
romancy_await_any(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("await_any()");
	int			n;
	char	  **handles = handle_array(fcinfo, 0, &n);
	Interval   *timeout = rom_arg_interval_opt(fcinfo, 1, "timeout");
	char	   *first = NULL;
	int64		first_seq = 0;
	RomEvent   *next;
	RomCall		call = {0};
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"handles\" of romancy.await_any() must not be empty")));
	for (int i = 0; i < n; i++)
		check_handle(turn, handles[i]);
	call.primitive = &primitive_await;
	call.step_base = "await_any";
	call.step = rom_call_next_step(turn, &call);

	next = rom_replay_peek(turn);
	if (next != NULL && next->type == ROM_EVENT_AWAIT_TIMEOUT &&
		strcmp(next->step, call.step) == 0)
	{
		turn->replay.cursor++;
		rom_error_raise(next->result);
	}

	/*
	 * outcomes are numbered in the order in which they came, new ones by
	 * their place in the list
	 */
	for (int i = 0; i < n; i++)
	{
		int64		seq = rom_replay_completion_order(turn, handles[i]);

		if (seq > 0 && (first == NULL || seq < first_seq))
		{
			first = handles[i];
			first_seq = seq;
		}
	}
	if (first == NULL)
		wait_for(turn, &call, handles, n, true,
				 timeout ? rom_arg_timestamp_plus(rom_now(), timeout) : DT_NOEND);
	rom_call_wait_over(turn, call.step);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(first);
	values[1] = PointerGetDatum(rom_schedule_value(turn, first));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
