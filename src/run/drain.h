/*-------------------------------------------------------------------------
 *
 * drain.h
 *		Work that drain starts besides running instances that are ready.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DRAIN_H
#define ROM_DRAIN_H

#include "datatype/timestamp.h"

typedef struct RomDrainSource
{
	/* A drain begins. */
	void		(*begin) (void);

	/*
	 * Starts what is due for this role by the engine's clock; how many
	 * sources handled something. once: each source starts something once in a
	 * drain at the most.
	 */
	int			(*fire) (const char *owner, bool once);

	/*
	 * Turns were run: a source that has started nothing since the last ones
	 * may start something now.
	 */
	void		(*ran) (void);

	/*
	 * When there is something next, after an instant; DT_NOEND: never.
	 * hopeful: of sources alone that did not start nothing since turns were
	 * run last. In engine scope.
	 */
	TimestampTz (*next_due) (const char *owner, TimestampTz after, bool hopeful);
} RomDrainSource;

/* Registered once, from _PG_init. */
extern void rom_drain_register(const RomDrainSource *source);

#endif							/* ROM_DRAIN_H */
