/*-------------------------------------------------------------------------
 *
 * group.h
 *		Groups of instances.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_GROUP_H
#define ROM_GROUP_H

/* Registers hooks with the engine; called once from _PG_init. */
extern void rom_group_init(void);

#endif							/* ROM_GROUP_H */
