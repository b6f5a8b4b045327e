/*-------------------------------------------------------------------------
 *
 * spec.h
 *		What an HTTP activity is defined by: the document that define_activity(http) takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_SPEC_H
#define ROM_HTTP_SPEC_H

#include "utils/jsonb.h"

/* Longest time that a request may be given, in milliseconds. */
#define ROM_HTTP_TIMEOUT_MAX 3600000

typedef enum RomHttpEncoding
{
	ROM_HTTP_JSON,				/* the value as JSON */
	ROM_HTTP_TEXT,				/* a string's characters */
	ROM_HTTP_FORM,				/* an object's members, as forms send them */
	ROM_HTTP_BASE64				/* the bytes that a string stands for */
} RomHttpEncoding;

typedef enum RomHttpResult
{
	ROM_HTTP_RESULT_AUTO,		/* JSON, else text, else base64 */
	ROM_HTTP_RESULT_JSON,		/* JSON, or it fails */
	ROM_HTTP_RESULT_TEXT,
	ROM_HTTP_RESULT_FULL,		/* {status, headers, body} */
	ROM_HTTP_RESULT_NONE		/* null */
} RomHttpResult;

typedef struct RomHttpSpec
{
	const char *method;
	char	   *url;			/* a template */
	int			nheaders;
	char	  **names;
	char	  **values;			/* templates */
	bool		has_body;
	char	   *body;			/* a path into the input; NULL: all of it */
	RomHttpEncoding encoding;
	int			timeout_ms;		/* 0: romancy.http_timeout */
	RomHttpResult result;
	char	   *expect;			/* "2xx", "200,404" */
	bool		callback;		/* a 202 leaves the step to a call of
								 * complete_activity() */
} RomHttpSpec;

/* Reads and checks the document; false with *why, a sentence. Raises nothing for what is wrong with it. In the current context. */
extern bool rom_spec_read(Jsonb *http, RomHttpSpec *spec, const char **why);

/* May a request have a header of this name? */
extern bool rom_spec_header_name(const char *name);

/* May a request have this method? Its name, which stays, or NULL. */
extern const char *rom_spec_method(const char *name);

/* Does a status meet "2xx" or "200,404"? */
extern bool rom_spec_expects(const char *expect, long status);

/* Registers the check of definitions; called once from _PG_init. */
extern void rom_spec_init(void);

#endif							/* ROM_HTTP_SPEC_H */
