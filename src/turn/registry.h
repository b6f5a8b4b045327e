/*-------------------------------------------------------------------------
 *
 * registry.h
 *		What the history of an instance registers to be undone, and what of it has run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REGISTRY_H
#define ROM_REGISTRY_H

#include "turn/primitive.h"

/* One that is registered. */
typedef struct RomRegistered
{
	RomEvent   *event;
	char	   *name;			/* of the compensating activity */
	bool		done;			/* it ran, or is not to run, */
	bool		failed;			/* and failed for good: the effect is there */
	int			before;			/* the one before it of the same step, or -1 */
} RomRegistered;

/* The compensation that an event registers, or NULL. */
extern char *rom_registry_name(RomEvent *event);

/* The last one that has not run, or NULL. It stays where it is until the next call. */
extern RomRegistered *rom_registry_last(RomTurn *turn);

/* The one that an event has registered, or NULL. */
extern RomRegistered *rom_registry_of(RomTurn *turn, const RomEvent *event);

/* Has an event of its own registered the compensation of this step? */
extern bool rom_registry_has(RomTurn *turn, const char *step);

#endif							/* ROM_REGISTRY_H */
