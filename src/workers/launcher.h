/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		The process that starts the other workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LAUNCHER_H
#define ROM_LAUNCHER_H

/* Has the postmaster run it; called from _PG_init while libraries are preloaded. */
extern void rom_launcher_register(void);

extern PGDLLEXPORT void rom_launcher_main(Datum arg);

#endif							/* ROM_LAUNCHER_H */
