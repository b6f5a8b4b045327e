/*-------------------------------------------------------------------------
 *
 * grants.c
 *		grant_usage, revoke_usage.
 *
 * Nothing of romancy is granted to PUBLIC. A role that uses it gets, by one
 * call, USAGE on the schema and the types, EXECUTE on the functions of the API,
 * and SELECT on the views. The API is all that the extension owns whose name
 * does not begin with t_; functions that views call as their reader (t_workers
 * and the like) are granted with it, and romancy.t_monitor, on which a right is
 * the mark of roles that may see the instances of all owners, to monitors. The grants are made by the server's own
 * GRANT, from parse nodes: no SQL text is put together. Functions that an
 * update of the extension adds need another call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/arg.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/spi.h"
#include "client/grants.h"
#include "defs/namespace.h"
#include "memory/sweep.h"
#include "memory/wake.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_grant_usage);
PG_FUNCTION_INFO_V1(romancy_revoke_usage);

#define SCHEMA "romancy"
#define MONITOR "t_monitor"

/* The objects to grant, by kind of GRANT. */
typedef struct Members
{
	List	   *routines;		/* of ObjectWithArgs */
	List	   *monitor;		/* likewise: romancy.t_monitor() */
	List	   *views;			/* of RangeVar */
	List	   *types;			/* of name lists */
} Members;

bool
rom_grants_is_internal(const char *name)
{
	return strncmp(name, "t_", 2) == 0;
}

bool
rom_grants_is_for_views(const char *name)
{
	static const char *const names[] = {"t_canvas", "t_document_value", "t_events_pack", "t_events_unpack", "t_in_turn", "t_live", "t_may_read", "t_namespace_current", "t_outside", "t_owners", "t_owners_of_few", "t_pollers", "t_report_chart", "t_report_escape", "t_report_live", "t_report_table", "t_running", "t_senders", "t_shown_status", "t_stat", "t_status_name", "t_sweeps", "t_unwritten", "t_workers"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static List *
qualified(const char *name)
{
	return list_make2(makeString(pstrdup(SCHEMA)), makeString(pstrdup(name)));
}

static void
add_routine(Members *members, Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc form;
	ObjectWithArgs *object = makeNode(ObjectWithArgs);

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	object->objname = qualified(NameStr(form->proname));
	for (int i = 0; i < form->pronargs; i++)
		object->objargs = lappend(object->objargs,
								  makeTypeNameFromOid(form->proargtypes.values[i],
													  -1));
	if (strcmp(NameStr(form->proname), MONITOR) == 0)
		members->monitor = lappend(members->monitor, object);
	else if (!rom_grants_is_internal(NameStr(form->proname)) || rom_grants_is_for_views(NameStr(form->proname)))
		members->routines = lappend(members->routines, object);
	ReleaseSysCache(tuple);
}

static void
add_relation(Members *members, Oid oid)
{
	char	   *name = get_rel_name(oid);

	if (name == NULL || rom_grants_is_internal(name))
		return;
	if (get_rel_relkind(oid) == RELKIND_VIEW)
		members->views = lappend(members->views,
								 makeRangeVar(pstrdup(SCHEMA), name, -1));
}

/* add_type takes composite types of their own (whose pg_class row is no member) and enums; not the row types of tables and views. */
static void
add_type(Members *members, Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(oid));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (!rom_grants_is_internal(NameStr(form->typname)) &&
		form->typcategory != TYPCATEGORY_ARRAY &&
		(!OidIsValid(form->typrelid) ||
		 get_rel_relkind(form->typrelid) == RELKIND_COMPOSITE_TYPE))
		members->types = lappend(members->types,
								 qualified(NameStr(form->typname)));
	ReleaseSysCache(tuple);
}

/* find_members lists what belongs to the extension. */
static void
find_members(Members *members)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	memset(members, 0, sizeof(*members));
	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(rom_extension_oid()));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->deptype != DEPENDENCY_EXTENSION)
			continue;
		if (form->classid == ProcedureRelationId)
			add_routine(members, form->objid);
		else if (form->classid == RelationRelationId)
			add_relation(members, form->objid);
		else if (form->classid == TypeRelationId)
			add_type(members, form->objid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* change_grant runs GRANT or REVOKE of one privilege on objects of one kind. */
static void
change_grant(bool is_grant, ObjectType type, List *objects,
			 const char *privilege, RoleSpec *grantee)
{
	GrantStmt  *stmt;
	AccessPriv *priv;

	if (objects == NIL)
		return;
	priv = makeNode(AccessPriv);
	priv->priv_name = pstrdup(privilege);
	stmt = makeNode(GrantStmt);
	stmt->is_grant = is_grant;
	stmt->targtype = ACL_TARGET_OBJECT;
	stmt->objtype = type;
	stmt->objects = objects;
	stmt->privileges = list_make1(priv);
	stmt->grantees = list_make1(grantee);
	stmt->behavior = DROP_RESTRICT;
	ExecuteGrantStmt(stmt);
}

/* check_may_grant raises 42501 unless the caller is the extension's owner, a member of it, or a superuser. */
static void
check_may_grant(const char *function)
{
	if (!has_privs_of_role(GetUserId(), rom_extension_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("It is for the owner of extension \"romancy\".")));
}

/* role_arg reads the role that argument 0 names. */
static RoleSpec *
role_arg(FunctionCallInfo fcinfo)
{
	RoleSpec   *role = makeNode(RoleSpec);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"role\" must not be null")));
	if (!OidIsValid(PG_GETARG_OID(0)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role does not exist")));
	role->roletype = ROLESPEC_CSTRING;
	role->rolename = GetUserNameFromId(PG_GETARG_OID(0), false);
	role->location = -1;
	return role;
}

/* change_all grants or revokes everything, as the extension's owner. */
static void
change_all(bool is_grant, RoleSpec *role, bool monitor)
{
	Members		members;
	Oid			userid;
	int			sec_context;

	find_members(&members);
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(rom_extension_owner(),
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	change_grant(is_grant, OBJECT_SCHEMA,
				 list_make1(makeString(pstrdup(SCHEMA))), "usage", role);
	change_grant(is_grant, OBJECT_TYPE, members.types, "usage", role);
	change_grant(is_grant, OBJECT_ROUTINE, members.routines, "execute", role);
	change_grant(is_grant, OBJECT_TABLE, members.views, "select", role);
	if (monitor)
		change_grant(is_grant, OBJECT_ROUTINE, members.monitor, "execute",
					 role);
	SetUserIdAndSecContext(userid, sec_context);
}

/* may_use_schema says whether grant_usage was called for the role before, and not taken back. */
static bool
may_use_schema(const char *role)
{
	return rom_namespace_aclcheck(get_namespace_oid(SCHEMA, false), get_role_oid(role, false), ACL_USAGE) == ACLCHECK_OK;
}

/*
 * romancy.grant_usage(role regrole, monitor boolean, namespace text, define boolean) -> void
 *
 * Lets a role use romancy in a namespace (null: the one named after the role; it is made unless it is there): define, start and
 * steer what is its own. monitor (null: false): and see what belongs to all others. define (null: true) false: may
 * start, steer and see, not define, schedule or set. For the extension's owner. Errors: 42501 for others, RM004 in a
 * workflow, RM012 for a name that is empty or too long. To be called again after ALTER EXTENSION UPDATE.
 */
Datum
romancy_grant_usage(PG_FUNCTION_ARGS)
{
	RoleSpec   *role;
	char	   *namespace;
	RomEngine	engine;

	rom_context_refuse_handler("grant_usage");
	check_may_grant("grant_usage");
	role = role_arg(fcinfo);
	namespace = rom_arg_text_opt(fcinfo, 2);
	rom_engine_begin(&engine);
	/* grants of a role of that name that was dropped are not its own */
	if (!may_use_schema(role->rolename))
		(void) rom_namespace_revoke(role->rolename, NULL);
	rom_namespace_grant(role->rolename, namespace, rom_arg_bool_opt(fcinfo, 3, true));
	rom_engine_end(&engine);
	change_all(true, role, rom_arg_bool_opt(fcinfo, 1, false));
	/* what waits for a role that may do it has it looked for */
	rom_wake_sweep(rom_sweep_find("resumption"), 0);
	PG_RETURN_VOID();
}

/*
 * romancy.revoke_usage(role regrole, namespace text) -> void
 *
 * Takes back what grant_usage gave for a namespace; with the last one, or with null, for all, the right to use romancy,
 * monitor included. Instances of the role stay, and continue. Errors: as grant_usage.
 */
Datum
romancy_revoke_usage(PG_FUNCTION_ARGS)
{
	RoleSpec   *role;
	char	   *namespace;
	RomEngine	engine;
	bool		has_others;

	rom_context_refuse_handler("revoke_usage");
	check_may_grant("revoke_usage");
	role = role_arg(fcinfo);
	namespace = rom_arg_text_opt(fcinfo, 1);
	rom_engine_begin(&engine);
	has_others = rom_namespace_revoke(role->rolename, namespace);
	rom_engine_end(&engine);
	if (!has_others)
		change_all(false, role, true);
	PG_RETURN_VOID();
}
