/*-------------------------------------------------------------------------
 *
 * inbox.c
 *		Requests to an instance and results for its steps, as rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/table.h"
#include "instances/document.h"
#include "instances/inbox.h"

void
rom_inbox_insert(const pg_uuid_t *id, RomInboxKind kind, const char *step,
				 Jsonb *result, Jsonb *error, Jsonb *detail)
{
	static RomTable table = {
		"t_inbox", 9, {
			"instance_id", "id", "kind", "step", "result", "error", "detail", "created_at", "document"
		}
	};
	Datum		values[9];
	bool		nulls[9] = {false, false, false, step == NULL, true,
	error == NULL, detail == NULL, false, true};
	pg_uuid_t	document;

	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(rom_table_next_id("t_inbox_id_seq"));
	values[2] = Int16GetDatum((int16) kind);
	values[3] = step ? CStringGetTextDatum(step) : (Datum) 0;
	rom_document_columns(id, result, &document, values, nulls, 4, 8);
	values[5] = PointerGetDatum(error);
	values[6] = PointerGetDatum(detail);
	values[7] = TimestampTzGetDatum(GetCurrentTimestamp());
	rom_table_insert(&table, values, nulls);
}
