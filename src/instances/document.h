/*-------------------------------------------------------------------------
 *
 * document.h
 *		Large values of an instance, each written once.
 *
 * A value of ROM_DOCUMENT_BYTES or more that history or the inbox of an instance has is a row of t_document, to which they
 * refer by its id. Rows are never changed, and go with their instance.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DOCUMENT_H
#define ROM_DOCUMENT_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* From this size on a value has a row of its own; such a row takes 300 bytes of WAL. */
#define ROM_DOCUMENT_BYTES (16 * 1024)

/* Is value (or NULL) large? */
#define ROM_DOCUMENT_IS_LARGE(value) ((value) != NULL && VARSIZE(value) >= ROM_DOCUMENT_BYTES)

/* A value in SQL, of its column and that of the document's id, of which one is null. */
#define ROM_SQL_VALUE(column, document) "coalesce(" column ", romancy.t_document_value(" document "))"

/* The id that a value of an instance has. */
extern void rom_document_id(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id);

/* The document of the instance that has this value, written unless it is there. */
extern void rom_document_put(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id);

/*
 * Fills the two columns of a value (or NULL), of a row of the instance: the value itself or, of a large one, the id, which is kept in
 * *id. value_at and document_at: their places in values and nulls.
 */
extern void rom_document_columns(const pg_uuid_t *instance_id, Jsonb *value, pg_uuid_t *id,
								 Datum *values, bool *nulls, int value_at, int document_at);

/* Puts a value under a key of the instance's, for get_value(). Engine scope needed. */
extern void rom_document_set_value(const pg_uuid_t *instance_id, const char *key, Jsonb *value);

/* Notes that an instance's input is its value of that id, where it is large: then it is not written again. */
extern void rom_document_note_input(const pg_uuid_t *instance_id, const Jsonb *input);

/*
 * The value of a document, in the current context. It sees what a SELECT of the transaction would see now, else what
 * the query sees that runs, else what is committed. Error 55000 when its instance has been deleted meanwhile.
 */
extern Jsonb *rom_document_get(const pg_uuid_t *id);

/* The same for a function that a role may call by itself: error 42501 where it may not see the instance. The engine may. */
extern Jsonb *rom_document_show(const pg_uuid_t *id);

/* As rom_document_get(), but NULL then. */
extern Jsonb *rom_document_find(const pg_uuid_t *id);

#endif							/* ROM_DOCUMENT_H */
