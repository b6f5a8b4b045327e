/*-------------------------------------------------------------------------
 *
 * secret.c
 *		Secrets for the headers of requests: set_secret, drop_secret.
 *
 * A value is read by the HTTP worker when it makes a request to the host that the secret is for, and is in nothing that it
 * writes: not in history, not in an error, not in the log. The table is granted to no role, and is in no dump.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/spi.h"
#include "defs/namespace.h"
#include "http/secret.h"
#include "outbox/sender.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_set_secret);
PG_FUNCTION_INFO_V1(romancy_drop_secret);

/* Longest value, in bytes. */
#define VALUE_MAX 8000

char *
rom_secret_value(int32 namespace, const char *name, const RomUrl *url, bool clear, const char **why)
{
	static RomStatement select = {
		"SELECT value, allowed_host FROM romancy.t_secret WHERE namespace = $1 AND name = $2",
		2, {INT4OID, TEXTOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	RomRowSet	set;
	Datum		values[2] = {Int32GetDatum(namespace), CStringGetTextDatum(name)};
	char	   *value = NULL;
	char	   *host = NULL;

	rom_engine_begin(&engine);
	if (rom_execute_rows(&set, &select, values, NULL, 1) == 1)
	{
		value = rom_value_text(&set, 0, 1, cxt);
		host = rom_value_text(&set, 0, 2, cxt);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	if (value == NULL)
		*why = psprintf("there is no secret \"%s\"", name);
	else if (strcmp(host, url->host) != 0)
	{
		*why = psprintf("secret \"%s\" is for host \"%s\"", name, host);
		value = NULL;
	}
	else if (!url->tls && !clear)
	{
		*why = psprintf("secret \"%s\" is sent over https only", name);
		value = NULL;
	}
	return value;
}

/* name_arg reads and checks the secret's name, which stands in templates. */
static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = rom_arg_text(fcinfo, 0, "name");

	if (name[0] == '\0' || strlen(name) > ROM_SHORT_NAME_MAX || strpbrk(name, "{}") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"name\" must have between 1 and %d bytes, and no braces", ROM_SHORT_NAME_MAX)));
	return name;
}

/* host_arg reads the host that the secret is for. */
static char *
host_arg(FunctionCallInfo fcinfo)
{
	char	   *host = rom_arg_text(fcinfo, 2, "allowed_host");
	RomUrl		url;
	const char *why;

	if (!rom_url_parse(psprintf("https://%s/", host), &url, &why) || strcmp(url.path, "/") != 0 || url.port != 443)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%s\" is not a host", host),
				 errhint("A host is a name, such as \"api.example.com\", or an address, without scheme, port or path.")));
	return url.host;
}

static void
not_owner(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of secret \"%s\"", name)));
}

/* lock_secret locks the row of a secret, and raises 42501 where the role is not its owner's; false where there is none. Engine scope needed. */
static bool
lock_secret(Datum *key, const char *name, Oid role)
{
	static RomStatement select = {
		"SELECT owner FROM romancy.t_secret WHERE namespace = $1 AND name = $2 FOR UPDATE",
		2, {INT4OID, TEXTOID}
	};
	RomRowSet	set;
	Oid			owner;

	if (rom_execute_rows(&set, &select, key, NULL, 1) == 0)
		return false;
	owner = get_role_oid(rom_value_text(&set, 0, 1, CurrentMemoryContext), true);
	if (OidIsValid(owner) ? !has_privs_of_role(role, owner) : !superuser_arg(role))
		not_owner(name);
	return true;
}

/*
 * romancy.set_secret(name text, value text, allowed_host text) -> void
 *
 * Keeps a secret of the session's namespace, or replaces it: it may stand in headers, {{secret:name}}, of requests to this host. Errors: RM012 for a
 * wrong name, value or host; 42501 where the caller may not define in the namespace, or another role owns the secret; RM004 in a workflow.
 */
Datum
romancy_set_secret(PG_FUNCTION_ARGS)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_secret (namespace, name, value, allowed_host, owner) VALUES ($1, $2, $3, $4, $5)"
		" ON CONFLICT (namespace, name) DO NOTHING",
		5, {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	static RomStatement update = {
		"UPDATE romancy.t_secret SET value = $3, allowed_host = $4 WHERE namespace = $1 AND name = $2",
		4, {INT4OID, TEXTOID, TEXTOID, TEXTOID}
	};
	RomEngine	engine;
	Oid			role = GetUserId();
	Datum		values[5];
	char	   *name;
	char	   *value;

	rom_context_refuse_handler("set_secret");
	values[0] = Int32GetDatum(rom_namespace_require_define("set_secret"));
	name = name_arg(fcinfo);
	value = rom_arg_text(fcinfo, 1, "value");
	if (value[0] == '\0' || strlen(value) > VALUE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"value\" must have between 1 and %d bytes", VALUE_MAX)));
	for (const char *p = value; *p; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"value\" must not have control characters"),
					 errdetail("It is part of a header.")));
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(value);
	values[3] = CStringGetTextDatum(host_arg(fcinfo));
	values[4] = CStringGetTextDatum(GetUserNameFromId(role, false));
	rom_engine_begin(&engine);
	/* another transaction may insert or delete it between two statements */
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (rom_execute(lock_secret(values, name, role) ? &update : &insert, values, NULL, 0) > 0)
			break;
	}
	rom_engine_end(&engine);
	rom_sender_allowed();
	PG_RETURN_VOID();
}

/*
 * romancy.drop_secret(name text) -> void
 *
 * Forgets a secret. Errors: RM001 unknown, 42501 as for set_secret, RM004 in a workflow.
 */
Datum
romancy_drop_secret(PG_FUNCTION_ARGS)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_secret WHERE namespace = $1 AND name = $2",
		2, {INT4OID, TEXTOID}
	};
	RomEngine	engine;
	Oid			role = GetUserId();
	Datum		values[2];
	char	   *name;

	rom_context_refuse_handler("drop_secret");
	values[0] = Int32GetDatum(rom_namespace_require_define("drop_secret"));
	name = name_arg(fcinfo);
	values[1] = CStringGetTextDatum(name);
	rom_engine_begin(&engine);
	if (!lock_secret(values, name, role))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_UNDEFINED),
				 errmsg("there is no secret \"%s\"", name)));
	rom_execute(&delete, values, NULL, 0);
	rom_engine_end(&engine);
	PG_RETURN_VOID();
}
