/*-------------------------------------------------------------------------
 *
 * steps.h
 *		Primitives of clients' calls that a handler may make as well.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STEPS_H
#define ROM_STEPS_H

#include "turn/primitive.h"

extern const RomPrimitive rom_primitive_start;
extern const RomPrimitive rom_primitive_start_many;
extern const RomPrimitive rom_primitive_cancel;

#endif							/* ROM_STEPS_H */
