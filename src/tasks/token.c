/*-------------------------------------------------------------------------
 *
 * token.c
 *		Tokens: what a worker holds a task by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/errors.h"
#include "base/uuid.h"
#include "tasks/token.h"
#include "utils/builtins.h"

/* A task's id, a point, an attempt, a point, a fence. */
#define TOKEN_MAX (ROM_UUID_TEXT + 1 + 10 + 1 + 16)

char *
rom_token_make(const pg_uuid_t *task_id, int32 attempt, int64 fence)
{
	static const char digits[] = "0123456789abcdef";
	char	   *token = palloc(TOKEN_MAX + 1);
	char	   *p = rom_uuid_write(task_id, token);

	Assert(attempt >= 0);
	*p++ = '.';
	p += pg_ltoa(attempt, p);
	*p++ = '.';
	for (int shift = 60; shift >= 0; shift -= 4)
		*p++ = digits[((uint64) fence >> shift) & 0x0f];
	*p = '\0';
	return token;
}

/* read_token reads text; false when it is no token. */
static bool
read_token(const char *text, RomToken *token)
{
	const char *p = text +37;
	uint64		fence = 0;
	int64		attempt = 0;

	if (strnlen(text, 100) < 37 + 1 + 1 + 16 || strnlen(text, 100) > 37 + 10 + 1 + 16 ||
		!rom_uuid_read(text, &token->task_id) || text[36] != '.')
		return false;
	for (; *p >= '0' && *p <= '9' && attempt <= PG_INT32_MAX; p++)
		attempt = attempt * 10 + (*p - '0');
	if (p == text +37 || *p++ != '.' || strlen(p) != 16 || attempt > PG_INT32_MAX)
		return false;
	for (int i = 0; i < 16; i++)
	{
		int			digit = rom_uuid_digit(p[i]);

		if (digit < 0)
			return false;
		fence = (fence << 4) | digit;
	}
	token->attempt = attempt;
	token->fence = (int64) fence;
	token->nowait = false;
	return true;
}

void
rom_token_read(const char *text, RomToken *token)
{
	if (!read_token(text, token))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("malformed token"),
				 errhint("Pass the token that the fetch or poll call returned, unchanged.")));
}
