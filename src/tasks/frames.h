/*-------------------------------------------------------------------------
 *
 * frames.h
 *		Canvas: starting signatures, and what comes after a task.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_FRAMES_H
#define ROM_FRAMES_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "tasks/task.h"

/* The step that a canvas's instance waits for. */
#define ROM_CANVAS_STEP "canvas:1"

/* For whom something is started or delivered. */
typedef struct RomCanvas
{
	pg_uuid_t	id;
	int32		def_id;
	int32		namespace;
	int32		priority;		/* the instance's */
	Oid			owner;
	char	   *owner_name;
	bool		in_turn;
	bool		paused;			/* out of a turn: what is started is parked */
	int64		delay_us;		/* delay of tasks that are started now */
	const RomTask *task;		/* whose end is handed on, or NULL */
	/* in a turn: the whole has ended */
	bool		over;
	Jsonb	   *result;
	Jsonb	   *error;

	/*
	 * what was looked up last, and where it is kept; NULL: the current
	 * context
	 */
	MemoryContext keep;
	char	   *activity;
	char	   *queue;
	char	   *key_path;		/* of the queue's keys, or NULL */
	int64		close_us;
	int64		beat_us;
	int64		start_us;
	int			started;		/* tasks for the database that may be long */
} RomCanvas;

/*
 * Starts a signature. previous: the result before it, or NULL. next: the frames of what comes after. inherited:
 * options from above, or NULL. path: where it stands. Engine scope needed, as below; statements are executed.
 */
extern void rom_frames_start(RomCanvas *canvas, Jsonb *json, Jsonb *previous,
							 Jsonb *next, Jsonb *inherited, const char *path);

/* Starts a chord's callback when its header has succeeded, whose own on_error is then out of place. */
extern void rom_frames_callback(RomCanvas *canvas, Jsonb *body, Jsonb *results,
								Jsonb *next, Jsonb *options, const char *path);

/* Do tasks that these frames come after count as the canvas's? Those of an on_error do not. */
extern bool rom_frames_count(Jsonb *next);

/*
 * Makes a task's row: its activity, step, input, priority, retry and next are given; close_us and delay_us, or 0. expires_us: how long it may
 * wait for its begin; 0: as its activity is defined.
 */
extern void rom_frames_task(RomCanvas *canvas, RomTask *task, int64 expires_us);

/* Goes on after an end: one of result and error is NULL. is_task: a task's end, which is counted. */
extern void rom_frames_go_on(RomCanvas *canvas, Jsonb *next, Jsonb *result,
							 Jsonb *error, bool is_task);

/* The table of the rows of ends, for rom_table_gather() where many tasks end in turn. */
extern RomTable rom_frames_ends;

/* The same for the end of a task: what rom_task_deliver() calls. detail may say that what came of it is not known (ROM_OUTCOME_UNKNOWN). */
extern void rom_frames_deliver(RomTask *task, Oid owner, Jsonb *result,
							   Jsonb *error, Jsonb *detail);

#endif							/* ROM_FRAMES_H */
