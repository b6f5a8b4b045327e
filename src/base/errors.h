/*-------------------------------------------------------------------------
 *
 * errors.h
 *		SQLSTATEs of class RM, and errors as jsonb.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ERRORS_H
#define ROM_ERRORS_H

#include "utils/jsonb.h"

/* 18 has pg_noreturn in front instead (3691edfab9) */
#ifndef pg_attribute_noreturn
#define pg_attribute_noreturn() __attribute__((noreturn))
#endif

#define ERRCODE_ROM_UNDEFINED			MAKE_SQLSTATE('R','M','0','0','1')	/* no such workflow or
																			 * activity */
#define ERRCODE_ROM_NO_INSTANCE			MAKE_SQLSTATE('R','M','0','0','2')	/* no such instance */
#define ERRCODE_ROM_REPLAY				MAKE_SQLSTATE('R','M','0','0','3')	/* replay does not match
																			 * history */
#define ERRCODE_ROM_CONTEXT				MAKE_SQLSTATE('R','M','0','0','4')	/* not inside a
																			 * workflow, or not
																			 * allowed inside one */
#define ERRCODE_ROM_CHANNEL_MODE		MAKE_SQLSTATE('R','M','0','0','5')	/* channel mode conflict */
#define ERRCODE_ROM_TIMEOUT				MAKE_SQLSTATE('R','M','0','0','6')	/* timeout */
#define ERRCODE_ROM_EXHAUSTED			MAKE_SQLSTATE('R','M','0','0','7')	/* retries exhausted */
#define ERRCODE_ROM_CANCELLED			MAKE_SQLSTATE('R','M','0','0','8')	/* cancelled */
#define ERRCODE_ROM_LEASE_LOST			MAKE_SQLSTATE('R','M','0','0','9')	/* lease lost */
#define ERRCODE_ROM_STATE				MAKE_SQLSTATE('R','M','0','1','0')	/* not in this state */
#define ERRCODE_ROM_LIMIT				MAKE_SQLSTATE('R','M','0','1','1')	/* limit exceeded */
#define ERRCODE_ROM_DEFINITION			MAKE_SQLSTATE('R','M','0','1','2')	/* invalid definition,
																			 * signature, policy,
																			 * filter, schedule */

/* Cuts a palloc'd text, and marks it, where it is longer than is kept of an error's; its memory is given back then. */
extern char *rom_error_bound(char *text);

/*
 * Takes the error that a PG_CATCH has caught: CopyErrorData() and FlushErrorState(), with texts that are cut, and
 * marked, where they are longer than is kept of an error. In the current context, which must not be ErrorContext.
 */
extern ErrorData *rom_error_take(void);

/* The value of PG_DIAG_DATATYPE_NAME in an error of raise_terminal(); an error code that is no SQLSTATE goes to PG_DIAG_CONSTRAINT_NAME. */
#define ROM_TERMINAL_MARK "romancy.terminal"

/* The value in the error of an activity whose own result is larger than a limit. */
#define ROM_RESULT_MARK "romancy.result"

/* The value that rom_error_raise() puts there when the error has such a code. */
#define ROM_CODE_MARK "romancy.code"

/* How the line of context begins that tells the running instance; it is no part of a recorded error. */
#define ROM_CONTEXT_MARK "romancy workflow "

/* The context (or NULL) without its last line, where that is the one. */
extern char *rom_error_own_context(char *context);

/*
 * Is it an error that passes by itself: too few resources, a conflict with another transaction, a cancel or a
 * shutdown? Any other needs a human.
 */
extern bool rom_error_is_passing(int sqlerrcode);

/* Was the error raised by raise_terminal()? */
extern bool rom_error_is_terminal(const ErrorData *edata);

/* Is the error that the activity's own result is larger than a limit (ROM_RESULT_MARK)? */
extern bool rom_error_is_of_result(const ErrorData *edata);

/* A JSON object {sqlstate, message, detail, hint, context, code} of an error; absent parts are left out. Allocated in the current context. */
extern Jsonb *rom_error_to_jsonb(const ErrorData *edata);

/* The same from parts; any but sqlstate and message may be NULL. */
extern Jsonb *rom_error_make(int sqlerrcode, const char *message,
							 const char *detail, const char *hint,
							 const char *context);

/*
 * The error that a handler gets in place of one that "when others" would not catch (57014,
 * P0004): RM006 with message, and the original's SQLSTATE, message and detail as its detail.
 * Any other error is returned as it is.
 */
extern Jsonb *rom_error_catchable(Jsonb *error, const char *message);

/* The same whatever the original is. */
extern Jsonb *rom_error_timeout(Jsonb *error, const char *message);

/* Raises what rom_error_to_jsonb() recorded: same SQLSTATE, message, detail, hint, context, code. */
extern void rom_error_raise(Jsonb *error) pg_attribute_noreturn();

/* One text field of such an object, or NULL when it is absent or null. */
extern char *rom_error_field(Jsonb *error, const char *key);

/* The SQLSTATE of such an object; internal error when it holds none. */
extern int	rom_error_sqlstate(Jsonb *error);

/* Is code (may be NULL) written as a SQLSTATE (five of 0-9A-Z)? Then *sqlstate is set. */
extern bool rom_error_parse_sqlstate(const char *code, int *sqlstate);

#endif							/* ROM_ERRORS_H */
