/*-------------------------------------------------------------------------
 *
 * unused.h
 *		Deletes rows that no instance needs any more: a part of the sweep
 *		"retention".
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_UNUSED_H
#define ROM_UNUSED_H

#include "memory/sweep.h"

/*
 * Takes rows of undefined names (t_workflow) and of settings (t_settings) that no instance has a step further on
 * their way out. Returns how many were deleted or taken further. Each row is looked at once a day; by run_sweep(), at once.
 */
extern int64 rom_unused_sweep(const RomSweepArgs *args);

#endif							/* ROM_UNUSED_H */
