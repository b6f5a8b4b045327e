/*-------------------------------------------------------------------------
 *
 * landing.c
 *		Requests that have ended: the record of their outcomes, and the end of leases of those that were given up.
 *
 * Up to RECORD_MAX are recorded in one transaction; when it fails, each one in its own, so that one that cannot be recorded does not keep the
 * others. One that fails then is late (late.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "http/answer.h"
#include "http/landing.h"
#include "tasks/complete.h"
#include "tasks/lease.h"
#include "workers/bgw.h"

/* Recorded in one transaction. */
#define RECORD_MAX 256

/*
 * An outcome that cannot be recorded so often, for errors that do not pass, is recorded as a failure; twice as often: it is
 * left to the lease's end.
 */
#define FAULTS 3

static const RomTransport *transport = NULL;
static dlist_head landed = DLIST_STATIC_INIT(landed);	/* to be recorded */
static bool record_alone(RomLate *entry);
static void hold(RomLate *entry);
static void discard(RomLate *entry);
static RomLateList late = {record_alone, hold, discard, DLIST_STATIC_INIT(late.entries)};
static int	count = 0;

void
rom_landing_init(const RomTransport *with)
{
	transport = with;
}

int
rom_landing_count(void)
{
	return count;
}

RomFlight *
rom_landing_new(int32 namespace)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy HTTP request", ALLOCSET_SMALL_SIZES);
	RomFlight  *f = MemoryContextAllocZero(cxt, sizeof(RomFlight));

	f->cxt = cxt;
	f->namespace = namespace;

	/*
	 * for want of memory this raises an error: only what is counted after it
	 * is for rom_landing_discard(), and the memory is the caller's until then
	 */
	rom_share_begin(namespace, &f->place);
	MemoryContextSetParent(cxt, TopMemoryContext);
	count++;
	return f;
}

void
rom_landing_discard(RomFlight *f)
{
	if (f->answer != NULL)
		transport->free_answer(f->answer);
	count--;
	rom_share_end(f->namespace, &f->place);
	MemoryContextDelete(f->cxt);
}

void
rom_landing_take(RomFlight *f)
{
	dlist_push_tail(&landed, &f->late.node);
}

/* flight_of is the flight of an entry of a list. */
static RomFlight *
flight_of(RomLate *entry)
{
	return entry == NULL ? NULL : (RomFlight *) ((char *) entry - offsetof(RomFlight, late));
}

RomFlight *
rom_landing_first(dlist_head *list)
{
	return flight_of(rom_late_first(list));
}

RomFlight *
rom_landing_next(dlist_head *list, RomFlight *f)
{
	return flight_of(rom_late_next(list, &f->late));
}

/* record_outcome records an answer, or an error. Its memory, some times the answer's body, is freed at once. */
static void
record_outcome(RomFlight *f)
{
	MemoryContext judging = AllocSetContextCreate(CurrentMemoryContext, "romancy HTTP answer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(judging);
	RomHttpOutcome outcome = {.error = f->error,.retry = f->again ? ROM_TASK_RETRY_POLICY : ROM_TASK_RETRY_NEVER};

	bool		taken = f->error == NULL && f->request.callback && f->answer->result == ROM_TRANSPORT_ANSWERED && f->answer->status == 202;

	if (f->error == NULL && !taken)
		rom_answer_judge(f->answer, f->request.label, f->request.secrets, f->request.result, f->request.expect, &outcome);
	if (taken)
		(void) rom_lease_hand_over(&f->token, GetUserId());
	else if (outcome.result != NULL)
		(void) rom_complete_task(&f->token, GetUserId(), outcome.result);
	else
		(void) rom_lease_fail(&f->token, GetUserId(), outcome.error, outcome.retry,
							  outcome.not_before != 0 ? &outcome.not_before : NULL, true);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(judging);
}

static void
record_one(RomFlight *f)
{
	if (f->given_up)
		(void) rom_lease_abandon(&f->token, GetUserId());
	else
		record_outcome(f);
}

static void
record_unit(void *arg)
{
	dlist_head *batch = arg;

	for (RomFlight *f = rom_landing_first(batch); f != NULL; f = rom_landing_next(batch, f))
	{
		CHECK_FOR_INTERRUPTS();
		record_one(f);
	}
}

static void
record_one_unit(void *arg)
{
	record_one(flight_of(arg));
}

/* record_alone records an outcome in a transaction of its own. False: to be tried again. */
static bool
record_alone(RomLate *entry)
{
	RomFlight  *f = flight_of(entry);

	if (rom_late_unit(record_one_unit, entry))
		return true;
	if (!entry->passing && entry->faults >= 2 * FAULTS)
		return true;
	if (!entry->passing && entry->faults == FAULTS)
	{
		MemoryContext old = MemoryContextSwitchTo(f->cxt);

		f->error = rom_error_make(ERRCODE_ROM_EXHAUSTED,
								  psprintf("%s: the answer cannot be recorded", f->request.label),
								  "The server's log says why.", NULL, NULL);
		MemoryContextSwitchTo(old);
	}
	return false;
}

/* is_recorded is for those that were recorded together. */
static bool
is_recorded(RomLate *entry)
{
	return true;
}

static void
hold(RomLate *entry)
{
	RomFlight  *f = flight_of(entry);

	rom_share_hold(f->namespace, &f->place, f->answer != NULL ? f->answer->length : 0);
}

static void
discard(RomLate *entry)
{
	rom_landing_discard(flight_of(entry));
}

TimestampTz
rom_landing_record(void)
{
	bool		any = false;

	while (!dlist_is_empty(&landed))
	{
		dlist_head	now;

		dlist_init(&now);
		for (int i = 0; i < RECORD_MAX && !dlist_is_empty(&landed); i++)
			dlist_push_tail(&now, dlist_pop_head_node(&landed));
		rom_late_settle(&late, &now, rom_bgw_unit(record_unit, &now, true) ? is_recorded : record_alone);
		rom_bgw_poll();
	}
	return rom_late_again(&late, &any);
}
