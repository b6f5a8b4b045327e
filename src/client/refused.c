/*-------------------------------------------------------------------------
 *
 * refused.c
 *		The hint to grant_usage where the server refuses a role that has no right.
 *
 * The server's own error is raised before anything of romancy's is called, so it
 * can only be met on its way out: in emit_log_hook, where nothing can be looked up
 * any more. Of a function its message has the name without the schema. The
 * statement, or the line of a function, mostly tells the rest; an expression
 * of PL/pgSQL (RETURN romancy.f()) and a name that search_path finds do not.
 * There the name is compared with those of the API.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/memutils.h"

#include "client/grants.h"
#include "client/refused.h"

#define SCHEMA "romancy"

/* Functions and procedures of the API; test/t/163_named_grants.pl compares them with the catalog. */
static const char *const api[] = {
	"ack_outbox", "activity", "adopt_database", "allow_http", "attempt", "await", "await_all", "await_any",
	"await_progress", "await_result", "backfill_schedule", "call_workflow", "cancel_task", "cancel_workflow",
	"cancel_workflows", "canvas", "canvas_tasks", "chain", "check_replay", "chord", "compensate",
	"complete_activities", "complete_activity", "complete_workflow", "define_activity", "define_destination",
	"define_workflow", "delete_workflow", "deny_http", "describe_schedule", "diagram", "drain",
	"drop_activity", "drop_destination", "drop_secret", "drop_workflow", "extend_lease", "fail_activity",
	"fail_workflow", "fetch_activities", "fetch_outbox", "fetch_workflows", "fork_workflow",
	"get_archived_history", "get_history", "get_progress", "get_result", "get_value", "grant_usage", "group",
	"group_members", "handle_cloudevent", "health", "heartbeat_activity", "html_report", "http",
	"index_labels", "instance_id", "is_replaying", "join_group", "leave_group", "list_instances", "map",
	"metrics", "nack_outbox", "options", "patched", "pause_destination", "pause_queue", "pause_schedule",
	"pause_workflow", "poll_activities", "poll_workflows", "protocol", "publish", "raise_event",
	"raise_terminal", "read_history", "receive", "record", "record_activity", "record_failure", "recur",
	"register_compensation", "release_activity", "replay_outbox", "report_progress", "resume_destination",
	"resume_queue", "resume_schedule", "resume_workflow", "resume_workflows", "retry_workflow",
	"retry_workflows", "revoke_usage", "run_canvas", "run_sweep", "run_workflow", "schedule", "schedule_runs",
	"schedule_times", "scheduled_at", "send_event", "send_to", "set_labels", "set_progress", "set_queue",
	"set_secret", "set_value", "sleep", "sleep_until", "spans", "spawn", "spawn_canvas", "spawn_http",
	"spawn_receive", "spawn_timer", "spawn_workflow", "start_workflow", "start_workflows", "stat_reset",
	"step_key", "subscribe", "suspend", "suspend_activity", "suspend_receive", "suspend_timer", "task",
	"terminate_workflow", "timeline", "trigger_schedule", "unschedule", "unsubscribe", "wait_event",
	"workflow_name", "workflow_now", "workflow_random", "workflow_uuid"
};

/* Whose object was refused? */
typedef enum Refused
{
	REFUSED_OTHER,				/* not romancy's */
	REFUSED_PERHAPS,			/* romancy has one of that name, and none of
								 * another schema is named */
	REFUSED_OURS
} Refused;

static emit_log_hook_type outer_log_hook = NULL;

static bool
is_of_name(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '$' || IS_HIGHBIT_SET(c);
}

/* is_word: do these bytes of said stand there as a name, in any case, quoted or not? */
static bool
is_word(const char *said, const char *at, const char *name)
{
	int			length = strlen(name);

	return pg_strncasecmp(at, name, length) == 0 && !is_of_name(at[length]) && (at == said || !is_of_name(at[-1]));
}

/* after_dot returns what follows the dot behind a name that ends before at; NULL: there is none. */
static const char *
after_dot(const char *at)
{
	if (*at == '"')
		at++;
	while (isspace((unsigned char) *at))
		at++;
	if (*at != '.')
		return NULL;
	at++;
	while (isspace((unsigned char) *at))
		at++;
	return *at == '"' ? at + 1 : at;
}

/* names_ours: does said name an object of the schema; of that name, if it is not NULL? Comments are not told from code. */
static bool
names_ours(const char *said, const char *name)
{
	for (const char *at = said; at != NULL && *at != '\0'; at++)
	{
		const char *next;

		if (!is_word(said, at, SCHEMA))
			continue;
		next = after_dot(at + strlen(SCHEMA));
		if (next != NULL && (name == NULL || is_word(next, next, name)))
			return true;
	}
	return false;
}

/* names_other: does said name an object of that name with a schema? */
static bool
names_other(const char *said, const char *name)
{
	for (const char *at = said; at != NULL && *at != '\0'; at++)
	{
		const char *before = at;

		if (!is_word(said, at, name))
			continue;
		if (before > said && before[-1] == '"')
			before--;
		while (before > said && isspace((unsigned char) before[-1]))
			before--;
		if (before > said && before[-1] == '.')
			return true;
	}
	return false;
}

/* of_api: has the API a function or procedure of that name? */
static bool
of_api(const char *name)
{
	for (int i = 0; i < lengthof(api); i++)
		if (strcmp(api[i], name) == 0)
			return true;
	return false;
}

/* refused_object returns the name in "permission denied for function start_workflow"; NULL: it is another error. *routine: of a function or procedure. */
static char *
refused_object(const ErrorData *edata, bool *routine)
{
	static const char *const refusals[] = {
		"permission denied for function %s", "permission denied for procedure %s", "permission denied for routine %s",
		"permission denied for view %s", "permission denied for type %s"
	};

	for (int i = 0; i < lengthof(refusals); i++)
	{
		const char *translated;
		const char *name;
		int			before;
		int			after;

		if (strcmp(edata->message_id, refusals[i]) != 0)
			continue;
		/* the name is in its place of the translated message */
		translated = _(refusals[i]);
		name = strstr(translated, "%s");
		if (name == NULL)
			return NULL;
		before = name - translated;
		after = strlen(name + 2);
		if ((int) strlen(edata->message) <= before + after)
			return NULL;
		*routine = i < 3;
		return pnstrdup(edata->message + before, strlen(edata->message) - before - after);
	}
	return NULL;
}

/*
 * whose_object says whose the object of a refusal is. Internal functions are called by views; tables and other internal functions are for
 * no role.
 */
static Refused
whose_object(const ErrorData *edata, const char *object, bool routine)
{
	const char *const texts[] = {debug_query_string, edata->internalquery, edata->context};
	bool		internal = rom_grants_is_internal(object);

	/* a type has its schema with it */
	if (names_ours(object, NULL))
		return REFUSED_OURS;
	if (internal && !rom_grants_is_for_views(object))
		return REFUSED_OTHER;
	for (int i = 0; i < lengthof(texts); i++)
		if (names_ours(texts[i], internal ? NULL : object))
			return REFUSED_OURS;
	for (int i = 0; i < lengthof(texts); i++)
		if (names_other(texts[i], object))
			return REFUSED_OTHER;
	return routine && of_api(object) ? REFUSED_PERHAPS : REFUSED_OTHER;
}

/* name_the_grant adds the hint to the server's own error for a role that may not use the schema, or, with a USAGE that was granted by hand, not what is in it. */
static void
name_the_grant(ErrorData *edata)
{
	static const char *const refusal = "permission denied for schema %s";
	static const char *const owner_may = "owner of extension \"romancy\" lets a role use it: select romancy.grant_usage('role').";

	if (edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && edata->hint == NULL && edata->detail == NULL && edata->message_id != NULL && edata->message != NULL)
	{
		bool		routine = false;
		char	   *object = refused_object(edata, &routine);
		Refused		refused = REFUSED_OTHER;

		if (object != NULL)
			refused = whose_object(edata, object, routine);
		else if (strcmp(edata->message_id, refusal) == 0 && strcmp(edata->message, psprintf(_(refusal), SCHEMA)) == 0)
			refused = REFUSED_OURS;
		if (refused != REFUSED_OTHER)
			edata->hint = MemoryContextStrdup(edata->assoc_context,
											  refused == REFUSED_OURS ? psprintf("The %s", owner_may) :
											  psprintf("If that is %s.%s: the %s", SCHEMA, object, owner_may));
	}
	if (outer_log_hook)
		outer_log_hook(edata);
}

void
rom_refused_init(void)
{
	outer_log_hook = emit_log_hook;
	emit_log_hook = name_the_grant;
}
