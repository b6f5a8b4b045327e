/*-------------------------------------------------------------------------
 *
 * backoff.c
 *		How long to wait before the next attempt: arithmetic only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/backoff.h"

double
rom_backoff(double base, double factor, int attempt, double cap)
{
	if (base == 0)
		return 0;
	return Min(base * pow(factor, Max(attempt, 1) - 1), cap);
}
