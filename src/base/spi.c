/*-------------------------------------------------------------------------
 *
 * spi.c
 *		Engine SQL: identity, kept plans, typed values.
 *
 * Engine statements run as the extension's owner, because users have no rights
 * on the base tables, and under a search_path of pg_catalog alone, because a
 * database owner can put another operator "=" in front of it. Up to PostgreSQL
 * 16 the path is overridden by PushOverrideSearchPath, which is cheaper than a
 * GUC nest level; 17 dropped that and has a cache instead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/spi.h"

bool		rom_spi_override_read_only = false;

/* cache of what is looked up by name; dropped on any change of pg_extension or of a relation of ours */
static bool callbacks_registered = false;
static bool cache_valid = false;
static Oid	extension_oid = InvalidOid;
static Oid	extension_owner = InvalidOid;
static Oid	schema_oid = InvalidOid;

typedef struct OidCacheEntry
{
	char		name[NAMEDATALEN];
	Oid			oid;
} OidCacheEntry;

static HTAB *relation_cache = NULL;
static HTAB *type_cache = NULL;

/*
 * The entries of relation_cache that were asked for last, by the address of the name: nearly all are literals, and a turn asks for dozens.
 * (A name is compared nevertheless, for a buffer may hold another one by now.)
 */
#define RECENT 64
static struct
{
	const char *name;
	OidCacheEntry *entry;
}			recent[RECENT];

/* invalidate forgets all oids; called by the server when a schema or a type changes, as DROP EXTENSION does. */
static void
invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	cache_valid = false;
}

/*
 * invalidate_relation forgets the oid of a relation that has changed (InvalidOid: of all): REINDEX
 * CONCURRENTLY gives an index's name to another one.
 */
static void
invalidate_relation(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	OidCacheEntry *entry;

	if (!cache_valid)
		return;
	hash_seq_init(&status, relation_cache);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (relid == InvalidOid || entry->oid == relid)
			entry->oid = InvalidOid;
}

/* make_cache creates an empty name -> oid table. */
static HTAB *
make_cache(const char *label)
{
	HASHCTL		ctl;

	ctl.keysize = NAMEDATALEN;
	ctl.entrysize = sizeof(OidCacheEntry);
	ctl.hcxt = TopMemoryContext;
	return hash_create(label, 32, &ctl,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* lookup_extension reads the pg_extension row by scan: there is no syscache for it. */
static void
lookup_extension(void)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key[1];
	HeapTuple	tuple;

	if (!callbacks_registered)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, invalidate, (Datum) 0);
		CacheRegisterRelcacheCallback(invalidate_relation, (Datum) 0);
		callbacks_registered = true;
	}
	if (relation_cache)
		hash_destroy(relation_cache);
	if (type_cache)
		hash_destroy(type_cache);
	memset(recent, 0, sizeof(recent));
	relation_cache = make_cache("romancy relations");
	type_cache = make_cache("romancy types");

	extension_oid = extension_owner = schema_oid = InvalidOid;
	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("romancy"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		extension_oid = form->oid;
		extension_owner = form->extowner;
		schema_oid = form->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	/* while the install script runs there is no row to rely on yet */
	cache_valid = OidIsValid(extension_oid) && !creating_extension;
}

Oid
rom_extension_oid(void)
{
	if (!cache_valid)
		lookup_extension();
	return extension_oid;
}

Oid
rom_extension_owner(void)
{
	if (!cache_valid)
		lookup_extension();
	return extension_owner;
}

/*
 * rom_extension_lock keeps DROP EXTENSION from running until the transaction ends; false when the
 * extension was dropped. The lock may have waited for that DROP, so the catalog is read again.
 */
bool
rom_extension_lock(void)
{
	Oid			oid = rom_extension_oid();

	if (!OidIsValid(oid))
		return false;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	AcceptInvalidationMessages();
	return rom_extension_oid() == oid;
}

/* missing raises the error for an object that the installed version does not have. */
static void
missing(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s romancy.%s does not exist in this database", what, name),
			 errhint("Run CREATE EXTENSION romancy, or ALTER EXTENSION romancy UPDATE. An object that was renamed has to have its name back.")));
}

Oid
rom_relation_oid(const char *name)
{
	uint32		place = ((uintptr_t) name ^ (uintptr_t) name >> 6) % RECENT;
	OidCacheEntry *entry = recent[place].entry;
	bool		found;

	if (!cache_valid)
		lookup_extension();
	else if (recent[place].name == name && OidIsValid(entry->oid) && strcmp(entry->name, name) == 0)
		return entry->oid;
	entry = hash_search(relation_cache, name, HASH_FIND, &found);
	if (!found || !OidIsValid(entry->oid))
	{
		Oid			oid = OidIsValid(schema_oid) ?
			get_relname_relid(name, schema_oid) : InvalidOid;

		if (!OidIsValid(oid))
			missing("relation", name);
		entry = hash_search(relation_cache, name, HASH_ENTER, &found);
		entry->oid = oid;
	}
	recent[place].name = name;
	recent[place].entry = entry;
	return entry->oid;
}

Oid
rom_type_oid(const char *name)
{
	OidCacheEntry *entry;
	bool		found;

	if (!cache_valid)
		lookup_extension();
	entry = hash_search(type_cache, name, HASH_FIND, &found);
	if (!found)
	{
		Oid			oid = InvalidOid;

		if (OidIsValid(schema_oid))
			oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
								  PointerGetDatum(name),
								  ObjectIdGetDatum(schema_oid));
		if (!OidIsValid(oid))
			missing("type", name);
		entry = hash_search(type_cache, name, HASH_ENTER, &found);
		entry->oid = oid;
	}
	return entry->oid;
}

void
rom_engine_identity(RomEngine *engine)
{
	Oid			owner = rom_extension_owner();

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"romancy\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION romancy.")));

	GetUserIdAndSecContext(&engine->userid, &engine->sec_context);
	SetUserIdAndSecContext(owner, engine->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
#if PG_VERSION_NUM >= 170000
	engine->guc_level = NewGUCNestLevel();
	RestrictSearchPath();
#else
	{
		OverrideSearchPath path = {0};

		path.addCatalog = true;
		engine->guc_level = 0;
		PushOverrideSearchPath(&path);
	}
#endif
}

void
rom_engine_identity_back(RomEngine *engine)
{
#if PG_VERSION_NUM >= 170000
	AtEOXact_GUC(false, engine->guc_level);
#else
	PopOverrideSearchPath();
#endif
	SetUserIdAndSecContext(engine->userid, engine->sec_context);
}

void
rom_engine_begin(RomEngine *engine)
{
	engine->read_only = XactReadOnly;
	rom_engine_identity(engine);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	/*
	 * a handler is evaluated read-only, but the engine works for it; a
	 * caller's own READ ONLY transaction stays read-only
	 */
	if (rom_spi_override_read_only)
		XactReadOnly = false;
}

void
rom_engine_end(RomEngine *engine)
{
	XactReadOnly = engine->read_only;
	rom_engine_identity_back(engine);
	SPI_finish();
}

uint64
rom_execute(RomStatement *stmt, Datum *values, const bool *nulls, long limit)
{
	return rom_execute_rows_at(NULL, stmt, values, nulls, InvalidSnapshot, limit);
}

/*
 * The session's values of what plan_begin() changes, while a statement runs (under_way > 0). A plan may be made while a table is empty and
 * be kept while it fills: every statement has its index, and is to use it. (The cost that this puts on the few small tables without one
 * must not call for the JIT.)
 */
typedef struct PlanSettings
{
	bool		seqscan;
	bool		jit;
} PlanSettings;

static PlanSettings sessions;
static int	under_way = 0;

/* plan_begin changes them, and returns what they were. */
static PlanSettings
plan_begin(void)
{
	PlanSettings before = {.seqscan = enable_seqscan,.jit = jit_enabled};

	if (under_way++ == 0)
		sessions = before;
	enable_seqscan = false;
	jit_enabled = false;
	return before;
}

/* plan_end puts them back. */
static void
plan_end(PlanSettings before)
{
	under_way--;
	enable_seqscan = before.seqscan;
	jit_enabled = before.jit;
}

void
rom_spi_torn_out(void)
{
	if (under_way == 0)
		return;
	under_way = 0;
	enable_seqscan = sessions.seqscan;
	jit_enabled = sessions.jit;
}

bool
rom_spi_under_way(void)
{
	return under_way > 0;
}

uint64
rom_execute_rows(RomRowSet *set, RomStatement *stmt, Datum *values, const bool *nulls, long limit)
{
	return rom_execute_rows_at(set, stmt, values, nulls, InvalidSnapshot, limit);
}

/* prepare returns a plan of the statement, which ends with the connection. */
static SPIPlanPtr
prepare(const RomStatement *stmt, int cursor_options)
{
	SPIPlanPtr volatile plan = NULL;
	PlanSettings before = plan_begin();

	PG_TRY();
	{
		plan = SPI_prepare_cursor(stmt->sql, stmt->nargs, (Oid *) stmt->argtypes, cursor_options);
	}
	PG_FINALLY();
	{
		plan_end(before);
	}
	PG_END_TRY();
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", stmt->sql,
			 SPI_result_code_string(SPI_result));
	return plan;
}

uint64
rom_execute_rows_at(RomRowSet *set, RomStatement *stmt, Datum *values, const bool *nulls,
					Snapshot snapshot, long limit)
{
	char		spi_nulls[20];
	PlanSettings before;
	MemoryContext cxt = CurrentMemoryContext;
	volatile int rc = 0;

	Assert(stmt->nargs <= lengthof(spi_nulls));
	if (stmt->plan == NULL)
	{
		SPIPlanPtr	plan = prepare(stmt, stmt->generic ? CURSOR_OPT_GENERIC_PLAN : 0);

		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep the plan of \"%s\"", stmt->sql);
		stmt->plan = plan;
	}
	for (int i = 0; i < stmt->nargs; i++)
		spi_nulls[i] = (nulls && nulls[i]) ? 'n' : ' ';
	before = plan_begin();
	PG_TRY();
	{
		rc = SPI_execute_snapshot(stmt->plan, values, spi_nulls, snapshot,
								  InvalidSnapshot, false, true, limit);
	}
	PG_FINALLY();
	{
		plan_end(before);
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", stmt->sql,
			 SPI_result_code_string(rc));
	/* SPI leaves its own context behind, which ends with the connection */
	MemoryContextSwitchTo(cxt);
	if (set != NULL)
	{
		set->count = SPI_processed;
		set->table = SPI_tuptable;
	}
	return SPI_processed;
}

uint64
rom_execute_rows_once(RomRowSet *set, RomStatement *stmt, Datum *values, const bool *nulls)
{
	RomStatement once = *stmt;
	uint64		rows;

	/* not kept, so SPI frees it with the connection if the statement fails */
	once.plan = prepare(stmt, CURSOR_OPT_CUSTOM_PLAN);
	rows = rom_execute_rows_at(set, &once, values, nulls, InvalidSnapshot, 0);
	SPI_freeplan(once.plan);
	return rows;
}

uint64
rom_execute_fetch(RomRowSet *set, Portal portal, long limit)
{
	SPI_cursor_fetch(portal, true, limit);
	set->count = SPI_processed;
	set->table = SPI_tuptable;
	return set->count;
}

void
rom_execute_free(RomRowSet *set)
{
	SPI_freetuptable(set->table);
	set->table = NULL;
	set->count = 0;
}

Datum
rom_value(const RomRowSet *set, uint64 row, int col, bool *isnull)
{
	Assert(set->table != NULL && row < set->table->numvals);
	return SPI_getbinval(set->table->vals[row], set->table->tupdesc, col, isnull);
}

char *
rom_value_text(const RomRowSet *set, uint64 row, int col, MemoryContext cxt)
{
	bool		isnull;
	Datum		value = rom_value(set, row, col, &isnull);
	MemoryContext old;
	char	   *result;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	result = TextDatumGetCString(value);
	MemoryContextSwitchTo(old);
	return result;
}

Datum
rom_value_copy(const RomRowSet *set, uint64 row, int col, bool *isnull, MemoryContext cxt)
{
	Datum		value = rom_value(set, row, col, isnull);
	Form_pg_attribute att = TupleDescAttr(set->table->tupdesc, col - 1);
	MemoryContext old;

	if (*isnull)
		return (Datum) 0;
	old = MemoryContextSwitchTo(cxt);
	if (att->attlen == -1)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else
		value = datumCopy(value, att->attbyval, att->attlen);
	MemoryContextSwitchTo(old);
	return value;
}
