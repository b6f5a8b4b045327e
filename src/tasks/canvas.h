/*-------------------------------------------------------------------------
 *
 * canvas.h
 *		Canvas: running signatures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CANVAS_H
#define ROM_CANVAS_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* How far a canvas is. */
typedef struct RomCanvasCount
{
	int64		completed;
	int64		failed;
} RomCanvasCount;

/* Counts the ended tasks of a live canvas. Engine scope needed. */
extern void rom_canvas_count(const pg_uuid_t *id, RomCanvasCount *count);

/* The tasks of a canvas that run now, in programs and in the database. Engine scope needed. */
extern int64 rom_canvas_running(const pg_uuid_t *id);

/*
 * Instances with a group whose members have all ended, at most max; owner: of this role, or NULL: of
 * all, then their wake-ups are noted. It finds the groups whose counts fanin.c lost. Engine scope
 * needed.
 */
extern int	rom_canvas_find(const char *owner, pg_uuid_t *ids, int max);

/* Registers with the engine; called once from _PG_init. */
extern void rom_canvas_init(void);

#endif							/* ROM_CANVAS_H */
