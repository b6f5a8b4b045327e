/*-------------------------------------------------------------------------
 *
 * grants.h
 *		grant_usage, revoke_usage, and the hint to them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_GRANTS_H
#define ROM_GRANTS_H

/* Has the server's error for a role without USAGE on the schema name the missing grant. From _PG_init. */
extern void rom_grants_init(void);

#endif							/* ROM_GRANTS_H */
