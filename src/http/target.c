/*-------------------------------------------------------------------------
 *
 * target.c
 *		The destinations that the HTTP worker sends events to: what it has under way there, and their rate limits.
 *
 * An entry lives as long as there are events, or requests, for the destination. A rate limit outlives it in t_bucket.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "defs/activity_definition.h"
#include "http/target.h"
#include "memory/bucket_rows.h"

static dlist_head targets = DLIST_STATIC_INIT(targets);

/* first and next walk through the entries; NULL at their end. */
static RomTarget *
first(void)
{
	return dlist_is_empty(&targets) ? NULL : dlist_container(RomTarget, node, dlist_head_node(&targets));
}

static RomTarget *
next(RomTarget *t)
{
	return dlist_has_next(&targets, &t->node) ? dlist_container(RomTarget, node, dlist_next_node(&targets, &t->node)) : NULL;
}

RomTarget *
rom_target_find(const RomReceiver *receiver)
{
	RomTarget  *t;

	for (t = first(); t != NULL; t = next(t))
		if (t->namespace == receiver->namespace && t->id == receiver->id)
			return t;
	t = MemoryContextAllocZero(TopMemoryContext, sizeof(RomTarget));
	t->namespace = receiver->namespace;
	t->troubled = true;
	t->id = receiver->id;
	dlist_push_tail(&targets, &t->node);
	return t;
}

void
rom_target_unsee(void)
{
	for (RomTarget *t = first(); t != NULL; t = next(t))
		t->seen = false;
}

void
rom_target_forget(void)
{
	RomTarget  *after;

	for (RomTarget *t = first(); t != NULL; t = after)
	{
		after = next(t);
		if (t->in_flight > 0 || t->held > 0 || t->seen)
			continue;
		dlist_delete(&t->node);
		pfree(t);
	}
}

/* bucket_scope and bucket_name are what the bucket of a destination is known by in t_bucket. */
static char *
bucket_scope(const RomTarget *t)
{
	return psprintf("destination:%d", t->namespace);
}

static char *
bucket_name(const RomTarget *t)
{
	return psprintf("%d", t->id);
}

int
rom_target_tokens(RomTarget *t, const char *rate_limit, int max, TimestampTz *retry_at)
{
	TimestampTz now = GetCurrentTimestamp();
	RomLimits	limits = {0};

	if (rate_limit == NULL || !rom_activity_definition_rate(rate_limit, &limits.rate, &limits.period))
	{
		t->bucket.rate = 0;
		return max;
	}
	if (t->bucket.rate == 0)
	{
		double		left = limits.rate;
		TimestampTz at = now;
		RomEngine	engine;

		rom_engine_begin(&engine);
		(void) rom_bucket_rows_read(bucket_scope(t), bucket_name(t), &left, &at);
		rom_engine_end(&engine);
		rom_bucket_begin(&t->bucket, &limits, left, at);
	}
	rom_bucket_refill(&t->bucket, &limits, now);
	if (rom_bucket_has_token(&t->bucket))
		return Min(Max((int) t->bucket.left, 1), max);
	*retry_at = Min(*retry_at, now + rom_bucket_until_next(&t->bucket));
	return 0;
}

void
rom_target_spend(RomTarget *t, int requests)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = now;
	double		left = 0;
	bool		write = false;
	RomEngine	engine;

	if (t->bucket.rate == 0)
		return;
	t->spent = true;
	t->before = t->bucket;
	for (int i = 0; i < requests; i++)
		write |= rom_bucket_take(&t->bucket, now, t->covered, &left, &at);
	if (!write)
		return;
	t->covers = at;
	rom_engine_begin(&engine);
	rom_bucket_rows_write(bucket_scope(t), bucket_name(t), left, at, t->bucket.period);
	rom_engine_end(&engine);
}

void
rom_target_settle(bool committed)
{
	for (RomTarget *t = first(); t != NULL; t = next(t))
	{
		if (!t->spent)
			continue;
		if (committed)
			t->covered = Max(t->covered, t->covers);
		else
			t->bucket = t->before;
		t->covers = t->covered;
		t->spent = false;
	}
}
