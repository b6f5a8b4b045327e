/*-------------------------------------------------------------------------
 *
 * utility.h
 *		Commands that the workers have to know of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_UTILITY_H
#define ROM_UTILITY_H

/* Installs the hook; called from _PG_init while libraries are preloaded. */
extern void rom_utility_init(void);

#endif							/* ROM_UTILITY_H */
