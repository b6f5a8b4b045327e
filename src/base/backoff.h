/*-------------------------------------------------------------------------
 *
 * backoff.h
 *		How long to wait before the next attempt: arithmetic only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_BACKOFF_H
#define ROM_BACKOFF_H

/*
 * The delay before attempt number attempt + 1, in the unit of base and cap: base for the first (attempt 1), factor times as
 * much for each further one, at most cap. Never more than cap, also where the power overflows; 0 for a base of 0.
 * jitter is the caller's: by a random part of base it comes before the cap, by one of the result after it.
 */
extern double rom_backoff(double base, double factor, int attempt, double cap);

#endif							/* ROM_BACKOFF_H */
