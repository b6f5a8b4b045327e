/*-------------------------------------------------------------------------
 *
 * fork.h
 *		New instances with a part of another's history.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FORK_H
#define ROM_FORK_H

#include "engine/history.h"

/*
 * Others' making of what events that were copied stand for (subscriptions,
 * groups): called in an engine scope, when the new instance's row is there.
 */
typedef void (*RomForkHook) (const pg_uuid_t *from, const pg_uuid_t *to,
							 const RomEventList *events);
extern void rom_fork_on_copy(RomForkHook hook);

#endif							/* ROM_FORK_H */
