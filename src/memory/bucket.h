/*-------------------------------------------------------------------------
 *
 * bucket.h
 *		Limits, and the bucket of a rate limit: a full one holds as many tokens as the limit
 *		lets through in its period, and it is refilled evenly (a token bucket).
 *
 * A bucket of zeros has never been used. The caller that stores the bucket
 * initialises and locks it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BUCKET_H
#define ROM_BUCKET_H

#include "datatype/timestamp.h"

/* The limits of an activity or a queue; 0: none. */
typedef struct RomLimits
{
	int			max_concurrency;	/* this many may run */
	int			rate;			/* this many may begin in period
								 * (microseconds) */
	int64		period;
} RomLimits;

#define ROM_LIMITED(l) ((l)->max_concurrency > 0 || (l)->rate > 0)

typedef struct RomBucket
{
	int			rate;			/* as it was used last; 0: never */
	int64		period;			/* microseconds */
	double		left;			/* tokens */
	TimestampTz at;				/* the time at which that many were left */
	double		unused;			/* tokens that a full bucket had no room for,
								 * up to one, since an asker used its booking */
	TimestampTz booked;			/* until when coming tokens are booked by
								 * waiting askers; 0: unknown */
} RomBucket;

/* A time that is over: no token is booked. */
#define ROM_BUCKET_NONE_BOOKED 1

/* The first use: left tokens were left at an instant, which may be to come. */
extern void rom_bucket_begin(RomBucket *bucket, const RomLimits *limits, double left, TimestampTz at);

/* Brings it up to now. Of a rate that has changed the same share is left. */
extern void rom_bucket_refill(RomBucket *bucket, const RomLimits *limits, TimestampTz now);

/* Is there a token? Its rate must be up to now. */
extern bool rom_bucket_has_token(const RomBucket *bucket);

/* Microseconds from one token to the next, and (not less than one) until there is one. */
extern double rom_bucket_every(const RomBucket *bucket);
extern int64 rom_bucket_until_next(const RomBucket *bucket);

/*
 * May an asker take a token now? booked: the time of the one that it has booked, or 0. A booking is a place in the queue, not a token:
 * an asker without one waits behind the bookings, unless tokens accumulate because bookings were not used. Its rate must be up to now.
 */
extern bool rom_bucket_may_take(RomBucket *bucket, TimestampTz booked, TimestampTz now);

/*
 * Books the first token that is not booked for an asker that may not take one now, and has booked the one of booked (0: none): it
 * keeps that unless the new one comes first. Returns the time of its booking; 0: none that is due by until.
 */
extern TimestampTz rom_bucket_book(RomBucket *bucket, TimestampTz booked, TimestampTz now, TimestampTz until);

/*
 * Takes a token. True: the caller has to write a row (bucket_rows.h) that says how many were left
 * at which time. covered: until when the row written last holds. A bucket that is refilled faster
 * than one a second is written for the next second at once, as if all of its tokens were spent.
 */
extern bool rom_bucket_take(RomBucket *bucket, TimestampTz now, TimestampTz covered,
							double *left, TimestampTz *at);

/* Puts number tokens back that were taken. */
extern void rom_bucket_give_back(RomBucket *bucket, int number);

#endif							/* ROM_BUCKET_H */
