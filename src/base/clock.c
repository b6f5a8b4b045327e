/*-------------------------------------------------------------------------
 *
 * clock.c
 *		The engine's clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"

/* microseconds added to the wall clock in this session; never negative */
static int64 clock_offset = 0;

/* rom_now returns the engine's present time. */
TimestampTz
rom_now(void)
{
	return GetCurrentTimestamp() + clock_offset;
}

/* rom_clock_advance moves this session's clock forward to until; it never moves back. */
void
rom_clock_advance(TimestampTz until)
{
	TimestampTz now = rom_now();

	if (until > now && !TIMESTAMP_NOT_FINITE(until))
		clock_offset += until - now;
}

/* rom_clock_is_ahead: was it moved? */
bool
rom_clock_is_ahead(void)
{
	return clock_offset > 0;
}

/* rom_clock_reset lets this session follow the wall clock again. */
void
rom_clock_reset(void)
{
	clock_offset = 0;
}

TimestampTz
rom_clock_wall(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		return at;
	return GetCurrentTimestamp() + (at - rom_now());
}
