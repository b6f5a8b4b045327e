/*-------------------------------------------------------------------------
 *
 * spec.c
 *		What an HTTP activity is defined by: the document that define_activity(http) takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "defs/activity_definition.h"
#include "http/header.h"
#include "http/library.h"
#include "http/reach.h"
#include "http/spec.h"

#define HEADERS_MAX 50

const char *
rom_spec_method(const char *name)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

	for (int i = 0; i < lengthof(methods); i++)
		if (pg_strcasecmp(name, methods[i]) == 0)
			return methods[i];
	return NULL;
}

bool
rom_spec_header_name(const char *name)
{
	/* what the connection, or the engine, says itself */
	static const char *const others[] = {
		"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
		"proxy-authorization", "proxy-connection", "idempotency-key", "romancy-callback", "traceparent", "accept-encoding"
	};

	for (int i = 0; i < lengthof(others); i++)
		if (pg_strcasecmp(name, others[i]) == 0)
			return false;
	if (name[0] == '\0' || strlen(name) > 100)
		return false;
	for (const char *p = name; *p; p++)
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9') &&
			strchr("!#$%&'*+-.^_`|~", *p) == NULL)
			return false;
	return true;
}

/* expect_ok: is it a list of statuses and classes of them? */
static bool
expect_ok(const char *expect)
{
	for (const char *p = expect;; p += 4)
	{
		if (p[0] < '1' || p[0] > '5' ||
			!((p[1] == 'x' && p[2] == 'x') ||
			  (p[1] >= '0' && p[1] <= '9' && p[2] >= '0' && p[2] <= '9')))
			return false;
		if (p[3] == '\0')
			return true;
		if (p[3] != ',')
			return false;
	}
}

bool
rom_spec_expects(const char *expect, long status)
{
	for (const char *p = expect;; p += 4)
	{
		if (p[1] == 'x' ? status / 100 == p[0] - '0' : status == atol(p))
			return true;
		if (p[3] == '\0')
			return false;
	}
}

/* read_headers reads member "headers", an object of strings. */
static bool
read_headers(Jsonb *headers, RomHttpSpec *spec, const char **why)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(headers) || JB_ROOT_COUNT(headers) > HEADERS_MAX)
	{
		*why = psprintf("Key \"headers\" is not an object of at most %d strings.", HEADERS_MAX);
		return false;
	}
	spec->names = palloc_array(char *, JB_ROOT_COUNT(headers) + 1);
	spec->values = palloc_array(char *, JB_ROOT_COUNT(headers) + 1);
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			spec->names[spec->nheaders] = pnstrdup(v.val.string.val, v.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (!rom_spec_header_name(spec->names[spec->nheaders]))
		{
			*why = psprintf("A request may not have a header \"%s\" of its own.", spec->names[spec->nheaders]);
			return false;
		}
		if (v.type != jbvString)
		{
			*why = psprintf("Header \"%s\" is not a string.", spec->names[spec->nheaders]);
			return false;
		}
		spec->values[spec->nheaders] = pnstrdup(v.val.string.val, v.val.string.len);
		if (!rom_header_check(spec->values[spec->nheaders], true, why))
		{
			*why = psprintf("Header \"%s\" is wrong: %s.", spec->names[spec->nheaders], *why);
			return false;
		}
		spec->nheaders++;
	}
	return true;
}

/* choice finds a word in a list that ends with NULL: its number, or -1. */
static int
choice(const char *word, const char *const *words)
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	return -1;
}

/* read_member reads one member of the document. value: as text, NULL where it is no string. */
static bool
read_member(const char *key, const char *value, RomHttpSpec *spec, const char **why)
{
	static const char *const encodings[] = {"json", "text", "form", "base64", NULL};
	static const char *const results[] = {"auto", "json", "text", "full", "none", NULL};
	static const char *const keys[] = {"method", "url", "body", "encoding", "timeout", "result", "expect", NULL};
	int			n = choice(key, keys);
	int			word;
	Interval	interval;
	int64		us = 0;

	if (n < 0 || value == NULL)
	{
		*why = n < 0 ? psprintf("There is no key \"%s\".", key) : psprintf("Key \"%s\" is not a string.", key);
		return false;
	}
	*why = psprintf("Key \"%s\" may not be \"%s\".", key, value);
	switch (n)
	{
		case 0:
			spec->method = rom_spec_method(value);
			return spec->method != NULL;
		case 1:
			spec->url = pstrdup(value);
			return true;
		case 2:
			spec->has_body = strcmp(value, "none") != 0;
			spec->body = strncmp(value, "input.", 6) == 0 && value[6] != '\0' ? pstrdup(value + 6) : NULL;
			return !spec->has_body || spec->body != NULL || strcmp(value, "input") == 0;
		case 3:
			word = choice(value, encodings);
			spec->encoding = (RomHttpEncoding) Max(word, 0);
			return word >= 0;
		case 4:
			if (!rom_arg_input_interval(value, &interval) || !rom_arg_interval_usec(&interval, &us) ||
				us < 1000 || us > ROM_HTTP_TIMEOUT_MAX * INT64CONST(1000))
			{
				*why = "Key \"timeout\" is not an interval from a millisecond to an hour.";
				return false;
			}
			spec->timeout_ms = (int) (us / 1000);
			return true;
		case 5:
			word = choice(value, results);
			spec->result = (RomHttpResult) Max(word, 0);
			return word >= 0;
		default:
			spec->expect = pstrdup(value);
			return expect_ok(value);
	}
}

/* check_url: is it a template of URLs that may be sent? */
static bool
check_url(const char *template, const char **why)
{
	char	   *text = rom_url_expand(template, NULL, why);
	RomUrl		url;

	if (text !=NULL && rom_url_parse(text, &url, why))
		return true;
	*why = psprintf("The URL cannot be sent: %s.", *why);
	return false;
}

bool
rom_spec_read(Jsonb *http, RomHttpSpec *spec, const char **why)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *key = "";
	bool		body_said = false;

	memset(spec, 0, sizeof(RomHttpSpec));
	spec->expect = "2xx";
	if (!JB_ROOT_IS_OBJECT(http))
	{
		*why = "It is not a JSON object.";
		return false;
	}
	it = JsonbIteratorInit(&http->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (strcmp(key, "headers") == 0)
		{
			if (v.type != jbvBinary || !read_headers(JsonbValueToJsonb(&v), spec, why))
			{
				if (v.type != jbvBinary)
					*why = "Key \"headers\" is not an object of strings.";
				return false;
			}
			continue;
		}
		if (strcmp(key, "callback") == 0)
		{
			*why = "Key \"callback\" is not true or false.";
			if (v.type != jbvBool)
				return false;
			spec->callback = v.val.boolean;
			continue;
		}
		body_said |= strcmp(key, "body") == 0;
		if (!read_member(key, v.type == jbvString ? pnstrdup(v.val.string.val, v.val.string.len) : NULL, spec, why))
			return false;
	}
	if (spec->url == NULL)
	{
		*why = "It has no \"url\".";
		return false;
	}
	if (spec->method == NULL)
		spec->method = "POST";
	if (!body_said)
		spec->has_body = strcmp(spec->method, "POST") == 0 || strcmp(spec->method, "PUT") == 0 ||
			strcmp(spec->method, "PATCH") == 0;
	if (spec->has_body && strcmp(spec->method, "HEAD") == 0)
	{
		*why = "A HEAD request has no body.";
		return false;
	}
	return check_url(spec->url, why);
}

/* check is RomHttpCheck: may the current user define the activity so? */
static void
check(const char *name, Jsonb *http)
{
	RomHttpSpec spec;
	const char *why;
	RomUrl		url;
	bool		private;

	if (!rom_spec_read(http, &spec, &why))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid HTTP request of activity \"%s\"", name),
				 errdetail("%s", why)));
	rom_library_require();
	(void) rom_url_parse(rom_url_expand(spec.url, NULL, &why), &url, &why);
	if (!rom_reach_allowed(GetUserId(), &url, true, &private))
		rom_reach_refuse(GetUserId(), &url);
}

void
rom_spec_init(void)
{
	rom_activity_definition_on_http(check);
}
