/*-------------------------------------------------------------------------
 *
 * canvas_calls.h
 *		Canvas: what its tasks do, for canvas_tasks() and for pictures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CANVAS_CALLS_H
#define ROM_CANVAS_CALLS_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "base/spi.h"

/* The signature that a canvas runs, in cxt; NULL: there is no such instance. Engine scope needed. */
extern Jsonb *rom_canvas_calls_signature(const pg_uuid_t *id, MemoryContext cxt);

/*
 * Reads all tasks of a canvas, in the order of its signature, with the columns of romancy.canvas_tasks(), and returns
 * how many. Allocates in the current context. Engine scope needed.
 */
extern uint64 rom_canvas_calls_tasks(const pg_uuid_t *id, Jsonb *signature, RomRowSet *set);

#endif							/* ROM_CANVAS_CALLS_H */
