/*-------------------------------------------------------------------------
 *
 * url.h
 *		URLs, patterns of URLs, and templates that inputs fill in.
 *
 * The parsers are strict, and a URL that is sent is put together from the parsed parts, so that the URL that was
 * checked and the URL that libcurl reads cannot differ. A text that is wrong raises no error here: *why has the reason.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_URL_H
#define ROM_URL_H

#include "utils/jsonb.h"

/* Longest URL, in bytes. */
#define ROM_URL_MAX 8000

/* The parts of a URL, or of a pattern. */
typedef struct RomUrl
{
	bool		tls;			/* https */
	char	   *host;			/* in small letters; a pattern's may be "*" or
								 * begin with "*." */
	int			port;			/* a pattern's may be 0: any */
	char	   *path;			/* from "/" on, with the query; a pattern's
								 * may end with "*" */
} RomUrl;

/* Parses a URL; false with *why, a phrase, where it is none that may be sent. Results are allocated in the current context, as in all below. */
extern bool rom_url_parse(const char *text, RomUrl *url, const char **why);

/* The same for a pattern of allow_http(): https://api.example.com/v1/{asterisk}. */
extern bool rom_url_parse_pattern(const char *text, RomUrl *url, const char **why);

/* The URL, or pattern, as text, in one form only. */
extern char *rom_url_text(const RomUrl *url);

/* Does the URL match the pattern? host_only: leave the path out of account. */
extern bool rom_url_matches(const RomUrl *pattern, const RomUrl *url, bool host_only);

/*
 * Fills the parts in braces of a template with values of the input, percent-encoded: {customer.id}. They may stand in the path and in
 * the query. input NULL: as an input of which every value is "x", to check the template. NULL with *why where it cannot be done.
 */
extern char *rom_url_expand(const char *template, Jsonb *input, const char **why);

/* The value of a dotted path in a document: NULL where there is none. */
extern Jsonb *rom_url_value(Jsonb *input, const char *path);

/* The same as text, for a string, number or boolean; NULL for all else. */
extern char *rom_url_scalar(Jsonb *input, const char *path);

/* Percent-encodes bytes of text, in UTF-8, onto a buffer. */
extern void rom_url_encode(StringInfo to, const char *text);

#endif							/* ROM_URL_H */
