/*-------------------------------------------------------------------------
 *
 * delivery.c
 *		Events of the outbox under way to their destinations: from their lease to the record of their outcome.
 *
 * As in flight.c: a take commits, and is on disk, before its requests are sent (so that no event is sent of a transaction that a crash could
 * undo), and the outcomes of many requests are recorded in one transaction; when it fails, each in its own. An event is
 * settled by the fence of its lease, so a late outcome does nothing to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "access/xact.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "http/answer.h"
#include "http/delivery.h"
#include "http/landing.h"
#include "http/guc.h"
#include "http/parcel.h"
#include "http/route.h"
#include "http/share.h"
#include "http/target.h"
#include "http/verdict.h"
#include "outbox/format.h"
#include "outbox/sender.h"
#include "outbox/settle.h"
#include "outbox/state.h"
#include "outbox/take.h"
#include "tasks/fetch.h"
#include "workers/bgw.h"

/* Requests that one take makes, and whose outcome one transaction records. */
#define CLAIM_MAX 256
#define RECORD_MAX 256

/* Bytes of the events of one request of a batch, unless a single one has more. */
#define BATCH_BYTES (1024 * 1024)

/* A lease outlasts its request by so much: its outcome may have to wait to be recorded. It ends with the process. */
#define LEASE_MORE_MS (10 * 60 * 1000)

/* An outcome that cannot be recorded so often, for errors that do not pass, is left to the lease's end. */
#define FAULTS 6

typedef struct Delivery
{
	RomFlightTag tag;			/* first */
	RomLate		late;
	MemoryContext cxt;			/* holds it */
	RomTarget  *target;
	TimestampTz defined_at;		/* the destination, as it was then */
	bool		probe;			/* it is the one that an open breaker lets
								 * through */
	RomParcel	parcel;
	int			n;
	RomSettle  *events;
	bool	   *settled;		/* of each: recorded, and committed */
	bool		noted;			/* of the destination: likewise */
	bool		well;			/* the destination answers */
	bool		split;			/* the events of the batch are to go alone */
	void	   *handle;			/* while it is under way */
	RomTransportAnswer *answer; /* when it has ended, or */
	char	   *error;			/* why it was not sent: */
	RomSettled	unsent;			/* its event, then */
	RomSharePlace place;
} Delivery;

static const RomTransport *transport = NULL;
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head landed = DLIST_STATIC_INIT(landed);	/* to be recorded */
static bool record_alone(RomLate *entry);
static void hold(RomLate *entry);
static void discard(RomLate *entry);
static RomLateList late = {record_alone, hold, discard, DLIST_STATIC_INIT(late.entries)};
static int	count = 0;

void
rom_delivery_init(const RomTransport *with)
{
	transport = with;
}

int
rom_delivery_count(void)
{
	return count;
}

/* delivery_of is the delivery of an entry of a list. */
static Delivery *
delivery_of(RomLate *entry)
{
	return entry == NULL ? NULL : (Delivery *) ((char *) entry - offsetof(Delivery, late));
}

/* pop, first and next are rom_late_pop() and its kin. */
static Delivery *
pop(dlist_head *list)
{
	return delivery_of(rom_late_pop(list));
}

static Delivery *
first(dlist_head *list)
{
	return delivery_of(rom_late_first(list));
}

static Delivery *
next(dlist_head *list, Delivery *d)
{
	return delivery_of(rom_late_next(list, &d->late));
}

/* discard frees what is left of a delivery that is in no list. */
static void
discard(RomLate *entry)
{
	Delivery   *d = delivery_of(entry);

	if (d->answer != NULL)
		transport->free_answer(d->answer);
	if (d->place.taken)
		d->target->in_flight--;
	else
		d->target->held--;
	count--;
	rom_share_end(d->target->namespace, &d->place);
	MemoryContextDelete(d->cxt);
}

/* ---------------------------------------------------------------- taking */

/* The last take has failed: the next finds the event that it failed over. */
static bool careful = false;

typedef struct Claim
{
	dlist_head	fresh;			/* deliveries that were made */
	bool		more;
	TimestampTz retry_at;
} Claim;

/* fill makes the request of a delivery, in its memory. */
static void
fill(Delivery *d, const RomRoute *route, RomFormat format, const RomTaken *events)
{
	MemoryContext old = MemoryContextSwitchTo(d->cxt);

	rom_parcel_make(route, format, events, d->n, &d->parcel);
	MemoryContextSwitchTo(old);
}

/* try_fill is fill(); an error that is raised is the event's, not the take's, unless it is one that passes. */
static void
try_fill(Delivery *d, const RomRoute *route, RomFormat format, const RomTaken *events)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		fill(d, route, format, events);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(d->cxt);
		edata = rom_error_take();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(d->cxt);
		if (rom_error_is_passing(edata->sqlerrcode) && edata->sqlerrcode != ERRCODE_OUT_OF_MEMORY)
			ReThrowError(edata);
		d->error = psprintf("the request cannot be made: %s", edata->message);
		d->unsent = edata->sqlerrcode == ERRCODE_OUT_OF_MEMORY ? ROM_SETTLED_FAILED : ROM_SETTLED_INVALID;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
}

/* board makes a delivery of n events that were taken. */
static void
board(Claim *claim, RomTarget *t, TimestampTz defined_at, const RomRoute *route, RomFormat format, const RomTaken *events, int n, bool probe)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy event delivery", ALLOCSET_SMALL_SIZES);
	Delivery   *d = MemoryContextAllocZero(cxt, sizeof(Delivery));

	d->cxt = cxt;
	d->target = t;
	d->defined_at = defined_at;
	d->unsent = ROM_SETTLED_RELEASED;
	d->probe = probe;
	d->parcel.label = "";
	d->n = n;
	d->events = MemoryContextAllocZero(cxt, sizeof(RomSettle) * n);
	d->settled = MemoryContextAllocZero(cxt, sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		d->events[i].outbox_id = events[i].outbox_id;
		d->events[i].fence = events[i].fence;
	}

	/*
	 * for want of memory this raises an error: only what is counted after it
	 * is for discard(), and the memory is the caller's until then
	 */
	rom_share_begin(t->namespace, &d->place);
	MemoryContextSetParent(cxt, TopMemoryContext);
	dlist_push_tail(&claim->fresh, &d->late.node);
	t->in_flight++;
	count++;
	if (careful)
		try_fill(d, route, format, events);
	else
		fill(d, route, format, events);
}

/* give_back gives events back that were taken, and that there is no room for. */
static void
give_back(const RomTaken *events, int n)
{
	RomSettle  *back = palloc0_array(RomSettle, n);

	for (int i = 0; i < n; i++)
	{
		back[i].outbox_id = events[i].outbox_id;
		back[i].fence = events[i].fence;
	}
	rom_settle_sent(back, n, ROM_SETTLED_RELEASED, NULL, 0);
}

/* board_all makes deliveries of what was taken, up to room of up to batch events each, and gives back what is left; how many. */
static int
board_all(Claim *claim, RomTarget *t, const RomReceiver *receiver, const RomRoute *route, RomFormat format, const RomTaken *events, int n, int room,
		  int batch, bool probe)
{
	int			requests = 0;
	int			begin = 0;

	for (; begin < n && requests < room; requests++)
	{
		size_t		bytes = 0;
		int			end = begin;

		while (end < n && end - begin < batch && (end == begin || bytes + rom_parcel_size(&events[end]) <= BATCH_BYTES))
			bytes += rom_parcel_size(&events[end++]);
		board(claim, t, receiver->defined_at, route, format, &events[begin], end - begin, probe);
		begin = end;
	}
	if (begin < n)
	{
		give_back(&events[begin], n - begin);
		claim->more = true;
	}
	t->alone = Max(t->alone - begin, 0);
	return requests;
}

/* take_from takes events of a destination, as many as it lets through, and makes their requests. */
static void
take_from(Claim *claim, const RomReceiver *receiver, int room)
{
	RomTarget  *t = rom_target_find(receiver);
	bool		probe = receiver->failures >= ROM_SENDER_BREAKS;
	RomFormat	format = ROM_FORMAT_STRUCTURED;
	RomTake		take = {0};
	RomTaken   *taken;
	RomRoute	route;
	const char *why = "";
	int			batch;
	int			got;

	t->seen = true;
	t->troubled |= receiver->failures > 0 || receiver->retry_at != DT_NOBEGIN;
	if (receiver->retry_at > rom_now())
	{
		claim->retry_at = Min(claim->retry_at, receiver->retry_at);
		return;
	}

	/*
	 * an open breaker lets one request through; the others of before have to
	 * be back
	 */
	room = Min(room, probe ? (t->in_flight == 0 ? 1 : 0) : receiver->max_in_flight - t->in_flight);
	if (room > 0)
		room = Min(room, rom_target_tokens(t, receiver->rate_limit, CLAIM_MAX, &claim->retry_at));
	if (room <= 0)
		return;
	if (!rom_route_make(receiver, &route, &why))
	{
		t->troubled = true;
		rom_sender_note(t->namespace, t->id, receiver->defined_at, ROM_RECEIVED_REFUSED, false, rom_now() + ROM_VERDICT_UNREACHABLE_US, why);
		claim->retry_at = Min(claim->retry_at, rom_now() + ROM_VERDICT_UNREACHABLE_US);
		return;
	}
	(void) rom_destination_format(receiver->format, &format);
	batch = format == ROM_FORMAT_BATCH && t->alone == 0 ? receiver->batch_size : 1;
	take.namespace = receiver->namespace;
	take.id = receiver->id;
	take.defined_at = receiver->defined_at;
	take.max = (int) Min((int64) room * batch, ROM_OUTBOX_CALL_MAX);
	take.deadline = rom_now() + ((int64) rom_guc_http_timeout + LEASE_MORE_MS) * 1000;
	taken = palloc_array(RomTaken, take.max);
	got = rom_take_events(&take, taken);
	if (got == 0)
		return;
	rom_target_spend(t, board_all(claim, t, receiver, &route, format, taken, got, room, batch, probe));
	claim->more |= got == take.max;
}

/* claim_unit takes events from each destination that has any. */
static void
claim_unit(void *arg)
{
	static int	turn = 0;		/* destinations take turns */
	Claim	   *claim = arg;
	RomReceiver *receivers = palloc_array(RomReceiver, ROM_SENDER_MAX);
	TimestampTz next;
	int			before = count;
	int			n = rom_sender_find(receivers, &next);

	claim->retry_at = Min(claim->retry_at, next);
	rom_share_look();
	rom_target_unsee();
	for (int i = 0; i < n; i++)
	{
		int			room = Min(rom_share_room_of(receivers[(turn + i) % n].namespace), CLAIM_MAX - (count - before));

		if (room > 0)
			take_from(claim, &receivers[(turn + i) % n], room);
		else
			rom_target_find(&receivers[(turn + i) % n])->seen = true;
	}
	turn = n > 0 ? (turn + 1) % n : 0;
	claim->more |= count - before >= CLAIM_MAX;
	if (count > before)
		rom_guc_outlast();
}

static void land(RomTransportAnswer *answer);

/* take_off sends a request. */
static void
take_off(Delivery *d)
{
	if (d->error == NULL)
	{
		d->tag.land = land;
		d->parcel.send.tag = d;
		d->handle = transport->send(&d->parcel.send);
		if (d->handle == NULL)
			d->error = "out of memory";
	}
	dlist_push_tail(d->error == NULL ? &flying : &landed, &d->late.node);
}

bool
rom_delivery_claim(bool *more, TimestampTz *retry_at)
{
	Claim		claim = {.retry_at = DT_NOEND};
	Delivery   *d;
	bool		ok;

	*more = false;
	*retry_at = DT_NOEND;
	if (rom_share_room() <= 0)
		return true;
	dlist_init(&claim.fresh);
	ok = rom_bgw_unit(claim_unit, &claim, false);
	while ((d = pop(&claim.fresh)) != NULL)
	{
		if (ok)
			take_off(d);
		else
			discard(&d->late);
	}
	careful = !ok;
	rom_target_settle(ok);
	if (ok)
		rom_target_forget();
	*more = claim.more;
	*retry_at = claim.retry_at;
	return ok;
}

/* ---------------------------------------------------------------- leases of a worker before */

/* Leases of a worker before that could not be ended yet; at first: any. */
static RomSenderLeft left = {0};
static bool left_all = true;

static void
inherit_unit(void *arg)
{
	rom_sender_inherit(left_all ? NULL : &left, arg);
}

bool
rom_delivery_inherit(bool *held)
{
	RomSenderLeft found = {0};
	bool		ok;

	*held = false;
	if (!left_all && left.n == 0)
		return true;
	ok = rom_bgw_unit(inherit_unit, &found, false);
	if (ok)
	{
		RomSenderLeft before = left;

		left = found;
		found = before;
		left_all = false;
		*held = left.n > 0;
	}
	if (found.leases != NULL)
		pfree(found.leases);
	return ok;
}

/* ---------------------------------------------------------------- outcomes */

/* land takes an answer. */
static void
land(RomTransportAnswer *answer)
{
	Delivery   *d = answer->tag;

	d->answer = answer;
	d->handle = NULL;
	dlist_delete(&d->late.node);
	dlist_push_tail(&landed, &d->late.node);
}

/* judge says what came of a delivery. */
static void
judge(const Delivery *d, RomVerdict *v)
{
	if (d->error != NULL)
		rom_verdict_unsent(d->unsent, d->error, d->n, v);
	else
		rom_verdict_answer(d->answer, &d->parcel, d->n, v);
}

/* note remembers how the destination is, once for each request. */
static void
note(Delivery *d, const RomVerdict *v)
{
	RomTarget  *t = d->target;

	d->well = v->received == ROM_RECEIVED_WELL;
	d->split = v->split;
	if (d->noted || v->received == ROM_RECEIVED_NOTHING || (v->received == ROM_RECEIVED_WELL && !t->troubled))
		return;
	t->troubled = true;
	rom_sender_note(t->namespace, t->id, d->defined_at, v->received, d->probe, v->not_before, v->received == ROM_RECEIVED_WELL ? NULL : v->error);
}

/* record_one records what came of a delivery. */
static void
record_one(Delivery *d)
{
	RomVerdict	v;

	judge(d, &v);
	rom_settle_sent(d->events, d->n, v.how, v.error, v.not_before);
	note(d, &v);
}

/* published says whether a delivery's events were taken by their receiver, so that they can be recorded with others'. */
static bool
published(const Delivery *d)
{
	RomVerdict	v;

	if (d->error != NULL)
		return false;
	judge(d, &v);
	return v.how == ROM_SETTLED_PUBLISHED;
}

/* record_published records those of a list that were published, in one statement. */
static void
record_published(dlist_head *list)
{
	RomSettle  *all;
	int			n = 0;
	int			room = 0;

	for (Delivery *d = first(list); d != NULL; d = next(list, d))
		room += d->n;
	all = palloc_array(RomSettle, room);
	for (Delivery *d = first(list); d != NULL; d = next(list, d))
	{
		if (!published(d))
			continue;
		memcpy(&all[n], d->events, sizeof(RomSettle) * d->n);
		n += d->n;
	}
	if (n == 0)
		return;
	rom_settle_sent(all, n, ROM_SETTLED_PUBLISHED, NULL, 0);
	n = 0;
	for (Delivery *d = first(list); d != NULL; d = next(list, d))
	{
		RomVerdict	v;

		if (!published(d))
			continue;
		memcpy(d->events, &all[n], sizeof(RomSettle) * d->n);
		n += d->n;
		judge(d, &v);
		note(d, &v);
	}
}

/* begin_again forgets what a unit that failed has done to events. */
static void
begin_again(Delivery *d)
{
	for (int i = 0; i < d->n; i++)
		d->events[i].done = d->settled[i];
}

/* Has a unit run? It is passed over when the extension was dropped: then nothing is left to record. */
static bool ran;

static void
record_unit(void *arg)
{
	dlist_head *list = arg;

	ran = true;
	for (Delivery *d = first(list); d != NULL; d = next(list, d))
		begin_again(d);
	record_published(list);
	for (Delivery *d = first(list); d != NULL; d = next(list, d))
	{
		CHECK_FOR_INTERRUPTS();
		if (!published(d))
			record_one(d);
	}
}

static void
record_one_unit(void *arg)
{
	Delivery   *d = delivery_of(arg);

	ran = true;
	begin_again(d);
	record_one(d);
}

/* is_recorded takes down what a transaction has committed. True: all of it. */
static bool
is_recorded(RomLate *entry)
{
	Delivery   *d = delivery_of(entry);
	bool		all = true;

	for (int i = 0; i < d->n; i++)
	{
		d->settled[i] = d->events[i].done;
		all &= d->settled[i];
	}
	if (!d->noted && d->split)
		d->target->alone += d->n;
	if (!d->noted && d->well)
		d->target->troubled = false;
	d->noted = true;
	return all;
}

/* is_dropped is for those that the extension was dropped under. */
static bool
is_dropped(RomLate *entry)
{
	return true;
}

/* record_alone records a delivery in a transaction of its own. False: to be tried again. */
static bool
record_alone(RomLate *entry)
{
	ran = false;
	if (rom_late_unit(record_one_unit, entry))
		return !ran || is_recorded(entry);
	return entry->faults >= FAULTS;
}

/* hold takes the place of a delivery from it, which is late. */
static void
hold(RomLate *entry)
{
	Delivery   *d = delivery_of(entry);

	if (!d->place.taken)
		return;
	rom_share_hold(d->target->namespace, &d->place, d->answer != NULL ? d->answer->length : 0);
	if (d->place.held)
	{
		d->target->in_flight--;
		d->target->held++;
	}
}

TimestampTz
rom_delivery_record(bool *settled)
{
	Delivery   *d;

	while (!dlist_is_empty(&landed))
	{
		dlist_head	now;
		bool		ok;

		dlist_init(&now);
		for (int i = 0; i < RECORD_MAX && (d = pop(&landed)) != NULL; i++)
			dlist_push_tail(&now, &d->late.node);
		ran = false;
		ok = rom_bgw_unit(record_unit, &now, true);
		*settled |= rom_late_settle(&late, &now, !ok ? record_alone : ran ? is_recorded : is_dropped);
		rom_bgw_poll();
	}
	return rom_late_again(&late, settled);
}
