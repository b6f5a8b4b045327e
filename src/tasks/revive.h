/*-------------------------------------------------------------------------
 *
 * revive.h
 *		Canvas: retry_workflow of a failed canvas.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REVIVE_H
#define ROM_REVIVE_H

#include "tasks/frames.h"

/*
 * Starts the tasks again that a canvas has failed by; what had succeeded stays. False when that is not
 * why it failed: nothing is left of it then, and it is to begin anew. Engine scope needed, as below.
 */
extern bool rom_revive_canvas(RomCanvas *canvas);

/* Deletes the groups and results of instances (an array of uuid). */
extern void rom_revive_forget(Datum ids);

#endif							/* ROM_REVIVE_H */
