/*-------------------------------------------------------------------------
 *
 * token.h
 *		Tokens: what a worker holds a task by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TOKEN_H
#define ROM_TOKEN_H

#include "utils/uuid.h"

/* "task.attempt.fence", what a token says. */
typedef struct RomToken
{
	pg_uuid_t	task_id;
	int32		attempt;
	int64		fence;
	bool		nowait;			/* 55P03 where another transaction has locked
								 * the task */
} RomToken;

extern char *rom_token_make(const pg_uuid_t *task_id, int32 attempt, int64 fence);

/* Reads a token, which waits for locks; RM012 for what is none. */
extern void rom_token_read(const char *text, RomToken *token);

#endif							/* ROM_TOKEN_H */
