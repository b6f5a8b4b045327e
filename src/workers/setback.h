/*-------------------------------------------------------------------------
 *
 * setback.h
 *		A wall clock that was ahead and is set right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SETBACK_H
#define ROM_SETBACK_H

/* Longest interval (ms) between two looks of the launcher at the wall clock while it waits for a deadline. */
#define ROM_SETBACK_LOOK_MS	30000

/*
 * rom_setback_look, called by the launcher at each round, sees whether the wall clock was set back since the
 * last call. Then what is in memory comes as much earlier, and each database is scanned for what the tables
 * say for a time that has not come.
 */
extern void rom_setback_look(void);

#endif							/* ROM_SETBACK_H */
