/*-------------------------------------------------------------------------
 *
 * inbox.c
 *		Requests to an instance and results for its steps, as rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "engine/inbox.h"

static RomStatement insert_item = {
	"insert into romancy.t_inbox (instance_id, kind, step, result, error, detail)"
	" values ($1, $2, $3, $4, $5, $6)",
	6, {UUIDOID, INT2OID, TEXTOID, JSONBOID, JSONBOID, JSONBOID}
};

void
rom_inbox_insert(const pg_uuid_t *id, RomInboxKind kind, const char *step,
				 Jsonb *result, Jsonb *error, Jsonb *detail)
{
	Datum		values[6];
	bool		nulls[6] = {false, false, step == NULL, result == NULL,
	error == NULL, detail == NULL};

	values[0] = UUIDPGetDatum(id);
	values[1] = Int16GetDatum((int16) kind);
	values[2] = step ? CStringGetTextDatum(step) : (Datum) 0;
	values[3] = PointerGetDatum(result);
	values[4] = PointerGetDatum(error);
	values[5] = PointerGetDatum(detail);
	rom_execute(&insert_item, values, nulls, 0);
}
