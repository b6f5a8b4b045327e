/*-------------------------------------------------------------------------
 *
 * clock.h
 *		The engine's clock: the wall clock, which drain(advance_time) and tests
 *		can move forward in their own session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CLOCK_H
#define ROM_CLOCK_H

#include "datatype/timestamp.h"

/* Now, by clock_timestamp() plus this session's offset (never transaction start). */
extern TimestampTz rom_now(void);

/* A time in a table that is more than this many microseconds after now was written while the clock was ahead. */
#define ROM_AHEAD_MIN USECS_PER_SEC

/* Moves this session's clock so that rom_now() is at least until. */
extern void rom_clock_advance(TimestampTz until);

/* Is it ahead of the wall clock? */
extern bool rom_clock_is_ahead(void);

/* Puts the offset back to zero. */
extern void rom_clock_reset(void);

/* An instant of the engine's clock as one of the wall clock, which time limits of running code go by. */
extern TimestampTz rom_clock_wall(TimestampTz at);

#endif							/* ROM_CLOCK_H */
