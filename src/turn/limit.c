/*-------------------------------------------------------------------------
 *
 * limit.c
 *		Time limits of running user code.
 *
 * statement_timeout does nothing in a background worker, and a user's function
 * could set it; so the engine has a timeout of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "memory/slot.h"
#include "turn/limit.h"

/* Milliseconds between two cancels of code that swallows them. */
#define REFIRE_MS	100

/* Swallowed cancels after which the next error goes straight to the evaluation. */
#define TEAR_OUT_AFTER	20

static bool registered = false;
static TimeoutId timeout_id;
static RomLimit current = {ROM_LIMIT_NONE, DT_NOEND};
static volatile sig_atomic_t fired = ROM_LIMIT_NONE;
static volatile sig_atomic_t fired_count = 0;

/* The cancel from outside of user code in a session that was raised since the last reset; the code may have caught it. */
static ErrorData *outside = NULL;

sigjmp_buf *rom_limit_tear_out = NULL;

/* on_timeout runs in the signal handler: flags and the latch only. */
static void
on_timeout(void)
{
	fired = current.kind;
	fired_count++;
	QueryCancelPending = true;
	InterruptPending = true;

	/*
	 * The code keeps catching the cancel. Let the next error go past its
	 * exception handlers, straight to the evaluation; everything between is
	 * cleaned up by the subtransaction's abort.
	 */
	if (fired_count > TEAR_OUT_AFTER && rom_limit_tear_out != NULL)
		PG_exception_stack = rom_limit_tear_out;
	SetLatch(MyLatch);
}

RomLimit
rom_limit_arm(const RomLimit *limits, int n)
{
	RomLimit	before = current;
	RomLimit	next = {ROM_LIMIT_NONE, DT_NOEND};

	for (int i = 0; i < n; i++)
		if (limits[i].kind != ROM_LIMIT_NONE && limits[i].at < next.at)
			next = limits[i];
	/* a limit that is nearer and already armed stays */
	if (before.kind != ROM_LIMIT_NONE && before.kind != ROM_LIMIT_EVALUATION &&
		before.at < next.at)
		next = before;
	rom_limit_restore(next);
	return before;
}

void
rom_limit_restore(RomLimit limit)
{
	if (!registered)
	{
		timeout_id = RegisterTimeout(USER_TIMEOUT, on_timeout);
		registered = true;
	}
	if (fired != ROM_LIMIT_NONE)
		return;					/* it stays up until the reset */
	if (current.kind != ROM_LIMIT_NONE)
		disable_timeout(timeout_id, false);
	current = limit;
	if (limit.kind != ROM_LIMIT_NONE)
		enable_timeout_every(timeout_id, limit.at, REFIRE_MS);
}

bool
rom_limit_is_interrupt(const ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_QUERY_CANCELED && edata->funcname != NULL &&
		strcmp(edata->funcname, "ProcessInterrupts") == 0;
}

/* note_outside keeps the error that is being raised, if it is a cancel from outside. (An executor's signal handler sees those.) */
static void
note_outside(void *arg)
{
	MemoryContext old;
	ErrorData  *edata;

	if (outside != NULL || MyBackendType != B_BACKEND || geterrcode() != ERRCODE_QUERY_CANCELED ||
		fired != ROM_LIMIT_NONE || rom_slot_cancelled())
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	edata = CopyErrorData();
	if (edata->elevel >= ERROR && rom_limit_is_interrupt(edata))
		outside = edata;
	else
		FreeErrorData(edata);
	MemoryContextSwitchTo(old);
}

/* cancel_again is called whenever an error is raised. arg: whether interrupts count, too. */
static void
cancel_again(void *arg)
{
	RomLimit	again = {ROM_LIMIT_CANCEL, DT_NOEND};

	note_outside(NULL);
	if (fired != ROM_LIMIT_NONE || current.kind == ROM_LIMIT_CANCEL ||
		!(rom_slot_cancelled() || (arg != NULL && rom_slot_interrupted())))
		return;
	again.at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REFIRE_MS);
	rom_limit_restore(again);
}

/* push has function called with arg whenever an error is raised. */
static void
push(ErrorContextCallback *callback, void (*function) (void *), void *arg)
{
	callback->callback = function;
	callback->arg = arg;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
rom_limit_heed_cancel(ErrorContextCallback *callback, bool interrupts)
{
	push(callback, cancel_again, interrupts ? callback : NULL);
}

void
rom_limit_heed_outside(ErrorContextCallback *callback)
{
	push(callback, note_outside, NULL);
}

void
rom_limit_unheed_cancel(const ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}

void
rom_limit_reset(void)
{
	if (current.kind != ROM_LIMIT_NONE)
		disable_timeout(timeout_id, false);
	current.kind = ROM_LIMIT_NONE;
	current.at = DT_NOEND;
	if (fired != ROM_LIMIT_NONE)
		QueryCancelPending = false;
	fired = ROM_LIMIT_NONE;
	fired_count = 0;
	if (outside != NULL)
		FreeErrorData(outside);
	outside = NULL;
}

RomLimitKind
rom_limit_fired(void)
{
	return (RomLimitKind) fired;
}

int
rom_limit_fired_count(void)
{
	return fired_count;
}

bool
rom_limit_torn(void)
{
	return fired_count > TEAR_OUT_AFTER;
}

bool
rom_limit_is_outside(const ErrorData *edata)
{
	if (rom_slot_cancelled())
		return false;			/* the instance's cancel */
	return rom_slot_interrupted() || outside != NULL ||
		(edata != NULL && fired == ROM_LIMIT_NONE && rom_limit_is_interrupt(edata));
}

ErrorData *
rom_limit_outside_error(ErrorData *edata)
{
	ErrorData  *copy;

	if (outside == NULL)
		return edata;
	copy = palloc0_object(ErrorData);
	copy->elevel = ERROR;
	copy->sqlerrcode = outside->sqlerrcode;
	copy->message = pstrdup(outside->message);
	copy->assoc_context = CurrentMemoryContext;
	return copy;
}
