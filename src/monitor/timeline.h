/*-------------------------------------------------------------------------
 *
 * timeline.h
 *		A text Gantt chart of an instance.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TIMELINE_H
#define ROM_TIMELINE_H

#include "monitor/picture.h"

/* The chart, palloc'd: a line for each step and its children's. */
extern char *rom_timeline_text(RomPicture *picture);

#endif							/* ROM_TIMELINE_H */
