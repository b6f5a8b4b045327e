/*-------------------------------------------------------------------------
 *
 * reach.h
 *		What may be reached over HTTP, and by whom.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REACH_H
#define ROM_REACH_H

#include "base/errors.h"
#include "http/url.h"

/*
 * May the workflows of this role send a request to the URL? *private: also where its address is a private one. host_only: is there a path
 * at that host to which they may? Enters the engine by itself.
 */
extern bool rom_reach_allowed(Oid role, const RomUrl *url, bool host_only, bool *private);

/* The error, 42501, of a role that may not: its hint says who may allow it. In the current context. */
extern Jsonb *rom_reach_refusal(const char *role, const RomUrl *url);

/* Raises it. */
extern void rom_reach_refuse(Oid role, const RomUrl *url) pg_attribute_noreturn();

#endif							/* ROM_REACH_H */
