/*-------------------------------------------------------------------------
 *
 * steps.h
 *		Primitives of clients' calls that a handler may make as well.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_STEPS_H
#define ROM_STEPS_H

#include "instances/start.h"
#include "turn/primitive.h"

extern const RomPrimitive rom_primitive_start;
extern const RomPrimitive rom_primitive_start_many;
extern const RomPrimitive rom_primitive_cancel;

/* Recorded forms, in a handler. */
extern void rom_step_start(const RomStartRequest *request, pg_uuid_t *id);
extern pg_uuid_t *rom_step_start_many(const RomStartMany *many);
extern bool rom_step_cancel(const pg_uuid_t *id, const char *reason);

#endif							/* ROM_STEPS_H */
