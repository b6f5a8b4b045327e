/*-------------------------------------------------------------------------
 *
 * throttle.h
 *		Limits of activities that run in the database: how many at a time, and
 *		how many per time, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_THROTTLE_H
#define ROM_THROTTLE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "defs/definition.h"

/* Who asks. held_at and held_until are kept by the asker while it waits, and given again when it asks again. */
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

/*
 * May an attempt of this activity begin now? If so it takes a token, and a slot that this process
 * holds until its transaction is over; where it holds one of this activity already, that
 * will do, for it runs one thing at a time. An abort gives the token back. If not, asker->held_at and
 * held_until say how it waits.
 */
extern RomAdmission rom_throttle_admit(const char *activity, const RomThrottle *throttle,
									   RomAsker *asker);

/* These have had their turn: what woke one that did not use it goes to the next. */
extern void rom_throttle_settle(const pg_uuid_t *ids, int n);

/* Gives back the tokens that this transaction took since the mark. */
extern int	rom_throttle_mark(void);
extern void rom_throttle_back(int mark);

/* Gives back what was kept beyond the commit. */
extern void rom_throttle_release(void);

/* The clock of this session follows the wall clock again: forgets what was counted in its own time. */
extern void rom_throttle_clock_reset(void);

/* For whoever changes an activity's definition: after the commit, those who wait look again. */
extern void rom_throttle_changed(const char *activity);

/* Forgets a database (dropped, or without the extension). */
extern void rom_throttle_purge(Oid dbid);

extern Size rom_throttle_shmem_size(void);
extern void rom_throttle_shmem_attach(void *place, bool found);

#endif							/* ROM_THROTTLE_H */
