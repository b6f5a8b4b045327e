/*-------------------------------------------------------------------------
 *
 * stat.h
 *		Cumulative statistics in shared memory: counters and a histogram of
 *		durations for each thing that is counted.
 *
 * The histogram has buckets whose width grows with the value, as in HdrHistogram:
 * a duration in microseconds falls into the bucket of its highest bit and the
 * three bits after it. So from a microsecond to a year a quantile is at most 6.3 % off, whatever
 * the durations are, adding costs an increment, and two histograms are added bucket by bucket.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STAT_H
#define ROM_STAT_H

#include "datatype/timestamp.h"

#define ROM_STAT_NAME_MAX 128
#define ROM_STAT_COUNTERS 6

/* Eight to an octave, up to 2^45 microseconds (a year); what is longer counts in the last one. */
#define ROM_STAT_BUCKETS 344

/* The key of a counter. Zero it before you fill it: keys are compared byte by byte. */
typedef struct RomStatKey
{
	Oid			dbid;
	Oid			extension;		/* a new CREATE EXTENSION begins at nothing */
	Oid			owner;
	int32		kind;			/* the caller's */
	int32		namespace;
	int32		id;				/* the caller's */
	char		name[ROM_STAT_NAME_MAX];	/* cut at a character's end */
} RomStatKey;

typedef struct RomStatSums
{
	int64		counters[ROM_STAT_COUNTERS];	/* the caller's */
	int64		us;				/* of the durations */
	int64		wal_bytes;
	int64		blks_read;
	int64		blks_hit;
} RomStatSums;

typedef struct RomStat
{
	RomStatKey	key;
	RomStatSums sums;
	TimestampTz since;			/* counted from then on */
	uint32		buckets[ROM_STAT_BUCKETS];
} RomStat;

extern int	rom_stat_bucket(int64 us);

/* Adds sums, and durations by their buckets. Does not raise: for the commit hook. */
extern void rom_stat_add(const RomStatKey *key, const RomStatSums *sums,
						 const uint16 *buckets, int nbuckets, TimestampTz now);

/* Number of places, and what is in one of them; false when it is free. */
extern int	rom_stat_places(void);
extern bool rom_stat_get(int place, RomStat *stat);

/* How many durations it holds, and their quantile q (0 to 1), microseconds; -1 when there are none. */
extern int64 rom_stat_durations(const RomStat *stat);
extern int64 rom_stat_quantile(const RomStat *stat, double q);

/* Forgets a database (dropped, or without the extension). */
extern void rom_stat_forget(Oid dbid);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_stat_init(void);

#endif							/* ROM_STAT_H */
