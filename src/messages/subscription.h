/*-------------------------------------------------------------------------
 *
 * subscription.h
 *		Who subscribes to a channel, and which messages that makes theirs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SUBSCRIPTION_H
#define ROM_SUBSCRIPTION_H

#include "messages/mode.h"
#include "turn/primitive.h"

/* A subscription, as its own instance's turn finds it. */
typedef struct RomSubscription
{
	RomMode		mode;
	bool		unsettled;		/* it was not checked yet whether publishing
								 * transactions overlapped it */
	bool		marked;			/* what is received leaves a mark, see
								 * subscription.c */
	bool		fresh;			/* it is this transaction's own */
} RomSubscription;

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
 * Adds the deliveries of messages that overlapped the subscription. wait: for
 * another process that does so at the moment; else that one is left to it.
 * Returns how many there were.
 */
extern int	rom_subscription_settle(const pg_uuid_t *id, const char *channel,
									bool wait);

/* Registers hooks with the engine; called once from _PG_init. */
extern void rom_subscription_init(void);

#endif							/* ROM_SUBSCRIPTION_H */
