/*-------------------------------------------------------------------------
 *
 * op.h
 *		The ops of romancy.suspend(): what a command may ask for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OP_H
#define ROM_OP_H

#include "instances/event.h"

/* Types of the arguments of an op's SQL functions. */
typedef enum RomOpArgType
{
	ROM_OP_ARG_TEXT,
	ROM_OP_ARG_JSONB,
	ROM_OP_ARG_INTERVAL,
	ROM_OP_ARG_UUID,
	ROM_OP_ARG_BYTEA,			/* base64 in the command */
	ROM_OP_ARG_INT,
	ROM_OP_ARG_TIME,			/* the end of a timer, which romancy.suspend()
								 * has computed */
	ROM_OP_ARG_INSTANT,			/* an instant, as text */
	ROM_OP_ARG_STEP,			/* the command's id, as text */
} RomOpArgType;

/* One argument of an op's SQL texts: the command's key of it. */
typedef struct RomOpArg
{
	const char *key;
	RomOpArgType type;
	bool		needed;
} RomOpArg;

#define ROM_OP_ARGS_MAX 10

/* An "op". Parameter $n of its texts is args[n - 1]. */
typedef struct RomOp
{
	const char *name;
	const char *call;			/* makes the call as a handler makes it */
	const char *spawn;			/* schedules the step; NULL: there is no such
								 * call */
	bool		waits;			/* call may wait: only as the last command */
	const char *label;			/* key of what is recorded as the step's name,
								 * or NULL */
	RomEventType events[4];		/* that history may hold for the step,
								 * 0-terminated */
	RomOpArg	args[ROM_OP_ARGS_MAX];
} RomOp;

/* The names of all ops, for hints. */
#define ROM_OP_NAMES "activity, http, child, canvas, timer, receive, event, subscribe, unsubscribe, publish, send_to, raise_event, send_event, start, cancel, join_group, leave_group, compensate and recur"

/* The "op" of waiting for a timer of a duration: it records the same event as a handler's sleep(). */
extern const RomOp rom_op_sleep;

/* The op of a name; NULL: there is no such op. */
extern const RomOp *rom_op_find(const char *name);

#endif							/* ROM_OP_H */
