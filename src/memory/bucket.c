/*-------------------------------------------------------------------------
 *
 * bucket.c
 *		The bucket of a rate limit.
 *
 * Called under locks: arithmetic only.
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
rom_bucket_begin(RomBucket *bucket, const RomLimits *limits, double left, TimestampTz at)
{
	bucket->rate = limits->rate;
	bucket->period = limits->period;
	bucket->left = Min(limits->rate, left);
	bucket->at = at;
	bucket->booked = 0;
	bucket->unused = 0;
}

void
rom_bucket_refill(RomBucket *bucket, const RomLimits *limits, TimestampTz now)
{
	/* (what was booked at another rate says nothing) */
	if (bucket->rate != limits->rate || bucket->period != limits->period)
		bucket->booked = ROM_BUCKET_NONE_BOOKED;
	if (bucket->rate != limits->rate)
		bucket->left = bucket->left / bucket->rate * limits->rate;
	bucket->rate = limits->rate;
	bucket->period = limits->period;
	/* filled by a clock that was ahead, and has been set back */
	if (bucket->at > now + 2 * COVER)
		bucket->at = now;
	if (now <= bucket->at)
		return;
	bucket->left += (now - bucket->at) / rom_bucket_every(bucket);
	bucket->unused = Min(1, bucket->unused + Max(bucket->left - limits->rate, 0));
	bucket->left = Min(limits->rate, bucket->left);
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
rom_bucket_may_take(RomBucket *bucket, TimestampTz booked, TimestampTz now)
{
	if (!rom_bucket_has_token(bucket))
		return false;
	if (bucket->booked <= now || (booked > 0 && booked <= now))
	{
		bucket->unused = 0;
		return true;
	}
	return bucket->left + bucket->unused >= 2 - ROUNDING;
}

TimestampTz
rom_bucket_book(RomBucket *bucket, TimestampTz booked, TimestampTz now, TimestampTz until)
{
	TimestampTz next = Max(bucket->booked + (int64) rom_bucket_every(bucket),
						   now + (rom_bucket_has_token(bucket) ? 0 : rom_bucket_until_next(bucket)));

	if (booked > now && booked <= next)
		return booked;
	if (next > until)
		return 0;
	return bucket->booked = next;
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
