/*-------------------------------------------------------------------------
 *
 * arrival.c
 *		Messages for which instances wait, which do not come through their
 *		inbox.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "turn/arrival.h"

static const RomArrival *registered = NULL;

void
rom_arrival_register(const RomArrival *arrival)
{
	registered = arrival;
}

const RomArrival *
rom_arrival(void)
{
	return registered;
}
