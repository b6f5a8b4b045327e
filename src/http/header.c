/*-------------------------------------------------------------------------
 *
 * header.c
 *		Templates of headers, filled in.
 *
 * {path} is a value of the input and {{secret:name}} a secret. A value of an input can never end a
 * header: control characters are refused. A text that looks like a secret and is none is refused, too: it is a mistake.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "http/header.h"
#include "http/secret.h"

/* Longest header, in bytes. */
#define HEADER_MAX 16000

/* has_controls: is there a character that could end a header? */
static bool
has_controls(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return true;
	return false;
}

/* fill_part appends what one part in braces stands for. */
static bool
fill_part(StringInfo to, char *name, bool secret, RomHeaderFilling *with)
{
	char	   *value;

	if (with->url == NULL)
		return true;
	value = secret ? rom_secret_value(with->namespace, name, with->url, with->clear, with->why) :
		rom_url_scalar(with->input, name);
	if (value == NULL)
	{
		if (!secret)
			*with->why = psprintf("the input has no string, number or boolean \"%s\"", name);
		return false;
	}
	if (!secret && has_controls(value))
	{
		*with->why = psprintf("\"%s\" of the input has a control character", name);
		return false;
	}
	if (secret)
		*with->secrets = lappend(*with->secrets, value);
	appendStringInfoString(to, value);
	return true;
}

char *
rom_header_fill(const char *template, RomHeaderFilling *with)
{
	StringInfoData to;

	initStringInfo(&to);
	if (has_controls(template))
	{
		*with->why = "it has a control character";
		return NULL;
	}
	for (const char *p = template; *p; p++)
	{
		bool		secret = strncmp(p, "{{secret:", 9) == 0;
		const char *end = secret ? strstr(p, "}}") : strchr(p, '}');
		int			skip = secret ? 9 : 1;

		if (!secret && (strncmp(p, "{{", 2) == 0 || strncmp(p, "{secret:", 8) == 0))
		{
			*with->why = "a part in braces is no secret, which would be {{secret:name}}";
			return NULL;
		}
		if (*p != '{' || (!secret && !with->values))
		{
			appendStringInfoChar(&to, *p);
			continue;
		}
		if (end == NULL || end == p + skip)
		{
			*with->why = "a brace in it is not closed, or has nothing in it";
			return NULL;
		}
		if (!fill_part(&to, pnstrdup(p + skip, end - p - skip), secret, with))
			return NULL;
		p = end + (secret ? 1 : 0);
	}
	if (to.len > HEADER_MAX)
	{
		*with->why = "it is too long";
		return NULL;
	}
	return to.data;
}

bool
rom_header_check(const char *template, bool values, const char **why)
{
	RomHeaderFilling with = {.values = values,.why = why};

	return rom_header_fill(template, &with) != NULL;
}
