/*-------------------------------------------------------------------------
 *
 * definition.c
 *		Workflow versions and activities, cached in each backend.
 *
 * A start must not cost a look-up of its definition, so rows of t_workflow and
 * t_activity are kept here, and what names resolve to as well. Three counters
 * say when that is stale: definitions_changed grows with every relcache
 * invalidation of the two tables (rom_definition_changed() sends one),
 * names_changed with every change of a function or a schema. Whatever was
 * read under an older count is read again; "there is none" is never kept.
 *
 * Entries are never freed, because a turn up the stack may hold one: a
 * redefinition changes the fields of the entry and lets go of the old strings.
 * That leaks a little with every redefinition, which is rare. FmgrInfo is made
 * anew after any change of a function (a language keeps state in it that a
 * replaced function makes wrong), but only by rom_workflow_handler() and
 * rom_activity_handler(), which are called before an evaluation: a start
 * inside one must not free the FmgrInfo that the evaluation runs with.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/spi.h"
#include "engine/definition.h"
#include "engine/handler.h"

/* A handler's function and call info: the names_changed that each was made under. */
typedef struct HandlerCache
{
	uint64		checked;		/* of the function's oid; 0: look again */
	uint64		called;			/* of *flinfo */
	MemoryContext cxt;			/* holds *flinfo and what the language keeps */
} HandlerCache;

typedef struct WorkflowEntry
{
	int32		def_id;			/* hash key */
	uint64		generation;		/* of definitions_changed; 0: not there */
	HandlerCache handler;
	RomWorkflow workflow;
} WorkflowEntry;

/* What a name means: hashed over all of its parts, which are compared as well. */
typedef struct NameKey
{
	const char *name;
	int32		version;		/* of a workflow; 0: the current one */
	const char *path;			/* NULL: defined, so that the path does not matter */
	Oid			role;			/* with a path */
} NameKey;

typedef struct NameEntry
{
	uint64		hash;			/* hash key */
	NameKey		key;			/* own copies */
	uint64		generation;		/* of definitions_changed */
	uint64		names;			/* of names_changed */
	WorkflowEntry *entry;
} NameEntry;

typedef struct ActivityEntry
{
	uint64		hash;			/* hash key */
	NameKey		key;
	uint64		generation;
	uint64		names;
	uint64		retry_generation;	/* what the policy was completed with, */
	Jsonb	   *retry_json;			/* and from */
	HandlerCache handler;
	RomActivity activity;
} ActivityEntry;

static MemoryContext cache_cxt = NULL;
static HTAB *workflows = NULL;
static HTAB *workflow_names = NULL;
static HTAB *activities = NULL;
static Oid	workflow_relid = InvalidOid;
static Oid	activity_relid = InvalidOid;
static uint64 definitions_changed = 1;
static uint64 names_changed = 1;

static RomStatement select_workflow = {
	"select name, version, defined, handler, queue, search_path, execution_timeout"
	" from romancy.t_workflow where def_id = $1",
	1, {INT4OID}
};

static RomStatement select_defined = {
	"select def_id from romancy.t_workflow"
	" where defined and name = $1 and ($2 = 0 and is_current or version = $2)",
	2, {TEXTOID, INT4OID}
};

/* name_exists: for the error's sake */
static RomStatement select_any_version = {
	"select 1 from romancy.t_workflow where defined and name = $1",
	1, {TEXTOID}
};

static RomStatement select_resolved = {
	"select def_id from romancy.t_workflow"
	" where not defined and name = $1 and handler = $2 and search_path = $3"
	" order by def_id limit 1",
	3, {TEXTOID, TEXTOID, TEXTOID}
};

static RomStatement insert_resolved = {
	"insert into romancy.t_workflow"
	" (name, version, defined, is_current, handler, owner, search_path)"
	" values ($1, 1, false, true, $2, $4, $3) returning def_id",
	4, {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

static RomStatement select_activity = {
	"select handler, queue, retry, compensation, start_to_close_timeout,"
	" schedule_to_start_timeout, heartbeat_timeout, transactional, search_path"
	" from romancy.t_activity where name = $1",
	1, {TEXTOID}
};

/* relation_changed is called for each relcache invalidation; InvalidOid stands for all relations. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == workflow_relid ||
		relid == activity_relid)
		definitions_changed++;
}

/* name_changed is called when a row of pg_proc or pg_namespace changes. */
static void
name_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	names_changed++;
}

static HTAB *
make_table(const char *label, Size keysize, Size entrysize)
{
	HASHCTL		ctl;

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = cache_cxt;
	return hash_create(label, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* prepare makes the caches on first use, and knows afterwards which relations to listen for. */
static void
prepare(void)
{
	if (cache_cxt == NULL)
	{
		cache_cxt = AllocSetContextCreate(TopMemoryContext,
										  "romancy definitions",
										  ALLOCSET_DEFAULT_SIZES);
		workflows = make_table("romancy workflows", sizeof(int32),
							   sizeof(WorkflowEntry));
		workflow_names = make_table("romancy workflow names", sizeof(uint64),
									sizeof(NameEntry));
		activities = make_table("romancy activities", sizeof(uint64),
								sizeof(ActivityEntry));
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, name_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
	}
	workflow_relid = rom_relation_oid("t_workflow");
	activity_relid = rom_relation_oid("t_activity");
}

void
rom_definition_changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(rom_relation_oid(table));
}

/* set_text replaces a string of a cache entry where it differs; the old one may still be in use. */
static void
set_text(char **field, const char *value)
{
	if (value == NULL)
		*field = NULL;
	else if (*field == NULL || strcmp(*field, value) != 0)
		*field = MemoryContextStrdup(cache_cxt, value);
}

static void
set_interval(Interval **field, uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value(row, col, &isnull);
	Interval   *copy;

	if (isnull)
	{
		*field = NULL;
		return;
	}
	if (*field != NULL &&
		memcmp(*field, DatumGetIntervalP(value), sizeof(Interval)) == 0)
		return;
	copy = MemoryContextAlloc(cache_cxt, sizeof(Interval));
	*copy = *DatumGetIntervalP(value);
	*field = copy;
}

static void
set_jsonb(Jsonb **field, Jsonb *value)
{
	if (value == NULL)
		*field = NULL;
	else if (*field == NULL || VARSIZE(*field) != VARSIZE(value) ||
			 memcmp(*field, value, VARSIZE(value)) != 0)
	{
		*field = MemoryContextAlloc(cache_cxt, VARSIZE(value));
		memcpy(*field, value, VARSIZE(value));
	}
}

static bool
same_key(const NameKey *a, const NameKey *b)
{
	return a->version == b->version && a->role == b->role &&
		(a->path == NULL) == (b->path == NULL) &&
		strcmp(a->name, b->name) == 0 &&
		(a->path == NULL || strcmp(a->path, b->path) == 0);
}

static uint64
hash_key(const NameKey *key)
{
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) key->name,
							   strlen(key->name), key->version);
	if (key->path != NULL)
		hash = hash_bytes_extended((const unsigned char *) key->path,
								   strlen(key->path), hash ^ key->role);
	return hash;
}

static void
copy_key(NameKey *to, const NameKey *from)
{
	to->name = MemoryContextStrdup(cache_cxt, from->name);
	to->path = from->path ? MemoryContextStrdup(cache_cxt, from->path) : NULL;
	to->version = from->version;
	to->role = from->role;
}

/* current_path is the session's search_path as recorded, kept until the setting or the role changes. */
static const char *
current_path(void)
{
	static char *setting = NULL;
	static char *recorded = NULL;
	static Oid	role = InvalidOid;
	static uint64 names = 0;

	if (setting == NULL || role != GetUserId() || names != names_changed ||
		strcmp(setting, namespace_search_path) != 0)
	{
		char	   *path = rom_path_record(namespace_search_path, GetUserId());

		if (recorded == NULL || strcmp(recorded, path) != 0)
			recorded = MemoryContextStrdup(TopMemoryContext, path);
		if (setting != NULL)
			pfree(setting);
		setting = MemoryContextStrdup(TopMemoryContext,
									  namespace_search_path);
		role = GetUserId();
		names = names_changed;
		pfree(path);
	}
	return recorded;
}

const char *
rom_definition_path(void)
{
	return current_path();
}

/* load_workflow reads a row of t_workflow into its entry, unless that is fresh; false when there is no such row. Enters the engine by itself. */
static bool
load_workflow(WorkflowEntry *entry)
{
	RomWorkflow *workflow = &entry->workflow;
	Datum		values[1] = {Int32GetDatum(entry->def_id)};
	RomEngine	engine;
	bool		isnull;
	uint64		generation = definitions_changed;

	if (entry->generation == generation)
		return true;
	entry->generation = 0;
	rom_engine_begin(&engine);
	if (rom_execute(&select_workflow, values, NULL, 1) == 1)
	{
		MemoryContext cxt = CurrentMemoryContext;

		workflow->def_id = entry->def_id;
		set_text(&workflow->name, rom_value_text(0, 1, cxt));
		workflow->version = DatumGetInt32(rom_value(0, 2, &isnull));
		workflow->defined = DatumGetBool(rom_value(0, 3, &isnull));
		set_text(&workflow->handler, rom_value_text(0, 4, cxt));
		set_text(&workflow->queue, rom_value_text(0, 5, cxt));
		set_text(&workflow->search_path, rom_value_text(0, 6, cxt));
		set_interval(&workflow->execution_timeout, 0, 7);
		entry->generation = generation;
	}
	rom_engine_end(&engine);
	return entry->generation != 0;
}

static WorkflowEntry *
workflow_entry(int32 def_id)
{
	WorkflowEntry *entry;
	bool		found;

	entry = hash_search(workflows, &def_id, HASH_ENTER, &found);
	if (!found)
	{
		memset(&entry->generation, 0,
			   sizeof(WorkflowEntry) - offsetof(WorkflowEntry, generation));
	}
	return entry;
}

RomWorkflow *
rom_workflow_by_id(int32 def_id)
{
	WorkflowEntry *entry;

	prepare();
	entry = workflow_entry(def_id);
	if (!load_workflow(entry))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("the instance's workflow is no longer defined"),
				 errhint("It was dropped. Cancel the instance, or start a new one.")));
	return &entry->workflow;
}

static void
handler_missing(const char *signature, const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_UNDEFINED),
			 errmsg("function %s of %s \"%s\" does not exist",
					signature, what, name),
			 errhint("Create the function again, or define the %s with another one.",
					 what)));
}

/* find_handler finds and checks the function that is stored as a signature, unless that was done since the last change of any. */
static void
find_handler(HandlerCache *cache, const char *signature, bool procedure,
			 const char *what, const char *name, Oid *funcid)
{
	uint64		generation = names_changed;

	if (cache->checked == generation)
		return;
	*funcid = rom_handler_find(signature);
	if (!OidIsValid(*funcid))
		handler_missing(signature, what, name);
	rom_handler_check(*funcid, procedure, what, name);
	cache->checked = generation;
}

/* make_call_info makes *flinfo for a function that find_handler() found; returns whether it had to. */
static bool
make_call_info(HandlerCache *cache, Oid funcid, FmgrInfo **flinfo)
{
	if (*flinfo != NULL && cache->called == cache->checked)
		return false;
	*flinfo = NULL;
	if (cache->cxt != NULL)
		MemoryContextDelete(cache->cxt);
	cache->cxt = NULL;
	cache->cxt = AllocSetContextCreate(cache_cxt, "romancy handler",
									   ALLOCSET_SMALL_SIZES);
	*flinfo = MemoryContextAllocZero(cache->cxt, sizeof(FmgrInfo));
	fmgr_info_cxt(funcid, *flinfo, cache->cxt);
	cache->called = cache->checked;
	return true;
}

/* What stands in the handler's place where a workflow's code runs outside (tasks/outside.c). */
#define OUTSIDE_HANDLER "romancy.outside(jsonb)"

/* workflow_function finds a workflow's function for a start; errors as rom_workflow_handler(). */
static void
workflow_function(WorkflowEntry *entry)
{
	RomWorkflow *workflow = &entry->workflow;

	find_handler(&entry->handler, workflow->handler, false, "workflow",
				 workflow->name, &workflow->handler_oid);
}

FmgrInfo *
rom_workflow_handler(RomWorkflow *workflow, Oid owner)
{
	WorkflowEntry *entry;

	entry = (WorkflowEntry *) ((char *) workflow -
							   offsetof(WorkflowEntry, workflow));
	if (workflow->handler == NULL)
		find_handler(&entry->handler, OUTSIDE_HANDLER, false, "workflow",
					 workflow->name, &workflow->handler_oid);
	else
		workflow_function(entry);
	rom_handler_check_execute(workflow->handler_oid, owner);
	if (make_call_info(&entry->handler, workflow->handler_oid,
					   &workflow->flinfo))
		workflow->body_hash = rom_function_body_hash(workflow->handler_oid);
	return workflow->flinfo;
}

/* find_defined gives the entry of a defined workflow (version 0: its current one), or NULL. */
static WorkflowEntry *
find_defined(const NameKey *key)
{
	RomEngine	engine;
	Datum		values[2];
	WorkflowEntry *entry = NULL;
	bool		isnull;
	int32		def_id = 0;

	values[0] = CStringGetTextDatum(key->name);
	values[1] = Int32GetDatum(key->version);
	rom_engine_begin(&engine);
	if (rom_execute(&select_defined, values, NULL, 1) == 1)
		def_id = DatumGetInt32(rom_value(0, 1, &isnull));
	else if (key->version != 0 &&
			 rom_execute(&select_any_version, values, NULL, 1) == 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("workflow \"%s\" has no version %d", key->name,
						key->version)));
	rom_engine_end(&engine);

	if (def_id != 0)
	{
		entry = workflow_entry(def_id);
		if (!load_workflow(entry))
			entry = NULL;
	}
	return entry;
}

/*
 * record_resolved stores what an undefined name resolved to, and returns its
 * def_id. Those who do the same in transactions that overlap get a row each:
 * that does no harm, whereas one row for all would make them wait for each other.
 */
static int32
record_resolved(const NameKey *key, const char *signature)
{
	RomEngine	engine;
	Datum		values[4];
	bool		isnull;
	int32		def_id;

	values[0] = CStringGetTextDatum(key->name);
	values[1] = CStringGetTextDatum(signature);
	values[2] = CStringGetTextDatum(key->path);
	values[3] = CStringGetTextDatum(GetUserNameFromId(key->role, false));
	rom_engine_begin(&engine);
	if (rom_execute(&select_resolved, values, NULL, 0) == 1)
		def_id = DatumGetInt32(rom_value(0, 1, &isnull));
	else
	{
		rom_execute(&insert_resolved, values, NULL, 0);
		def_id = DatumGetInt32(rom_value(0, 1, &isnull));
		rom_definition_changed("t_workflow");
	}
	rom_engine_end(&engine);
	return def_id;
}

/* not_found raises RM001 for a name that is neither defined nor a function's. what: workflow or activity. */
static void
not_found(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_UNDEFINED),
			 errmsg("%s \"%s\" does not exist", what, name),
			 errdetail("No %s of that name is defined, and the search_path has no function of that name that takes one jsonb.",
					   what),
			 rom_handler_name_valid(name) ?
			 errhint("Defined names match exactly. Use create function %s(jsonb) returns jsonb, or romancy.define_%s.",
					 name, what) :
			 errhint("Defined names match exactly. Use romancy.define_%s.",
					 what)));
}

/* find_resolved gives the entry of the function that an undefined name means under a path. */
static WorkflowEntry *
find_resolved(const NameKey *key)
{
	Oid			funcid = rom_handler_lookup(key->name, key->path);
	WorkflowEntry *entry;

	if (!OidIsValid(funcid))
		not_found("workflow", key->name);
	if (key->version > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("workflow \"%s\" has no version %d", key->name,
						key->version),
				 errdetail("It is not defined: the function of that name is version 1.")));
	rom_handler_check(funcid, false, "workflow", key->name);
	rom_handler_check_execute(funcid, key->role);
	entry = workflow_entry(record_resolved(key, rom_handler_signature(funcid)));
	if (!load_workflow(entry))
		elog(ERROR, "could not read what \"%s\" was resolved to", key->name);
	return entry;
}

/* cached_name returns the entry of a key when it is fresh. */
static NameEntry *
cached_name(const NameKey *key, uint64 hash)
{
	NameEntry  *name = hash_search(workflow_names, &hash, HASH_FIND, NULL);

	if (name == NULL || name->generation != definitions_changed ||
		!same_key(&name->key, key))
		return NULL;
	/* a function created since then may come first in the path */
	if (key->path != NULL && name->names != names_changed)
		return NULL;
	return name;
}

static void
cache_name(const NameKey *key, uint64 hash, WorkflowEntry *entry,
		   uint64 generation, uint64 names)
{
	bool		found;
	NameEntry  *name = hash_search(workflow_names, &hash, HASH_ENTER, &found);

	if (!found || !same_key(&name->key, key))
	{
		name->generation = 0;
		copy_key(&name->key, key);
	}
	name->generation = generation;
	name->names = names;
	name->entry = entry;
}

/* resolve finds what name means: defined first, and with the path that path() gives else. */
static WorkflowEntry *
resolve(const char *name, int32 version, const char *path)
{
	NameKey		defined = {name, version, NULL, InvalidOid};
	NameKey		resolved = {name, version, path, GetUserId()};
	uint64		defined_hash = hash_key(&defined);
	uint64		resolved_hash;
	uint64		generation = definitions_changed;
	uint64		names = names_changed;
	NameEntry  *cached;
	WorkflowEntry *entry;

	cached = cached_name(&defined, defined_hash);
	if (cached != NULL)
		return cached->entry;
	resolved_hash = hash_key(&resolved);
	cached = cached_name(&resolved, resolved_hash);
	if (cached != NULL)
		return cached->entry;

	entry = find_defined(&defined);
	if (entry != NULL)
		cache_name(&defined, defined_hash, entry, generation, names);
	else
	{
		entry = find_resolved(&resolved);
		cache_name(&resolved, resolved_hash, entry, generation, names);
	}
	return entry;
}

RomWorkflow *
rom_workflow_resolve_in(const char *name, int32 version, const char *path)
{
	WorkflowEntry *entry;
	RomWorkflow *workflow;

	prepare();
	entry = resolve(name, version, path);
	workflow = &entry->workflow;
	if (workflow->handler != NULL)
	{
		workflow_function(entry);
		rom_handler_check_execute(workflow->handler_oid, GetUserId());
	}
	return workflow;
}

RomWorkflow *
rom_workflow_resolve(const char *name, int32 version)
{
	return rom_workflow_resolve_in(name, version, current_path());
}

/* load_activity reads a row of t_activity; false when there is none. Enters the engine by itself. */
static bool
load_activity(RomActivity *activity, const char *name)
{
	Datum		values[1] = {CStringGetTextDatum(name)};
	RomEngine	engine;
	bool		isnull;
	bool		found;

	rom_engine_begin(&engine);
	found = rom_execute(&select_activity, values, NULL, 1) == 1;
	if (found)
	{
		MemoryContext cxt = CurrentMemoryContext;
		Datum		retry;

		activity->defined = true;
		set_text(&activity->handler, rom_value_text(0, 1, cxt));
		set_text(&activity->queue, rom_value_text(0, 2, cxt));
		retry = rom_value_copy(0, 3, &isnull, cxt);
		set_jsonb(&activity->retry_json,
				  isnull ? NULL : (Jsonb *) DatumGetPointer(retry));
		set_text(&activity->compensation, rom_value_text(0, 4, cxt));
		set_interval(&activity->start_to_close_timeout, 0, 5);
		set_interval(&activity->schedule_to_start_timeout, 0, 6);
		set_interval(&activity->heartbeat_timeout, 0, 7);
		activity->transactional = DatumGetBool(rom_value(0, 8, &isnull));
		set_text(&activity->search_path, rom_value_text(0, 9, cxt));
	}
	rom_engine_end(&engine);
	return found;
}

/* resolve_activity_function makes an undefined activity of the function that its name means under the path. */
static void
resolve_activity_function(RomActivity *activity, const NameKey *key)
{
	Oid			funcid = rom_handler_lookup(key->name, key->path);

	if (!OidIsValid(funcid))
		not_found("activity", key->name);
	rom_handler_check(funcid, false, "activity", key->name);
	activity->defined = false;
	set_text(&activity->handler, rom_handler_signature(funcid));
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
activity_entry(const NameKey *key, bool create)
{
	uint64		hash = hash_key(key);
	bool		found;
	ActivityEntry *entry;

	entry = hash_search(activities, &hash, create ? HASH_ENTER : HASH_FIND,
						&found);
	if (entry == NULL || (found && same_key(&entry->key, key)))
		return entry;
	if (!create)
		return NULL;
	memset(&entry->key, 0,
		   sizeof(ActivityEntry) - offsetof(ActivityEntry, key));
	copy_key(&entry->key, key);
	entry->activity.name = unconstify(char *, entry->key.name);
	return entry;
}

static bool
activity_fresh(const ActivityEntry *entry)
{
	return entry != NULL && entry->generation == definitions_changed &&
		(entry->key.path == NULL || entry->names == names_changed);
}

/* store_activity takes over what was read into loaded. */
static void
store_activity(ActivityEntry *entry, RomActivity *loaded)
{
	RomActivity *activity = &entry->activity;

	if (activity->handler != loaded->handler ||
		activity->transactional != loaded->transactional)
		entry->handler.checked = entry->handler.called = 0;
	loaded->name = activity->name;
	loaded->handler_oid = activity->handler_oid;
	loaded->flinfo = activity->flinfo;
	loaded->is_procedure = activity->is_procedure;
	loaded->retry = activity->retry;
	*activity = *loaded;
}

RomActivity *
rom_activity_resolve(const char *name, const char *search_path)
{
	NameKey		defined = {name, 0, NULL, InvalidOid};
	NameKey		resolved = {name, 0, search_path, GetUserId()};
	uint64		generation;
	uint64		names;
	ActivityEntry *entry;

	prepare();
	generation = definitions_changed;
	names = names_changed;
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
		if (load_activity(&loaded, name))
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

FmgrInfo *
rom_activity_handler(RomActivity *activity, Oid owner)
{
	ActivityEntry *entry;

	entry = (ActivityEntry *) ((char *) activity -
							   offsetof(ActivityEntry, activity));
	if (activity->handler == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("activity \"%s\" runs in external workers, on queue \"%s\"",
						activity->name, activity->queue)));
	find_handler(&entry->handler, activity->handler,
				 !activity->transactional, "activity", activity->name,
				 &activity->handler_oid);
	rom_handler_check_execute(activity->handler_oid, owner);
	if (make_call_info(&entry->handler, activity->handler_oid,
					   &activity->flinfo))
		activity->is_procedure =
			get_func_prokind(activity->handler_oid) == PROKIND_PROCEDURE;
	return activity->flinfo;
}
