/*-------------------------------------------------------------------------
 *
 * url.c
 *		URLs, patterns of URLs, and templates that inputs fill in.
 *
 * A URL here is scheme://host[:port]/path[?query] in ASCII, without user, password or fragment. Its path has no segment
 * "." or "..", also where it is percent-decoded, so no input can lead out of the path that a pattern allows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "http/url.h"

#define HOST_MAX 253

static bool
is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* parse_scheme reads "https://" or "http://" and moves *at behind it. */
static bool
parse_scheme(const char **at, bool *tls, const char **why)
{
	*tls = pg_strncasecmp(*at, "https://", 8) == 0;
	if (!*tls && pg_strncasecmp(*at, "http://", 7) != 0)
	{
		*why = "it does not begin with \"https://\" or \"http://\"";
		return false;
	}
	*at += *tls ? 8 : 7;
	return true;
}

/* check_host: is the text between at and end a host name, an IPv4 address, or an IPv6 address in brackets? */
static bool
check_host(const char *at, const char *end, bool pattern, const char **why)
{
	char		before = '.';

	*why = "its host is not a name or an address";
	if (end == at || end - at > HOST_MAX)
		return false;
	if (*at == '[')
	{
		char		address[INET6_ADDRSTRLEN + 1];
		struct in6_addr parsed;

		if (end[-1] != ']' || end - at - 2 >= sizeof(address))
			return false;
		memcpy(address, at + 1, end - at - 2);
		address[end - at - 2] = '\0';
		return inet_pton(AF_INET6, address, &parsed) == 1;
	}
	if (pattern && *at == '*')
	{
		at++;
		if (at == end)
			return true;
		if (*at++ != '.' || at == end)
			return false;
	}
	for (; at < end; before = *at++)
	{
		if (*at == '.' ? before == '.' : !is_alnum(*at) && *at != '-' && *at != '_')
			return false;
	}
	return before != '.';
}

/* parse_host reads host and port, and moves *at to what comes after them. */
static bool
parse_host(const char **at, bool pattern, RomUrl *url, const char **why)
{
	const char *end = *at + strcspn(*at, "/?#");
	const char *colon = NULL;

	if (memchr(*at, '@', end - *at) != NULL)
	{
		*why = "it has a user or a password";
		return false;
	}
	for (const char *p = end; p > *at && p[-1] != ']'; p--)
		if (p[-1] == ':')
			colon = p - 1;
	if (!check_host(*at, colon ? colon : end, pattern, why))
		return false;
	url->host = pnstrdup(*at, (colon ? colon : end) - *at);
	for (char *p = url->host; *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	url->port = url->tls ? 443 : 80;
	if (colon != NULL && pattern && end - colon == 2 && colon[1] == '*')
		url->port = 0;
	else if (colon != NULL)
	{
		url->port = 0;
		for (const char *p = colon + 1; p < end && url->port <= 65535; p++)
			url->port = *p >= '0' && *p <= '9' ? url->port * 10 + *p - '0' : 65536;
		if (url->port < 1 || url->port > 65535)
		{
			*why = "its port is not a number from 1 to 65535";
			return false;
		}
	}
	*at = end;
	return true;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* has_dots: is there a segment "." or ".." in the percent-decoded path? */
static bool
has_dots(const char *path)
{
	int			dots = 0;		/* so many dots is the segment, or -1 */

	for (const char *p = path;; p++)
	{
		char		c = *p;

		if (c == '%' && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0)
		{
			c = (char) (hex_value(p[1]) * 16 + hex_value(p[2]));
			p += 2;
			if (c == '\0' || c == '?')
				c = 'x';
		}
		/* some servers take a segment's name to end at ";" */
		if (c == '\0' || c == '?' || c == '/' || c == '\\' || c == ';')
		{
			if (dots == 1 || dots == 2)
				return true;
			if (c == '\0' || c == '?')
				return false;
			dots = c == ';' ? -1 : 0;
		}
		else
			dots = c == '.' && dots >= 0 ? dots + 1 : -1;
	}
}

/* check_path: may it be sent as it is? */
static bool
check_path(const char *path, const char **why)
{
	for (const char *p = path; *p; p++)
	{
		if (*p == '%' && (hex_value(p[1]) < 0 || hex_value(p[2]) < 0))
		{
			*why = "a \"%\" in it is not followed by two hexadecimal digits";
			return false;
		}
		if (!is_alnum(*p) && strchr("-._~%!$&'()*+,;=:@/?", *p) == NULL)
		{
			*why = "it has a character that has to be percent-encoded";
			return false;
		}
	}
	if (has_dots(path))
	{
		*why = "its path has a segment \".\" or \"..\"";
		return false;
	}
	return true;
}

/* parse reads a URL or a pattern. */
static bool
parse(const char *text, bool pattern, RomUrl *url, const char **why)
{
	const char *at = text;
	const char *star;

	memset(url, 0, sizeof(RomUrl));
	if (strlen(text) > ROM_URL_MAX)
	{
		*why = "it is longer than 8000 bytes";
		return false;
	}
	if (!parse_scheme(&at, &url->tls, why) || !parse_host(&at, pattern, url, why))
		return false;
	if (*at == '#' || strchr(at, '#') != NULL)
	{
		*why = "it has a fragment (\"#\")";
		return false;
	}
	url->path = *at == '/' ? pstrdup(at) : *at == '\0' ? pstrdup(pattern ? "/*" : "/") : psprintf("/%s", at);
	if (!check_path(url->path, why))
		return false;
	if (!pattern)
		return true;
	star = strchr(url->path, '*');
	if (strchr(url->path, '?') != NULL || (star != NULL && star[1] != '\0'))
	{
		*why = "its path may have one \"*\", at the end, and no query";
		return false;
	}
	return true;
}

bool
rom_url_parse(const char *text, RomUrl *url, const char **why)
{
	return parse(text, false, url, why);
}

bool
rom_url_parse_pattern(const char *text, RomUrl *url, const char **why)
{
	return parse(text, true, url, why);
}

char *
rom_url_text(const RomUrl *url)
{
	const char *scheme = url->tls ? "https" : "http";

	if (url->port == (url->tls ? 443 : 80))
		return psprintf("%s://%s%s", scheme, url->host, url->path);
	if (url->port == 0)
		return psprintf("%s://%s:*%s", scheme, url->host, url->path);
	return psprintf("%s://%s:%d%s", scheme, url->host, url->port, url->path);
}

bool
rom_url_matches(const RomUrl *pattern, const RomUrl *url, bool host_only)
{
	size_t		length = strlen(pattern->path);

	if (pattern->tls != url->tls || (pattern->port != 0 && pattern->port != url->port))
		return false;
	if (pattern->host[0] == '*' && pattern->host[1] == '.')
	{
		size_t		suffix = strlen(pattern->host + 1);
		size_t		host = strlen(url->host);

		if (host <= suffix || strcmp(url->host + host - suffix, pattern->host + 1) != 0)
			return false;
	}
	else if (pattern->host[0] != '*' && strcmp(pattern->host, url->host) != 0)
		return false;
	if (host_only)
		return true;
	if (pattern->path[length - 1] == '*')
		return strncmp(url->path, pattern->path, length - 1) == 0;
	return strlen(pattern->path) == strcspn(url->path, "?") && strncmp(url->path, pattern->path, length) == 0;
}

/* ---------------------------------------------------------------- templates */

Jsonb *
rom_url_value(Jsonb *input, const char *path)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum	   *parts = palloc_array(Datum, strlen(path) + 1);
	int			n = 0;
	Datum		value;

	for (;;)
	{
		size_t		length = strcspn(path, ".");

		parts[n++] = PointerGetDatum(cstring_to_text_with_len(path, length));
		if (path[length] == '\0')
			break;
		path += length + 1;
	}
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(input);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(construct_array(parts, n, TEXTOID, -1, false, TYPALIGN_INT));
	fcinfo->args[1].isnull = false;
	value = jsonb_extract_path(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(value);
}

char *
rom_url_scalar(Jsonb *input, const char *path)
{
	Jsonb	   *value = rom_url_value(input, path);
	JsonbValue	scalar;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &scalar))
		return NULL;
	switch (scalar.type)
	{
		case jbvString:
			return pnstrdup(scalar.val.string.val, scalar.val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(scalar.val.numeric)));
		case jbvBool:
			return pstrdup(scalar.val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

void
rom_url_encode(StringInfo to, const char *text)
{
	const char *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	for (const char *p = utf8; *p; p++)
	{
		if (is_alnum(*p) || strchr("-._~", *p) != NULL)
			appendStringInfoChar(to, *p);
		else
			appendStringInfo(to, "%%%02X", (unsigned char) *p);
	}
}

char *
rom_url_expand(const char *template, Jsonb *input, const char **why)
{
	StringInfoData to;
	const char *at = template;
	bool		tls;
	const char *path;
	const char *query = strchr(template, '?');

	if (!parse_scheme(&at, &tls, why))
		return NULL;
	path = at + strcspn(at, "/?#");
	if (strcspn(at, "{}") < path - at)
	{
		*why = "a part in braces stands in its host";
		return NULL;
	}
	initStringInfo(&to);
	appendBinaryStringInfo(&to, template, path - template);
	for (at = path; *at; at++)
	{
		const char *end;
		char	   *name;
		char	   *value;

		if (*at != '{')
		{
			appendStringInfoChar(&to, *at);
			continue;
		}
		if (at[1] == '{' || strncmp(at, "{secret:", 8) == 0)
		{
			*why = "a part in braces is no path into an input (secrets may stand in headers only)";
			return NULL;
		}
		end = strchr(at, '}');
		if (end == NULL || end == at + 1)
		{
			*why = "a brace in it is not closed, or has nothing in it";
			return NULL;
		}
		name = pnstrdup(at + 1, end - at - 1);
		value = input != NULL ? rom_url_scalar(input, name) : "x";
		if (value == NULL)
		{
			*why = psprintf("the input has no string, number or boolean \"%s\"", name);
			return NULL;
		}
		if (value[0] == '\0' && (query == NULL || at < query))
		{
			*why = psprintf("\"%s\" of the input is empty, and part of the path", name);
			return NULL;
		}
		rom_url_encode(&to, value);
		at = end;
	}
	return to.data;
}

PG_FUNCTION_INFO_V1(romancy_http_url);

/* romancy.t_http_url(template text, input jsonb) -> text: the URL as it is sent. RM012 with the reason where it is none. */
Datum
romancy_http_url(PG_FUNCTION_ARGS)
{
	const char *why = "it is null";
	char	   *expanded = NULL;
	RomUrl		url;

	if (!PG_ARGISNULL(0))
		expanded = rom_url_expand(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), &why);
	if (expanded == NULL || !rom_url_parse(expanded, &url, &why))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("the URL cannot be sent: %s", why)));
	PG_RETURN_TEXT_P(cstring_to_text(rom_url_text(&url)));
}
