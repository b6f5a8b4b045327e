/*-------------------------------------------------------------------------
 *
 * redact.h
 *		Secrets that a server sends back, taken out of its answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_REDACT_H
#define ROM_HTTP_REDACT_H

#include "nodes/pg_list.h"

typedef struct RomBytes
{
	const char *data;
	size_t		length;
} RomBytes;

/* The bytes with "[secret]" in the place of the values of secrets, texts of the database. */
extern RomBytes rom_redact(RomBytes bytes, List *secrets);

#endif							/* ROM_HTTP_REDACT_H */
