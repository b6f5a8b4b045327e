/*-------------------------------------------------------------------------
 *
 * inbox.h
 *		Requests to an instance and results for its steps, as rows.
 *
 * Inserting never waits for a running turn. The next turn takes what its
 * snapshot shows, in order of id, and deletes it in its own transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_INBOX_H
#define ROM_INBOX_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Stored in t_inbox.kind: numbers never change their meaning. For SQL: ROM_SQL_INBOX_CANCEL, where a statement names it. */
#define ROM_SQL_INBOX_CANCEL	"1"
#define ROM_SQL_INBOX_TERMINATE	"2"
#define ROM_SQL_INBOX_PAUSE		"3"
#define ROM_SQL_INBOX_RESUME	"4"
#define ROM_SQL_INBOX_RESULT	"5"
#define ROM_SQL_INBOX_CANCEL_TASK	"8"
#define ROM_SQL_INBOX_LOOK_AGAIN	"9"

typedef enum RomInboxKind
{
	ROM_INBOX_CANCEL = 1,		/* detail: {reason, cancelled_by} */
	ROM_INBOX_TERMINATE = 2,
	ROM_INBOX_PAUSE = 3,		/* error: by the engine, because of that */
	ROM_INBOX_RESUME = 4,
	ROM_INBOX_RESULT = 5,		/* a step's result or error came from
								 * elsewhere */
	ROM_INBOX_CHILD = 6,		/* a child ended: result or error; detail
								 * {instance_id, status} */
	ROM_INBOX_SIGNAL = 7,		/* something arrived that the waiting
								 * primitive looks up itself */
	ROM_INBOX_CANCEL_TASK = 8,	/* of a canvas: its task of this step is to
								 * end */
	ROM_INBOX_LOOK_AGAIN = 9	/* a turn left something as it was that
								 * another transaction had (its tasks; the one
								 * of this step): the next turns try again */
} RomInboxKind;

typedef struct RomInboxItem
{
	int64		id;
	RomInboxKind kind;
	char	   *step;
	Jsonb	   *result;
	Jsonb	   *error;
	Jsonb	   *detail;
	TimestampTz created_at;
	bool		taken;			/* by a primitive in this turn */
} RomInboxItem;

/* Inserts a row; engine scope needed. Pointers may be NULL. Does not wake. */
extern void rom_inbox_insert(const pg_uuid_t *id, RomInboxKind kind,
							 const char *step, Jsonb *result, Jsonb *error,
							 Jsonb *detail);

#endif							/* ROM_INBOX_H */
