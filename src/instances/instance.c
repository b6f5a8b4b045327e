/*-------------------------------------------------------------------------
 *
 * instance.c
 *		An instance: its id, its status, and the rights on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include <math.h>
#include <time.h>

#include "base/compat.h"
#include "base/spi.h"
#include "instances/instance.h"
#include "memory/slot.h"

PG_FUNCTION_INFO_V1(romancy_may_read);
PG_FUNCTION_INFO_V1(romancy_owners);
PG_FUNCTION_INFO_V1(romancy_owners_of_few);
PG_FUNCTION_INFO_V1(romancy_may_access);
PG_FUNCTION_INFO_V1(romancy_monitor);

static const char *const status_names[] = {
	[ROM_STATUS_PENDING] = "pending",
	[ROM_STATUS_RUNNING] = "running",
	[ROM_STATUS_WAITING_TIMER] = "waiting_for_timer",
	[ROM_STATUS_WAITING_MESSAGE] = "waiting_for_message",
	[ROM_STATUS_WAITING_ACTIVITY] = "waiting_for_activity",
	[ROM_STATUS_WAITING_WORKFLOW] = "waiting_for_workflow",
	[ROM_STATUS_PAUSED] = "paused",
	[ROM_STATUS_COMPENSATING] = "compensating",
	[ROM_STATUS_COMPLETED] = "completed",
	[ROM_STATUS_FAILED] = "failed",
	[ROM_STATUS_CANCELLED] = "cancelled",
	[ROM_STATUS_RECURRED] = "recurred"
};

/* Oids of romancy.t_status's labels; status_type is the type that they belong to. */
static Oid	status_oids[lengthof(status_names)];
static Oid	status_type = InvalidOid;

/* Oid of romancy.t_monitor(), whose EXECUTE right makes a monitor. */
static Oid	monitor_oid = InvalidOid;
static Oid	monitor_extension = InvalidOid;
static bool callback_registered = false;

/* The roles whose instances one role sees, or steers, as asked last. names NULL: to be found out. */
typedef struct OwnersCache
{
	Oid			role;
	bool		steer;
	bool		registered;
	ArrayType  *names;
} OwnersCache;

static OwnersCache seen;

/* How often a role or a membership has changed, as this process was told. */
static uint64 roles_changed = 0;

const char *
rom_instance_status_name(RomStatus status)
{
	Assert(status >= 0 && status < lengthof(status_names));
	return status_names[status];
}

int
rom_instance_status_from_name(const char *name)
{
	for (int i = 0; i < lengthof(status_names); i++)
	{
		if (strcmp(status_names[i], name) == 0)
			return i;
	}
	return -1;
}

/* load_statuses looks the labels up once for each creation of the extension, whose type's oid tells them apart. */
static void
load_statuses(void)
{
	Oid			type = rom_type_oid("t_status");

	if (type == status_type)
		return;
	for (int i = 0; i < lengthof(status_names); i++)
	{
		status_oids[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
										 ObjectIdGetDatum(type),
										 CStringGetDatum(status_names[i]));
		if (!OidIsValid(status_oids[i]))
			elog(ERROR, "romancy.t_status lacks the label \"%s\"",
				 status_names[i]);
	}
	status_type = type;
}

Datum
rom_instance_status_datum(RomStatus status)
{
	load_statuses();
	return ObjectIdGetDatum(status_oids[status]);
}

RomStatus
rom_instance_status_from_datum(Datum value)
{
	load_statuses();
	for (int i = 0; i < lengthof(status_oids); i++)
	{
		if (status_oids[i] == DatumGetObjectId(value))
			return (RomStatus) i;
	}
	elog(ERROR, "unknown label %u of romancy.t_status",
		 DatumGetObjectId(value));
	return ROM_STATUS_PENDING;	/* keep the compiler quiet */
}

/* forget_monitor is called when a function changes. */
static void
forget_monitor(Datum arg, int cacheid, uint32 hashvalue)
{
	monitor_oid = InvalidOid;
}

/* is_monitor says whether role may see the instances of all owners: an EXECUTE right on romancy.t_monitor(), which grant_usage gives. */
static bool
is_monitor(Oid role)
{
	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_monitor, (Datum) 0);
		callback_registered = true;
	}
	if (!OidIsValid(monitor_oid) || monitor_extension != rom_extension_oid())
	{
		Oid			schema = get_namespace_oid("romancy", true);
		oidvector  *args = buildoidvector(NULL, 0);

		monitor_oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
									  CStringGetDatum("t_monitor"),
									  PointerGetDatum(args),
									  ObjectIdGetDatum(schema));
		monitor_extension = rom_extension_oid();
		pfree(args);
		if (!OidIsValid(monitor_oid))
			return false;
	}
	return rom_proc_aclcheck(monitor_oid, role, ACL_EXECUTE) == ACLCHECK_OK;
}

bool
rom_instance_may_access(const char *owner, Oid role, bool steer)
{
	Oid			owner_oid = get_role_oid(owner, true);

	/* of a role that was dropped, its instances are a superuser's */
	if (OidIsValid(owner_oid) ? has_privs_of_role(role, owner_oid) :
		superuser_arg(role))
		return true;
	return !steer && is_monitor(role);
}

bool
rom_instance_may_steer(const char *owner)
{
	return rom_instance_may_access(owner, GetUserId(), true);
}

bool
rom_instance_may_read(const char *owner)
{
	return rom_instance_may_access(owner, GetUserId(), false);
}

/* forget_owners is called when a role or a membership changes. */
static void
forget_owners(Datum arg, int cacheid, uint32 hashvalue)
{
	roles_changed++;
	if (seen.names != NULL)
		pfree(seen.names);
	seen.names = NULL;
}

/* find_owners is a text[] of all roles whose instances role sees or steers. */
static ArrayType *
find_owners(Oid role, bool steer)
{
	ArrayBuildState *names = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	Relation	rel = table_open(AuthIdRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char	   *name = NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname);

		if (rom_instance_may_access(name, role, steer))
			names = accumArrayResult(names, CStringGetTextDatum(name), false, TEXTOID,
									 CurrentMemoryContext);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return DatumGetArrayTypeP(makeArrayResult(names, CurrentMemoryContext));
}

ArrayType *
rom_instance_owners(Oid role, bool steer)
{
	ArrayType  *names;

	if (superuser_arg(role) || (!steer && is_monitor(role)))
		return NULL;
	if (!seen.registered)
	{
		CacheRegisterSyscacheCallback(AUTHOID, forget_owners, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_owners, (Datum) 0);
		/* the owner of the database is a member of pg_database_owner */
		CacheRegisterSyscacheCallback(DATABASEOID, forget_owners, (Datum) 0);
		seen.registered = true;
	}
	if (seen.names == NULL || seen.role != role || seen.steer != steer)
	{
		uint64		before = roles_changed;

		names = find_owners(role, steer);

		/*
		 * what changed while the catalogs were read may have been missed: not
		 * to be kept
		 */
		if (before != roles_changed)
			return names;
		forget_owners((Datum) 0, 0, 0);
		seen.names = MemoryContextAlloc(TopMemoryContext, VARSIZE(names));

		memcpy(seen.names, names, VARSIZE(names));
		seen.role = role;
		seen.steer = steer;
	}
	/* a copy, because a change of roles frees the other one */
	names = palloc(VARSIZE(seen.names));
	memcpy(names, seen.names, VARSIZE(seen.names));
	return names;
}

/* The last answer of a query; rows of one owner come together. */
typedef struct AccessCache
{
	Oid			role;
	bool		steer;
	bool		result;
	NameData	owner;
} AccessCache;

/* cached_access is rom_instance_may_access() with the last answer kept for the length of a query. */
static bool
cached_access(FunctionCallInfo fcinfo, Oid role, bool steer)
{
	text	   *owner = PG_GETARG_TEXT_PP(0);
	AccessCache *cache = fcinfo->flinfo->fn_extra;
	char		name[NAMEDATALEN];

	text_to_cstring_buffer(owner, name, sizeof(name));
	if (cache != NULL && cache->role == role && cache->steer == steer &&
		strcmp(NameStr(cache->owner), name) == 0)
		return cache->result;
	if (cache == NULL)
		cache = fcinfo->flinfo->fn_extra =
			MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(AccessCache));
	cache->role = role;
	cache->steer = steer;
	cache->result = rom_instance_may_access(name, role, steer);
	namestrcpy(&cache->owner, name);
	return cache->result;
}

/*
 * romancy.t_may_read(owner text) -> boolean: may the current user see what belongs
 * to this role? For the views.
 */
Datum
romancy_may_read(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(cached_access(fcinfo, GetUserId(), false));
}

/*
 * romancy.t_owners() -> text[]: the roles whose instances the current user may see, for
 * a view that finds these by an index; null for one that sees all.
 */
Datum
romancy_owners(PG_FUNCTION_ARGS)
{
	ArrayType  *owners = rom_instance_owners(GetUserId(), false);

	if (owners == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(owners);
}

/* share_of is the share of the table's rows that the owners have by its statistics; without any: 1. */
static double
share_of(ArrayType *owners, Oid relid, AttrNumber attnum)
{
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid), Int16GetDatum(attnum), BoolGetDatum(false));
	AttStatsSlot slot;
	double		share = 0;
	Datum	   *names;
	int			n;

	if (!HeapTupleIsValid(tuple))
		return 1;
	deconstruct_array(owners, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_MCV, InvalidOid, ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS))
	{
		for (int i = 0; i < slot.nvalues && i < slot.nnumbers; i++)
			for (int k = 0; k < n; k++)
				if (DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID, slot.values[i], names[k])))
					share += slot.numbers[i];
		free_attstatsslot(&slot);
	}
	else
		share = 1;				/* all different, or one only */
	ReleaseSysCache(tuple);
	return share;
}

/* An answer of have_few() in a transaction, to a role that asked. */
typedef struct FewAnswer
{
	Oid			role;
	bool		few;
} FewAnswer;

/*
 * have_few: do the owners have few of the instances by the table's statistics? The answer is the same for all of a transaction, whatever ANALYZE
 * finds meanwhile: by it a view has one of its parts or the other, and a cursor asks at each FETCH.
 */
static bool
have_few(ArrayType *owners)
{
	static TimestampTz asked_in = 0;
	static FewAnswer *answers = NULL;
	static int	n = 0;
	static int	max = 0;
	Oid			relid;
	Relation	rel;
	double		rows;

	if (asked_in != GetCurrentTransactionStartTimestamp())
		n = 0;
	for (int i = 0; i < n; i++)
		if (answers[i].role == GetUserId())
			return answers[i].few;
	if (n == max)
	{
		answers = answers == NULL ? MemoryContextAlloc(TopMemoryContext, 8 * sizeof(FewAnswer)) : repalloc(answers, 2 * max * sizeof(FewAnswer));
		max = max == 0 ? 8 : 2 * max;
	}
	relid = rom_relation_oid("t_instance");
	rel = table_open(relid, AccessShareLock);
	rows = rel->rd_rel->reltuples * share_of(owners, relid, get_attnum(relid, "owner"));
	answers[n].role = GetUserId();
	answers[n].few = rows >= 0 && rows <= 100 + sqrt(2.0 * Max(rel->rd_rel->relpages, 0));
	table_close(rel, AccessShareLock);
	asked_in = GetCurrentTransactionStartTimestamp();
	return answers[n++].few;
}

/*
 * romancy.t_owners_of_few() -> text[]: the same, null also where the table was never analyzed, and for roles that have many of the
 * instances: one that is found by its owner costs 32 pages (index t_instance_few).
 */
Datum
romancy_owners_of_few(PG_FUNCTION_ARGS)
{
	ArrayType  *owners = rom_instance_owners(GetUserId(), false);

	if (owners == NULL || !have_few(owners))
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(owners);
}

/*
 * romancy.t_may_access(owner text, role oid, steer boolean) -> boolean: the same for
 * a role given by oid, to see (steer false) or to change. Internal: for queries
 * that run as the extension's owner on that role's behalf.
 */
Datum
romancy_may_access(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(cached_access(fcinfo, PG_GETARG_OID(1),
								 PG_GETARG_BOOL(2)));
}

/*
 * romancy.t_monitor() -> boolean: true. The right to execute it is what lets a role
 * see the instances of all others.
 */
Datum
romancy_monitor(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

PG_FUNCTION_INFO_V1(romancy_status_name);

/* romancy.t_status_name(status t_status) -> text: its name. For an index, so immutable: no status changes its name. */
Datum
romancy_status_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rom_instance_status_name(rom_instance_status_from_datum(PG_GETARG_DATUM(0)))));
}

PG_FUNCTION_INFO_V1(romancy_shown_status);

/*
 * romancy.t_shown_status(instance_id uuid, status t_status) -> text
 *
 * A status as users see it. The row of a turn's instance is not committed before the
 * turn's end; meanwhile "running" is known from shared memory.
 */
Datum
romancy_shown_status(PG_FUNCTION_ARGS)
{
	RomStatus	status = rom_instance_status_from_datum(PG_GETARG_DATUM(1));

	if (!ROM_STATUS_IS_FINAL(status) && status != ROM_STATUS_PAUSED &&
		status != ROM_STATUS_COMPENSATING && rom_slot_busy(PG_GETARG_UUID_P(0)))
		status = ROM_STATUS_RUNNING;
	PG_RETURN_TEXT_P(cstring_to_text(rom_instance_status_name(status)));
}
