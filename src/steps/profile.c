/*-------------------------------------------------------------------------
 *
 * profile.c
 *		Profiles of activities and handlers in shared memory: their usual
 *		duration and how often they fail.
 *
 * A set-associative table: a key hashes to a set of WAYS places; when all of
 * them are taken, the one that has not changed for longest gives way. The table is
 * kept over a clean restart (keep.c).
 *
 * The usual duration is estimated by a mean of the last runs in which short
 * runs weigh more than long ones, and very long ones count as a multiple of the
 * mean. So delays that a busy machine adds to some runs do not make a quick
 * activity slow; a few slow runs in a row do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/keep.h"
#include "memory/shmem.h"
#include "steps/profile.h"

#define SETS 256
#define WAYS 8

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
	RomProfileKey key;
	uint32		runs;			/* 0: the place is free */
	uint32		failed;
	uint32		disturbed;
	float		usual_us;		/* what a run takes */
	float		trouble;		/* share of runs that went wrong, of late */
	TimestampTz at;				/* last change */
} Profile;

typedef struct ProfileSet
{
	slock_t		mutex;			/* guards the entries */
	Profile		entries[WAYS];
} ProfileSet;

static ProfileSet *sets = NULL;

static ProfileSet *
set_of(const RomProfileKey *key)
{
	return &sets[hash_bytes((const unsigned char *) key, sizeof(*key)) % SETS];
}

/* find returns the key's entry, or NULL; the set's mutex is held. */
static Profile *
find(ProfileSet *set, const RomProfileKey *key)
{
	for (int i = 0; i < WAYS; i++)
		if (set->entries[i].runs != 0 &&
			memcmp(&set->entries[i].key, key, sizeof(*key)) == 0)
			return &set->entries[i];
	return NULL;
}

/* place_for finds the key's entry or makes it; the set's mutex is held. */
static Profile *
place_for(ProfileSet *set, const RomProfileKey *key)
{
	Profile    *entry = find(set, key);

	if (entry != NULL)
		return entry;
	entry = &set->entries[0];
	for (int i = 1; i < WAYS; i++)
		if (set->entries[i].at < entry->at)
			entry = &set->entries[i];	/* a free one's is 0 */
	memset(entry, 0, sizeof(*entry));
	entry->key = *key;
	return entry;
}

/* ------------------------------------------------------------ over a restart */

static const void *
kept_entry(uint32 n)
{
	Profile    *entry = &sets[n / WAYS].entries[n % WAYS];

	return entry->runs != 0 ? entry : NULL;
}

static void
put_entry(const void *entry)
{
	const Profile *profile = entry;

	*place_for(set_of(&profile->key), &profile->key) = *profile;
}

static const RomKeep keep = {
	.file = "pg_stat/romancy.profile",
	.magic = 0x526f6d70,
	.format = 1,
	.size = sizeof(Profile),
	.capacity = SETS * WAYS,
	.entry = kept_entry,
	.put = put_entry,
};

static Size
shmem_size(void)
{
	return sizeof(ProfileSet) * SETS;
}

static void
shmem_attach(void *place, bool found)
{
	sets = place;
	if (found)
		return;
	memset(sets, 0, sizeof(ProfileSet) * SETS);
	for (int i = 0; i < SETS; i++)
		SpinLockInit(&sets[i].mutex);
	rom_keep_attach(&keep);
}

/* ------------------------------------------------------------ reading and writing */

void
rom_profile_note(const RomProfileKey *key, int64 us, RomProfileEnd end)
{
	TimestampTz now = GetCurrentTimestamp();
	ProfileSet *set;
	Profile    *entry;
	float		sample = us;

	if (sets == NULL)
		return;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = place_for(set, key);
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
	entry->at = now;
	SpinLockRelease(&set->mutex);
}

/* get copies the key's profile; false when it is not known well enough. */
static bool
get(const RomProfileKey *key, Profile *profile)
{
	ProfileSet *set;
	Profile    *entry;
	bool		known;

	if (sets == NULL)
		return false;
	set = set_of(key);
	SpinLockAcquire(&set->mutex);
	entry = find(set, key);
	known = entry != NULL && entry->runs >= KNOWN_RUNS;
	if (known)
		*profile = *entry;
	SpinLockRelease(&set->mutex);
	return known;
}

bool
rom_profile_quick(const RomProfileKey *key, int64 us)
{
	Profile		profile;

	return get(key, &profile) && profile.usual_us < us && profile.trouble <= TROUBLE_MAX;
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
	for (int i = 0; sets != NULL && i < SETS; i++)
	{
		SpinLockAcquire(&sets[i].mutex);
		for (int way = 0; way < WAYS; way++)
			if (sets[i].entries[way].key.dbid == dbid)
				memset(&sets[i].entries[way], 0, sizeof(Profile));
		SpinLockRelease(&sets[i].mutex);
	}
}

void
rom_profile_init(void)
{
	static const RomShmemPart part = {
		.name = "romancy profiles",
		.size = shmem_size,
		.attach = shmem_attach,
		.purge = rom_profile_forget,
	};

	rom_shmem_register(&part);
}
