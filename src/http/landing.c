/*-------------------------------------------------------------------------
 *
 * landing.c
 *		Requests that have ended: the record of their outcomes, and the end of leases of those that were given up.
 *
 * Up to RECORD_MAX are recorded in one transaction; when it fails, each one in its own, so that one that cannot be recorded does not keep the
 * others. One that fails then is late: it is tried again from time to time, a few in a pass, while new outcomes go past. An error that passes
 * (rom_error_is_passing()) is no fault of the request's: it is tried again until it has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "http/answer.h"
#include "http/landing.h"
#include "tasks/lease.h"
#include "workers/bgw.h"

/* Recorded in one transaction. */
#define RECORD_MAX 256

/* Late ones that are tried in one pass, each in a transaction of its own. */
#define LATE_MAX 64

/*
 * An outcome that cannot be recorded so often, for errors that do not pass, is recorded as a failure; twice as often: it is
 * left to the lease's end.
 */
#define FAULTS 3

/* An outcome that cannot be recorded so often (some seconds), as another transaction has a row of it, keeps no place from other requests. */
#define HELD_TRIES 6

/* The delay after the first error, and the longest. */
#define TRY_AGAIN_MS 200
#define TRY_AGAIN_MAX_MS 2000

static const RomTransport *transport = NULL;
static dlist_head landed = DLIST_STATIC_INIT(landed);	/* to be recorded */
static dlist_head late = DLIST_STATIC_INIT(late);	/* could not be */
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
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "romancy HTTP request", ALLOCSET_SMALL_SIZES);
	RomFlight  *f = MemoryContextAllocZero(cxt, sizeof(RomFlight));

	f->cxt = cxt;
	count++;
	f->namespace = namespace;
	rom_share_begin(namespace, &f->place);
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
	dlist_push_tail(&landed, &f->node);
}

/* first and next walk through a list of flights; NULL at its end. A flight may leave the list when next has been asked for. */
static RomFlight *
first(dlist_head *list)
{
	return dlist_is_empty(list) ? NULL : dlist_container(RomFlight, node, dlist_head_node(list));
}

static RomFlight *
next(dlist_head *list, RomFlight *f)
{
	return dlist_has_next(list, &f->node) ? dlist_container(RomFlight, node, dlist_next_node(list, &f->node)) : NULL;
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
		(void) rom_lease_complete(&f->token, GetUserId(), outcome.result);
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

	for (RomFlight *f = first(batch); f != NULL; f = next(batch, f))
	{
		CHECK_FOR_INTERRUPTS();
		record_one(f);
	}
}

static void
record_one_unit(void *arg)
{
	RomFlight  *f = arg;

	PG_TRY();
	{
		record_one(f);
	}
	PG_CATCH();
	{
		f->passing = rom_error_is_passing(geterrcode());
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* record_alone records an outcome in a transaction of its own. False: to be tried again. */
static bool
record_alone(RomFlight *f)
{
	MemoryContext old;

	f->passing = false;
	if (rom_bgw_unit(record_one_unit, f, f->tries > 0))
		return true;
	f->tries++;
	if (!f->passing && ++f->faults >= 2 * FAULTS)
		return true;
	if (f->faults == FAULTS && !f->passing)
	{
		old = MemoryContextSwitchTo(f->cxt);
		f->error = rom_error_make(ERRCODE_ROM_EXHAUSTED,
								  psprintf("%s: the answer cannot be recorded", f->request.label),
								  "The server's log says why.", NULL, NULL);
		MemoryContextSwitchTo(old);
	}
	return false;
}

/* keep_late keeps a request that could not be recorded for another try. */
static void
keep_late(RomFlight *f)
{
	int			delay = Min(TRY_AGAIN_MS << Min(f->tries - 1, 4), TRY_AGAIN_MAX_MS);

	if (f->tries >= HELD_TRIES)
		rom_share_hold(f->namespace, &f->place, f->answer != NULL ? f->answer->length : 0);
	f->try_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
	dlist_push_tail(&late, &f->node);
}

/* settle frees requests that were recorded; the others are tried one by one, and kept if they fail again. */
static void
settle(dlist_head *list, bool recorded)
{
	while (!dlist_is_empty(list))
	{
		RomFlight  *f = dlist_container(RomFlight, node, dlist_pop_head_node(list));

		if (recorded || record_alone(f))
			rom_landing_discard(f);
		else
			keep_late(f);
	}
}

/* record_late tries some of those that are late again. Returns when to do so next. */
static TimestampTz
record_late(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	RomFlight  *after;
	dlist_head	due;
	int			n = 0;

	dlist_init(&due);
	for (RomFlight *f = first(&late); f != NULL; f = after)
	{
		after = next(&late, f);
		if (f->try_at > now || n >= LATE_MAX)
			continue;
		n++;
		dlist_delete(&f->node);
		dlist_push_tail(&due, &f->node);
	}
	settle(&due, false);
	for (RomFlight *f = first(&late); f != NULL; f = next(&late, f))
		again = Min(again, f->try_at);
	/* those that are to wait for their turn let others go first */
	return Max(again, TimestampTzPlusMilliseconds(now, TRY_AGAIN_MS));
}

TimestampTz
rom_landing_record(void)
{
	while (!dlist_is_empty(&landed))
	{
		dlist_head	now;

		dlist_init(&now);
		for (int i = 0; i < RECORD_MAX && !dlist_is_empty(&landed); i++)
			dlist_push_tail(&now, dlist_pop_head_node(&landed));
		settle(&now, rom_bgw_unit(record_unit, &now, true));
		rom_bgw_poll();
	}
	return dlist_is_empty(&late) ? DT_NOEND : record_late();
}
