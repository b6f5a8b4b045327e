/*-------------------------------------------------------------------------
 *
 * stats.c
 *		Statistics of workflows and activities: counting, and the functions of
 *		their views.
 *
 * A turn reports its figures as it is saved. They are collected in this process and added to shared
 * memory when the transaction has committed, once for each workflow and activity in it: so nothing is
 * counted that was rolled back, and a batch of sixteen instances of one workflow costs two spinlocks.
 * (A drain in a block that is rolled back to a savepoint is counted all the same, and one that is
 * prepared is not.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/spi.h"
#include "memory/xact.h"
#include "monitor/stats.h"
#include "steps/profile.h"
#include "turn/context.h"
#include "turn/observe.h"
#include "turn/turn.h"

PG_FUNCTION_INFO_V1(romancy_stat);
PG_FUNCTION_INFO_V1(romancy_stat_reset);

/* Keys that a process remembers between its transactions. */
#define KEYS_MAX 256

#define STAT_COLUMNS (4 + ROM_STAT_COUNTERS + 7)

/* The figures that this transaction adds to one key. */
typedef struct Pending
{
	RomStatKey	key;
	bool		dirty;
	RomStatSums sums;
	uint16	   *buckets;
	int			nbuckets;
	int			size;
} Pending;

static MemoryContext pending_cxt = NULL;
static HTAB *pending = NULL;
static Pending **dirty = NULL;

/* by kind: most often it is the same again */
static Pending *latest[2] = {NULL, NULL};
static int	ndirty = 0;
static int	dirty_size = 0;

/* forget_pending empties what was collected. */
static void
forget_pending(void)
{
	for (int i = 0; i < ndirty; i++)
	{
		dirty[i]->dirty = false;
		dirty[i]->nbuckets = 0;
		memset(&dirty[i]->sums, 0, sizeof(RomStatSums));
	}
	ndirty = 0;
	if (pending != NULL && hash_get_num_entries(pending) > KEYS_MAX)
	{
		MemoryContextDelete(pending_cxt);
		latest[0] = latest[1] = NULL;
		pending_cxt = NULL;
		pending = NULL;
		dirty = NULL;
		dirty_size = 0;
	}
}

/* committed adds the collected figures when the transaction has committed. Must not raise. */
static void
committed(void)
{
	TimestampTz now;

	if (ndirty == 0)
		return;
	now = GetCurrentTimestamp();
	for (int i = 0; i < ndirty; i++)
		rom_stat_add(&dirty[i]->key, &dirty[i]->sums, dirty[i]->buckets,
					 dirty[i]->nbuckets, now);
	forget_pending();
}

static void
dropped(void)
{
	if (ndirty > 0)
		forget_pending();
}

/* pending_for finds what is collected for a key, and marks it as changed. */
static Pending *
pending_for(RomStatKind kind, int32 namespace, int32 id, Oid owner, const char *name)
{
	RomStatKey	key;
	Pending    *entry = latest[kind];
	bool		found;

	if (entry != NULL && entry->dirty && entry->key.namespace == namespace && entry->key.id == id &&
		entry->key.owner == owner && strcmp(entry->key.name, name) == 0)
		return entry;
	if (pending_cxt == NULL)
	{
		HASHCTL		ctl;
		MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "romancy statistics",
												  ALLOCSET_DEFAULT_SIZES);

		ctl.keysize = sizeof(RomStatKey);
		ctl.entrysize = sizeof(Pending);
		ctl.hcxt = cxt;
		pending = hash_create("romancy statistics", 32, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		dirty_size = 32;
		dirty = MemoryContextAlloc(cxt, dirty_size * sizeof(Pending *));
		pending_cxt = cxt;
	}
	if (ndirty == dirty_size)
	{
		dirty = repalloc(dirty, 2 * dirty_size * sizeof(Pending *));
		dirty_size *= 2;
	}
	memset(&key, 0, sizeof(key));
	key.dbid = MyDatabaseId;
	key.extension = rom_extension_oid();
	key.owner = owner;
	key.kind = kind;
	key.namespace = namespace;
	key.id = id;
	memcpy(key.name, name, pg_mbcliplen(name, strlen(name), ROM_STAT_NAME_MAX - 1));
	entry = hash_search(pending, &key, HASH_ENTER, &found);
	if (!found)
		memset((char *) entry + sizeof(key), 0, sizeof(*entry) - sizeof(key));
	if (!entry->dirty)
	{
		entry->dirty = true;
		dirty[ndirty++] = entry;
	}
	latest[kind] = entry;
	return entry;
}

/* add_duration adds a sample to the histogram. */
static void
add_duration(Pending *entry, int64 us)
{
	if (entry->nbuckets == entry->size)
	{
		int			size = Max(16, entry->size * 2);

		entry->buckets = entry->buckets == NULL ?
			MemoryContextAlloc(pending_cxt, size * sizeof(uint16)) :
			repalloc(entry->buckets, size * sizeof(uint16));
		entry->size = size;
	}
	entry->buckets[entry->nbuckets++] = rom_stat_bucket(us);
	entry->sums.us += us;
}

static void
add_usage(Pending *entry, const RomCost *cost)
{
	entry->sums.wal_bytes += cost->wal_bytes;
	entry->sums.blks_read += cost->blks_read;
	entry->sums.blks_hit += cost->blks_hit;
}

/* note_attempt is RomObserver's attempt(). */
static void
note_attempt(Oid owner, int32 namespace, const RomAttemptStat *attempt)
{
	Pending    *entry = pending_for(ROM_STAT_ACTIVITY, namespace, 0, owner, attempt->name);

	entry->sums.counters[ROM_STAT_CALLS]++;
	entry->sums.counters[ROM_STAT_FAILURES] += attempt->failed;
	entry->sums.counters[ROM_STAT_RETRIES] += attempt->again;
	if (attempt->measured)
		add_duration(entry, attempt->cost.us);
	add_usage(entry, &attempt->cost);
}

/* note_turn is RomObserver's turn(). */
static void
note_turn(RomTurn *turn, bool first, bool ended)
{
	Pending    *entry;

	for (int i = 0; i < turn->spent.nattempts; i++)
		note_attempt(turn->owner, turn->inst->namespace, &turn->spent.attempts[i]);

	entry = pending_for(ROM_STAT_WORKFLOW, turn->inst->namespace, turn->inst->def_id, turn->owner,
						turn->inst->workflow);
	entry->sums.counters[ROM_STAT_TURNS]++;
	entry->sums.counters[ROM_STAT_STARTED] += first;
	add_usage(entry, &turn->spent.cost);
	if (!ended)
		return;
	switch (turn->out.status)
	{
		case ROM_STATUS_COMPLETED:
			entry->sums.counters[ROM_STAT_COMPLETED]++;
			break;
		case ROM_STATUS_FAILED:
			entry->sums.counters[ROM_STAT_FAILED]++;
			break;
		case ROM_STATUS_CANCELLED:
			entry->sums.counters[ROM_STAT_CANCELLED]++;
			break;
		default:
			entry->sums.counters[ROM_STAT_RECURRED]++;
			break;
	}
	add_duration(entry, Max(rom_now() - turn->inst->started_at, 0));
}

static const RomObserver observer = {
	.turn = note_turn,
	.attempt = note_attempt,
};

void
rom_stats_init(void)
{
	static const RomXactPart part = {
		.name = "statistics",
		.order = ROM_XACT_COUNT,
		.committed = committed,
		.prepared = dropped,
		.aborted = dropped,
	};

	rom_xact_register(&part);
	rom_observe_register(&observer);
}

/* ---------------------------------------------------------------- showing */

bool
rom_stats_next(int *place, RomStat *stat, char **owner)
{
	Oid			extension = rom_extension_oid();

	while (*place < rom_stat_places())
	{
		if (!rom_stat_get((*place)++, stat) || stat->key.dbid != MyDatabaseId ||
			stat->key.extension != extension)
			continue;
		*owner = OidIsValid(stat->key.owner) ?
			GetUserNameFromId(stat->key.owner, true) : NULL;
		if (rom_instance_may_read(*owner ? *owner : ""))
			return true;
	}
	return false;
}

/* A quantile as an interval. */
static Datum
quantile(const RomStat *stat, double q, bool *isnull)
{
	int64		us = rom_stat_quantile(stat, q);
	Interval   *interval = palloc0_object(Interval);

	*isnull = us < 0;
	interval->time = us;
	return IntervalPGetDatum(interval);
}

/* romancy.t_stat(kind): name, namespace, id, owner, counters, p50, p99, seconds, wal_bytes, blocks_read, blocks_hit, since */
Datum
romancy_stat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int32		kind = PG_GETARG_INT32(0);
	RomStat		stat;
	char	   *owner;
	int			place = 0;

	InitMaterializedSRF(fcinfo, 0);
	while (rom_stats_next(&place, &stat, &owner))
	{
		Datum		values[STAT_COLUMNS];
		bool		nulls[STAT_COLUMNS] = {false};
		int			i = 0;

		if (stat.key.kind != kind)
			continue;
		values[i++] = CStringGetTextDatum(stat.key.name);
		values[i++] = Int32GetDatum(stat.key.namespace);
		values[i++] = Int32GetDatum(stat.key.id);
		nulls[i] = owner == NULL;
		values[i++] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
		for (int c = 0; c < ROM_STAT_COUNTERS; c++)
			values[i++] = Int64GetDatum(stat.sums.counters[c]);
		values[i] = quantile(&stat, 0.5, &nulls[i]);
		i++;
		values[i] = quantile(&stat, 0.99, &nulls[i]);
		i++;
		values[i++] = Float8GetDatum(stat.sums.us / 1e6);
		values[i++] = Int64GetDatum(stat.sums.wal_bytes);
		values[i++] = Int64GetDatum(stat.sums.blks_read);
		values[i++] = Int64GetDatum(stat.sums.blks_hit);
		values[i++] = TimestampTzGetDatum(stat.since);
		Assert(i == STAT_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * romancy.stat_reset() -> void
 *
 * This database's statistics begin anew. For the extension's owner. Errors: 42501 for others,
 * RM004 in a workflow.
 */
Datum
romancy_stat_reset(PG_FUNCTION_ARGS)
{
	rom_context_refuse_handler("stat_reset");
	if (!has_privs_of_role(GetUserId(), rom_extension_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", "stat_reset"),
				 errdetail("It is for the owner of extension \"romancy\".")));
	rom_stat_forget(MyDatabaseId);
	rom_profile_forget(MyDatabaseId);
	PG_RETURN_VOID();
}
