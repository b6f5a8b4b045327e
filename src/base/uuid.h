/*-------------------------------------------------------------------------
 *
 * uuid.h
 *		Uuids: new ones, their text, arrays of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_UUID_H
#define ROM_UUID_H

#include "utils/uuid.h"

/* uuid version 7, RFC 9562: 48 bits of milliseconds, then random bits; monotonic within a backend. */
extern void rom_uuid_v7(pg_uuid_t *id);

/* n random bytes (at most 1,024), as of pg_strong_random(): error XX000 where there are none. */
extern void rom_uuid_random(void *bytes, int n);

/* Writes the text of a uuid, ROM_UUID_TEXT characters without an end, and returns the place after it. */
#define ROM_UUID_TEXT 36
extern char *rom_uuid_write(const pg_uuid_t *id, char *text);

/* The text of a uuid, palloc'd; and back: error 22P02 for what is none. */
extern char *rom_uuid_text(const pg_uuid_t *id);
extern pg_uuid_t rom_uuid_from_text(const char *text);

/* Reads the 36 characters at text; false when they are no uuid as rom_uuid_text() writes it. */
extern bool rom_uuid_read(const char *text, pg_uuid_t *id);

/* The value of a hex digit as it writes them, in lower case; else -1. */
extern int	rom_uuid_digit(char c);

/* A uuid[] of n ids, palloc'd. */
extern Datum rom_uuid_array(const pg_uuid_t *ids, int n);

#endif							/* ROM_UUID_H */
