/*-------------------------------------------------------------------------
 *
 * redact.c
 *		Secrets that a server sends back, taken out of its answer.
 *
 * They are looked for as they were sent, as a server writes them that takes the bytes of a header for Latin-1, and as JSON writes either with escapes: a failure's
 * body is kept as text, whatever it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "http/redact.h"

/* Shorter values would be found everywhere. */
#define LENGTH_MIN 4

/* as_latin1 is a text as it comes back from a server that takes a header's bytes for characters of Latin-1; NULL: the same. */
static char *
as_latin1(const char *text)
{
	StringInfoData to;
	bool		changed = false;

	initStringInfo(&to);
	for (const char *p = text; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		changed |= c >= 0x80;
		if (c < 0x80)
			appendStringInfoChar(&to, c);
		else
		{
			appendStringInfoChar(&to, 0xC0 | (c >> 6));
			appendStringInfoChar(&to, 0x80 | (c & 0x3F));
		}
	}
	return changed ? to.data : NULL;
}

/* longer orders texts, the longest first. */
static int
longer(const ListCell *a, const ListCell *b)
{
	size_t		la = strlen(lfirst(a));
	size_t		lb = strlen(lfirst(b));

	return la > lb ? -1 : la < lb;
}

/* read_hex reads four hexadecimal digits. */
static bool
read_hex(const char *p, const char *end, unsigned int *code)
{
	*code = 0;
	if (end - p < 4)
		return false;
	for (int i = 0; i < 4; i++)
	{
		if (!isxdigit((unsigned char) p[i]))
			return false;
		*code = *code * 16 + (isdigit((unsigned char) p[i]) ? p[i] - '0' : pg_ascii_tolower((unsigned char) p[i]) - 'a' + 10);
	}
	return true;
}

/* escaped reads what JSON writes as an escape at p, as UTF-8; how long it is there, 0 where it is none. */
static size_t
escaped(const char *p, const char *end, char *as)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	unsigned int code;
	unsigned int low;
	size_t		length = 6;
	const char *letter;

	if (end - p < 2 || *p != '\\' || p[1] == '\0')
		return 0;
	letter = strchr(letters, p[1]);
	if (letter != NULL)
	{
		as[0] = meanings[letter - letters];
		as[1] = '\0';
		return 2;
	}
	if (p[1] != 'u' || !read_hex(p + 2, end, &code) || code == 0)
		return 0;
	if (code >= 0xD800 && code < 0xDC00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' && read_hex(p + 8, end, &low) && low >= 0xDC00 && low < 0xE000)
	{
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
		length = 12;
	}
	(void) unicode_to_utf8(code, (unsigned char *) as);
	as[pg_utf_mblen((unsigned char *) as)] = '\0';
	return length;
}

/* reads_as is how long a text at p is that is the secret, or that JSON writes for it; 0 where it is another. */
static size_t
reads_as(const char *p, const char *end, const char *secret)
{
	const char *begin = p;

	while (*secret != '\0')
	{
		char		as[8];
		size_t		length = escaped(p, end, as);

		if (length > 0 && strncmp(secret, as, strlen(as)) == 0)
		{
			secret += strlen(as);
			p += length;
		}
		else if (p < end && *p == *secret)
		{
			secret++;
			p++;
		}
		else
			return 0;
	}
	return p - begin;
}

/* find finds a secret between at and end, or what JSON writes for it with escapes; *length: of what was found. NULL: it is not there. */
static const char *
find(const char *at, const char *end, const char *secret, bool escapes, size_t *length)
{
	if (!escapes)
	{
		*length = strlen(secret);
		return memmem(at, end - at, secret, *length);
	}
	while (at < end)
	{
		*length = reads_as(at, end, secret);
		if (*length > 0)
			return at;
		/* an escape is passed as a whole */
		at += *at == '\\' && end - at > 1 ? 2 : 1;
	}
	return NULL;
}

/* without is the bytes without a text. */
static RomBytes
without(RomBytes bytes, const char *secret, bool escapes)
{
	const char *at = bytes.data;
	const char *end = bytes.data + bytes.length;
	const char *found;
	size_t		length;
	StringInfoData to;

	found = find(at, end, secret, escapes, &length);
	if (found == NULL)
		return bytes;
	initStringInfo(&to);
	for (; found != NULL; found = find(at, end, secret, escapes, &length))
	{
		appendBinaryStringInfo(&to, at, found - at);
		appendStringInfoString(&to, "[secret]");
		at = found + length;
	}
	appendBinaryStringInfo(&to, at, end - at);
	bytes.data = to.data;
	bytes.length = to.len;
	return bytes;
}

RomBytes
rom_redact(RomBytes bytes, List *secrets)
{
	List	   *forms = NIL;
	ListCell   *lc;

	foreach(lc, secrets)
	{
		char	   *value = lfirst(lc);
		char	   *sent = pg_server_to_any(value, strlen(value), PG_UTF8);
		char	   *other = as_latin1(sent);

		forms = lappend(forms, sent);
		if (sent != value)
			forms = lappend(forms, value);
		if (other != NULL)
			forms = lappend(forms, other);
	}
	/* one may begin with another */
	list_sort(forms, longer);
	foreach(lc, forms)
	{
		if (strlen(lfirst(lc)) >= LENGTH_MIN)
			bytes = without(bytes, lfirst(lc), false);
	}
	if (bytes.length == 0 || memchr(bytes.data, '\\', bytes.length) == NULL)
		return bytes;
	foreach(lc, forms)
	{
		if (strlen(lfirst(lc)) >= LENGTH_MIN)
			bytes = without(bytes, lfirst(lc), true);
	}
	return bytes;
}
