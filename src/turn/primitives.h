/*-------------------------------------------------------------------------
 *
 * primitives.h
 *		The primitives of the engine itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PRIMITIVES_H
#define ROM_PRIMITIVES_H

#include "turn/primitive.h"

extern const RomPrimitive rom_primitive_sleep;
extern const RomPrimitive rom_primitive_sleep_until;
extern const RomPrimitive rom_primitive_workflow_now;
extern const RomPrimitive rom_primitive_workflow_random;
extern const RomPrimitive rom_primitive_workflow_uuid;
extern const RomPrimitive rom_primitive_patched;
extern const RomPrimitive rom_primitive_set_value;
extern const RomPrimitive rom_primitive_set_labels;
extern const RomPrimitive rom_primitive_await;
extern const RomPrimitive rom_primitive_spawn_timer;

#endif							/* ROM_PRIMITIVES_H */
