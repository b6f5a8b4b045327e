/*-------------------------------------------------------------------------
 *
 * complete.h
 *		The results of claimed activities.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_COMPLETE_H
#define ROM_COMPLETE_H

#include "utils/jsonb.h"

#include "tasks/token.h"

/* Records the result of a claimed activity; false when its lease was lost or its instance is over. Enters the engine. RM011: it is too large. */
extern bool rom_complete_task(const RomToken *token, Oid caller, Jsonb *result);

#endif							/* ROM_COMPLETE_H */
