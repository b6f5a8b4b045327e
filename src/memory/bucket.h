/*-------------------------------------------------------------------------
 *
 * bucket.h
 *		The bucket of a rate limit: a full one holds as many tokens as the limit
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

typedef struct RomBucket
{
	int			rate;			/* as it was used last; 0: never */
	int64		period;			/* microseconds */
	double		left;			/* tokens */
	TimestampTz at;				/* the time at which that many were left */
	TimestampTz booked;			/* until when coming tokens are booked by
								 * waiting askers */
} RomBucket;

/* The first use: left tokens were left at an instant, which may be to come. */
extern void rom_bucket_begin(RomBucket *bucket, int rate, int64 period, double left, TimestampTz at);

/* Brings it up to now. Of a rate that has changed the same share is left. */
extern void rom_bucket_refill(RomBucket *bucket, int rate, int64 period, TimestampTz now);

/* Is there a token? Its rate must be up to now. */
extern bool rom_bucket_has_token(const RomBucket *bucket);

/* Microseconds from one token to the next, and (not less than one) until there is one. */
extern double rom_bucket_every(const RomBucket *bucket);
extern int64 rom_bucket_until_next(const RomBucket *bucket);

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
