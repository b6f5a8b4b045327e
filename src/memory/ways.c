/*-------------------------------------------------------------------------
 *
 * ways.c
 *		Set-associative tables in shared memory, with a share of each set for
 *		each namespace.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "memory/ways.h"

/* In shared memory; its entries follow. */
struct RomWaysSet
{
	slock_t		mutex;			/* guards what follows */
	uint64		uses;
};

#define HEAD MAXALIGN(sizeof(RomWaysSet))

/* A holder is its database and, in the lower half, its namespace. */
#define HOLDER_DATABASE(holder) ((Oid) ((holder) >> 32))

uint64
rom_ways_holder(int32 namespace)
{
	return ((uint64) MyDatabaseId << 32) | (uint32) namespace;
}

static Size
set_size(const RomWays *ways)
{
	return HEAD + ways->ways * MAXALIGN(ways->entry);
}

static RomWaysSet *
set_at(const RomWays *ways, uint32 number)
{
	return (RomWaysSet *) (ways->area + number * set_size(ways));
}

static RomWay *
way_at(const RomWays *ways, RomWaysSet *set, uint32 number)
{
	return (RomWay *) ((char *) set + HEAD + number * MAXALIGN(ways->entry));
}

static void *
key_of(RomWay *way)
{
	return (char *) way + sizeof(RomWay);
}

static RomWaysSet *
set_of(const RomWays *ways, const void *key)
{
	return set_at(ways, hash_bytes(key, (int) ways->key) % ways->sets);
}

Size
rom_ways_size(const RomWays *ways)
{
	return set_size(ways) * ways->sets;
}

void
rom_ways_attach(RomWays *ways, void *place, bool found)
{
	Assert(ways->ways <= ROM_WAYS_MAX);
	ways->area = place;
	if (found)
		return;
	memset(place, 0, rom_ways_size(ways));
	for (uint32 i = 0; i < ways->sets; i++)
		SpinLockInit(&set_at(ways, i)->mutex);
}

RomWaysSet *
rom_ways_lock(const RomWays *ways, const void *key)
{
	RomWaysSet *set;

	if (ways->area == NULL)
		return NULL;
	set = set_of(ways, key);
	SpinLockAcquire(&set->mutex);
	return set;
}

void
rom_ways_unlock(RomWaysSet *set)
{
	SpinLockRelease(&set->mutex);
}

void *
rom_ways_find(const RomWays *ways, RomWaysSet *set, const void *key)
{
	for (uint32 i = 0; i < ways->ways; i++)
	{
		RomWay	   *way = way_at(ways, set, i);

		if (way->holder != 0 && memcmp(key_of(way), key, ways->key) == 0)
			return way;
	}
	return NULL;
}

/* held_by counts the entries of a holder in a set, with the one that is asked for if it is that holder's. */
static int
held_by(const RomWays *ways, RomWaysSet *set, uint64 holder, uint64 asker)
{
	int			n = holder == asker ? 1 : 0;

	for (uint32 i = 0; i < ways->ways; i++)
		if (way_at(ways, set, i)->holder == holder)
			n++;
	return n;
}

/* place_for chooses the place of a new entry: a free one, or that of the least recently used one of the holder of most. */
static RomWay *
place_for(const RomWays *ways, RomWaysSet *set, uint64 asker)
{
	RomWay	   *loser = NULL;
	int			held[ROM_WAYS_MAX] = {0};
	int			most = 0;
	bool		own;

	for (uint32 i = 0; i < ways->ways; i++)
	{
		RomWay	   *way = way_at(ways, set, i);

		if (way->holder == 0)
			return way;
		held[i] = held_by(ways, set, way->holder, asker);
		most = Max(most, held[i]);
	}
	/* with as many as any other it takes its own, if it has one */
	own = held_by(ways, set, asker, asker) == most && most > 1;
	for (uint32 i = 0; i < ways->ways; i++)
	{
		RomWay	   *way = way_at(ways, set, i);

		if (held[i] == most && (!own || way->holder == asker) &&
			(loser == NULL || way->used < loser->used))
			loser = way;
	}
	return loser;
}

void *
rom_ways_make(const RomWays *ways, RomWaysSet *set, const void *key, uint64 holder)
{
	RomWay	   *way = rom_ways_find(ways, set, key);

	if (way == NULL)
	{
		way = place_for(ways, set, holder);
		memset(way, 0, ways->entry);
		memcpy(key_of(way), key, ways->key);
	}
	way->holder = holder;
	way->used = ++set->uses;
	return way;
}

void
rom_ways_free(void *entry)
{
	((RomWay *) entry)->holder = 0;
}

uint32
rom_ways_places(const RomWays *ways)
{
	return ways->area == NULL ? 0 : ways->sets * ways->ways;
}

bool
rom_ways_copy(const RomWays *ways, uint32 place, void *entry)
{
	RomWaysSet *set = set_at(ways, place / ways->ways);
	RomWay	   *way = way_at(ways, set, place % ways->ways);
	bool		found;

	SpinLockAcquire(&set->mutex);
	found = way->holder != 0;
	if (found)
		memcpy(entry, way, ways->entry);
	SpinLockRelease(&set->mutex);
	return found;
}

void
rom_ways_purge(const RomWays *ways, Oid dbid)
{
	for (uint32 place = 0; place < rom_ways_places(ways); place++)
	{
		RomWaysSet *set = set_at(ways, place / ways->ways);
		RomWay	   *way = way_at(ways, set, place % ways->ways);

		SpinLockAcquire(&set->mutex);
		if (HOLDER_DATABASE(way->holder) == dbid)
			way->holder = 0;
		SpinLockRelease(&set->mutex);
	}
}

const void *
rom_ways_kept(const RomWays *ways, uint32 place)
{
	RomWay	   *way = way_at(ways, set_at(ways, place / ways->ways), place % ways->ways);

	return way->holder != 0 ? way : NULL;
}

void
rom_ways_put_back(const RomWays *ways, const void *entry)
{
	const RomWay *kept = entry;
	const char *key = (const char *) entry + sizeof(RomWay);
	RomWaysSet *set = set_of(ways, key);
	RomWay	   *way = rom_ways_make(ways, set, key, kept->holder);

	memcpy(way, kept, ways->entry);
	set->uses = Max(set->uses, kept->used);
}
