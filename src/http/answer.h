/*-------------------------------------------------------------------------
 *
 * answer.h
 *		What comes of a request: a result, or an error and whether there is another attempt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_ANSWER_H
#define ROM_HTTP_ANSWER_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "http/request.h"
#include "http/transport.h"
#include "tasks/task.h"

/* Headers of an answer, and their bytes, beyond which it is refused. */
#define ROM_ANSWER_HEADERS_MAX 1000
#define ROM_ANSWER_HEADER_BYTES_MAX (64 * 1024)

typedef struct RomHttpOutcome
{
	Jsonb	   *result;			/* NULL: it failed */
	Jsonb	   *error;
	RomTaskRetry retry;
	TimestampTz not_before;		/* of another attempt; 0: as the policy says */
} RomHttpOutcome;

/* Judges an answer, in the current context. It may raise errors of conversions. */
extern void rom_answer_judge(const RomTransportAnswer *answer, const char *label, List *secrets, RomHttpResult as,
							 const char *expect, RomHttpOutcome *outcome);

/* The first value of a header of the answer, by its name in small letters; NULL. */
extern const char *rom_answer_header(const RomTransportAnswer *answer, const char *name);

/* The beginning of an answer's body as text, without the values of secrets; NULL where it is empty or no text. In the current context. */
extern char *rom_answer_begin(const RomTransportAnswer *answer, List *secrets);

/* Is a request with an answer of this status to be tried again? */
extern bool rom_answer_again(long status);

/* Reads a header Retry-After, in seconds or as a date; false for what is none. At most a day is believed. */
extern bool rom_answer_retry_after(const char *value, TimestampTz now, TimestampTz *at);

#endif							/* ROM_HTTP_ANSWER_H */
