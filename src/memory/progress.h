/*-------------------------------------------------------------------------
 *
 * progress.h
 *		What running instances report of their progress, in shared memory, so
 *		that others see it before the turn commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PROGRESS_H
#define ROM_PROGRESS_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define ROM_NOTE_MAX 200

typedef struct RomProgress
{
	int64		done;
	int64		total;			/* -1: not known */
	TimestampTz first_at;		/* of the first report, for an estimate */
	TimestampTz at;
	char		note[ROM_NOTE_MAX]; /* cut at a character's end; "" for none */
} RomProgress;

/* Reports, for an instance of a namespace; an old entry gives way when the place is full (ways.h). No-op without shared memory. */
extern void rom_progress_put(const pg_uuid_t *id, int32 namespace, RomProgress *progress);

/* The last report of this instance, if it is still there. */
extern bool rom_progress_get(const pg_uuid_t *id, RomProgress *progress);

/* Its end: the row tells from now on. */
extern void rom_progress_forget(const pg_uuid_t *id);

/* The document in which an instance's row keeps a report; note: its whole text, or NULL. In the current context. */
extern Jsonb *rom_progress_document(const RomProgress *progress, const char *note);

/* Registers the part of shared memory; called once from _PG_init. */
extern void rom_progress_init(void);

#endif							/* ROM_PROGRESS_H */
