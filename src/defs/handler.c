/*-------------------------------------------------------------------------
 *
 * handler.c
 *		Functions as handlers: finding them, checking them, naming them.
 *
 * A handler is stored as the text of its signature, since pg_upgrade refuses
 * tables with regprocedure columns. Finding it again by that text asks for no
 * right on its schema: the role that named it had that right, and EXECUTE is
 * checked for the role that runs it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/errors.h"
#include "defs/handler.h"

static HeapTuple
function_tuple(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("function with OID %u does not exist", funcid)));
	return tuple;
}

/* wrong_handler says in SQL's words why a function or procedure cannot be a handler, or returns NULL. */
static const char *
wrong_handler(Form_pg_proc form, bool has_config, bool procedure)
{
	if (isTempNamespace(form->pronamespace) ||
		isOtherTempNamespace(form->pronamespace))
		return "It is in a temporary schema.";
	if (form->prokind == PROKIND_PROCEDURE)
	{
		if (!procedure)
			return "It is a procedure.";
		if (form->pronargs != 2 || form->proargtypes.values[0] != JSONBOID ||
			form->proargtypes.values[1] != JSONBOID ||
			form->prorettype != RECORDOID)
			return "Its arguments are not (jsonb, inout jsonb).";
		if (form->prosecdef)
			return "It is SECURITY DEFINER, and could not commit.";
		if (has_config)
			return "It has a SET clause, and could not commit.";
		return NULL;
	}
	if (form->prokind != PROKIND_FUNCTION)
		return "It is not a plain function.";
	if (form->pronargs != 1 || form->proargtypes.values[0] != JSONBOID)
		return "Its argument is not one jsonb.";
	if (form->prorettype != JSONBOID || form->proretset)
		return "It does not return jsonb.";
	if (form->proisstrict)
		return "It is STRICT, and would be skipped for null input.";
	if (form->provolatile != PROVOLATILE_VOLATILE)
		return "It is not VOLATILE.";
	return NULL;
}

void
rom_handler_check(Oid funcid, bool procedure, const char *what,
				  const char *name)
{
	HeapTuple	tuple = function_tuple(funcid);
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);
	bool		has_config = !heap_attisnull(tuple, Anum_pg_proc_proconfig,
											 NULL);
	const char *wrong = wrong_handler(form, has_config, procedure);

	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s cannot be the handler of %s \"%s\"",
						format_procedure(funcid), what, name),
				 errdetail_internal("%s", wrong),
				 form->prokind == PROKIND_PROCEDURE && !procedure ?
				 errhint("A procedure needs an activity with transactional => false.") :
				 procedure ?
				 errhint("A handler is a function(jsonb) returning jsonb, VOLATILE and not STRICT, or a procedure(jsonb, inout jsonb) without SET or SECURITY DEFINER.") :
				 errhint("A handler is a function(jsonb) returning jsonb, VOLATILE and not STRICT.")));
	ReleaseSysCache(tuple);
}

void
rom_handler_check_execute(Oid funcid, Oid role)
{
	AclResult	result = rom_proc_aclcheck(funcid, role, ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(funcid));
}

char *
rom_handler_signature(Oid funcid)
{
	HeapTuple	tuple = function_tuple(funcid);
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);
	char	   *schema = get_namespace_name(form->pronamespace);
	char	   *result;

	result = psprintf("%s(%s)",
					  quote_qualified_identifier(schema,
												 NameStr(form->proname)),
					  form->pronargs == 2 ? "jsonb,jsonb" : "jsonb");
	ReleaseSysCache(tuple);
	return result;
}

/* function_oid finds a function by its schema's oid, name and nargs arguments of type jsonb. */
static Oid
function_oid(Oid schema, const char *name, int nargs)
{
	Oid			types[2] = {JSONBOID, JSONBOID};
	oidvector  *args = buildoidvector(types, nargs);
	Oid			result;

	result = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
							 CStringGetDatum(name), PointerGetDatum(args),
							 ObjectIdGetDatum(schema));
	pfree(args);
	return result;
}

Oid
rom_handler_find(const char *signature)
{
	char	   *names = pstrdup(signature);
	char	   *paren = strrchr(names, '(');
	List	   *parts;
	Oid			schema;

	if (paren == NULL)
		return InvalidOid;
	*paren = '\0';
	if (!SplitIdentifierString(names, '.', &parts) || list_length(parts) != 2)
		return InvalidOid;
	schema = get_namespace_oid(linitial(parts), true);
	if (!OidIsValid(schema))
		return InvalidOid;
	return function_oid(schema, lsecond(parts),
						strchr(paren + 1, ',') != NULL ? 2 : 1);
}

/* in_schema looks for a handler in one schema of a path: a schema that is not there, or that the current user may not use, is passed by. */
static Oid
in_schema(const char *schema, const char *name)
{
	Oid			oid = get_namespace_oid(schema, true);

	if (!OidIsValid(oid) ||
		rom_namespace_aclcheck(oid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		return InvalidOid;
	return function_oid(oid, name, 1);
}

bool
rom_handler_name_valid(const char *name)
{
	List	   *parts;

	/* a signature splits as well, but is no name */
	return strpbrk(name, "(),;") == NULL &&
		SplitIdentifierString(pstrdup(name), '.', &parts) &&
		(list_length(parts) == 1 || list_length(parts) == 2);
}

Oid
rom_handler_by_text(char *handler, bool procedure, char **why)
{
	MemoryContext cxt = CurrentMemoryContext;
	volatile Oid found = InvalidOid;

	*why = NULL;
	PG_TRY();
	{
		if (strchr(handler, '(') != NULL)
			found = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(handler)));
		else
		{
			ObjectWithArgs *routine = makeNode(ObjectWithArgs);

			routine->objname = textToQualifiedNameList(cstring_to_text(handler));
			routine->objargs = list_make1(makeTypeNameFromOid(JSONBOID, -1));
			found = LookupFuncWithArgs(OBJECT_ROUTINE, routine, true);
			if (!OidIsValid(found) && procedure)
			{
				routine->objargs = lappend(routine->objargs, makeTypeNameFromOid(JSONBOID, -1));
				found = LookupFuncWithArgs(OBJECT_ROUTINE, routine, true);
			}
		}
	}
	PG_CATCH();
	{
		ErrorData  *edata;
		int			category;

		MemoryContextSwitchTo(cxt);
		edata = rom_error_take();
		category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);

		/* what is wrong with the text; the caller raises an error in any case */
		if (edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
			(category != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION && category != ERRCODE_DATA_EXCEPTION &&
			 category != ERRCODE_INVALID_SCHEMA_NAME))
			ReThrowError(edata);
		*why = edata->message;
		found = InvalidOid;
	}
	PG_END_TRY();
	return found;
}

Oid
rom_handler_lookup(const char *name, const char *path)
{
	List	   *parts;
	List	   *schemas;
	ListCell   *lc;
	Oid			result = InvalidOid;
	bool		catalog_seen = false;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts))
		return InvalidOid;
	if (list_length(parts) == 2)
	{
		Oid			schema = get_namespace_oid(linitial(parts), true);

		if (!OidIsValid(schema))
			return InvalidOid;
		if (rom_namespace_aclcheck(schema, GetUserId(),
								   ACL_USAGE) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SCHEMA, linitial(parts));
		return function_oid(schema, lsecond(parts), 1);
	}
	if (list_length(parts) != 1 ||
		!SplitIdentifierString(pstrdup(path), ',', &schemas))
		return InvalidOid;

	foreach(lc, schemas)
		catalog_seen |= strcmp(lfirst(lc), "pg_catalog") == 0;
	if (!catalog_seen)
		schemas = lcons(pstrdup("pg_catalog"), schemas);
	foreach(lc, schemas)
	{
		result = in_schema(lfirst(lc), linitial(parts));
		if (OidIsValid(result))
			break;
	}
	return result;
}

bool
rom_handler_stateless(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Oid			language = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		language = ((Form_pg_proc) GETSTRUCT(tuple))->prolang;
		ReleaseSysCache(tuple);
	}
	return OidIsValid(language) &&
		(language == SQLlanguageId || language == get_language_oid("plpgsql", true));
}

int64
rom_handler_body_hash(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	uint64		hash = 0;
	static const AttrNumber attributes[] = {Anum_pg_proc_prosrc,
	Anum_pg_proc_prosqlbody};

	if (!HeapTupleIsValid(tuple))
		return 0;
	for (int i = 0; i < lengthof(attributes); i++)
	{
		bool		isnull;
		Datum		body = SysCacheGetAttr(PROCOID, tuple, attributes[i],
										   &isnull);

		if (!isnull)
		{
			char	   *source = TextDatumGetCString(body);

			hash = hash_bytes_extended((unsigned char *) source,
									   strlen(source),
									   hash);
			pfree(source);
		}
	}
	ReleaseSysCache(tuple);
	/* 0 means that there is none */
	return hash == 0 ? 1 : (int64) hash;
}

/*
 * rom_handler_record_path writes a search_path the way it is recorded: "$user" is the role that
 * names it now, not the one that runs it later, and pg_temp, where any session could put objects in
 * front, is left out (evaluation puts it last).
 */
char *
rom_handler_record_path(const char *path, Oid role)
{
	List	   *schemas;
	ListCell   *lc;
	StringInfoData out;

	initStringInfo(&out);
	if (!SplitIdentifierString(pstrdup(path), ',', &schemas))
		elog(ERROR, "invalid search_path \"%s\"", path);
	foreach(lc, schemas)
	{
		const char *schema = lfirst(lc);

		if (strcmp(schema, "pg_temp") == 0)
			continue;
		if (strcmp(schema, "$user") == 0)
			schema = GetUserNameFromId(role, false);
		if (out.len > 0)
			appendStringInfoString(&out, ", ");
		appendStringInfoString(&out, quote_identifier(schema));
	}
	return out.data;
}
