/*-------------------------------------------------------------------------
 *
 * start.h
 *		Starting instances: by clients, handlers, schedules, events, parents.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_START_H
#define ROM_START_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "defs/definition.h"
#include "instances/instance.h"

/* All that a new instance can be given; zeroed where nothing is. */
typedef struct RomStart
{
	const RomWorkflow *workflow;
	const char *name;			/* as it was asked for; NULL: the workflow's */
	Oid			owner;			/* the role that it runs as */
	Jsonb	   *input;
	bool		has_id;
	pg_uuid_t	id;
	const char *idempotency_key;
	bool		key_is_free;	/* as rom_start_would_wait() has just found;
								 * 23505 where that has changed */
	bool		has_start_at;
	TimestampTz start_at;
	int32		priority;
	Jsonb	   *labels;
	const Interval *execution_timeout;	/* NULL: the definition's */
	bool		has_parent;
	pg_uuid_t	parent_id;
	const char *parent_step;
	const char *parent_close;	/* 'cancel', 'abandon' */
	bool		has_continued_from;
	pg_uuid_t	continued_from;
	int16		depth;			/* of children */
	int32		flags;			/* ROM_IS_CANVAS ... */
	const Interval *result_expires;
	bool		has_scheduled_at;
	TimestampTz scheduled_at;	/* of a schedule's run: the time it is for */
	RomInstance *here;			/* no wake-up is noted: the caller runs it, or
								 * notes one (rom_wake_ready()). Gets what the
								 * new row is to say, which is not written
								 * yet. NULL: others run it */
} RomStart;

/* The columns of t_instance that a turn changes. */
#define ROM_TURN_COLUMNS	19
#define ROM_TURN_COLUMN_NAMES \
	"status", "wake_at", "wait", "output", "error", "started_at", "updated_at", \
	"finished_at", "body_hash", "last_seq", "flags", "labels", "progress", \
	"resume_status", "crashes", "events", "settings", "output_seq", "output_document"

/*
 * Inserts an instance, notes its wake-up, and returns true; or, with an
 * idempotency key that its owner used for this workflow before, returns false and the
 * instance of then. *id: which. Enters the engine by itself. Errors: RM011 (payload too
 * large), RM012 (labels), 23505 (an id that exists).
 */
extern bool rom_start_instance(const RomStart *start, pg_uuid_t *id);

/*
 * rom_start_on_unknown: are first turns of this workflow not known to be short? Told by a room above, which knows; a new instance is then
 * taken alone (rom_wake_unknown()).
 */
extern void rom_start_on_unknown(bool (*is_unknown) (const RomWorkflow *workflow));

/*
 * Writes the row of an instance that was started with RomStart.here: as it started, or as its first turn leaves it
 * (values and nulls in the order of ROM_TURN_COLUMN_NAMES).
 */
extern void rom_start_write(RomInstance *inst);
extern void rom_start_write_turn(RomInstance *inst, const Datum *values, const bool *nulls);

/* Takes the lock that the two need on the table; false: it is not free, and wait is false. It may be cancelled. */
extern bool rom_start_lock(bool wait);

/* Has this transaction, or a part of it that is about to be rolled back, read or written rows of instances? */
extern bool rom_start_rows_used(void);

/* Would it wait for another transaction that takes the same idempotency key? *is_free: no instance has it. Engine scope needed. */
extern bool rom_start_would_wait(const RomStart *start, bool *is_free);

/* Warns, once in a session, where nothing will run what is started because romancy is not preloaded. */
extern void rom_start_warn(void);

/* The arguments of start_workflow: names and values only, so that they can be recorded and the start carried out later. */
typedef struct RomStartRequest
{
	char	   *name;
	int32		version;		/* 0: current */
	Jsonb	   *input;
	bool		has_id;
	pg_uuid_t	id;
	char	   *idempotency_key;
	bool		has_start_at;
	TimestampTz start_at;
	int32		priority;
	Jsonb	   *labels;
	Interval   *execution_timeout;
} RomStartRequest;

/* Resolves the request's name for the current user, under path (NULL: the session's), and makes of it what rom_start_instance() takes. */
extern void rom_start_resolve(const RomStartRequest *request, const char *path, RomStart *start);

/* Both of them. */
extern bool rom_start_request(const RomStartRequest *request,
							  const char *path, pg_uuid_t *id);

/* The same for many inputs: input and idempotency_key of request are unused. */
typedef struct RomStartMany
{
	RomStartRequest common;
	int			count;
	Datum	   *inputs;			/* jsonb */
	bool	   *input_nulls;
	char	  **keys;			/* NULL, or count of them, each may be NULL */
} RomStartMany;

/* One id for each input, in their order. */
extern pg_uuid_t *rom_start_many(const RomStartMany *many, const char *path);

#endif							/* ROM_START_H */
