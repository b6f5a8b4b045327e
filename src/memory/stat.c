/*-------------------------------------------------------------------------
 *
 * stat.c
 *		Cumulative statistics in shared memory.
 *
 * A set-associative table: a key hashes to a set of WAYS places; when all of
 * them are taken, the one that has not changed for longest gives way. So the size is fixed, and
 * what is in use stays.
 *
 * A clean shutdown writes the table to FILE_NAME, and the next start reads it
 * and removes the file: after a crash (or an immediate shutdown) there is none, and everything is counted anew.
 * Both are done by the postmaster, as pg_stat_statements does, when there is no other process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/spin.h"

#include "base/compat.h"
#include "memory/shmem.h"
#include "memory/stat.h"

#define SETS 128
#define WAYS 8

#define FILE_NAME "pg_stat/romancy.stat"
#define FILE_MAGIC 0x526f6d53

/* To be raised with every change of RomStat, or of the meaning of its numbers. */
#define FILE_FORMAT 1

typedef struct StatSet
{
	slock_t		mutex;			/* guards the entries */
	RomStat		entries[WAYS];	/* since 0: free */
} StatSet;

typedef struct FileHeader
{
	uint32		magic;
	uint32		format;
	uint32		server;			/* PG_VERSION_NUM's major: oids are of this
								 * cluster, but be on the safe side */
	uint32		size;			/* of an entry */
	uint32		count;
	pg_crc32c	crc;			/* of the entries */
} FileHeader;

static StatSet *sets = NULL;

static Size
shmem_size(void)
{
	return sizeof(StatSet) * SETS;
}

/* header_make fills the header but for count and crc. */
static void
header_make(FileHeader *header)
{
	memset(header, 0, sizeof(*header));
	header->magic = FILE_MAGIC;
	header->format = FILE_FORMAT;
	header->server = PG_VERSION_NUM / 100;
	header->size = sizeof(RomStat);
	INIT_CRC32C(header->crc);
}

/* shut_down_cleanly: was there a checkpoint at the end, or is the next start a recovery? */
static bool
shut_down_cleanly(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	return crc_ok && (control->state == DB_SHUTDOWNED ||
					  control->state == DB_SHUTDOWNED_IN_RECOVERY);
}

/* save writes the table at the end of a shutdown; nobody else is there to be locked out. */
static void
save(int code, Datum arg)
{
	FileHeader	header;
	FILE	   *file;
	bool		ok;

	if (code != 0 || sets == NULL || !shut_down_cleanly())
		return;					/* a crash: what is here may be nonsense */
	file = AllocateFile(FILE_NAME ".tmp", PG_BINARY_W);
	if (file == NULL)
		goto failed;
	header_make(&header);
	ok = fwrite(&header, sizeof(header), 1, file) == 1;
	for (int i = 0; i < SETS * WAYS; i++)
	{
		RomStat    *stat = &sets[i / WAYS].entries[i % WAYS];

		if (stat->since == 0)
			continue;
		ok = ok && fwrite(stat, sizeof(*stat), 1, file) == 1;
		COMP_CRC32C(header.crc, stat, sizeof(*stat));
		header.count++;
	}
	FIN_CRC32C(header.crc);
	ok = ok && fseek(file, 0, SEEK_SET) == 0 && fwrite(&header, sizeof(header), 1, file) == 1;
	if (FreeFile(file) == 0 && ok && durable_rename(FILE_NAME ".tmp", FILE_NAME, LOG) == 0)
		return;
failed:
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", FILE_NAME ".tmp")));
	unlink(FILE_NAME ".tmp");
}

static StatSet *
set_of(const RomStatKey *key)
{
	return &sets[hash_bytes((const unsigned char *) key, sizeof(*key)) % SETS];
}

/* load reads the table, if its file is whole and of this format, and removes the file. */
static void
load(void)
{
	FILE	   *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	FileHeader	header;
	FileHeader	wanted;
	pg_crc32c	crc;
	RomStat		stat;
	bool		ok;

	if (file == NULL)
		return;
	header_make(&wanted);
	INIT_CRC32C(crc);
	ok = fread(&header, sizeof(header), 1, file) == 1 &&
		header.magic == wanted.magic && header.format == wanted.format &&
		header.server == wanted.server && header.size == wanted.size &&
		header.count <= SETS * WAYS;
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		ok = fread(&stat, sizeof(stat), 1, file) == 1;
		if (ok)
			COMP_CRC32C(crc, &stat, sizeof(stat));
	}
	FIN_CRC32C(crc);
	ok = ok && EQ_CRC32C(crc, header.crc) &&
		fseek(file, sizeof(header), SEEK_SET) == 0;
	for (uint32 i = 0; ok && i < header.count; i++)
	{
		StatSet    *set;
		int			way = 0;

		if (fread(&stat, sizeof(stat), 1, file) != 1)
			break;
		set = set_of(&stat.key);
		while (way < WAYS - 1 && set->entries[way].since != 0)
			way++;
		set->entries[way] = stat;
	}
	FreeFile(file);
	if (!ok)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\", which is of another version or damaged", FILE_NAME)));
	unlink(FILE_NAME);
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(StatSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
	if (IsBinaryUpgrade)
		return;
	load();
	on_shmem_exit(save, (Datum) 0);
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
