/*-------------------------------------------------------------------------
 *
 * bucket.c
 *		The bucket of a rate limit.
 *
 * Called under spinlocks: arithmetic only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/bucket.h"

/* Sums of parts of a token may fall short of one by this. */
#define ROUNDING 1e-6

/* Interval at which a bucket that is refilled quickly is written to t_bucket. */
#define COVER USECS_PER_SEC

void
rom_bucket_begin(RomBucket *bucket, int rate, int64 period, double left, TimestampTz at)
{
	bucket->rate = rate;
	bucket->period = period;
	bucket->left = Min(rate, left);
	bucket->at = at;
	bucket->booked = 0;
}

void
rom_bucket_refill(RomBucket *bucket, int rate, int64 period, TimestampTz now)
{
	if (bucket->rate != rate)
		bucket->left = bucket->left / bucket->rate * rate;
	bucket->rate = rate;
	bucket->period = period;
	/* filled by a clock that was ahead, and has been set back */
	if (bucket->at > now + 2 * COVER)
		bucket->at = now;
	if (now <= bucket->at)
		return;
	bucket->left = Min(rate, bucket->left + (now - bucket->at) / rom_bucket_every(bucket));
	bucket->at = now;
}

bool
rom_bucket_has_token(const RomBucket *bucket)
{
	return bucket->left >= 1 - ROUNDING;
}

double
rom_bucket_every(const RomBucket *bucket)
{
	return (double) bucket->period / bucket->rate;
}

int64
rom_bucket_until_next(const RomBucket *bucket)
{
	return (int64) ((1 - bucket->left) * rom_bucket_every(bucket)) + 1;
}

bool
rom_bucket_take(RomBucket *bucket, TimestampTz now, TimestampTz covered,
				double *left, TimestampTz *at)
{
	bool		slow = rom_bucket_every(bucket) >= COVER;

	bucket->left -= 1;
	*left = slow ? bucket->left : 0;
	*at = slow ? now : now + COVER;
	return slow || covered <= now;
}

void
rom_bucket_give_back(RomBucket *bucket, int number)
{
	bucket->left = Min(bucket->rate, bucket->left + number);
}
