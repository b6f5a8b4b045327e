/*-------------------------------------------------------------------------
 *
 * refused.h
 *		The hint to grant_usage where the server refuses a role that has no right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REFUSED_H
#define ROM_REFUSED_H

/* Has the server's own errors for romancy's schema and what is in it name grant_usage. From _PG_init. */
extern void rom_refused_init(void);

#endif							/* ROM_REFUSED_H */
