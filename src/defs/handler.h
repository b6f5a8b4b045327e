/*-------------------------------------------------------------------------
 *
 * handler.h
 *		Names of handlers: parts that definition.c alone uses.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HANDLER_H
#define ROM_HANDLER_H

/* The function(jsonb) that name, read as SQL reads a function's name, means under path for the current user; InvalidOid when there is none. */
extern Oid	rom_handler_lookup(const char *name, const char *path);

/* Could name be a function's, as SQL reads one ("f", "schema.f")? */
extern bool rom_handler_name_valid(const char *name);

/* A search_path as it is recorded for role. */
extern char *rom_path_record(const char *path, Oid role);

#endif							/* ROM_HANDLER_H */
