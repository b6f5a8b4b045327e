/*-------------------------------------------------------------------------
 *
 * child.h
 *		Child workflows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CHILD_H
#define ROM_CHILD_H

#include "turn/primitive.h"

/* A child of a child of ...: so deep at the most. */
#define ROM_DEPTH_MAX 50

extern const RomPrimitive rom_primitive_spawn_workflow;

/* The name of a canvas as a child, and what its step is called. */
#define ROM_CHILD_CANVAS "canvas"

/*
 * In a handler: starts a canvas as a child and returns its handle. input: that of its instance. step: a given activity_id, or NULL. Errors as of
 * spawn_workflow.
 */
extern char *rom_child_canvas(RomTurn *turn, Jsonb *input, char *step);

/* Waits for a child and gives its result, or raises its error. */
extern Jsonb *rom_child_await(RomTurn *turn, char *handle);

/* Registers the kind of scheduled step and the end hooks; called once from _PG_init. */
extern void rom_child_init(void);

#endif							/* ROM_CHILD_H */
