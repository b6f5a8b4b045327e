/*-------------------------------------------------------------------------
 *
 * mode.c
 *		The mode of a channel: broadcast or competing, for all its subscribers.
 *
 * A channel's mode is a row that each subscribe with broadcast or competing
 * locks: those of the row's mode share the lock, one that wants another mode
 * takes it alone, and then sees whether a subscriber of the old mode is left.
 * The turn commits right after, so that the lock is short.
 *
 * Publishers lock nothing, and remember what they have read: most messages of a
 * session go to few channels, whose mode never changes. A transaction announces
 * a change of the row before it writes (memory/crossing.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "memory/crossing.h"
#include "messages/channel.h"
#include "messages/message.h"
#include "messages/mode.h"

/* Channels whose mode a session remembers: one for each hash value. */
#define REMEMBERED 64

typedef struct Remembered
{
	uint64		version;		/* of rom_crossing_version(); 0: nothing */
	RomMode		mode;
	char		key[ROM_CROSSING_KEY_MAX + 1];
} Remembered;

static Remembered remembered[REMEMBERED];

static const char *const mode_names[] = {
	[ROM_MODE_NONE] = "",
	[ROM_MODE_BROADCAST] = "broadcast",
	[ROM_MODE_COMPETING] = "competing",
	[ROM_MODE_DIRECT] = "direct"
};

const char *
rom_mode_name(RomMode mode)
{
	return mode_names[mode];
}

RomMode
rom_mode_from_name(const char *name)
{
	for (int i = ROM_MODE_BROADCAST; i <= ROM_MODE_DIRECT; i++)
		if (strcmp(mode_names[i], name) == 0)
			return i;
	return ROM_MODE_NONE;
}

/* ---------------------------------------------------------------- for publishers */

/* place_of is where the mode of the channel that has this key is remembered, if it is. */
static Remembered *
place_of(const char *key)
{
	return &remembered[hash_bytes((const unsigned char *) key,
								  strlen(key)) % REMEMBERED];
}

/* recall is rom_mode_recall() for a channel's key. */
static bool
recall(const char *key, RomMode *mode)
{
	Remembered *place = place_of(key);

	if (place->version == 0 || strcmp(place->key, key) != 0 ||
		place->version != rom_crossing_version(key))
		return false;
	*mode = place->mode;
	return true;
}

bool
rom_mode_recall(int32 namespace, const char *channel, RomMode *mode)
{
	return recall(rom_channel_key(namespace, channel), mode);
}

RomMode
rom_mode_find(int32 namespace, const char *channel)
{
	static RomStatement find = {
		"SELECT mode FROM romancy.t_channel WHERE namespace = $2 AND channel = $1", 2, {TEXTOID, INT4OID}
	};
	char	   *key = rom_channel_key(namespace, channel);
	Remembered *place = place_of(key);
	Datum		values[2];
	uint64		version;
	Snapshot	snapshot;
	RomRowSet	set;

	if (recall(key, &place->mode))
		return place->mode;
	place->version = 0;
	version = rom_crossing_version(key);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(namespace);
	place->mode = rom_execute_rows_at(&set, &find, values, NULL, snapshot, 1) == 0 ? ROM_MODE_NONE :
		rom_mode_from_name(rom_value_text(&set, 0, 1, CurrentMemoryContext));
	UnregisterSnapshot(snapshot);
	strlcpy(place->key, key, sizeof(place->key));
	place->version = version;
	return place->mode;
}

/* ---------------------------------------------------------------- for subscribers */

/* read_mode reads the mode of the channel's row, locked as said; ROM_MODE_NONE when there is none. */
static RomMode
read_mode(RomStatement *stmt, int32 namespace, const char *channel)
{
	Datum		values[2];
	RomRowSet	set;

	values[0] = CStringGetTextDatum(channel);
	values[1] = Int32GetDatum(namespace);
	if (rom_execute_rows(&set, stmt, values, NULL, 1) == 0)
		return ROM_MODE_NONE;
	return rom_mode_from_name(rom_value_text(&set, 0, 1, CurrentMemoryContext));
}

RomMode
rom_mode_of_others(int32 namespace, const char *channel, RomMode mode)
{
	static RomStatement others = {
		"SELECT mode FROM romancy.t_subscription WHERE namespace = $3 AND channel = $1 AND mode <> $2"
		" AND mode NOT IN ('direct', 'kept') LIMIT 1",
		3, {TEXTOID, TEXTOID, INT4OID}
	};
	Datum		values[3];
	RomRowSet	set;

	values[0] = CStringGetTextDatum(channel);
	values[1] = CStringGetTextDatum(mode_names[mode]);
	values[2] = Int32GetDatum(namespace);
	if (mode == ROM_MODE_DIRECT || rom_execute_rows(&set, &others, values, NULL, 1) == 0)
		return ROM_MODE_NONE;
	return rom_mode_from_name(rom_value_text(&set, 0, 1, CurrentMemoryContext));
}

/* refuse_mode raises RM005 when channel has subscribers in a mode that excludes mode. */
static void
refuse_mode(int32 namespace, const char *channel, RomMode mode)
{
	RomMode		other = rom_mode_of_others(namespace, channel, mode);

	if (other != ROM_MODE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CHANNEL_MODE),
				 errmsg("cannot subscribe to channel \"%s\" as %s: it has subscribers as %s",
						channel, mode_names[mode], mode_names[other]),
				 errhint("Use another channel, or the same mode for all its subscribers.")));
}

void
rom_mode_claim(int32 namespace, const char *channel, RomMode mode)
{
	static RomStatement look = {
		"SELECT mode FROM romancy.t_channel WHERE namespace = $2 AND channel = $1", 2, {TEXTOID, INT4OID}
	};
	static RomStatement share = {
		"SELECT mode FROM romancy.t_channel WHERE namespace = $2 AND channel = $1 FOR SHARE",
		2, {TEXTOID, INT4OID}
	};
	static RomStatement alone = {
		"SELECT mode FROM romancy.t_channel WHERE namespace = $2 AND channel = $1 FOR UPDATE",
		2, {TEXTOID, INT4OID}
	};
	static RomStatement insert = {
		"INSERT INTO romancy.t_channel (channel, mode, namespace) VALUES ($1, $2, $3)"
		" ON CONFLICT DO NOTHING", 3, {TEXTOID, TEXTOID, INT4OID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_channel SET mode = $2, swept = NULL WHERE namespace = $3 AND channel = $1",
		3, {TEXTOID, TEXTOID, INT4OID}
	};
	Datum		values[3];

	values[0] = CStringGetTextDatum(channel);
	values[1] = CStringGetTextDatum(mode_names[mode]);
	values[2] = Int32GetDatum(namespace);
	for (;;)
	{
		RomMode		found = read_mode(&look, namespace, channel);

		CHECK_FOR_INTERRUPTS();
		if (found == ROM_MODE_NONE)
		{
			rom_crossing_change(rom_channel_key(namespace, channel));
			if (rom_execute(&insert, values, NULL, 0) == 1)
				return;
		}
		else if (found == mode)
		{
			if (read_mode(&share, namespace, channel) == mode)
				return;
		}
		else
		{
			found = read_mode(&alone, namespace, channel);
			if (found == ROM_MODE_NONE)
				continue;
			if (found == mode)
				return;
			refuse_mode(namespace, channel, mode);
			rom_crossing_change(rom_channel_key(namespace, channel));
			rom_execute(&update, values, NULL, 0);
			return;
		}
	}
}
