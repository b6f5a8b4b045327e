/*-------------------------------------------------------------------------
 *
 * kinds.c
 *		The kinds of scheduled steps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "instances/event.h"
#include "turn/kinds.h"

#define KINDS_MAX 8

static const RomScheduleKind *kinds[KINDS_MAX];
static int	n_kinds = 0;

void
rom_kinds_register(const RomScheduleKind *kind)
{
	if (n_kinds == KINDS_MAX)
		elog(ERROR, "too many kinds of scheduled steps");
	kinds[n_kinds++] = kind;
}

const RomScheduleKind *
rom_kinds_find(RomEventType type)
{
	for (int i = 0; i < n_kinds; i++)
		if (kinds[i]->scheduled == type)
			return kinds[i];
	return NULL;
}
