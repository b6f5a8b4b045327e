/*-------------------------------------------------------------------------
 *
 * format.h
 *		Events as HTTP requests carry them: the formats of CloudEvents 1.0.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_FORMAT_H
#define ROM_OUTBOX_FORMAT_H

#include "outbox/destination.h"
#include "outbox/take.h"

/* A request's part that its events make. */
typedef struct RomFormatted
{
	char	   *body;			/* in UTF-8, or the event's bytes; "" without
								 * data */
	size_t		length;
	char	   *content_type;	/* NULL: none */
	int			nheaders;
	char	  **headers;		/* "Name: value" of attributes */
} RomFormatted;

/* Formats events (one, unless the format is batch) in the current context. Raises an error where a text has no form in UTF-8. */
extern void rom_format_events(RomFormat format, const RomTaken *events, int n, RomFormatted *to);

/* A text as the value of a header: printable ASCII, all else, quotes and "%" percent-encoded in UTF-8. */
extern char *rom_format_header(const char *value);

#endif							/* ROM_OUTBOX_FORMAT_H */
