/*-------------------------------------------------------------------------
 *
 * stat.c
 *		Cumulative statistics in shared memory.
 *
 * The table is kept over a clean restart (keep.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "port/pg_bitutils.h"

#include "memory/shmem.h"
#include "memory/stat.h"
#include "memory/ways.h"

typedef struct StatEntry
{
	RomWay		way;
	RomStat		stat;			/* begins with its key */
} StatEntry;

static RomWays table = {
	.name = "romancy statistics",
	.sets = 128,
	.ways = 8,
	.key = sizeof(RomStatKey),
	.entry = sizeof(StatEntry),
};

/* Raise the format's number with every change of RomStat, or of the meaning of its numbers. */
static const RomKeep keep = {
	.table = &table,
	.file = "pg_stat/romancy.stat",
	.magic = 0x526f6d53,
	.format = 2,
};

int
rom_stat_bucket(int64 us)
{
	int			top;

	if (us < 8)
		return Max(us, 0);
	top = pg_leftmost_one_pos64(us);
	return Min(((top - 2) << 3) | ((us >> (top - 3)) & 7), ROM_STAT_BUCKETS - 1);
}

/* bucket_value is the middle of a bucket. */
static int64
bucket_value(int bucket)
{
	int			shift = (bucket >> 3) - 1;

	if (shift <= 0)
		return bucket;
	return (((int64) 8 | (bucket & 7)) << shift) + ((int64) 1 << (shift - 1));
}

void
rom_stat_add(const RomStatKey *key, const RomStatSums *sums,
			 const uint16 *buckets, int nbuckets, TimestampTz now)
{
	RomWaysSet *set = rom_ways_lock(&table, key);
	RomStat    *entry;

	if (set == NULL)
		return;
	entry = &((StatEntry *) rom_ways_make(&table, set, key, rom_ways_holder(key->namespace)))->stat;
	if (entry->since == 0)
		entry->since = now;
	for (int i = 0; i < ROM_STAT_COUNTERS; i++)
		entry->sums.counters[i] += sums->counters[i];
	entry->sums.us += sums->us;
	entry->sums.wal_bytes += sums->wal_bytes;
	entry->sums.blks_read += sums->blks_read;
	entry->sums.blks_hit += sums->blks_hit;
	for (int i = 0; i < nbuckets; i++)
		if (entry->buckets[buckets[i]] < PG_UINT32_MAX)
			entry->buckets[buckets[i]]++;
	rom_ways_unlock(set);
}

int
rom_stat_places(void)
{
	return rom_ways_places(&table);
}

bool
rom_stat_get(int place, RomStat *stat)
{
	StatEntry	entry;

	if (!rom_ways_copy(&table, place, &entry))
		return false;
	*stat = entry.stat;
	return true;
}

int64
rom_stat_durations(const RomStat *stat)
{
	int64		n = 0;

	for (int i = 0; i < ROM_STAT_BUCKETS; i++)
		n += stat->buckets[i];
	return n;
}

int64
rom_stat_quantile(const RomStat *stat, double q)
{
	int64		rank = (int64) ceil(q * rom_stat_durations(stat));
	int64		n = 0;

	for (int i = 0; i < ROM_STAT_BUCKETS; i++)
	{
		n += stat->buckets[i];
		if (n > 0 && n >= rank)
			return bucket_value(i);
	}
	return -1;
}

void
rom_stat_forget(Oid dbid)
{
	rom_ways_purge(&table, dbid);
}

void
rom_stat_init(void)
{
	rom_shmem_register_table(&table, &keep);
}
