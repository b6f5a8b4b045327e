/*-------------------------------------------------------------------------
 *
 * channel.h
 *		The competitors of a channel: finding one that waits, and waking it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CHANNEL_H
#define ROM_CHANNEL_H

#include "utils/uuid.h"

#include "base/spi.h"

/* The key of a channel in shared memory, "namespace:channel", in the current context; and back: the name, in the key. */
extern char *rom_channel_key(int32 namespace, const char *channel);
extern const char *rom_channel_of_key(const char *key, int32 *namespace);

/* SQL: does the instance i wait in an await, alone or among others? Its subscription tells whether for a receive. */
#define ROM_AWAITING_SQL "i.wait ->> 'await' = 'true'"

/* SQL: the mailbox of instance i, where its messages are. */
#define ROM_MAILBOX_SQL "coalesce(i.mailbox, i.instance_id)"

/*
 * Wakes one waiting competitor of channel that is not busy, other than except (may be NULL). now: without waiting for
 * a commit. False: there is none. Engine scope needed, as for all here but the last.
 */
extern bool rom_channel_wake_one(int32 namespace, const char *channel,
								 const pg_uuid_t *except, bool now);

/* Finds up to max competitors of channel that wait: rows of instance_id, owner, priority in set; their number. */
extern uint64 rom_channel_find_waiting(RomRowSet *set, int32 namespace, const char *channel, int max);

/* Owner's name to oid, InvalidOid when the role was dropped; the last one is remembered. */
extern Oid	rom_channel_owner(const char *name);

#endif							/* ROM_CHANNEL_H */
