/*-------------------------------------------------------------------------
 *
 * handler.h
 *		Functions as handlers: finding them, checking them, naming them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HANDLER_H
#define ROM_HANDLER_H

/* The function(jsonb) that name, read as SQL reads a function's name, means under path for the current user; InvalidOid when there is none. */
extern Oid	rom_handler_lookup(const char *name, const char *path);

/*
 * The function that a handler's text names under the session's search_path: 'fulfil_order', or with its arguments,
 * 'fulfil_order(jsonb)'. procedure: one with (jsonb, inout jsonb) as well. InvalidOid where there is none; *why (or NULL) is what the server
 * says of it then.
 */
extern Oid	rom_handler_by_text(char *handler, bool procedure, char **why);

/* Could name be a function's, as SQL reads one ("f", "schema.f")? */
extern bool rom_handler_name_valid(const char *name);

/* A search_path as it is recorded for role. */
extern char *rom_handler_record_path(const char *path, Oid role);

/*
 * The kinds of handlers. rom_handler_check() raises RM012 naming what is wrong unless
 * funcid is a function(jsonb) returns jsonb, VOLATILE and not STRICT, or, where procedure
 * says so, a procedure(jsonb, inout jsonb) without SET or SECURITY DEFINER. what and name:
 * for the message ("workflow", its name).
 */
extern void rom_handler_check(Oid funcid, bool procedure, const char *what,
							  const char *name);

/* Raises 42501 unless role may execute the function. */
extern void rom_handler_check_execute(Oid funcid, Oid role);

/* "schema.name(jsonb)": how handlers are stored; and back, InvalidOid when there is none. Rights are not looked at. */
extern char *rom_handler_signature(Oid funcid);
extern Oid	rom_handler_find(const char *signature);

/* Hash of a function's current body (prosrc, and prosqlbody), 0 when it was dropped. */
extern int64 rom_handler_body_hash(Oid funcid);

/*
 * Is the function of a language that keeps no state of its own in the session: SQL or PL/pgSQL? It does not find there
 * then what other calls have left.
 */
extern bool rom_handler_stateless(Oid funcid);

#endif							/* ROM_HANDLER_H */
