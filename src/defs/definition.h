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
#include "utils/timestamp.h"

#include "defs/retry.h"
#include "steps/throttle.h"

/*
 * A version of a workflow (row of t_workflow). Lives in this backend's definition
 * cache, and the struct stays for good; a redefinition changes its fields in
 * place at the next look-up, so copy what must last.
 */
typedef struct RomWorkflow
{
	int32		def_id;
	char	   *name;
	int32		version;
	bool		defined;
	char	   *handler;		/* signature "schema.name(jsonb)", NULL with a
								 * queue */
	char	   *queue;			/* NULL: runs in the database */
	char	   *search_path;	/* recorded; what its handler and activities
								 * run with */
	Interval   *execution_timeout;	/* NULL: none */
	/* resolved lazily by rom_workflow_handler() */
	Oid			handler_oid;
	FmgrInfo   *flinfo;
	int64		body_hash;
} RomWorkflow;

typedef struct RomActivity
{
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
	RomThrottle throttle;		/* of one that runs in the database */
	Oid			handler_oid;
	bool		is_procedure;
	FmgrInfo   *flinfo;
} RomActivity;

/* The version of def_id; error RM001 when there is none. Cached. Needs a transaction; does engine SQL on a miss. */
extern RomWorkflow *rom_workflow_by_id(int32 def_id);

/*
 * What a start of name would run: the current (or given, version > 0) defined
 * version, else the function of that name under the caller's search_path,
 * recorded. Called as the caller (user id and search_path in force). Errors: RM001
 * (with hint), RM012 (the function is not a handler).
 */
extern RomWorkflow *rom_workflow_resolve(const char *name, int32 version);

/* Argument n as a version of this workflow: 0, the current one, for null; RM001 where there cannot be such a version. */
extern int32 rom_workflow_version_arg(FunctionCallInfo fcinfo, int n, const char *name);


/* The same under a recorded path (of a running instance) instead of the session's. Called as the role that is to own the instance. */
extern RomWorkflow *rom_workflow_resolve_in(const char *name, int32 version,
											const char *path);

/*
 * The activity of that name: defined, or else a function found under
 * search_path (the workflow's recorded one), called as the instance's owner. Error RM001 when there
 * is neither.
 */
extern RomActivity *rom_activity_resolve(const char *name, const char *search_path);

/*
 * The handler's call info, checked for the role that runs it: it exists, has the
 * right type, is VOLATILE and not STRICT, and owner may execute it. Raises
 * RM001/RM012/42501; the turn turns that into a pause (workflow) or failure
 * (activity).
 */
extern FmgrInfo *rom_workflow_handler(RomWorkflow *workflow, Oid owner);
extern FmgrInfo *rom_activity_handler(RomActivity *activity, Oid owner);

/*
 * What a handler may be. rom_handler_check() raises RM012 naming what is wrong
 * unless funcid is a function(jsonb) returns jsonb, VOLATILE and not STRICT, or,
 * where procedure says so, a procedure(jsonb, inout jsonb) without SET or SECURITY DEFINER.
 * what and name: for the message ("workflow", its name).
 */
extern void rom_handler_check(Oid funcid, bool procedure, const char *what,
							  const char *name);

/* Raises 42501 unless role may execute the function. */
extern void rom_handler_check_execute(Oid funcid, Oid role);

/* "schema.name(jsonb)": how handlers are stored; and back, InvalidOid when there is none. Rights are not looked at. */
extern char *rom_handler_signature(Oid funcid);
extern Oid	rom_handler_find(const char *signature);

/* The session's search_path in the form it is recorded in: "$user" replaced by the current user, no pg_temp. */
extern const char *rom_definition_path(void);

/* To be called by whoever changes t_workflow or t_activity: at the end of the command here, and after the commit elsewhere, the caches are dropped. */
extern void rom_definition_changed(const char *table);

/* Hash of a function's current body (prosrc, and prosqlbody), 0 when it is gone. */
extern int64 rom_function_body_hash(Oid funcid);

#endif							/* ROM_DEFINITION_H */
