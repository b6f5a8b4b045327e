/*-------------------------------------------------------------------------
 *
 * stat.c
 *		Cumulative statistics in shared memory.
 *
 * A set-associative table: a key hashes to a set of WAYS places; when all of
 * them are taken, the one that has not changed for longest gives way. So the size is fixed, and
 * what is in use stays.
 *
 * The table is kept over a clean restart (keep.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "storage/spin.h"

#include "memory/keep.h"
#include "memory/shmem.h"
#include "memory/stat.h"

#define SETS 128
#define WAYS 8

typedef struct StatSet
{
	slock_t		mutex;			/* guards the entries */
	RomStat		entries[WAYS];	/* since 0: free */
} StatSet;

static StatSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(StatSet) * SETS;
}

static StatSet *
set_of(const RomStatKey *key)
{
	return &sets[hash_bytes((const unsigned char *) key, sizeof(*key)) % SETS];
}

/* kept_entry and put_entry are RomKeep's. */
static const void *
kept_entry(uint32 n)
{
	RomStat    *stat = &sets[n / WAYS].entries[n % WAYS];

	return stat->since != 0 ? stat : NULL;
}

static void
put_entry(const void *entry)
{
	const RomStat *stat = entry;
	StatSet    *set = set_of(&stat->key);
	int			way = 0;

	while (way < WAYS - 1 && set->entries[way].since != 0)
		way++;
	set->entries[way] = *stat;
}

/* Raise the format's number with every change of RomStat, or of the meaning of its numbers. */
static const RomKeep keep = {
	.file = "pg_stat/romancy.stat",
	.magic = 0x526f6d53,
	.format = 1,
	.size = sizeof(RomStat),
	.capacity = SETS * WAYS,
	.entry = kept_entry,
	.put = put_entry,
};

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(StatSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
	rom_keep_attach(&keep);
}

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

/* place_for finds the key's entry or makes it; the set's mutex is held. */
static RomStat *
place_for(StatSet *set, const RomStatKey *key, TimestampTz now)
{
	RomStat    *oldest = &set->entries[0];

	for (int i = 0; i < WAYS; i++)
	{
		RomStat    *entry = &set->entries[i];

		if (entry->since != 0 && memcmp(&entry->key, key, sizeof(*key)) == 0)
			return entry;
		if (entry->at < oldest->at)
			oldest = entry;		/* a free one's is 0 */
	}
	memset(oldest, 0, sizeof(*oldest));
	oldest->key = *key;
	oldest->since = now;
	return oldest;
}

void
rom_stat_add(const RomStatKey *key, const RomStatSums *sums,
			 const uint16 *buckets, int nbuckets, TimestampTz now)
{
	StatSet    *set;
	RomStat    *entry;

	if (sets == NULL)
		return;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = place_for(set, key, now);
	for (int i = 0; i < ROM_STAT_COUNTERS; i++)
		entry->sums.counters[i] += sums->counters[i];
	entry->sums.us += sums->us;
	entry->sums.wal_bytes += sums->wal_bytes;
	entry->sums.blks_read += sums->blks_read;
	entry->sums.blks_hit += sums->blks_hit;
	for (int i = 0; i < nbuckets; i++)
		if (entry->buckets[buckets[i]] < PG_UINT32_MAX)
			entry->buckets[buckets[i]]++;
	entry->at = now;
	SpinLockRelease(&set->mutex);
}

int
rom_stat_places(void)
{
	return sets == NULL ? 0 : SETS * WAYS;
}

bool
rom_stat_get(int place, RomStat *stat)
{
	StatSet    *set = &sets[place / WAYS];
	RomStat    *entry = &set->entries[place % WAYS];

	SpinLockAcquire(&set->mutex);
	if (entry->since != 0)
		*stat = *entry;
	else
		stat->since = 0;
	SpinLockRelease(&set->mutex);
	return stat->since != 0;
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
	for (int i = 0; i < rom_stat_places(); i++)
	{
		StatSet    *set = &sets[i / WAYS];
		RomStat    *entry = &set->entries[i % WAYS];

		SpinLockAcquire(&set->mutex);
		if (entry->since != 0 && entry->key.dbid == dbid)
			memset(entry, 0, sizeof(*entry));
		SpinLockRelease(&set->mutex);
	}
}

void
rom_stat_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy statistics",
		.size = shmem_size,
		.attach = shmem_attach,
		.purge = rom_stat_forget,
	};

	rom_shmem_register(&part);
}
