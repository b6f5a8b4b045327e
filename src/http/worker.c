/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The process that sends requests: one for a database that has any to send, started on demand.
 *
 * It waits for its latch and for the transport's descriptor together, and holds nothing meanwhile: no transaction, no snapshot, no
 * lock. It runs no code of users and is no owner's session; what a request may reach is decided for the task's owner.
 *
 * It leaves by itself (exit code 0) when it had nothing to do, and nothing to wait for, for romancy.worker_idle_timeout, or when it is asked to. Any role that may signal it can
 * end it; another one is started, and tries again what was under way: its leases end with the process. ERROR: a unit's is logged, and the
 * unit tried again later. DROP DATABASE: workers/utility.c asks it to leave, which it does at once. DROP EXTENSION: waits
 * for the transaction; the next finds it gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "http/address.h"
#include "http/answer.h"
#include "http/delivery.h"
#include "http/flight.h"
#include "http/guc.h"
#include "http/landing.h"
#include "http/library.h"
#include "http/share.h"
#include "http/worker.h"
#include "memory/guc.h"
#include "memory/roster.h"
#include "workers/bgw.h"
#include "workers/guc.h"

/* After a unit that failed. */
#define TRY_AGAIN_MS 1000

/* Descriptors beside those of requests. */
#define DESCRIPTORS_MORE 300

static const RomTransport *transport = NULL;
static WaitEventSet *events = NULL;

/* under_way is the number of requests that are, or whose outcome is to be recorded. */
static int
under_way(void)
{
	return rom_flight_count() + rom_delivery_count();
}

/* take_news takes what the worker is to look at. */
static uint32
take_news(void)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	uint32		news = 0;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, true);
	if (database != NULL)
	{
		news = database->http;
		database->http = 0;
		database->http_at = DT_NOEND;	/* this worker knows by itself */
	}
	SpinLockRelease(&roster->mutex);
	return news;
}

/* The work that is due. */
typedef struct Duty
{
	bool		claim;
	bool		cancel;
	bool		inherit;		/* leases of a worker before, */
	TimestampTz inherit_at;		/* those that other transactions had */
	bool		events;			/* there are some to send */
	TimestampTz claim_at;		/* though there is no news */
	TimestampTz events_at;
	TimestampTz record_at;
	TimestampTz settle_at;		/* outcomes of events */
	TimestampTz not_before;		/* after a unit that failed */
} Duty;

/*
 * owes says whether there is anything that this worker has taken over and not done yet. (What was to be cancelled is under way.) Requests that
 * limits hold back are known by claim_at or by those under way, so changes of limits need a worker only where one has left with such a time.
 */
static bool
owes(const Duty *duty)
{
	return under_way() > 0 || duty->claim || duty->events || duty->inherit || duty->inherit_at != DT_NOEND;
}

/* later is when there is something to do next, as far as the worker knows. */
static TimestampTz
later(const Duty *duty)
{
	return Min(duty->claim_at, duty->events_at);
}

/* may_leave: is there nothing to do for so long that it is worth while? */
static bool
may_leave(const Duty *duty, TimestampTz idle_since, TimestampTz now)
{
	int64		idle_us = (int64) rom_guc_worker_idle_timeout * 1000;

	return !owes(duty) && idle_us > 0 && idle_since + idle_us <= now && later(duty) > idle_since + 2 * idle_us;
}

/*
 * leave leaves, unless there is news and it was not asked to leave. News and the state change under one lock: news before
 * it is seen here, and news after it finds no worker, so that the launcher starts one. The next worker is asked for: now where this one
 * owes something, else for the time of what waits (duty NULL: never).
 */
static void
leave(const Duty *duty, bool sent_away)
{
	RomRoster  *roster = rom_roster_get();
	RomDatabase *database;
	bool		go = true;

	SpinLockAcquire(&roster->mutex);
	database = rom_roster_database_locked(roster, MyDatabaseId, false);
	if (database != NULL && duty != NULL)
	{
		if (owes(duty) || (duty->claim_at != DT_NOEND && (database->http & ROM_HTTP_LIMITS)))
			database->http |= ROM_HTTP_CLAIM | ROM_HTTP_EVENTS;
		database->http_at = Min(database->http_at, later(duty));
	}
	if (!sent_away)
		go = database == NULL || database->http == 0;
	if (go)
		rom_bgw_me()->state = ROM_WORKER_LEAVING;
	SpinLockRelease(&roster->mutex);
	if (go)
		proc_exit(0);
}

/* raise_descriptors lets the process have a connection for each request. */
static void
raise_descriptors(void)
{
	struct rlimit limit;
	rlim_t		wanted = (rlim_t) rom_guc_http_max_in_flight + DESCRIPTORS_MORE;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? wanted : Min(limit.rlim_max, wanted);
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		ereport(LOG,
				(errmsg("could not raise the limit of open files to %ld: %m", (long) wanted)));
}

/* open_transport loads the library, and makes the set of what is waited for. */
static void
open_transport(void)
{
	RomTransportSettings settings = {rom_address_may_connect, ROM_ANSWER_HEADER_BYTES_MAX, ROM_ANSWER_HEADERS_MAX};
	const char *error = "unknown";
	int			descriptor;

	raise_descriptors();
	transport = rom_library_load();
	descriptor = transport->open(&settings, &error);
	if (descriptor < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not begin to send HTTP requests: %s", error)));
	rom_flight_init(transport);
	rom_delivery_init(transport);
	events = ROM_CREATE_WAIT_EVENT_SET(3);
	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(events, WL_SOCKET_READABLE, descriptor, NULL, NULL);
}

/* wait sleeps until there is something to do, at most ms (-1: for ever). */
static void
wait(long ms)
{
	static uint32 wait_event = 0;
	WaitEvent	event;
	long		transport_ms = transport->timeout();

	if (wait_event == 0)
		wait_event = ROM_WAIT_EVENT("RomancyHttp");
	if (transport_ms >= 0 && (ms < 0 || transport_ms < ms))
		ms = transport_ms;
	(void) WaitEventSetWait(events, ms, &event, 1, wait_event);
	ResetLatch(MyLatch);
	rom_bgw_poll();
}

/* record records outcomes; those that could not be are left until their time has come. */
static void
record(Duty *duty)
{
	bool		settled = false;

	duty->record_at = rom_landing_record();
	duty->settle_at = rom_delivery_record(&settled);
	/* the next of their keys, and others, may go now */
	duty->events |= settled;
}

/* send_events takes events and sends them. False: it failed. */
static bool
send_events(Duty *duty)
{
	bool		ok;

	if (duty->inherit || !duty->events || rom_share_room() <= 0)
		return true;
	ok = rom_delivery_claim(&duty->events, &duty->events_at);
	duty->events |= !ok;
	return ok;
}

/*
 * inherit ends leases of a worker before; the rest waits for other transactions, while this worker does not: inherit_at. False: it
 * failed, and is tried again then, too.
 */
static bool
inherit(Duty *duty, TimestampTz now)
{
	bool		tasks = false;
	bool		held = false;
	bool		ok;

	ok = rom_flight_inherit(&tasks) && rom_delivery_inherit(&held);
	duty->inherit_at = !ok || tasks || held ? TimestampTzPlusMilliseconds(now, TRY_AGAIN_MS) : DT_NOEND;
	/* what has no lease any more may be sent again */
	duty->events = true;
	return ok;
}

/* work does what is to be done, and can be done without waiting for a server. */
static void
work(Duty *duty)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		failed = false;

	transport->run();
	rom_flight_collect();
	if (duty->claim_at <= now)
	{
		duty->claim = true;
		duty->claim_at = DT_NOEND;
	}
	if (duty->events_at <= now)
	{
		duty->events = true;
		duty->events_at = DT_NOEND;
	}
	record(duty);
	if (rom_share_freed())
		duty->claim = duty->events = true;
	if (duty->not_before > now)
		return;
	if (duty->inherit || duty->inherit_at <= now)
	{
		bool		ok = inherit(duty, now);

		duty->inherit &= !ok;
		failed |= !ok;
	}
	if (duty->cancel)
	{
		duty->cancel = !rom_flight_cancel();
		failed |= duty->cancel;
	}
	/* what is claimed is not to be taken for a former worker's */
	if (!duty->inherit && duty->claim && rom_share_room() > 0)
	{
		bool		ok;

		ok = rom_flight_claim(&duty->claim, &duty->claim_at);
		duty->claim |= !ok;
		failed |= !ok;
	}
	failed |= !send_events(duty);
	/* those whose request could not be made have ended already */
	record(duty);
	if (failed)
		duty->not_before = TimestampTzPlusMilliseconds(now, TRY_AGAIN_MS);
	else if (duty->not_before != 0)
	{
		duty->not_before = 0;
		rom_bgw_healthy();
	}
}

/* next_time is when there is something to do next, as far as the worker knows; DT_NOBEGIN: now. */
static TimestampTz
next_time(const Duty *duty, TimestampTz idle_since)
{
	TimestampTz next = Min(Min(duty->claim_at, duty->record_at), Min(Min(duty->events_at, duty->settle_at), duty->inherit_at));
	bool		now = duty->inherit || duty->cancel || ((duty->claim || duty->events) && rom_share_room() > 0);

	if (now)
		next = duty->not_before != 0 ? Min(next, duty->not_before) : DT_NOBEGIN;
	if (may_leave(duty, idle_since, DT_NOEND))
		next = Min(next, idle_since + (int64) rom_guc_worker_idle_timeout * 1000);
	return next;
}

void
rom_http_worker_main(Datum arg)
{
	RomWorkerParams params;
	MemoryContext cycle;
	Duty		duty = {.claim = true,.inherit = true,.events = true,.inherit_at = DT_NOEND,.claim_at = DT_NOEND,.events_at = DT_NOEND,.record_at = DT_NOEND,.settle_at = DT_NOEND};
	TimestampTz idle_since;

	rom_bgw_attach(&params);
	cycle = AllocSetContextCreate(TopMemoryContext, "romancy HTTP cycle", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	if (!rom_bgw_check_database())
		leave(NULL, true);
	open_transport();
	idle_since = GetCurrentTimestamp();

	for (;;)
	{
		TimestampTz next;
		uint32		news;

		rom_bgw_poll();
		if (rom_bgw_asked_to_leave())
			leave(&duty, true);
		news = take_news();
		duty.claim |= (news & (ROM_HTTP_CLAIM | ROM_HTTP_LIMITS)) != 0;
		duty.cancel |= (news & ROM_HTTP_CANCEL) != 0;
		duty.events |= (news & ROM_HTTP_EVENTS) != 0;
		if (news != 0 && !rom_bgw_check_database())
			leave(under_way() > 0 ? &duty : NULL, true);
		if (news != 0 || under_way() > 0)
			rom_bgw_set_state(ROM_WORKER_RUNNING);
		work(&duty);
		MemoryContextReset(cycle);

		if (owes(&duty))
			idle_since = GetCurrentTimestamp();
		next = next_time(&duty, idle_since);
		if (may_leave(&duty, idle_since, GetCurrentTimestamp()))
			leave(&duty, false);
		if (under_way() == 0 && next > GetCurrentTimestamp())
			rom_bgw_set_state(ROM_WORKER_IDLE);
		if (next > GetCurrentTimestamp())
			wait(rom_bgw_milliseconds(next));
	}
}
