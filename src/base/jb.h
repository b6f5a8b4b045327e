/*-------------------------------------------------------------------------
 *
 * jb.h
 *		Building and reading small jsonb objects.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_JB_H
#define ROM_JB_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* An object (or array) under construction, in the current context. Strings are not copied until rom_jb_end(). */
typedef struct RomJb
{
	JsonbParseState *state;
	JsonbValue *result;
} RomJb;

extern void rom_jb_begin(RomJb *jb);	/* an object */
extern Jsonb *rom_jb_end(RomJb *jb);

/* Members; NULL (an infinite time) adds nothing. */
extern void rom_jb_text(RomJb *jb, const char *key, const char *value);
extern void rom_jb_int(RomJb *jb, const char *key, int64 value);
extern void rom_jb_bool(RomJb *jb, const char *key, bool value);
extern void rom_jb_time(RomJb *jb, const char *key, TimestampTz value); /* ISO 8601,
																		 * microseconds */
extern void rom_jb_json(RomJb *jb, const char *key, Jsonb *value);
extern void rom_jb_null(RomJb *jb, const char *key);

/* Nested: a member that is an array of documents, built by elements. */
extern void rom_jb_begin_array(RomJb *jb, const char *key);
extern void rom_jb_element(RomJb *jb, Jsonb *value);
extern void rom_jb_end_array(RomJb *jb);

/* A document, a C string as a value, which points into it. */
extern void rom_jb_value(Jsonb *document, JsonbValue *v);
extern void rom_jb_string(JsonbValue *v, const char *s);

/*
 * A whole array of n documents (NULL: null); an object of up to ROM_JB_MEMBERS values, its keys in the order that jsonb has: shorter ones
 * first. Documents are copied as they are, so that large ones cost little.
 */
#define ROM_JB_MEMBERS 8
extern Jsonb *rom_jb_array(Jsonb **elements, int n);
extern Jsonb *rom_jb_object(const char *const *keys, const JsonbValue *values, int n);

/* The document null, and a string. */
extern Jsonb *rom_jb_null_document(void);
extern Jsonb *rom_jb_string_document(const char *value);
extern bool rom_jb_is_null(Jsonb *jb);

/* Has the document numbers that take a multiple of its own size as text, like 1e100000? */
extern bool rom_jb_swells(Jsonb *document);

/* Members of an object; NULL / fallback / DT_NOEND when absent or of another type. Results are copies. */
extern bool rom_jb_has(Jsonb *jb, const char *key);
extern char *rom_jb_get_text(Jsonb *jb, const char *key);
extern int64 rom_jb_get_int(Jsonb *jb, const char *key, int64 fallback);
extern bool rom_jb_get_bool(Jsonb *jb, const char *key, bool fallback);
extern TimestampTz rom_jb_get_time(Jsonb *jb, const char *key);
extern Jsonb *rom_jb_get_json(Jsonb *jb, const char *key);

/* A copy of an object with a member more. */
extern Jsonb *rom_jb_with(Jsonb *object, const char *key, Jsonb *value);

/* An integer as a jsonb document, and back (0 for what is none). */
extern Jsonb *rom_jb_int_document(int64 value);
extern int64 rom_jb_document_int(Jsonb *value);

#endif							/* ROM_JB_H */
