/*-------------------------------------------------------------------------
 *
 * channel.h
 *		Channels and who subscribes to them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CHANNEL_H
#define ROM_CHANNEL_H

#include "engine/primitive.h"
#include "messages/mode.h"

/* A subscription, as its own instance's turn finds it. */
typedef struct RomSubscription
{
	RomMode		mode;
	bool		unsettled;		/* nobody has looked yet whether publishing
								 * transactions crossed it */
	bool		marked;			/* what is received leaves a mark, see
								 * channel.c */
	bool		fresh;			/* it is this transaction's own */
} RomSubscription;

/* SQL: does the instance i wait in an await, alone or among others? Its subscription tells whether for a receive. */
#define ROM_AWAITING_SQL "i.wait ->> 'step' LIKE 'await%'"

/* The turn's instance's subscription to channel. Engine scope needed, as for all here. */
extern void rom_subscription_find(RomTurn *turn, const char *channel,
								  RomSubscription *sub);

/* Subscribes it; RM005 when the channel has live subscribers of another mode. True if that changed something. */
extern bool rom_subscription_make(RomTurn *turn, const char *channel,
								  RomMode mode);

/* The same as history says (after retry_workflow, a fork), or in fallback's mode. */
extern void rom_subscription_restore(RomTurn *turn, const char *channel,
									 RomMode fallback, RomSubscription *sub);

/* One pending receive of spawn_receive more, or less. */
extern void rom_subscription_spawned(RomTurn *turn, const char *channel,
									 int change);

/*
 * Adds the deliveries of messages that crossed the subscription. wait: for
 * another process that does so at the moment; else that one is left to it.
 * Returns how many there were.
 */
extern int	rom_subscription_settle(const pg_uuid_t *id, const char *channel,
									bool wait);

/* Wakes one waiting competitor of channel that is not busy, other than except (may be NULL). now: without waiting for a commit. False: there is none. */
extern bool rom_channel_wake_one(const char *channel,
								 const pg_uuid_t *except, bool now);

/* Finds up to max competitors of channel that wait: rows of instance_id, owner, priority in SPI_tuptable; their number. */
extern uint64 rom_channel_find_waiting(const char *channel, int max);

/* Registers hooks with the engine; called once from _PG_init. */
extern void rom_channel_init(void);

/* Owner's name to oid, InvalidOid when the role is gone; the last one is remembered. */
extern Oid	rom_channel_owner(const char *name);

#endif							/* ROM_CHANNEL_H */
