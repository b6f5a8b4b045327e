/*-------------------------------------------------------------------------
 *
 * seen.h
 *		Which steps the history of a program's instance holds, remembered by the session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SEEN_H
#define ROM_SEEN_H

#include "instances/history.h"
#include "tasks/task.h"

/* A look at the history of an instance, for one call. */
typedef struct RomSeen
{
	RomTask    *task;			/* the instance's */
	Jsonb	   *without;		/* numbers of events that retry_workflow has
								 * taken back, an array, or NULL */
	RomEventList page;			/* the row of history that was read last */
} RomSeen;

/* Begins it: reads what was added to the history since the session's last look. last_seq: the instance's, or 0. Engine scope needed. */
extern void rom_seen_begin(RomSeen *look, RomTask *task, int64 last_seq);

/* The first event of a step that no retry has taken back, or NULL. In the current context. Engine scope needed. */
extern RomEvent *rom_seen_find(RomSeen *look, const char *step);

/* The events that retry_workflow has taken back of a task's instance, or NULL; and is an event of this number in that list? */
extern Jsonb *rom_seen_superseded(RomTask *task);
extern bool rom_seen_is_superseded(Jsonb *list, int64 seq);

/* Registers what is forgotten at a rollback. */
extern void rom_seen_init(void);

#endif							/* ROM_SEEN_H */
