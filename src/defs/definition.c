/*-------------------------------------------------------------------------
 *
 * definition.c
 *		Workflow versions, cached in each backend, and the code that the caches of
 *		workflows and of activities share.
 *
 * A start must not cost a look-up of its definition, so rows of t_workflow are
 * kept here, and the objects to which names resolve as well.
 *
 * Two counters say when an entry is stale: one grows with every relcache
 * invalidation of t_workflow or t_activity (rom_definition_changed() sends
 * one), the other with every change of a function or a schema. An entry that
 * was read under an older count is read again; "there is none" is never kept.
 *
 * A row of an undefined name goes when no instance needs it (run/unused.c). So
 * invalidation messages are processed before a name is resolved: a call that
 * begins after a row was marked does not use it.
 *
 * Entries are never freed, because a turn up the stack may hold one: a
 * redefinition changes the fields of the entry and lets go of the old strings.
 * That leaks a little with every redefinition, which is rare. FmgrInfo is made
 * anew after any change of a function (a language keeps state in it that a
 * replaced function makes wrong), but only by rom_definition_handler() and
 * rom_activity_definition_handler(), which are called before an evaluation: a start
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

#include "base/arg.h"
#include "base/errors.h"
#include "base/rows.h"
#include "base/spi.h"
#include "defs/definition.h"
#include "defs/handler.h"
#include "defs/namespace.h"
#include "defs/suggest.h"

static MemoryContext cache_cxt = NULL;
static Oid	workflow_relid = InvalidOid;
static Oid	activity_relid = InvalidOid;
static uint64 definitions_changed = 1;
static uint64 names_changed = 1;

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

HTAB *
rom_definition_table(const char *label, Size keysize, Size entrysize)
{
	HASHCTL		ctl;

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = cache_cxt;
	return hash_create(label, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

MemoryContext
rom_definition_prepare(void)
{
	if (cache_cxt == NULL)
	{
		cache_cxt = AllocSetContextCreate(TopMemoryContext,
										  "romancy definitions",
										  ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, name_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
	}
	workflow_relid = rom_relation_oid("t_workflow");
	activity_relid = rom_relation_oid("t_activity");
	return cache_cxt;
}

uint64
rom_definition_count(void)
{
	return definitions_changed;
}

uint64
rom_definition_names(void)
{
	return names_changed;
}

void
rom_definition_changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(rom_relation_oid(table));
}

void
rom_definition_set_text(char **field, const char *value)
{
	if (value == NULL)
		*field = NULL;
	else if (*field == NULL || strcmp(*field, value) != 0)
		*field = MemoryContextStrdup(cache_cxt, value);
}

void
rom_definition_set_interval(RomRows *rows, Interval **field, int column)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, column, &isnull);
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

void
rom_definition_set_jsonb(Jsonb **field, Jsonb *value)
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

bool
rom_definition_same_key(const RomNameKey *a, const RomNameKey *b)
{
	return a->namespace == b->namespace && a->version == b->version && a->role == b->role &&
		(a->path == NULL) == (b->path == NULL) &&
		strcmp(a->name, b->name) == 0 &&
		(a->path == NULL || strcmp(a->path, b->path) == 0);
}

uint64
rom_definition_hash_key(const RomNameKey *key)
{
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) key->name,
							   strlen(key->name), ((uint64) (uint32) key->namespace << 32) | (uint32) key->version);
	if (key->path != NULL)
		hash = hash_bytes_extended((const unsigned char *) key->path,
								   strlen(key->path), hash ^ key->role);
	return hash;
}

void
rom_definition_copy_key(RomNameKey *to, const RomNameKey *from)
{
	to->name = MemoryContextStrdup(cache_cxt, from->name);
	to->path = from->path ? MemoryContextStrdup(cache_cxt, from->path) : NULL;
	to->namespace = from->namespace;
	to->version = from->version;
	to->role = from->role;
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

void
rom_definition_find_handler(RomHandlerCache *cache, const char *signature, bool procedure,
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

bool
rom_definition_call_info(RomHandlerCache *cache, Oid funcid, FmgrInfo **flinfo)
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

void
rom_definition_not_found(int32 namespace, const char *what, const char *name, const char *path)
{
	char	   *similar = rom_suggest_name(namespace, what, name, path);
	char	   *begin = similar ? psprintf("Did you mean \"%s\"? ", similar) : "";

	ereport(ERROR,
			(errcode(ERRCODE_ROM_UNDEFINED),
			 errmsg("%s \"%s\" does not exist", what, name),
			 errdetail("No %s of that name is defined, and the search_path has no function of that name that takes one jsonb.",
					   what),
			 rom_handler_name_valid(name) ?
			 errhint("%sDefined names match exactly. Use create function %s(jsonb) returns jsonb, or romancy.define_%s.",
					 begin, name, what) :
			 errhint("%sDefined names match exactly. Use romancy.define_%s.",
					 begin, what)));
}

/* ---------------------------------------------------------------- workflows */

typedef struct WorkflowEntry
{
	int32		def_id;			/* hash key */
	uint64		generation;		/* of rom_definition_count(); 0: not there */
	RomHandlerCache handler;
	RomWorkflow workflow;
} WorkflowEntry;

typedef struct NameEntry
{
	uint64		hash;			/* hash key */
	RomNameKey	key;			/* own copies */
	uint64		generation;		/* of rom_definition_count() */
	uint64		names;			/* of rom_definition_names() */
	WorkflowEntry *entry;
} NameEntry;

static HTAB *workflows = NULL;
static HTAB *workflow_names = NULL;

/* The columns that load_workflow() reads. */
static RomTable workflow_table = {
	"t_workflow", 8, {"name", "version", "defined", "handler", "queue", "search_path", "execution_timeout", "namespace"}, true
};

static RomStatement select_defined = {
	"SELECT def_id FROM romancy.t_workflow"
	" WHERE defined AND namespace = $3 AND name = $1 AND ($2 = 0 AND is_current OR version = $2)",
	3, {TEXTOID, INT4OID, INT4OID}
};

/* name_exists: for the error's sake */
static RomStatement select_any_version = {
	"SELECT 1 FROM romancy.t_workflow WHERE defined AND name = $1 AND namespace = $3",
	3, {TEXTOID, INT4OID, INT4OID}
};

static RomStatement select_resolved = {
	"SELECT def_id FROM romancy.t_workflow"
	" WHERE NOT defined AND namespace = $4 AND name = $1 AND handler = $2 AND search_path = $3"
	" AND leaving = 0 ORDER BY def_id LIMIT 1",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement count_resolved = {
	"SELECT 1 FROM romancy.t_workflow WHERE NOT defined AND namespace = $4",
	4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
};

static RomStatement insert_resolved = {
	"INSERT INTO romancy.t_workflow"
	" (name, version, defined, is_current, handler, owner, search_path, namespace)"
	" VALUES ($1, 1, false, true, $2, $5, $3, $4) RETURNING def_id",
	5, {TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID}
};

/* prepare makes the tables on first use. */
static void
prepare(void)
{
	(void) rom_definition_prepare();
	if (workflows == NULL)
		workflows = rom_definition_table("romancy workflows", sizeof(int32),
										 sizeof(WorkflowEntry));
	if (workflow_names == NULL)
		workflow_names = rom_definition_table("romancy workflow names",
											  sizeof(uint64), sizeof(NameEntry));
}

/* current_path is the session's search_path as recorded, kept until the setting or the role changes. */
static const char *
current_path(void)
{
	static char *setting = NULL;
	static char *recorded = NULL;
	static Oid	role = InvalidOid;
	static uint64 names = 0;

	if (setting == NULL || role != GetUserId() || names != rom_definition_names() ||
		strcmp(setting, namespace_search_path) != 0)
	{
		char	   *path = rom_handler_record_path(namespace_search_path, GetUserId());

		if (recorded == NULL || strcmp(recorded, path) != 0)
			recorded = MemoryContextStrdup(TopMemoryContext, path);
		if (setting != NULL)
			pfree(setting);
		setting = MemoryContextStrdup(TopMemoryContext,
									  namespace_search_path);
		role = GetUserId();
		names = rom_definition_names();
		pfree(path);
	}
	return recorded;
}

const char *
rom_definition_path(void)
{
	return current_path();
}

/*
 * load_workflow reads a row of t_workflow into its entry, unless that is fresh; false when there is no such row. It is what a SELECT would see,
 * without a plan: each executor does so before its first step.
 */
static bool
load_workflow(WorkflowEntry *entry)
{
	RomWorkflow *workflow = &entry->workflow;
	uint64		generation = rom_definition_count();
	bool		isnull;
	RomRows		rows;

	if (entry->generation == generation)
		return true;
	entry->generation = 0;
	rom_rows_open_select(&rows, &workflow_table, "t_workflow_pkey", false);
	if (rom_rows_find_int(&rows, entry->def_id))
	{
		workflow->def_id = entry->def_id;
		rom_definition_set_text(&workflow->name, rom_rows_text(&rows, 0));
		workflow->version = DatumGetInt32(rom_rows_column(&rows, 1, &isnull));
		workflow->defined = DatumGetBool(rom_rows_column(&rows, 2, &isnull));
		rom_definition_set_text(&workflow->handler, rom_rows_text(&rows, 3));
		rom_definition_set_text(&workflow->queue, rom_rows_text(&rows, 4));
		rom_definition_set_text(&workflow->search_path, rom_rows_text(&rows, 5));
		rom_definition_set_interval(&rows, &workflow->execution_timeout, 6);
		workflow->namespace = DatumGetInt32(rom_rows_column(&rows, 7, &isnull));
		entry->generation = generation;
	}
	rom_rows_close(&rows);
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
rom_definition_by_id(int32 def_id)
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

/* The handler of a workflow whose code runs outside (outside/outside.c). */
#define OUTSIDE_HANDLER "romancy.t_outside(jsonb)"

/* workflow_function finds a workflow's function for a start; errors as rom_definition_handler(). */
static void
workflow_function(WorkflowEntry *entry)
{
	RomWorkflow *workflow = &entry->workflow;

	rom_definition_find_handler(&entry->handler, workflow->handler, false, "workflow",
								workflow->name, &workflow->handler_oid);
}

FmgrInfo *
rom_definition_handler(RomWorkflow *workflow, Oid owner)
{
	WorkflowEntry *entry;

	entry = (WorkflowEntry *) ((char *) workflow -
							   offsetof(WorkflowEntry, workflow));
	if (workflow->handler == NULL)
		rom_definition_find_handler(&entry->handler, OUTSIDE_HANDLER, false, "workflow",
									workflow->name, &workflow->handler_oid);
	else
		workflow_function(entry);
	rom_handler_check_execute(workflow->handler_oid, owner);
	rom_namespace_check_owner(workflow->namespace, owner);
	if (rom_definition_call_info(&entry->handler, workflow->handler_oid,
								 &workflow->flinfo))
		workflow->body_hash = rom_handler_body_hash(workflow->handler_oid);
	return workflow->flinfo;
}

/* find_defined gives the entry of a defined workflow (version 0: its current one), or NULL. */
static WorkflowEntry *
find_defined(const RomNameKey *key)
{
	RomEngine	engine;
	Datum		values[3];
	WorkflowEntry *entry = NULL;
	bool		isnull;
	int32		def_id = 0;
	RomRowSet	set;

	values[0] = CStringGetTextDatum(key->name);
	values[1] = Int32GetDatum(key->version);
	values[2] = Int32GetDatum(key->namespace);
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_defined, values, NULL, 1) == 1)
		def_id = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
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

/* too_many_resolved refuses the first start of an undefined name in a namespace that has as many of them as may be kept. */
static void
too_many_resolved(const RomNameKey *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_LIMIT),
			 errmsg("namespace \"%s\" has too many workflows that are not defined",
					rom_namespace_name(key->namespace)),
			 errdetail("Each name counts once for each function and search_path that it was started with; the limit is %d.",
					   ROM_UNDEFINED_MAX),
			 errhint("Define workflow \"%s\" with romancy.define_workflow(). Those that no instance needs go within days, or when a superuser calls romancy.run_sweep('retention').",
					 key->name)));
}

/*
 * record_resolved stores what an undefined name resolved to, and returns its
 * def_id. Transactions that overlap and do the same get a row each: that does no
 * harm, whereas one row for all would make them wait for each other.
 */
static int32
record_resolved(const RomNameKey *key, const char *signature)
{
	RomEngine	engine;
	Datum		values[5];
	bool		isnull;
	int32		def_id;
	RomRowSet	set;

	if (strlen(key->path) > ROM_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("search_path has %zu bytes, the limit is %d", strlen(key->path), ROM_KEY_MAX),
				 errhint("Define workflow \"%s\" with romancy.define_workflow(), or set a shorter search_path.", key->name)));
	values[0] = CStringGetTextDatum(key->name);
	values[1] = CStringGetTextDatum(signature);
	values[2] = CStringGetTextDatum(key->path);
	values[3] = Int32GetDatum(key->namespace);
	values[4] = CStringGetTextDatum(GetUserNameFromId(key->role, false));
	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select_resolved, values, NULL, 0) == 1)
		def_id = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	else
	{
		if (rom_execute(&count_resolved, values, NULL, ROM_UNDEFINED_MAX) == ROM_UNDEFINED_MAX)
			too_many_resolved(key);
		rom_execute_rows(&set, &insert_resolved, values, NULL, 0);
		def_id = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
		rom_definition_changed("t_workflow");
	}
	rom_engine_end(&engine);
	return def_id;
}

int32
rom_definition_version_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		return 0;
	if (PG_GETARG_INT32(n) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("workflow \"%s\" has no version %d", name,
						PG_GETARG_INT32(n)),
				 errdetail("Versions count from 1.")));
	return PG_GETARG_INT32(n);
}

/* find_resolved gives the entry of the function that an undefined name means under a path. */
static WorkflowEntry *
find_resolved(const RomNameKey *key)
{
	Oid			funcid = rom_handler_lookup(key->name, key->path);
	WorkflowEntry *entry;

	if (!OidIsValid(funcid))
		rom_definition_not_found(key->namespace, "workflow", key->name, key->path);
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
cached_name(const RomNameKey *key, uint64 hash)
{
	NameEntry  *name = hash_search(workflow_names, &hash, HASH_FIND, NULL);

	if (name == NULL || name->generation != rom_definition_count() ||
		!rom_definition_same_key(&name->key, key))
		return NULL;
	/* a function created since then may come first in the path */
	if (key->path != NULL && name->names != rom_definition_names())
		return NULL;
	return name;
}

static void
cache_name(const RomNameKey *key, uint64 hash, WorkflowEntry *entry,
		   uint64 generation, uint64 names)
{
	bool		found;
	NameEntry  *name = hash_search(workflow_names, &hash, HASH_ENTER, &found);

	if (!found || !rom_definition_same_key(&name->key, key))
	{
		name->generation = 0;
		rom_definition_copy_key(&name->key, key);
	}
	name->generation = generation;
	name->names = names;
	name->entry = entry;
}

/* resolve finds what name means in a namespace: defined first, and with the path that path() gives else. */
static WorkflowEntry *
resolve(int32 namespace, const char *name, int32 version, const char *path)
{
	RomNameKey	defined = {namespace, name, version, NULL, InvalidOid};
	RomNameKey	resolved = {namespace, name, version, path, GetUserId()};
	uint64		defined_hash = rom_definition_hash_key(&defined);
	uint64		resolved_hash;
	uint64		generation;
	uint64		names;
	NameEntry  *cached;
	WorkflowEntry *entry;

	AcceptInvalidationMessages();
	generation = rom_definition_count();
	names = rom_definition_names();
	cached = cached_name(&defined, defined_hash);
	if (cached != NULL)
		return cached->entry;
	resolved_hash = rom_definition_hash_key(&resolved);
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
rom_definition_resolve_in(int32 namespace, const char *name, int32 version, const char *path)
{
	WorkflowEntry *entry;
	RomWorkflow *workflow;

	prepare();
	entry = resolve(namespace, name, version, path);
	workflow = &entry->workflow;
	if (workflow->handler != NULL)
	{
		workflow_function(entry);
		rom_handler_check_execute(workflow->handler_oid, GetUserId());
	}
	return workflow;
}

RomWorkflow *
rom_definition_resolve(const char *name, int32 version)
{
	return rom_definition_resolve_in(rom_namespace_current(), name, version, current_path());
}
