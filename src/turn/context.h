/*-------------------------------------------------------------------------
 *
 * context.h
 *		Which instance this backend runs something of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CONTEXT_H
#define ROM_CONTEXT_H

#include "utils/elog.h"
#include "utils/uuid.h"

typedef struct RomRunning
{
	pg_uuid_t	id;
	const char *workflow;
} RomRunning;

/* For an activity that runs outside a turn; NULL: no more. The strings must live meanwhile. */
extern void rom_context_set(const RomRunning *running);

/* The running instance; RM004 naming function when there is none. */
extern const RomRunning *rom_context_get(const char *function);

/* The same, NULL when there is none. */
extern const RomRunning *rom_context_find(void);

/*
 * What user code is run under: messages that it writes have a line of context with its workflow, instance and step (or NULL),
 * and none of the session that happens to run it. Between push and pop; an error pops by itself (PG_TRY).
 */
typedef struct RomUserCode
{
	ErrorContextCallback callback;
	ErrorContextCallback *outer;
	const pg_uuid_t *instance;
	const char *workflow;
	const char *step;
} RomUserCode;

extern void rom_context_push(RomUserCode *code, const pg_uuid_t *instance, const char *workflow, const char *step);
extern void rom_context_pop(RomUserCode *code);

/*
 * This process is in a step of an instance of the workflow from now on (step NULL: in its handler):
 * for view waiting, and in a worker for pg_stat_activity.
 */
extern void rom_context_step(const pg_uuid_t *instance, const char *workflow, const char *step);

#endif							/* ROM_CONTEXT_H */
