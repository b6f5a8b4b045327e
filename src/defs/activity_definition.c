/*-------------------------------------------------------------------------
 *
 * activity_definition.c
 *		Activities, cached in each backend: rows of t_activity, and functions
 *		that undefined names mean. definition.c says until when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/errors.h"
#include "base/rows.h"
#include "defs/activity_definition.h"
#include "defs/definition.h"
#include "defs/handler.h"
#include "defs/namespace.h"

typedef struct ActivityEntry
{
	uint64		hash;			/* hash key */
	RomNameKey	key;
	uint64		generation;
	uint64		names;
	uint64		retry_generation;	/* what the policy was completed with, */
	Jsonb	   *retry_json;		/* and from */
	RomHandlerCache handler;
	RomActivity activity;
} ActivityEntry;

static MemoryContext cache_cxt = NULL;
static HTAB *activities = NULL;

/* The columns that load_activity() reads. */
static RomTable activity_table = {
	"t_activity", 11, {
		"handler", "queue", "retry", "compensation", "start_to_close_timeout", "schedule_to_start_timeout",
		"heartbeat_timeout", "transactional", "search_path", "max_concurrency", "rate_limit"
	}, true
};

/* prepare makes the table on first use. */
static void
prepare(void)
{
	cache_cxt = rom_definition_prepare();
	if (activities == NULL)
		activities = rom_definition_table("romancy activities", sizeof(uint64),
										  sizeof(ActivityEntry));
}

/* read_limits reads the limits of an activity that runs in the database; those of a queue's are quota.c's. */
static void
read_limits(RomRows *rows, RomActivity *activity)
{
	RomLimits  *limits = &activity->limits;
	char	   *rate = rom_rows_text(rows, 10);
	bool		isnull;
	Datum		max = rom_rows_column(rows, 9, &isnull);

	memset(limits, 0, sizeof(RomLimits));
	if (activity->queue != NULL)
		return;
	if (!isnull)
		limits->max_concurrency = DatumGetInt32(max);
	if (rate != NULL)
		(void) rom_activity_definition_rate(rate, &limits->rate, &limits->period);
}

/* load_activity reads a row of t_activity, as load_workflow() does (definition.c); false when there is none. */
static bool
load_activity(RomActivity *activity, int32 namespace, const char *name)
{
	bool		isnull;
	bool		found;
	RomRows		rows;

	rom_rows_open_select(&rows, &activity_table, "t_activity_pkey", false);
	found = rom_rows_find_int_text(&rows, namespace, name);
	if (found)
	{
		Datum		retry = rom_rows_column(&rows, 2, &isnull);

		activity->defined = true;
		rom_definition_set_jsonb(&activity->retry_json, isnull ? NULL : DatumGetJsonbP(retry));
		rom_definition_set_text(&activity->handler, rom_rows_text(&rows, 0));
		rom_definition_set_text(&activity->queue, rom_rows_text(&rows, 1));
		rom_definition_set_text(&activity->compensation, rom_rows_text(&rows, 3));
		rom_definition_set_interval(&rows, &activity->start_to_close_timeout, 4);
		rom_definition_set_interval(&rows, &activity->schedule_to_start_timeout, 5);
		rom_definition_set_interval(&rows, &activity->heartbeat_timeout, 6);
		activity->transactional = DatumGetBool(rom_rows_column(&rows, 7, &isnull));
		rom_definition_set_text(&activity->search_path, rom_rows_text(&rows, 8));
		read_limits(&rows, activity);
	}
	rom_rows_close(&rows);
	return found;
}

/* resolve_activity_function makes an undefined activity of the function that its name means under the path. */
static void
resolve_activity_function(RomActivity *activity, const RomNameKey *key)
{
	Oid			funcid = rom_handler_lookup(key->name, key->path);

	if (!OidIsValid(funcid))
		rom_definition_not_found(key->namespace, "activity", key->name, key->path);
	rom_handler_check(funcid, false, "activity", key->name);
	activity->defined = false;
	rom_definition_set_text(&activity->handler, rom_handler_signature(funcid));
	activity->transactional = true;
}

/* refresh_policy completes the retry policy of an activity, when romancy.default_retry or the definition changed. */
static void
refresh_policy(ActivityEntry *entry)
{
	RomActivity *activity = &entry->activity;
	uint64		generation = rom_retry_generation();
	MemoryContext old;

	if (entry->retry_generation == generation &&
		entry->retry_json == activity->retry_json)
		return;
	entry->retry_generation = 0;
	rom_retry_defaults(&activity->retry);
	old = MemoryContextSwitchTo(cache_cxt);
	rom_retry_overlay(&activity->retry, activity->retry_json, "retry");
	MemoryContextSwitchTo(old);
	entry->retry_json = activity->retry_json;
	entry->retry_generation = generation;
}

/* activity_entry finds or makes the cache entry of a key; a collision of hashes takes the place over. */
static ActivityEntry *
activity_entry(const RomNameKey *key, bool create)
{
	uint64		hash = rom_definition_hash_key(key);
	bool		found;
	ActivityEntry *entry;

	entry = hash_search(activities, &hash, create ? HASH_ENTER : HASH_FIND,
						&found);
	if (entry == NULL || (found && rom_definition_same_key(&entry->key, key)))
		return entry;
	if (!create)
		return NULL;
	memset(&entry->key, 0,
		   sizeof(ActivityEntry) - offsetof(ActivityEntry, key));
	rom_definition_copy_key(&entry->key, key);
	entry->activity.namespace = entry->key.namespace;
	entry->activity.name = unconstify(char *, entry->key.name);
	return entry;
}

static bool
activity_fresh(const ActivityEntry *entry)
{
	return entry != NULL && entry->generation == rom_definition_count() &&
		(entry->key.path == NULL || entry->names == rom_definition_names());
}

/* store_activity takes over what was read into loaded. */
static void
store_activity(ActivityEntry *entry, RomActivity *loaded)
{
	RomActivity *activity = &entry->activity;

	if (activity->handler != loaded->handler ||
		activity->transactional != loaded->transactional)
		entry->handler.checked = entry->handler.called = 0;
	loaded->namespace = activity->namespace;
	loaded->name = activity->name;
	loaded->handler_oid = activity->handler_oid;
	loaded->flinfo = activity->flinfo;
	loaded->is_procedure = activity->is_procedure;
	loaded->body_hash = activity->body_hash;
	loaded->retry = activity->retry;
	*activity = *loaded;
}

RomActivity *
rom_activity_definition_resolve(int32 namespace, const char *name, const char *search_path)
{
	RomNameKey	defined = {namespace, name, 0, NULL, InvalidOid};
	RomNameKey	resolved = {namespace, name, 0, search_path, GetUserId()};
	uint64		generation;
	uint64		names;
	ActivityEntry *entry;

	prepare();
	generation = rom_definition_count();
	names = rom_definition_names();
	entry = activity_entry(&defined, false);
	if (!activity_fresh(entry))
		entry = activity_entry(&resolved, false);
	if (!activity_fresh(entry))
	{
		/* read first, then change the entry: an error must leave it as it was */
		RomActivity loaded = {0};

		entry = activity_entry(&defined, false);
		if (entry != NULL)
			loaded = entry->activity;
		if (load_activity(&loaded, namespace, name))
			entry = activity_entry(&defined, true);
		else
		{
			memset(&loaded, 0, sizeof(loaded));
			entry = activity_entry(&resolved, false);
			if (entry != NULL)
				loaded = entry->activity;
			resolve_activity_function(&loaded, &resolved);
			entry = activity_entry(&resolved, true);
		}
		store_activity(entry, &loaded);
		entry->generation = generation;
		entry->names = names;
	}
	refresh_policy(entry);
	return &entry->activity;
}

/* tell_undone is the error context of a look-up of a compensation; arg: the activity that it undoes. */
static void
tell_undone(void *arg)
{
	errcontext("compensation of activity \"%s\"", (char *) arg);
}

RomActivity *
rom_activity_definition_resolve_undoable(int32 namespace, const char *name, const char *search_path)
{
	RomActivity *activity = rom_activity_definition_resolve(namespace, name, search_path);
	ErrorContextCallback context;

	if (activity->compensation == NULL)
		return activity;
	context.callback = tell_undone;
	context.arg = unconstify(char *, name);
	context.previous = error_context_stack;
	error_context_stack = &context;
	(void) rom_activity_definition_resolve(namespace, pstrdup(activity->compensation), search_path);
	error_context_stack = context.previous;
	/* again: what was cached of it may have changed */
	return rom_activity_definition_resolve(namespace, name, search_path);
}

FmgrInfo *
rom_activity_definition_handler(RomActivity *activity, Oid owner)
{
	ActivityEntry *entry;

	entry = (ActivityEntry *) ((char *) activity -
							   offsetof(ActivityEntry, activity));
	if (activity->handler == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("activity \"%s\" runs in external workers, on queue \"%s\"",
						activity->name, activity->queue)));
	rom_definition_find_handler(&entry->handler, activity->handler,
								!activity->transactional, "activity", activity->name,
								&activity->handler_oid);
	rom_handler_check_execute(activity->handler_oid, owner);
	rom_namespace_check_owner(activity->namespace, owner);
	if (rom_definition_call_info(&entry->handler, activity->handler_oid,
								 &activity->flinfo))
	{
		activity->is_procedure =
			get_func_prokind(activity->handler_oid) == PROKIND_PROCEDURE;
		activity->body_hash = rom_handler_body_hash(activity->handler_oid);
	}
	return activity->flinfo;
}

bool
rom_activity_definition_is_current(const RomActivity *activity)
{
	const ActivityEntry *entry = (const ActivityEntry *) ((const char *) activity - offsetof(ActivityEntry, activity));

	return entry->handler.checked == rom_definition_names();
}

static RomActivityInUse in_use_hooks[4];
static int	n_in_use_hooks = 0;
static void (*activity_defined) (int32 namespace, const char *queue) = NULL;

void
rom_activity_definition_on_defined(void (*defined) (int32 namespace, const char *queue))
{
	activity_defined = defined;
}

void
rom_activity_definition_on_drop(RomActivityInUse in_use)
{
	if (n_in_use_hooks == lengthof(in_use_hooks))
		elog(ERROR, "too many activity hooks");
	in_use_hooks[n_in_use_hooks++] = in_use;
}

bool
rom_activity_definition_in_use(int32 namespace, const char *name)
{
	for (int i = 0; i < n_in_use_hooks; i++)
		if (in_use_hooks[i] (namespace, name))
			return true;
	return false;
}

void
rom_activity_definition_tell(int32 namespace, const char *queue)
{
	if (activity_defined != NULL)
		activity_defined(namespace, queue);
}

static RomHttpCheck check_http = NULL;

void
rom_activity_definition_on_http(RomHttpCheck check)
{
	check_http = check;
}

void
rom_activity_definition_check_http(const char *name, Jsonb *http)
{
	if (check_http == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("activity \"%s\" cannot be an HTTP request", name)));
	check_http(name, http);
}

bool
rom_activity_definition_rate(const char *text, int *count, int64 *period)
{
	char	   *end;
	long		number;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || number < 1 || number > PG_INT32_MAX ||
		end[0] != '/' || end[1] == '\0' || end[2] != '\0')
		return false;
	*count = (int) number;
	switch (end[1])
	{
		case 's':
			*period = USECS_PER_SEC;
			return true;
		case 'm':
			*period = USECS_PER_MINUTE;
			return true;
		case 'h':
			*period = USECS_PER_HOUR;
			return true;
		default:
			return false;
	}
}
