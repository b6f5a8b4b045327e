/*-------------------------------------------------------------------------
 *
 * life.h
 *		What compensation.c, child.c, recur.c and fork.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_LIFE_H
#define ROM_LIFE_H

#include "turn/primitive.h"

/* An integer as a jsonb document, and back (0 for what is none). */
extern Jsonb *rom_life_number(int64 value);
extern int64 rom_life_to_int(Jsonb *value);

extern char *rom_life_uuid_text(const pg_uuid_t *id);
extern pg_uuid_t rom_life_text_uuid(const char *text);

/* Has the instance paused (RM001) unless the activity exists; in a handler. */
extern void rom_life_require_activity(RomTurn *turn, const char *name);

/* Registers hooks and kinds of scheduled steps; called once from _PG_init. */
extern void rom_life_init(void);

#endif							/* ROM_LIFE_H */
