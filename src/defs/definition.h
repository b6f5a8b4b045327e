/*-------------------------------------------------------------------------
 *
 * definition.h
 *		Workflow versions and activities: what runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DEFINITION_H
#define ROM_DEFINITION_H

#include "fmgr.h"
#include "memory/bucket.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/rows.h"
#include "defs/retry.h"

/* Undefined names of workflows that a namespace may have, each with each function and search_path. */
#define ROM_UNDEFINED_MAX 10000

/*
 * A version of a workflow (row of t_workflow). Lives in this backend's definition
 * cache, and the struct stays for good; a redefinition changes its fields in
 * place at the next look-up, so copy what must last.
 */
typedef struct RomWorkflow
{
	int32		def_id;
	int32		namespace;
	char	   *name;
	int32		version;
	bool		defined;
	char	   *handler;		/* signature "schema.name(jsonb)", NULL with a
								 * queue */
	char	   *queue;			/* NULL: runs in the database */
	char	   *search_path;	/* recorded; what its handler and activities
								 * run with */
	Interval   *execution_timeout;	/* NULL: none */
	/* resolved lazily by rom_definition_handler() */
	Oid			handler_oid;
	FmgrInfo   *flinfo;
	int64		body_hash;
} RomWorkflow;

typedef struct RomActivity
{
	int32		namespace;
	char	   *name;
	bool		defined;		/* false: an undefined name read as a
								 * function's name */
	char	   *handler;		/* signature, NULL with a queue */
	char	   *queue;
	bool		transactional;
	char	   *compensation;	/* activity's name or NULL */
	char	   *search_path;	/* recorded at definition; NULL: the
								 * workflow's */
	RomRetryPolicy retry;		/* complete: definition's, else default's,
								 * keys */
	Jsonb	   *retry_json;		/* what the definition said, or NULL */
	Interval   *start_to_close_timeout;
	Interval   *schedule_to_start_timeout;
	Interval   *heartbeat_timeout;
	RomLimits	limits;			/* of one that runs in the database */
	Oid			handler_oid;
	bool		is_procedure;
	FmgrInfo   *flinfo;
	int64		body_hash;
} RomActivity;

/* The version of def_id; error RM001 when there is none. Cached. Needs a transaction; does engine SQL on a miss. */
extern RomWorkflow *rom_definition_by_id(int32 def_id);

/*
 * Finds the definition that a start of name would run: the current (or given, version > 0) defined version, else the
 * function of that name under the caller's search_path, recorded, in the namespace that rom_namespace_current() tells.
 * Called as the caller (user id and search_path in force). Errors: RM001 (with hint), RM012 (the function is not a
 * handler).
 */
extern RomWorkflow *rom_definition_resolve(const char *name, int32 version);

/* Argument n as a version of this workflow: 0, the current one, for null; RM001 where there cannot be such a version. */
extern int32 rom_definition_version_arg(FunctionCallInfo fcinfo, int n, const char *name);


/*
 * The same in a given namespace, under a recorded path (of a running instance), instead of the session's. Called as
 * the role that is to own the instance.
 */
extern RomWorkflow *rom_definition_resolve_in(int32 namespace, const char *name, int32 version,
											  const char *path);

/*
 * The activity of that name in a namespace: defined, or else a function found under
 * search_path (the workflow's recorded one), called as the instance's owner. Error RM001 when there
 * is neither.
 */
extern RomActivity *rom_activity_definition_resolve(int32 namespace, const char *name, const char *search_path);

/* The same, and what undoes it exists as well: RM001, with the activity in its context, before anything is done that could not be undone. */
extern RomActivity *rom_activity_definition_resolve_undoable(int32 namespace, const char *name, const char *search_path);

/*
 * The handler's call info, checked for the role that runs it: it exists, has the
 * right type, is VOLATILE and not STRICT, and owner may execute it. Raises
 * RM001/RM012/42501; the turn turns that into a pause (workflow) or failure
 * (activity).
 */
extern FmgrInfo *rom_definition_handler(RomWorkflow *workflow, Oid owner);
extern FmgrInfo *rom_activity_definition_handler(RomActivity *activity, Oid owner);

/* Is what is known of its handler (oid, body, call info) up to date? No function has changed since. */
extern bool rom_activity_definition_is_current(const RomActivity *activity);

/* The session's search_path in the form it is recorded in: "$user" replaced by the current user, no pg_temp. */
extern const char *rom_definition_path(void);

/*
 * Call it after a change of t_workflow or t_activity: the caches are dropped at the end of the command in this
 * session, and after the commit in others.
 */
extern void rom_definition_changed(const char *table);

/* ---------------------------------------------------------------- the caches of workflows and of activities */

/* A handler's function and call info: the names_changed that each was made under (rom_definition_names()). */
typedef struct RomHandlerCache
{
	uint64		checked;		/* of the function's oid; 0: look again */
	uint64		called;			/* of *flinfo */
	MemoryContext cxt;			/* holds *flinfo and what the language keeps */
} RomHandlerCache;

/* The key of a resolved name: hashed over all of its parts, which are compared as well. */
typedef struct RomNameKey
{
	int32		namespace;
	const char *name;
	int32		version;		/* of a workflow; 0: the current one */
	const char *path;			/* NULL: defined, so that the path does not
								 * matter */
	Oid			role;			/* with a path */
} RomNameKey;

/* Makes the context that entries live in, and starts listening for changes. To be called before each look-up. */
extern MemoryContext rom_definition_prepare(void);

/* A hash table in that context. */
extern HTAB *rom_definition_table(const char *label, Size keysize,
								  Size entrysize);

/*
 * Counters, from 1, of changes of t_workflow and t_activity, and of functions and
 * schemas: entries that were read under another count have to be read again.
 */
extern uint64 rom_definition_count(void);
extern uint64 rom_definition_names(void);

/* Replace a field of an entry where it differs; what was there may still be in use, and stays. An interval is a column of the row found. */
extern void rom_definition_set_text(char **field, const char *value);
extern void rom_definition_set_interval(RomRows *rows, Interval **field, int column);
extern void rom_definition_set_jsonb(Jsonb **field, Jsonb *value);

/* Keys: compared, hashed, copied into the cache's context. */
extern bool rom_definition_same_key(const RomNameKey *a, const RomNameKey *b);
extern uint64 rom_definition_hash_key(const RomNameKey *key);
extern void rom_definition_copy_key(RomNameKey *to, const RomNameKey *from);

/*
 * Finds and checks the function that is stored as a signature, unless that was done
 * since the last change of any. RM001 when it was dropped, RM012 when it is no handler.
 */
extern void rom_definition_find_handler(RomHandlerCache *cache,
										const char *signature, bool procedure,
										const char *what, const char *name,
										Oid *funcid);

/* Makes *flinfo for a function that was found so; returns whether it had to. Frees the one before: not to be called while that may be in use. */
extern bool rom_definition_call_info(RomHandlerCache *cache, Oid funcid,
									 FmgrInfo **flinfo);

/* Raises RM001 for a name that is neither defined nor a function's under path (or NULL). what: workflow or activity. */
extern void rom_definition_not_found(int32 namespace, const char *what, const char *name, const char *path) pg_attribute_noreturn();

#endif							/* ROM_DEFINITION_H */
