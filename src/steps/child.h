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

/* Registers the kind of scheduled step and the end hooks; called once from _PG_init. */
extern void rom_child_init(void);

#endif							/* ROM_CHILD_H */
