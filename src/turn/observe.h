/*-------------------------------------------------------------------------
 *
 * observe.h
 *		Tells a room above about turns and attempts, for statistics.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OBSERVE_H
#define ROM_OBSERVE_H

#include "turn/primitive.h"

/* An attempt at an activity that has ended. */
struct RomAttemptStat
{
	const char *name;
	bool		failed;
	bool		again;			/* it was not the first */
	bool		measured;		/* cost.us is known */
	RomCost		cost;
};

/* Both are called in the transaction that records what they tell of: it may still roll back. They must not raise but for want of memory. */
typedef struct RomObserver
{
	/*
	 * A turn was saved. first: it was the instance's first one; ended: it
	 * ended the instance. The attempts that it made are turn->spent.attempts.
	 */
	void		(*turn) (RomTurn *turn, bool first, bool ended);

	/* An attempt outside a turn (a task), at an activity of a namespace. */
	void		(*attempt) (Oid owner, int32 namespace, const RomAttemptStat *attempt);
} RomObserver;

/* Registered once, from _PG_init. */
extern void rom_observe_register(const RomObserver *observer);

/* NULL: there is no observer. */
extern const RomObserver *rom_observe_get(void);

/* An attempt of the turn has ended. It goes with the turn, and with the inline evaluation that it was made in. */
extern void rom_observe_note(RomTurn *turn, const char *name, bool failed,
							 int attempt, const RomCost *cost);

#endif							/* ROM_OBSERVE_H */
