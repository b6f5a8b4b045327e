/*-------------------------------------------------------------------------
 *
 * profile.c
 *		Profiles of activities and handlers in shared memory: their usual
 *		duration and how often they fail.
 *
 * The table is kept over a clean restart (keep.c).
 *
 * The usual duration is estimated by a mean of the last runs in which short
 * runs weigh more than long ones, and very long ones count as a multiple of the
 * mean. So delays that a busy machine adds to some runs do not make a quick
 * activity slow; a few slow runs in a row do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/shmem.h"
#include "memory/ways.h"
#include "steps/profile.h"

/* Runs after which a profile counts as known. */
#define KNOWN_RUNS 2

/* Runs that the estimate, and the share of those that went wrong, look back on. */
#define SHORTER_RUNS 3
#define LONGER_RUNS 12
#define TROUBLE_RUNS 16

/* A share of runs that went wrong above this is not "nearly always succeeds". */
#define TROUBLE_MAX 0.25

/* A run counts as at most this many times the estimate, or this many microseconds. */
#define OUTLIER 8
#define OUTLIER_US 4000

typedef struct Profile
{
	RomWay		way;
	RomProfileKey key;
	uint32		runs;
	uint32		failed;
	uint32		disturbed;
	float		usual_us;		/* what a run takes */
	float		trouble;		/* share of runs that went wrong, of late */
} Profile;

static RomWays table = {
	.name = "romancy profiles",
	.sets = 256,
	.ways = 8,
	.key = sizeof(RomProfileKey),
	.entry = sizeof(Profile),
};

/* ------------------------------------------------------------ over a restart */

static const RomKeep keep = {
	.table = &table,
	.file = "pg_stat/romancy.profile",
	.magic = 0x526f6d70,
	.format = 2,
};

/* ------------------------------------------------------------ reading and writing */

void
rom_profile_note(const RomProfileKey *key, int64 us, RomProfileEnd end)
{
	RomWaysSet *set = rom_ways_lock(&table, key);
	Profile    *entry;
	float		sample = us;

	if (set == NULL)
		return;
	entry = rom_ways_make(&table, set, key, rom_ways_holder(key->namespace));
	if (entry->runs < PG_UINT32_MAX)
		entry->runs++;
	entry->failed += end == ROM_PROFILE_FAILED;
	entry->disturbed += end == ROM_PROFILE_DISTURBED;
	if (entry->runs > KNOWN_RUNS)
		sample = Min(sample, Max(entry->usual_us * OUTLIER, OUTLIER_US));
	entry->usual_us += (sample - entry->usual_us) /
		Min(entry->runs, sample < entry->usual_us ? SHORTER_RUNS : LONGER_RUNS);
	entry->trouble += ((end != ROM_PROFILE_OK) - entry->trouble) /
		Min(entry->runs, TROUBLE_RUNS);
	rom_ways_unlock(set);
}

/* get copies the key's profile; false when it is not known well enough. */
static bool
get(const RomProfileKey *key, Profile *profile)
{
	RomWaysSet *set = rom_ways_lock(&table, key);
	Profile    *entry;
	bool		known;

	if (set == NULL)
		return false;
	entry = rom_ways_find(&table, set, key);
	known = entry != NULL && entry->runs >= KNOWN_RUNS;
	if (known)
		*profile = *entry;
	rom_ways_unlock(set);
	return known;
}

bool
rom_profile_exists(const RomProfileKey *key)
{
	RomWaysSet *set = rom_ways_lock(&table, key);
	bool		exists;

	if (set == NULL)
		return false;
	exists = rom_ways_find(&table, set, key) != NULL;
	rom_ways_unlock(set);
	return exists;
}

bool
rom_profile_quick(const RomProfileKey *key, int64 us)
{
	Profile		profile;

	return get(key, &profile) && profile.usual_us < us && profile.trouble <= TROUBLE_MAX;
}

bool
rom_profile_short(const RomProfileKey *key, int64 us)
{
	Profile		profile;

	return get(key, &profile) && profile.usual_us < us;
}

bool
rom_profile_slow(const RomProfileKey *key, int64 us)
{
	Profile		profile;

	return get(key, &profile) && profile.usual_us >= us;
}

void
rom_profile_forget(Oid dbid)
{
	rom_ways_purge(&table, dbid);
}

void
rom_profile_init(void)
{
	rom_shmem_register_table(&table, &keep);
}
