/*-------------------------------------------------------------------------
 *
 * notify.c
 *		NOTIFY for queues: a worker tells listeners that there is something to
 *		fetch.
 *
 * A transaction that notifies takes a lock of the whole cluster at its commit,
 * so transactions that make tasks ready never do: they leave the queue's name,
 * in shared memory and after their commit (crossing.h), and the sweep
 * queue_notify runs at once. It notifies once for all that came since it looked
 * last. After a crash its first run notifies for all queues with ready tasks,
 * and so replaces the names that were lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/spi.h"
#include "memory/crossing.h"
#include "memory/roster.h"
#include "memory/sweep.h"
#include "memory/waiter.h"
#include "memory/wake.h"
#include "tasks/guc.h"
#include "tasks/notify.h"
#include "tasks/state.h"

/* A letter for rom_waiter_key(): sessions wait for work in a queue. */
#define QUEUE_KEY 'q'

/* Queues that one run is told of. */
#define KEYS_MAX 200

/* The queue that this transaction has looked up last; freed with the transaction. */
typedef struct Memo
{
	MemoryContextCallback gone;
	bool		has_channel;
	bool		pushed;			/* its activities are served by a URL */
	SubTransactionId asked_in;	/* the (sub)transaction that has asked already */
	char		queue[FLEXIBLE_ARRAY_MEMBER];
} Memo;

static Memo *memo = NULL;

/* notify_sweep is the number of the sweep. */
static int
notify_sweep(void)
{
	static int	number = -1;

	if (number < 0)
		number = rom_sweep_find("queue_notify");
	return number;
}

/* memo_gone is called when the transaction's memory goes. */
static void
memo_gone(void *arg)
{
	if (memo == arg)
		memo = NULL;
}

/* look_up fills the memo for a queue. */
static void
look_up(const char *queue)
{
	static RomStatement select = {
		"SELECT notify IS NOT NULL, push_url IS NOT NULL FROM romancy.t_queue WHERE name = $1 AND (notify IS NOT NULL OR push_url IS NOT NULL)",
		1, {TEXTOID}
	};
	Datum		values[1];
	Memo	   *m;
	RomRowSet	set;
	bool		isnull;

	values[0] = CStringGetTextDatum(queue);
	m = MemoryContextAlloc(TopTransactionContext, offsetof(Memo, queue) + strlen(queue) + 1);
	m->has_channel = m->pushed = false;
	if (rom_execute_rows(&set, &select, values, NULL, 1) > 0)
	{
		m->has_channel = DatumGetBool(rom_value(&set, 0, 1, &isnull));
		m->pushed = DatumGetBool(rom_value(&set, 0, 2, &isnull));
	}
	m->asked_in = InvalidSubTransactionId;
	strcpy(m->queue, queue);
	m->gone.func = memo_gone;
	m->gone.arg = m;
	MemoryContextRegisterResetCallback(TopTransactionContext, &m->gone);
	memo = m;
}

/* ask_all is for the commit hook. */
static void
ask_all(const void *arg)
{
	rom_crossing_ask_all(notify_sweep());
}

void
rom_notify_ask(const char *queue)
{
	bool		workflows;

	if (rom_notify_queue_internal(queue))
	{
		rom_notify_http(ROM_HTTP_CLAIM);
		return;
	}
	workflows = queue[0] == ROM_QUEUE_WORKFLOWS[0];
	if (workflows)
		queue++;
	if (memo == NULL || strcmp(memo->queue, queue) != 0)
		look_up(queue);
	if (memo->pushed && !workflows)
		rom_notify_http(ROM_HTTP_CLAIM);
	if (!memo->has_channel || memo->asked_in == GetCurrentSubTransactionId())
		return;
	memo->asked_in = GetCurrentSubTransactionId();
	if (strlen(queue) <= ROM_CROSSING_KEY_MAX)
		rom_crossing_ask_later(queue, notify_sweep());
	else
		rom_wake_call(ask_all, "", 1);
}

void
rom_notify_forget(void)
{
	memo = NULL;
}

/* sweep_notify notifies for the queues that it was asked for. */
static int64
sweep_notify(const RomSweepArgs *args)
{
	static RomStatement select = {
		"SELECT q.notify, q.name FROM romancy.t_queue q WHERE q.notify IS NOT NULL AND NOT q.paused"
		" AND ($1 IS NULL OR q.name = ANY ($1))"
		" AND ((q.push_url IS NULL AND EXISTS (SELECT FROM romancy.t_task t WHERE t.queue = q.name AND t.state = " ROM_SQL_TASK_READY "))"
		" OR EXISTS (SELECT FROM romancy.t_task t WHERE t.queue = '@' || q.name AND t.state = " ROM_SQL_TASK_READY "))",
		1, {TEXTARRAYOID}
	};
	Datum	   *names = palloc_array(Datum, KEYS_MAX);
	char		key[ROM_CROSSING_KEY_MAX + 1];
	bool		all = args->manual;
	int			n = 0;
	int32		namespace;
	RomEngine	engine;
	Datum		values[1];
	uint64		rows;
	RomRowSet	set;

	while (n < KEYS_MAX && rom_crossing_take(notify_sweep(), key, &all))
		names[n++] = CStringGetTextDatum(key);
	if (n == 0 && !all)
		return 0;
	if (n == KEYS_MAX)
		all = true;
	rom_engine_begin(&engine);
	values[0] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	rows = rom_execute_rows(&set, &select, values, &all, 0);
	for (uint64 i = 0; i < rows; i++)
		Async_Notify(rom_value_text(&set, i, 1, CurrentMemoryContext),
					 rom_notify_queue_name(rom_value_text(&set, i, 2, CurrentMemoryContext), &namespace));
	rom_engine_end(&engine);
	return rows;
}

void
rom_notify_init(void)
{
	static const RomSweep sweep = {
		.name = "queue_notify",
		.interval = &rom_guc_queue_notify_interval,
		.batch = sweep_notify,
	};

	rom_sweep_register(&sweep);
}

char *
rom_notify_queue_stored(int32 namespace, const char *name)
{
	return psprintf("%d/%s", namespace, name);
}

const char *
rom_notify_queue_name(const char *queue, int32 *namespace)
{
	const char *slash = strchr(queue, '/');

	*namespace = atoi(queue[0] == '@' ? queue + 1 : queue);
	return slash ? slash + 1 : queue;
}

uint64
rom_notify_key(const char *queue)
{
	return rom_waiter_key(QUEUE_KEY, queue, strlen(queue));
}

bool
rom_notify_queue_internal(const char *queue)
{
	int32		namespace;

	return queue[0] != '\0' && queue[0] != '@' && rom_notify_queue_name(queue, &namespace)[0] == '@';
}

/* The news of this transaction for the HTTP worker; freed with the transaction. */
typedef struct HttpMemo
{
	MemoryContextCallback gone;
	SubTransactionId noted_in;	/* the (sub)transaction that has noted it */
	uint32		what;
} HttpMemo;

static HttpMemo *http_memo = NULL;

/* http_memo_gone is called when the transaction's memory goes. */
static void
http_memo_gone(void *arg)
{
	http_memo = NULL;
}

/* tell_http is for the commit hook. */
static void
tell_http(const void *arg)
{
	rom_roster_http(MyDatabaseId, *(const uint32 *) arg);
}

void
rom_notify_http(uint32 what)
{
	SubTransactionId now = GetCurrentSubTransactionId();

	/* a note for all tasks of a map */
	if (http_memo == NULL)
	{
		http_memo = MemoryContextAllocZero(TopTransactionContext, sizeof(HttpMemo));
		http_memo->gone.func = http_memo_gone;
		MemoryContextRegisterResetCallback(TopTransactionContext, &http_memo->gone);
	}
	if (http_memo->noted_in == now && (what & ~http_memo->what) == 0)
		return;
	rom_wake_call(tell_http, &what, sizeof(what));
	http_memo->what = http_memo->noted_in == now ? http_memo->what | what : what;
	http_memo->noted_in = now;
}

void
rom_notify_ready(const char *queue)
{
	rom_wake_one(rom_notify_key(queue));
	rom_notify_ask(queue);
}

void
rom_notify_unwanted(const RomTask *task)
{
	if (task->sent)
		rom_notify_http(ROM_HTTP_CANCEL);
}

void
rom_notify_changed(const char *queue)
{
	/* (sessions that wait for a limit are there) */
	if (rom_notify_queue_internal(queue))
	{
		rom_notify_http(ROM_HTTP_LIMITS);
		return;
	}
	rom_wake_key(rom_notify_key(queue));
	rom_notify_ask(queue);
}
