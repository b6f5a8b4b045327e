/*-------------------------------------------------------------------------
 *
 * mode.h
 *		The mode of a channel: how all its subscribers receive.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MODE_H
#define ROM_MODE_H

typedef enum RomMode
{
	ROM_MODE_NONE,				/* no subscription */
	ROM_MODE_BROADCAST,
	ROM_MODE_COMPETING,
	ROM_MODE_DIRECT
} RomMode;

/* "broadcast", "competing", "direct", or "" for none; and back, ROM_MODE_NONE for what is none of these. */
extern const char *rom_mode_name(RomMode mode);
extern RomMode rom_mode_from_name(const char *name);

/* Does this session know the channel's mode without a look into the tables? Then *mode is set. For publishers, that have an xid already. */
extern bool rom_mode_recall(int32 namespace, const char *channel, RomMode *mode);

/* The mode of the channel's last subscribers that can be seen now, whatever the caller's isolation; ROM_MODE_NONE when there are none. Engine scope needed. */
extern RomMode rom_mode_find(int32 namespace, const char *channel);

/* The mode of live subscribers of the channel that excludes mode; ROM_MODE_NONE when there are none. Engine scope needed. */
extern RomMode rom_mode_of_others(int32 namespace, const char *channel, RomMode mode);

/*
 * Makes mode, which is not direct, the channel's, or raises RM005 where it has live subscribers of another
 * one; the row stays locked up to the end of the transaction. Engine scope needed.
 */
extern void rom_mode_claim(int32 namespace, const char *channel, RomMode mode);

#endif							/* ROM_MODE_H */
