/*-------------------------------------------------------------------------
 *
 * outside.h
 *		Workflows whose code runs in a program outside: outside.c, program.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTSIDE_H
#define ROM_OUTSIDE_H

/* The step in which the instance waits for its program; no activity_id. */
#define ROM_OUTSIDE_STEP "romancy.outside"

#endif							/* ROM_OUTSIDE_H */
