/*-------------------------------------------------------------------------
 *
 * arg.h
 *		Arguments of SQL-callable functions as C values, with errors that name
 *		the argument.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ARG_H
#define ROM_ARG_H

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * Argument n. The plain forms raise 22004 naming the argument when it is null,
 * the _opt forms give NULL or the default.
 */
extern char *rom_arg_text(FunctionCallInfo fcinfo, int n, const char *name);
extern char *rom_arg_text_opt(FunctionCallInfo fcinfo, int n);
extern pg_uuid_t *rom_arg_uuid(FunctionCallInfo fcinfo, int n,
							   const char *name);
extern Jsonb *rom_arg_jsonb(FunctionCallInfo fcinfo, int n, const char *name);
extern Jsonb *rom_arg_jsonb_opt(FunctionCallInfo fcinfo, int n);
extern int32 rom_arg_int32_opt(FunctionCallInfo fcinfo, int n, int32 value);
extern int64 rom_arg_int64_opt(FunctionCallInfo fcinfo, int n, int64 value);
extern bool rom_arg_bool_opt(FunctionCallInfo fcinfo, int n, bool value);

/* An interval that is not negative (RM012 otherwise), or NULL. */
extern Interval *rom_arg_interval_opt(FunctionCallInfo fcinfo, int n,
									  const char *name);

/* The same longer than nothing: a limit of zero would never let anything run. */
extern Interval *rom_arg_duration_opt(FunctionCallInfo fcinfo, int n,
									  const char *name);

/*
 * The instant that lies an interval, which must be given, from now; now, for one before any
 * calendar. RM012 where it is beyond it.
 */
extern TimestampTz rom_arg_until(FunctionCallInfo fcinfo, int n, const char *name);

/* An instant; true when it is given, error RM012 when it is infinite. */
extern bool rom_arg_timestamp_opt(FunctionCallInfo fcinfo, int n,
								  const char *name, TimestampTz *value);

/*
 * Raises RM011 when jb (NULL: nothing) is larger than romancy.max_payload_size. Not in a handler: there the
 * step is asked about that, unless history answers it (turn/call.c).
 */
extern void rom_arg_check_payload(const Jsonb *jb, const char *argument);

/* Would rom_arg_check_payload() accept it? */
extern bool rom_arg_payload_fits(const Jsonb *jb);

/* Says whether the call that is being checked is a step of a running handler; turn/context.c registers the answer. */
extern bool rom_arg_is_step(void);
extern void rom_arg_on_step(bool (*hook) (void));

/* Longest name of what instances exchange messages by, in bytes. */
#define ROM_SHORT_NAME_MAX 128

/* Raises RM012 for such a name that is empty or too long. what: "channel", "type", "name". */
extern void rom_arg_check_short_name(const char *name, const char *what);

/* Longest name of anything else, and longest key, in bytes: they are indexed. */
#define ROM_NAME_MAX 200
#define ROM_KEY_MAX 2000

/* Longest text that only people read, a description or a note, in bytes. */
#define ROM_PROSE_MAX 10000

/* Such a text, NULL where it is null. RM012 for one that is too long. */
extern char *rom_arg_prose_opt(FunctionCallInfo fcinfo, int n, const char *name);

/* An idempotency key, NULL where it is null. RM012 for one that is too long. */
extern char *rom_arg_key_opt(FunctionCallInfo fcinfo, int n);
extern void rom_arg_check_key(const char *key, const char *what);

/* Text as a value of these types, in the current context; false when it is none. */
extern bool rom_arg_input_interval(const char *text, Interval *value);
extern bool rom_arg_input_timestamptz(const char *text, TimestampTz *value);
extern bool rom_arg_input_jsonb(const char *text, Jsonb **value);
extern bool rom_arg_input_uuid(const char *text, pg_uuid_t *value);

/* An interval in microseconds, months of 30 days; false when out of range. */
extern bool rom_arg_interval_usec(const Interval *interval, int64 *usec);

/* An interval as text that no setting (IntervalStyle) changes: replay compares recorded arguments as text. */
extern char *rom_arg_interval_text(const Interval *interval);

/* now + interval, saturating at DT_NOEND. */
extern TimestampTz rom_arg_timestamp_plus(TimestampTz now,
										  const Interval *interval);

#endif							/* ROM_ARG_H */
