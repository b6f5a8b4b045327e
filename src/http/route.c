/*-------------------------------------------------------------------------
 *
 * route.c
 *		The way to a destination, or to the URL of a queue: its URL, headers and signing keys, and whether requests may go there.
 *
 * A definition is checked with the rights of the role that defines; each request with those of the destination's owner, by the
 * rules and secrets of that moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "base/errors.h"
#include "defs/namespace.h"
#include "http/header.h"
#include "http/library.h"
#include "http/reach.h"
#include "http/route.h"
#include "http/secret.h"
#include "http/spec.h"
#include "outbox/destination.h"
#include "outbox/sign.h"

#define HEADERS_MAX 50

/* header_name: may a request that may be signed have a header of this name? */
static bool
header_name(const char *name)
{
	/* what a format or a signature says */
	return rom_spec_header_name(name) && pg_strcasecmp(name, "content-type") != 0 && pg_strcasecmp(name, "content-encoding") != 0 &&
		pg_strncasecmp(name, "ce-", 3) != 0 && pg_strncasecmp(name, "webhook-", 8) != 0;
}

/* fill_headers makes the headers of a route; false with *why, a phrase. headers may be NULL. */
static bool
fill_headers(Jsonb *headers, RomHeaderFilling *with, RomRoute *route)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = "";

	if (headers == NULL)
		return true;
	if (!JB_ROOT_IS_OBJECT(headers) || JB_ROOT_COUNT(headers) > HEADERS_MAX)
	{
		*with->why = psprintf("it is not an object of at most %d strings", HEADERS_MAX);
		return false;
	}
	route->headers = palloc_array(char *, JB_ROOT_COUNT(headers) + 1);
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *value;

		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (!header_name(name) || v.type != jbvString)
		{
			*with->why = header_name(name) ? psprintf("header \"%s\" is not a string", name) :
				psprintf("these requests may not have a header \"%s\" of their own", name);
			return false;
		}
		value = rom_header_fill(pnstrdup(v.val.string.val, v.val.string.len), with);
		if (value == NULL)
		{
			*with->why = psprintf("header \"%s\": %s", name, *with->why);
			return false;
		}
		value = value[0] ? psprintf("%s: %s", name, value) : psprintf("%s;", name);
		route->headers[route->nheaders++] = pg_server_to_any(value, strlen(value), PG_UTF8);
		route->has_agent |= pg_strcasecmp(name, "user-agent") == 0;
	}
	return true;
}

/* find_keys reads the signing secret; false with *why, a phrase. */
static bool
find_keys(const char *name, const RomHeaderFilling *with, RomRoute *route)
{
	if (name == NULL)
		return true;
	/* it signs, and is not sent: so it may be used without TLS */
	route->keys = rom_secret_value(with->namespace, name, with->url, true, with->why);
	if (route->keys == NULL)
		return false;
	route->secrets = lappend(route->secrets, route->keys);
	return rom_sign_check(route->keys, with->why);
}

/* begin begins to make a route. */
static void
begin(int32 namespace, const RomUrl *url, bool private, RomRoute *route, RomHeaderFilling *with, const char **why)
{
	memset(route, 0, sizeof(RomRoute));
	memset(with, 0, sizeof(RomHeaderFilling));
	route->private = private;
	with->namespace = namespace;
	with->url = url;
	with->clear = private;
	with->secrets = &route->secrets;
	with->why = why;
}

bool
rom_route_fill(int32 namespace, const RomUrl *url, bool private, Jsonb *headers, const char *signing_secret, RomRoute *route, const char **why)
{
	RomHeaderFilling with;

	begin(namespace, url, private, route, &with, why);
	route->url = rom_url_text(url);
	route->label = psprintf("POST %s", pnstrdup(route->url, strcspn(route->url, "?")));
	return fill_headers(headers, &with, route) && find_keys(signing_secret, &with, route);
}

bool
rom_route_make(const RomReceiver *receiver, RomRoute *route, const char **why)
{
	Oid			owner = get_role_oid(receiver->owner, true);
	RomUrl		url;
	bool		private;

	memset(route, 0, sizeof(RomRoute));
	if (!rom_url_parse(receiver->url, &url, why))
	{
		*why = psprintf("the URL cannot be used: %s", *why);
		return false;
	}
	if (OidIsValid(owner) && !rom_namespace_may_use(receiver->namespace, owner))
	{
		*why = psprintf("role \"%s\" may not use romancy here any more: romancy.grant_usage() lets it", receiver->owner);
		return false;
	}
	if (!OidIsValid(owner) || !rom_reach_allowed(owner, &url, false, &private))
	{
		*why = psprintf("role \"%s\" may not send HTTP requests to \"%s\": romancy.allow_http() lets it", receiver->owner,
						pnstrdup(rom_url_text(&url), strcspn(rom_url_text(&url), "?")));
		return false;
	}
	return rom_route_fill(receiver->namespace, &url, private, receiver->headers, receiver->signing_secret, route, why);
}

void
rom_route_wrong(const char *argument, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("argument \"%s\" cannot be used", argument),
			 errdetail("The reason: %s.", why)));
}

void
rom_route_check(int32 namespace, const RomUrl *url, bool private, Jsonb *headers, const char *signing_secret)
{
	RomHeaderFilling with;
	RomRoute	route;
	const char *why = "";

	begin(namespace, url, private, &route, &with, &why);
	if (!fill_headers(headers, &with, &route))
		rom_route_wrong("headers", why);
	if (!find_keys(signing_secret, &with, &route))
		rom_route_wrong("signing_secret", why);
}

/* check is RomDestinationCheck. */
static void
check(int32 namespace, const char *text, Jsonb *headers, const char *signing_secret)
{
	RomUrl		url;
	const char *why = "";
	bool		private;

	if (!rom_url_parse(text, &url, &why))
		rom_route_wrong("url", why);
	rom_library_require();
	if (!rom_reach_allowed(GetUserId(), &url, false, &private))
		rom_reach_refuse(GetUserId(), &url);
	rom_route_check(namespace, &url, private, headers, signing_secret);
}

void
rom_route_init(void)
{
	rom_destination_on_url(check);
}
