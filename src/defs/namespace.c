/*-------------------------------------------------------------------------
 *
 * namespace.c
 *		Namespaces: what names belong to, and which one a session is in.
 *
 * A call must not cost a look-up of its namespace: the result is cached until
 * one of the facts that it depends on changes. A counter says so: it grows with
 * each relcache invalidation of t_namespace or t_grant (sent with each change
 * of their rows), with each change of a role or a membership, and with the
 * setting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/rows.h"
#include "base/spi.h"
#include "defs/guc.h"
#include "defs/namespace.h"

PG_FUNCTION_INFO_V1(romancy_namespace_current);

/* A namespace, as cached. */
typedef struct NamespaceEntry
{
	int32		id;				/* hash key */
	uint64		generation;		/* that it was read under; 0: never */
	bool		found;
	bool		is_shared;		/* may a role that is no superuser define? */
	NameData	name;
} NamespaceEntry;

/* The result of the session's grants. */
typedef struct Resolved
{
	uint64		generation;
	Oid			role;
	int32		id;				/* ROM_NAMESPACE_NONE: see the error */
	bool		define;
} Resolved;

/* One namespace that is granted to the current user, or to a role that it is a member of. */
typedef struct Granted
{
	int32		id;
	char	   *name;
	bool		define;
} Granted;

static uint64 changes = 1;
static bool set_by_database = false;	/* does the setting come from ALTER
										 * DATABASE? */
static Oid	namespace_relid = InvalidOid;
static Oid	grant_relid = InvalidOid;
static HTAB *entries = NULL;
static Resolved resolved;
static int32 (*running_namespace) (void) = NULL;
static void (*make_elsewhere) (const char *name) = NULL;

static RomStatement select_grants = {
	"SELECT n.namespace_id, n.name, g.role, g.define FROM romancy.t_grant g"
	" JOIN romancy.t_namespace n USING (namespace_id) ORDER BY n.name, g.role",
	0, {0}
};

static RomStatement select_by_name = {
	"SELECT namespace_id FROM romancy.t_namespace WHERE name = $1",
	1, {TEXTOID}
};

static RomStatement insert_namespace = {
	"INSERT INTO romancy.t_namespace (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
	1, {TEXTOID}
};

static RomStatement upsert_grant = {
	"INSERT INTO romancy.t_grant (role, namespace_id, define) VALUES ($1, $2, $3)"
	" ON CONFLICT (role, namespace_id) DO UPDATE SET define = excluded.define",
	3, {TEXTOID, INT4OID, BOOLOID}
};

static RomStatement delete_grant = {
	"DELETE FROM romancy.t_grant WHERE role = $1"
	" AND ($2 IS NULL OR namespace_id = (SELECT namespace_id FROM romancy.t_namespace WHERE name = $2))",
	2, {TEXTOID, TEXTOID}
};

static RomStatement select_grant = {
	"SELECT 1 FROM romancy.t_grant WHERE role = $1",
	1, {TEXTOID}
};

/* relation_changed is called for each relcache invalidation; InvalidOid stands for all relations. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == namespace_relid || relid == grant_relid)
		changes++;
}

/* role_changed is called when a row of pg_authid or pg_auth_members changes. */
static void
role_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

bool
rom_namespace_setting_check(char **newval, void **extra, GucSource source)
{
	bool	   *by_database = rom_guc_malloc(LOG, sizeof(bool));

	if (by_database == NULL)
		return false;
	*by_database = source == PGC_S_DATABASE;
	*extra = by_database;
	return true;
}

void
rom_namespace_setting_changed(const char *newval, void *extra)
{
	set_by_database = *(const bool *) extra;
	changes++;
}

void
rom_namespace_on_running(int32 (*running) (void))
{
	running_namespace = running;
}

void
rom_namespace_on_make(void (*make) (const char *name))
{
	make_elsewhere = make;
}

/* prepare makes the table on first use, and starts listening for changes. */
static void
prepare(void)
{
	if (entries == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(int32);
		ctl.entrysize = sizeof(NamespaceEntry);
		ctl.hcxt = TopMemoryContext;
		entries = hash_create("romancy namespaces", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	}
	namespace_relid = rom_relation_oid("t_namespace");
	grant_relid = rom_relation_oid("t_grant");
}

/* changed drops what is remembered of the tables: in this process at the end of the command, in others after the commit. */
static void
changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(rom_relation_oid(table));
}

/*
 * by_name gives a namespace's id, ROM_NAMESPACE_NONE where there is none. Engine scope needed. The latest snapshot:
 * another transaction may just have made it.
 */
static int32
by_name(const char *name)
{
	Datum		values[1] = {CStringGetTextDatum(name)};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		isnull;
	int32		id = ROM_NAMESPACE_NONE;
	RomRowSet	set;

	if (rom_execute_rows_at(&set, &select_by_name, values, NULL, snapshot, 1) == 1)
		id = DatumGetInt32(rom_value(&set, 0, 1, &isnull));
	UnregisterSnapshot(snapshot);
	return id;
}

int32
rom_namespace_make(const char *name)
{
	int32		id = by_name(name);
	Datum		values[1];

	if (id != ROM_NAMESPACE_NONE)
		return id;
	values[0] = CStringGetTextDatum(name);
	rom_execute(&insert_namespace, values, NULL, 0);
	changed("t_namespace");
	CommandCounterIncrement();
	id = by_name(name);
	if (id == ROM_NAMESPACE_NONE)
		elog(ERROR, "could not find namespace \"%s\"", name);
	return id;
}

/* has_role says whether what is granted to a role is the user's: a superuser has, without asking by name, only the roles of which it is a member. */
static bool
has_role(Oid user, const char *role, bool by_name)
{
	Oid			oid = get_role_oid(role, true);

	if (!OidIsValid(oid))
		return false;
	if (!by_name && superuser_arg(user))
		return is_member_of_role_nosuper(user, oid);
	return has_privs_of_role(user, oid);
}

/* granted lists the namespaces that are granted to the user. Engine scope needed; the list lives in cxt. */
static List *
granted(Oid user, bool by_name, MemoryContext cxt)
{
	RomRowSet	set;
	uint64		rows = rom_execute_rows(&set, &select_grants, NULL, NULL, 0);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	List	   *list = NIL;
	Granted    *last = NULL;

	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		int32		id = DatumGetInt32(rom_value(&set, i, 1, &isnull));
		bool		define = DatumGetBool(rom_value(&set, i, 4, &isnull));

		if (!has_role(user, rom_value_text(&set, i, 3, cxt), by_name))
			continue;
		if (last == NULL || last->id != id)
		{
			last = palloc0_object(Granted);
			last->id = id;
			last->name = rom_value_text(&set, i, 2, cxt);
			list = lappend(list, last);
		}
		last->define |= define;
	}
	MemoryContextSwitchTo(old);
	return list;
}

bool
rom_namespace_may_use(int32 id, Oid role)
{
	MemoryContext cxt = CurrentMemoryContext;
	bool		may = superuser_arg(role);
	RomEngine	engine;
	ListCell   *cell;
	List	   *list;

	if (may)
		return true;
	rom_engine_begin(&engine);
	list = granted(role, true, cxt);
	rom_engine_end(&engine);
	foreach(cell, list)
		may |= ((const Granted *) lfirst(cell))->id == id;
	return may;
}

static const Granted *
find_granted(const List *list, const char *name)
{
	ListCell   *cell;

	foreach(cell, list)
	{
		const Granted *g = lfirst(cell);

		if (strcmp(g->name, name) == 0)
			return g;
	}
	return NULL;
}

List *
rom_namespace_granted(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			user = GetUserId();
	List	   *ids = NIL;
	RomEngine	engine;
	List	   *list;
	ListCell   *cell;

	rom_engine_begin(&engine);
	list = granted(user, true, cxt);
	rom_engine_end(&engine);
	foreach(cell, list)
		ids = lappend_int(ids, ((const Granted *) lfirst(cell))->id);
	return ids;
}

/* refuse raises the error of a session that is in no namespace. */
static void
refuse(const List *list, const char *setting, const char *user)
{
	StringInfoData names;
	ListCell   *cell;

	if (setting[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("namespace \"%s\" is not granted to role \"%s\"", setting, user),
				 set_by_database ?
				 errdetail("Setting romancy.namespace of the database names it.") :
				 errdetail("Setting romancy.namespace names it."),
				 errhint("View romancy.namespaces shows what is granted; the owner of extension \"romancy\" grants with romancy.grant_usage.")));
	if (list == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("no namespace is granted to role \"%s\"", user),
				 errhint("The owner of extension \"romancy\" grants one with romancy.grant_usage.")));
	initStringInfo(&names);
	foreach(cell, list)
	{
		const Granted *g = lfirst(cell);

		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", g->name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("several namespaces are granted to role \"%s\"", user),
			 errdetail("They are: %s.", names.data),
			 errhint("Say which one with SET romancy.namespace, or ALTER ROLE %s SET romancy.namespace.",
					 quote_identifier(user))));
}

/* resolve finds the session's namespace. missing_ok: ROM_NAMESPACE_NONE instead of an error, and nothing is inserted. */
static int32
resolve(bool missing_ok, bool *define)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			user = GetUserId();
	const char *setting = rom_guc_namespace ? rom_guc_namespace : "";
	uint64		generation;
	RomEngine	engine;
	char	   *name;
	List	   *list;
	const Granted *found;
	int32		id = ROM_NAMESPACE_NONE;
	bool		is_superuser;

	prepare();
	generation = changes;
	if (resolved.generation == generation && resolved.role == user)
	{
		*define = resolved.define;
		return resolved.id;
	}

	name = GetUserNameFromId(user, false);
	is_superuser = superuser_arg(user);
	*define = is_superuser;
	rom_engine_begin(&engine);
	list = granted(user, setting[0] != '\0' && !set_by_database, cxt);
	found = find_granted(list, setting[0] != '\0' ? setting : name);
	if (found == NULL && setting[0] == '\0' && list_length(list) == 1)
		found = linitial(list);
	if (found != NULL)
	{
		id = found->id;
		*define |= found->define;
	}
	else if (is_superuser && (setting[0] != '\0' || list == NIL))
	{
		/*
		 * one without a grant: its own, or any existing one that it names;
		 * not one that the owner of the database names to it
		 */
		if (setting[0] != '\0' && strcmp(setting, name) != 0)
			id = set_by_database ? ROM_NAMESPACE_NONE : by_name(setting);
		else if (missing_ok || RecoveryInProgress())
			id = by_name(name);
		else
		{
			/*
			 * not by this transaction: others' first calls would wait for its
			 * end
			 */
			id = by_name(name);
			if (id == ROM_NAMESPACE_NONE && make_elsewhere != NULL)
				make_elsewhere(name);
			if (id == ROM_NAMESPACE_NONE)
				id = rom_namespace_make(name);
		}
	}
	rom_engine_end(&engine);
	if (id == ROM_NAMESPACE_NONE)
	{
		if (!missing_ok)
			refuse(list, setting, name);
		return id;
	}
	resolved.generation = generation;
	resolved.role = user;
	resolved.id = id;
	resolved.define = *define;
	return id;
}

int32
rom_namespace_current(void)
{
	int32		id = running_namespace ? running_namespace() : ROM_NAMESPACE_NONE;
	bool		define;

	return id != ROM_NAMESPACE_NONE ? id : resolve(false, &define);
}

int32
rom_namespace_require_define(const char *function)
{
	int32		running = running_namespace ? running_namespace() : ROM_NAMESPACE_NONE;
	RomEngine	engine;
	ListCell   *cell;
	List	   *list;
	bool		define;
	int32		id;

	if (running == ROM_NAMESPACE_NONE)
		id = resolve(false, &define);
	else
	{
		/* in an activity: the instance's namespace, whatever the session's is */
		MemoryContext cxt = CurrentMemoryContext;
		Oid			user = GetUserId();

		id = running;
		define = superuser_arg(user);
		rom_engine_begin(&engine);
		list = granted(user, true, cxt);
		rom_engine_end(&engine);
		foreach(cell, list)
		{
			const Granted *g = lfirst(cell);

			define |= g->id == id && g->define;
		}
	}
	if (!define)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("Role \"%s\" may start workflows in namespace \"%s\", not define or set anything.",
						   GetUserNameFromId(GetUserId(), false), rom_namespace_name(id)),
				 errhint("The owner of extension \"romancy\" allows it with romancy.grant_usage(role, define => true).")));
	return id;
}

/* read_entry reads a namespace and the right to define in it: the latest, for another transaction may just have made it. Without a plan, as definitions. */
static void
read_entry(NamespaceEntry *entry)
{
	static RomTable namespace_table = {"t_namespace", 1, {"name"}, true};
	static RomTable grant_table = {"t_grant", 2, {"role", "define"}, true};
	uint64		generation = changes;
	RomRows		rows;

	CommandCounterIncrement();
	rom_rows_open(&rows, &namespace_table, "t_namespace_pkey", false);
	entry->found = rom_rows_find_int(&rows, entry->id);
	if (entry->found)
		namestrcpy(&entry->name, rom_rows_text(&rows, 0));
	rom_rows_close(&rows);

	entry->is_shared = false;
	rom_rows_open(&rows, &grant_table, "t_grant_namespace", false);
	for (bool more = entry->found && rom_rows_find_int(&rows, entry->id); more; more = rom_rows_next(&rows))
	{
		bool		isnull;
		Oid			role = get_role_oid(rom_rows_text(&rows, 0), true);

		if (DatumGetBool(rom_rows_column(&rows, 1, &isnull)) && OidIsValid(role) && !superuser_arg(role))
			entry->is_shared = true;
	}
	rom_rows_close(&rows);
	entry->generation = generation;
}

static NamespaceEntry *
entry_of(int32 id)
{
	NamespaceEntry *entry;
	bool		found;

	prepare();
	entry = hash_search(entries, &id, HASH_ENTER, &found);
	if (!found)
		entry->generation = 0;
	if (entry->generation != changes)
	{
		entry->generation = 0;
		read_entry(entry);
	}
	return entry;
}

const char *
rom_namespace_name(int32 id)
{
	NamespaceEntry *entry = entry_of(id);

	return entry->found ? NameStr(entry->name) : NULL;
}

void
rom_namespace_check_owner(int32 id, Oid owner)
{
	if (!superuser_arg(owner) || !entry_of(id)->is_shared)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("superuser \"%s\" cannot run workflows in namespace \"%s\"",
					GetUserNameFromId(owner, false), rom_namespace_name(id)),
			 errdetail("A role that is no superuser may define names in it, and so decides what would run with a superuser's rights."),
			 errhint("Use SET ROLE to a role that is no superuser, or another namespace.")));
}

void
rom_namespace_grant(const char *role, const char *name, bool define)
{
	Datum		values[3];

	if (name == NULL)
		name = role;
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid name of a namespace"),
				 errdetail("It has between 1 and %d bytes.", NAMEDATALEN - 1)));
	prepare();
	values[0] = CStringGetTextDatum(role);
	values[1] = Int32GetDatum(rom_namespace_make(name));
	values[2] = BoolGetDatum(define);
	rom_execute(&upsert_grant, values, NULL, 0);
	changed("t_grant");
}

bool
rom_namespace_revoke(const char *role, const char *name)
{
	Datum		values[2];
	bool		nulls[2] = {false, name == NULL};

	values[0] = CStringGetTextDatum(role);
	values[1] = name ? CStringGetTextDatum(name) : (Datum) 0;
	rom_execute(&delete_grant, values, nulls, 0);
	changed("t_grant");
	return rom_execute(&select_grant, values, NULL, 1) == 1;
}

/*
 * romancy.t_namespace_current() -> text
 *
 * The namespace that names mean here: the running instance's, in a handler or an activity; else the session's. Null where that is none, or
 * more than one.
 */
Datum
romancy_namespace_current(PG_FUNCTION_ARGS)
{
	int32		id = running_namespace ? running_namespace() : ROM_NAMESPACE_NONE;
	bool		define;

	if (id == ROM_NAMESPACE_NONE)
		id = resolve(true, &define);
	if (id == ROM_NAMESPACE_NONE)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(rom_namespace_name(id)));
}
