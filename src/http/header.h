/*-------------------------------------------------------------------------
 *
 * header.h
 *		Templates of headers, filled in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_HEADER_H
#define ROM_HTTP_HEADER_H

#include "nodes/pg_list.h"

#include "http/url.h"

/* The values that a template is filled with. url NULL: nothing, it is only checked. */
typedef struct RomHeaderFilling
{
	bool		values;			/* {path} is a value of the input; else it is
								 * nothing but text */
	Jsonb	   *input;
	int32		namespace;
	const RomUrl *url;
	bool		clear;			/* secrets may go without TLS */
	List	  **secrets;		/* the values that were put in are added */
	const char **why;			/* a phrase, where it cannot be done */
} RomHeaderFilling;

/* A header's value, in the current context; NULL with *why where it cannot be made. Reads secrets: enters the engine by itself. */
extern char *rom_header_fill(const char *template, RomHeaderFilling *with);

/* Checks a template, of which no secret is read. values: {path} in it is a value of an input. False with *why, a phrase. */
extern bool rom_header_check(const char *template, bool values, const char **why);

#endif							/* ROM_HTTP_HEADER_H */
