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

typedef enum RomRevival
{
	ROM_REVIVAL_NONE,			/* that is not why it failed: nothing is left
								 * of it, and it is to begin anew */
	ROM_REVIVAL_DONE,
	ROM_REVIVAL_LATER			/* another transaction has one of them:
								 * nothing was done */
} RomRevival;

/* Starts the tasks again that a canvas has failed by; what had succeeded stays. Engine scope needed, as below. */
extern RomRevival rom_revive_canvas(RomCanvas *canvas);

/* Deletes the groups and results of instances (an array of uuid). */
extern void rom_revive_forget(Datum ids);

#endif							/* ROM_REVIVE_H */
