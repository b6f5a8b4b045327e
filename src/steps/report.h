/*-------------------------------------------------------------------------
 *
 * report.h
 *		What a workflow or an activity says of how far it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_REPORT_H
#define ROM_REPORT_H

#include "turn/turn.h"

/* Has the instance's row keep the last report of an activity that ran outside a turn. */
extern void rom_report_keep(RomTurn *turn);

#endif							/* ROM_REPORT_H */
