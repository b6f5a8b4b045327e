/*-------------------------------------------------------------------------
 *
 * grants.h
 *		grant_usage, revoke_usage.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_GRANTS_H
#define ROM_GRANTS_H

/* Is a name none of the API? */
extern bool rom_grants_is_internal(const char *name);

/* Is a function called by views, as the role that reads them? It shows that role no more than they do. */
extern bool rom_grants_is_for_views(const char *name);

#endif							/* ROM_GRANTS_H */
