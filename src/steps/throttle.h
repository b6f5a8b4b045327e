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
#include "steps/turnstile.h"

/*
 * May an attempt of this activity begin now? If so it takes a token, and a slot that this process
 * holds until its transaction is over; where it holds one of this activity already, that
 * will do, for it runs one thing at a time. An abort gives the token back. If not, asker->held_at and
 * held_until say how it waits.
 */
extern RomAdmission rom_throttle_admit(int32 namespace, const char *activity, const RomLimits *limits,
									   RomAsker *asker);

/* Gives back the tokens that this transaction took since the mark. */
extern int	rom_throttle_mark(void);
extern void rom_throttle_back(int mark);

/* Gives back what was kept beyond the commit. */
extern void rom_throttle_release(void);

/* The clock of this session follows the wall clock again: forgets what was counted in its own time. */
extern void rom_throttle_clock_reset(void);

/* Call it after a change of an activity's definition: after the commit, instances that wait ask again. */
extern void rom_throttle_changed(int32 namespace, const char *activity);

/* Registers what it does at the ends of transactions; called once from _PG_init. */
extern void rom_throttle_init(void);

#endif							/* ROM_THROTTLE_H */
