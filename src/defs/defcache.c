/*-------------------------------------------------------------------------
 *
 * defcache.c
 *		What the caches of workflows and of activities have in common.
 *
 * Two counters say when an entry is stale: one grows with every relcache
 * invalidation of t_workflow or t_activity (rom_definition_changed() sends
 * one), the other with every change of a function or a schema. Whatever was
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

#include "common/hashfn.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/spi.h"
#include "defs/defcache.h"
#include "defs/definition.h"
#include "defs/handler.h"
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
rom_defcache_table(const char *label, Size keysize, Size entrysize)
{
	HASHCTL		ctl;

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = cache_cxt;
	return hash_create(label, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

MemoryContext
rom_defcache_prepare(void)
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
rom_defcache_definitions(void)
{
	return definitions_changed;
}

uint64
rom_defcache_names(void)
{
	return names_changed;
}

void
rom_definition_changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(rom_relation_oid(table));
}

void
rom_defcache_set_text(char **field, const char *value)
{
	if (value == NULL)
		*field = NULL;
	else if (*field == NULL || strcmp(*field, value) != 0)
		*field = MemoryContextStrdup(cache_cxt, value);
}

void
rom_defcache_set_interval(Interval **field, uint64 row, int col)
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

void
rom_defcache_set_jsonb(Jsonb **field, Jsonb *value)
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
rom_defcache_same_key(const RomNameKey *a, const RomNameKey *b)
{
	return a->version == b->version && a->role == b->role &&
		(a->path == NULL) == (b->path == NULL) &&
		strcmp(a->name, b->name) == 0 &&
		(a->path == NULL || strcmp(a->path, b->path) == 0);
}

uint64
rom_defcache_hash_key(const RomNameKey *key)
{
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) key->name,
							   strlen(key->name), key->version);
	if (key->path != NULL)
		hash = hash_bytes_extended((const unsigned char *) key->path,
								   strlen(key->path), hash ^ key->role);
	return hash;
}

void
rom_defcache_copy_key(RomNameKey *to, const RomNameKey *from)
{
	to->name = MemoryContextStrdup(cache_cxt, from->name);
	to->path = from->path ? MemoryContextStrdup(cache_cxt, from->path) : NULL;
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
rom_defcache_find_handler(RomHandlerCache *cache, const char *signature, bool procedure,
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
rom_defcache_call_info(RomHandlerCache *cache, Oid funcid, FmgrInfo **flinfo)
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
rom_defcache_not_found(const char *what, const char *name, const char *path)
{
	char	   *similar = rom_suggest_name(what, name, path);
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
