/*-------------------------------------------------------------------------
 *
 * reach.c
 *		What may be reached over HTTP, and by whom: allow_http, deny_http.
 *
 * A rule is for a role and the roles that have its privileges, as with any other privilege of PostgreSQL. Without a
 * rule nothing may be reached, also by a superuser's workflows.
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
#include "http/address.h"
#include "http/reach.h"
#include "outbox/sender.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_allow_http);
PG_FUNCTION_INFO_V1(romancy_deny_http);

bool
rom_reach_allowed(Oid role, const RomUrl *url, bool host_only, bool *private)
{
	static RomStatement select = {
		"SELECT role, url_pattern, private FROM romancy.t_http_rule",
		0, {0}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;
	bool		allowed = false;

	*private = false;
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, NULL, NULL, 0);
	for (uint64 i = 0; i < rows && !*private; i++)
	{
		Oid			rule_role = get_role_oid(rom_value_text(&set, i, 1, CurrentMemoryContext), true);
		RomUrl		pattern;
		const char *why;
		bool		isnull;

		if (!OidIsValid(rule_role) || !is_member_of_role_nosuper(role, rule_role) || !has_privs_of_role(role, rule_role) ||
			!rom_url_parse_pattern(rom_value_text(&set, i, 2, CurrentMemoryContext), &pattern, &why) ||
			!rom_url_matches(&pattern, url, host_only))
			continue;
		allowed = true;
		*private = DatumGetBool(rom_value(&set, i, 3, &isnull));
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	return allowed;
}

Jsonb *
rom_reach_refusal(const char *role, const RomUrl *url)
{
	RomUrl		pattern = *url;

	pattern.path = "/*";
	return rom_error_make(ERRCODE_INSUFFICIENT_PRIVILEGE,
						  psprintf("workflows of role \"%s\" may not send HTTP requests to \"%s\"", role,
								   pnstrdup(rom_url_text(url), strcspn(rom_url_text(url), "?"))),
						  NULL,
						  psprintf("The owner of extension \"romancy\" can allow it, with romancy.allow_http(%s, %s%s).",
								   quote_literal_cstr(quote_identifier(role)), quote_literal_cstr(rom_url_text(&pattern)),
								   rom_address_host_is_private(url->host) ? ", private => true" : ""),
						  NULL);
}

void
rom_reach_refuse(Oid role, const RomUrl *url)
{
	rom_error_raise(rom_reach_refusal(GetUserNameFromId(role, false), url));
}

/* check_owner raises 42501 unless the caller is the extension's owner, a member of it, or a superuser. */
static void
check_owner(const char *function)
{
	rom_context_refuse_handler(function);
	if (!has_privs_of_role(GetUserId(), rom_extension_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("It is for the owner of extension \"romancy\".")));
}

/* role_arg reads the role's name. */
static char *
role_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"role\" must not be null")));
	if (!OidIsValid(PG_GETARG_OID(0)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role does not exist")));
	return GetUserNameFromId(PG_GETARG_OID(0), false);
}

/* pattern_arg reads a pattern, in the one form that is stored. */
static char *
pattern_arg(FunctionCallInfo fcinfo)
{
	char	   *text = rom_arg_text(fcinfo, 1, "url_pattern");
	RomUrl		pattern;
	const char *why;

	if (!rom_url_parse_pattern(text, &pattern, &why))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid URL pattern \"%s\"", text),
				 errdetail("The reason: %s.", why),
				 errhint("A pattern is such as \"https://api.example.com/v1/*\"; the host may be \"*\" or \"*.example.com\", the port \"*\".")));
	return rom_url_text(&pattern);
}

/*
 * romancy.allow_http(role regrole, url_pattern text, private boolean) -> void
 *
 * Lets the workflows of the role, and of roles that have its privileges, send requests to URLs that match. private (null:
 * false): also where the address is loopback, private, link-local or reserved. A rule that is there is replaced; a notice says so where that
 * takes private addresses away. For the extension's owner. Errors: 42501 for others, RM012 for what is no pattern, RM004 in a workflow.
 */
Datum
romancy_allow_http(PG_FUNCTION_ARGS)
{
	static RomStatement upsert = {
		"INSERT INTO romancy.t_http_rule (role, url_pattern, private) VALUES ($1, $2, $3)"
		" ON CONFLICT (role, url_pattern) DO UPDATE SET private = excluded.private",
		3, {TEXTOID, TEXTOID, BOOLOID}
	};
	static RomStatement select = {
		"SELECT 1 FROM romancy.t_http_rule WHERE role = $1 AND url_pattern = $2 AND private",
		2, {TEXTOID, TEXTOID}
	};
	RomEngine	engine;
	Datum		values[3];
	bool		private;
	bool		was_private;

	check_owner("allow_http");
	values[0] = CStringGetTextDatum(role_arg(fcinfo));
	values[1] = CStringGetTextDatum(pattern_arg(fcinfo));
	private = rom_arg_bool_opt(fcinfo, 2, false);
	values[2] = BoolGetDatum(private);
	rom_engine_begin(&engine);
	was_private = rom_execute(&select, values, NULL, 1) > 0;
	rom_execute(&upsert, values, NULL, 0);
	rom_engine_end(&engine);
	rom_sender_allowed();
	if (was_private && !private)
		ereport(NOTICE,
				(errmsg("workflows of role \"%s\" may not reach private addresses by \"%s\" any more", TextDatumGetCString(values[0]), TextDatumGetCString(values[1])),
				 errhint("To allow them, call romancy.allow_http() with private => true.")));
	PG_RETURN_VOID();
}

/*
 * romancy.deny_http(role regrole, url_pattern text) -> bigint
 *
 * Takes back what allow_http gave, for one pattern or (null) for all of the role; how many rules went. Requests under way go on. Errors
 * as allow_http.
 */
Datum
romancy_deny_http(PG_FUNCTION_ARGS)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_http_rule WHERE role = $1 AND ($2 IS NULL OR url_pattern = $2)",
		2, {TEXTOID, TEXTOID}
	};
	RomEngine	engine;
	Datum		values[2] = {0};
	bool		nulls[2] = {false, PG_ARGISNULL(1)};
	int64		n;

	check_owner("deny_http");
	values[0] = CStringGetTextDatum(role_arg(fcinfo));
	if (!nulls[1])
		values[1] = CStringGetTextDatum(pattern_arg(fcinfo));
	rom_engine_begin(&engine);
	n = rom_execute(&delete, values, nulls, 0);
	rom_engine_end(&engine);
	PG_RETURN_INT64(n);
}
