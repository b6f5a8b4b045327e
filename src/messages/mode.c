/*-------------------------------------------------------------------------
 *
 * mode.c
 *		The mode of a channel: how all its subscribers receive.
 *
 * A channel's mode is a row that all who subscribe with broadcast or competing
 * lock: those of the row's mode share the lock, one that wants another mode
 * takes it alone, and then sees whether anybody of the old mode is left. The
 * turn commits right after, so that the lock is short.
 *
 * Publishers lock nothing, and remember what they have read: most messages of
 * a session go to few channels, whose mode never changes. Who writes the row
 * says so before (memory/crossing.h).
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
#include "messages/message.h"
#include "messages/mode.h"

/* Channels whose mode a session remembers: one for each hash value. */
#define REMEMBERED 64

typedef struct Remembered
{
	uint64		version;		/* of rom_crossing_version(); 0: nothing */
	RomMode		mode;
	char		channel[ROM_CHANNEL_MAX + 1];
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

/* place_of is where the mode of channel is remembered, if it is. */
static Remembered *
place_of(const char *channel)
{
	return &remembered[hash_bytes((const unsigned char *) channel,
								  strlen(channel)) % REMEMBERED];
}

bool
rom_mode_recall(const char *channel, RomMode *mode)
{
	Remembered *place = place_of(channel);

	if (place->version == 0 || strcmp(place->channel, channel) != 0 ||
		place->version != rom_crossing_version(channel))
		return false;
	*mode = place->mode;
	return true;
}

RomMode
rom_mode_find(const char *channel)
{
	static RomStatement find = {
		"SELECT mode FROM romancy.t_channel WHERE channel = $1", 1, {TEXTOID}
	};
	Remembered *place = place_of(channel);
	Datum		values[1];
	uint64		version;
	Snapshot	snapshot;

	if (rom_mode_recall(channel, &place->mode))
		return place->mode;
	place->version = 0;
	version = rom_crossing_version(channel);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	values[0] = CStringGetTextDatum(channel);
	place->mode = rom_execute_at(&find, values, NULL, snapshot, 1) == 0 ? ROM_MODE_NONE :
		rom_mode_from_name(rom_value_text(0, 1, CurrentMemoryContext));
	UnregisterSnapshot(snapshot);
	strlcpy(place->channel, channel, sizeof(place->channel));
	place->version = version;
	return place->mode;
}

/* ---------------------------------------------------------------- for subscribers */

/* read_mode reads the mode of the channel's row, locked as said; ROM_MODE_NONE when there is none. */
static RomMode
read_mode(RomStatement *stmt, const char *channel)
{
	Datum		values[1];

	values[0] = CStringGetTextDatum(channel);
	if (rom_execute(stmt, values, NULL, 1) == 0)
		return ROM_MODE_NONE;
	return rom_mode_from_name(rom_value_text(0, 1, CurrentMemoryContext));
}

RomMode
rom_mode_of_others(const char *channel, RomMode mode)
{
	static RomStatement others = {
		"SELECT mode FROM romancy.t_subscription WHERE channel = $1 AND mode <> $2"
		" AND mode <> 'direct' LIMIT 1",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(channel);
	values[1] = CStringGetTextDatum(mode_names[mode]);
	if (mode == ROM_MODE_DIRECT || rom_execute(&others, values, NULL, 1) == 0)
		return ROM_MODE_NONE;
	return rom_mode_from_name(rom_value_text(0, 1, CurrentMemoryContext));
}

/* refuse_mode raises RM005 when somebody subscribes to channel in a mode that excludes mode. */
static void
refuse_mode(const char *channel, RomMode mode)
{
	RomMode		other = rom_mode_of_others(channel, mode);

	if (other != ROM_MODE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CHANNEL_MODE),
				 errmsg("cannot subscribe to channel \"%s\" as %s: it has subscribers as %s",
						channel, mode_names[mode], mode_names[other]),
				 errhint("Use another channel, or the same mode for all its subscribers.")));
}

void
rom_mode_claim(const char *channel, RomMode mode)
{
	static RomStatement look = {
		"SELECT mode FROM romancy.t_channel WHERE channel = $1", 1, {TEXTOID}
	};
	static RomStatement share = {
		"SELECT mode FROM romancy.t_channel WHERE channel = $1 FOR SHARE",
		1, {TEXTOID}
	};
	static RomStatement alone = {
		"SELECT mode FROM romancy.t_channel WHERE channel = $1 FOR UPDATE",
		1, {TEXTOID}
	};
	static RomStatement insert = {
		"INSERT INTO romancy.t_channel (channel, mode) VALUES ($1, $2)"
		" ON CONFLICT DO NOTHING", 2, {TEXTOID, TEXTOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_channel SET mode = $2, swept = NULL WHERE channel = $1",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2];

	values[0] = CStringGetTextDatum(channel);
	values[1] = CStringGetTextDatum(mode_names[mode]);
	for (;;)
	{
		RomMode		found = read_mode(&look, channel);

		CHECK_FOR_INTERRUPTS();
		if (found == ROM_MODE_NONE)
		{
			rom_crossing_change(channel);
			if (rom_execute(&insert, values, NULL, 0) == 1)
				return;
		}
		else if (found == mode)
		{
			if (read_mode(&share, channel) == mode)
				return;
		}
		else
		{
			found = read_mode(&alone, channel);
			if (found == ROM_MODE_NONE)
				continue;
			if (found == mode)
				return;
			refuse_mode(channel, mode);
			rom_crossing_change(channel);
			rom_execute(&update, values, NULL, 0);
			return;
		}
	}
}
