/*-------------------------------------------------------------------------
 *
 * turnstile.h
 *		The shared memory of throttle.c: how many attempts of an activity run in the database, the
 *		tokens in its buckets, and the instances that wait.
 *
 * Only where the library was preloaded. An activity is known by a number, made of its name and database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TURNSTILE_H
#define ROM_TURNSTILE_H

#include "defs/definition.h"
#include "memory/bucket.h"

/*
 * An instance or task that asks for a slot and a token. held_at and held_until are kept by the asker while it waits,
 * and given again when it asks again.
 */
typedef struct RomAsker
{
	pg_uuid_t	id;				/* instance or task: woken when a slot is free */
	Oid			owner;
	int32		priority;
	bool		waits;			/* false: does not wait if it is refused */
	bool		keep;			/* if admitted, beyond this transaction's
								 * commit, to rom_throttle_release() */
	int			level;			/* nest level of the subtransaction whose
								 * abort takes back that it was admitted */
	TimestampTz held_at;		/* since when, or until when at the latest, it
								 * waits; 0: it does not */
	TimestampTz held_until;		/* when to ask again; 0: unknown */
} RomAsker;

typedef enum RomAdmission
{
	ROM_ADMITTED,
	ROM_HELD_SLOT,				/* max_concurrency are running */
	ROM_HELD_TOKEN				/* the rate limit's bucket is empty */
} RomAdmission;

/* All askers that wait for one activity together ask no more often than this, on average. */
#define ROM_ASK_EVERY (20 * INT64CONST(1000))

/* A token that was taken from a bucket, or booked. */
typedef struct RomTaking
{
	TimestampTz booked;			/* 0: took */
	TimestampTz before;			/* what was booked before that */
	/* of a token */
	bool		record;			/* a row has to be written that */
	double		left;			/* this many were left, */
	TimestampTz at;				/* at this time */
	int64		period;
} RomTaking;

/* An asker passes, or is held. */
typedef struct RomPassage
{
	bool		slot;			/* a slot is needed */
	bool		token;			/* and a token */
	TimestampTz now;			/* for the bucket */
	double		random;			/* as for rom_turnstile_take() */
	double		left;			/* what a bucket that is not known had left */
	TimestampTz left_at;
	/* out */
	bool		room;			/* there was room for the activity */
	int			waiting;		/* if it was held for a slot: the number of
								 * askers before it */
	RomBucket	bucket;			/* as it was before */
	RomTaking  *taking;
} RomPassage;

/*
 * Takes a token, or books one for a waiting asker. random: a part of the time after which it looks
 * again at the latest; 0: when the token is due. covered: what is written down holds until then.
 */
extern bool rom_turnstile_take(RomBucket *bucket, RomAsker *asker, TimestampTz now, double random,
							   TimestampTz covered, RomTaking *taking);

/* Takes that back. */
extern void rom_turnstile_undo(RomBucket *bucket, const RomTaking *taking);

/* Does an activity's bucket have contents, or was it not used since the start? */
extern bool rom_turnstile_is_known(uint64 key);

/* May one more run? If so it has its slot and its token; if not, and the asker waits, it is in the queue for the slot, or has booked. */
extern RomAdmission rom_turnstile_pass(uint64 key, const RomLimits *limits, RomAsker *asker,
									   RomPassage *passage);

/* A slot is free again. */
extern void rom_turnstile_leave(uint64 key);

/* Gives back tokens that were taken or booked. */
extern void rom_turnstile_give_back(uint64 key, const RomTaking *taking);

/* Notes until when the row written last holds. */
extern void rom_turnstile_recorded(uint64 key, TimestampTz until);

/* The limits have changed: waiting askers look again. */
extern void rom_turnstile_changed(uint64 key);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_turnstile_init(void);

/* These instances have had their turn: a slot for which one was woken, and that it did not use, goes to the next. */
extern void rom_turnstile_settle(const pg_uuid_t *ids, int n);

#endif							/* ROM_TURNSTILE_H */
