/*-------------------------------------------------------------------------
 *
 * target.h
 *		The destinations that the HTTP worker sends events to: what it has under way there, and their rate limits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_TARGET_H
#define ROM_HTTP_TARGET_H

#include "lib/ilist.h"
#include "memory/bucket.h"
#include "outbox/sender.h"

/* A destination that requests are, or were lately, under way to. */
typedef struct RomTarget
{
	dlist_node	node;
	int32		namespace;
	int32		id;				/* of the destination */
	int			in_flight;
	int			held;			/* requests whose outcome cannot be recorded */
	bool		troubled;		/* its row may say that it has failed */
	bool		seen;			/* in the take that goes on */
	int			alone;			/* so many events go alone: a batch with them
								 * was refused */
	RomBucket	bucket;
	TimestampTz covered;		/* until when the row of the bucket holds, */
	TimestampTz covers;			/* and will, when the take has committed */
	RomBucket	before;			/* the bucket before that take has spent */
	bool		spent;			/* that it has */
} RomTarget;

/* Finds or makes the entry of a destination. */
extern RomTarget *rom_target_find(const RomReceiver *receiver);

/* A take begins: no entry is seen. At its end those are freed that were not, and that nothing is under way to. */
extern void rom_target_unsee(void);
extern void rom_target_forget(void);

/*
 * How many requests the rate limit of a destination (NULL: none) lets through now, at most max; *retry_at is brought forward to when there is one more. Enters the engine
 * by itself, as the next.
 */
extern int	rom_target_tokens(RomTarget *target, const char *rate_limit, int max, TimestampTz *retry_at);

/* Takes tokens for requests, once in a take. */
extern void rom_target_spend(RomTarget *target, int requests);

/* The take has ended: one that was rolled back has written no bucket, and sends nothing. */
extern void rom_target_settle(bool committed);

#endif							/* ROM_HTTP_TARGET_H */
