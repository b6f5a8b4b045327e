/*-------------------------------------------------------------------------
 *
 * document.c
 *		Large values of an instance, each written once.
 *
 * A result comes with a task, stands in the inbox and then in history, perhaps twice, and a large one was written with each
 * of these rows. Now they refer to a row of t_document. Its id is made of the instance's and the value's bytes, so a value that is to be
 * written is found by its id, wherever it came from. Two transactions may write one at once, and neither waits: column
 * copy keeps them apart.
 *
 * A row without a value stands for the instance's input, which is in the instance's own row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "base/rows.h"
#include "base/table.h"
#include "base/uuid.h"
#include "instances/document.h"

PG_FUNCTION_INFO_V1(romancy_document);

static RomTable documents = {"t_document", 4, {"id", "copy", "instance_id", "value"}, true};
static RomTable instances = {"t_instance", 2, {"instance_id", "input"}, true};

void
rom_document_id(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id)
{
	pg_cryptohash_ctx *cxt = pg_cryptohash_create(PG_SHA256);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	if (cxt == NULL || pg_cryptohash_init(cxt) < 0 ||
		pg_cryptohash_update(cxt, (const uint8 *) instance_id, sizeof(pg_uuid_t)) < 0 ||
		pg_cryptohash_update(cxt, (const uint8 *) VARDATA(value), VARSIZE(value) - VARHDRSZ) < 0 ||
		pg_cryptohash_final(cxt, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute the id of a document: %s", pg_cryptohash_error(cxt));
	pg_cryptohash_free(cxt);
	memcpy(id, digest, sizeof(pg_uuid_t));
}

/* exists: can this transaction see the document? */
static bool
exists(const pg_uuid_t *id)
{
	RomRows		rows;
	bool		found;

	rom_rows_open(&rows, &documents, "t_document_pkey", false);
	found = rom_rows_find(&rows, id);
	rom_rows_close(&rows);
	return found;
}

/* add inserts a document; value NULL: the instance's input. */
static void
add(const pg_uuid_t *instance_id, const pg_uuid_t *id, const Jsonb *value)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, false, value == NULL};
	int64		copy;

	rom_uuid_random(&copy, sizeof(copy));
	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(copy);
	values[2] = UUIDPGetDatum(instance_id);
	values[3] = PointerGetDatum(value);
	rom_table_insert(&documents, values, nulls);
	CommandCounterIncrement();
}

void
rom_document_put(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id)
{
	rom_document_id(instance_id, value, id);
	if (!exists(id))
		add(instance_id, id, value);
}

void
rom_document_columns(const pg_uuid_t *instance_id, Jsonb *value, pg_uuid_t *id,
					 Datum *values, bool *nulls, int value_at, int document_at)
{
	bool		large = ROM_DOCUMENT_IS_LARGE(value);

	if (large)
		rom_document_put(instance_id, value, id);
	nulls[value_at] = value == NULL || large;
	values[value_at] = PointerGetDatum(value);
	nulls[document_at] = !large;
	values[document_at] = UUIDPGetDatum(id);
}

void
rom_document_note_input(const pg_uuid_t *instance_id, const Jsonb *input)
{
	pg_uuid_t	id;

	if (!ROM_DOCUMENT_IS_LARGE(input))
		return;
	rom_document_id(instance_id, input, &id);
	add(instance_id, &id, NULL);
}

/* open_rows opens a table to read what a SELECT would see now or, active, what the running query sees. */
static void
open_rows(RomRows *rows, RomTable *table, const char *index, bool active)
{
	if (active)
		rom_rows_open_active(rows, table, index);
	else
		rom_rows_open_select(rows, table, index, false);
}

/* input_of is the input of an instance, or NULL. */
static Jsonb *
input_of(const pg_uuid_t *instance_id, bool active)
{
	RomRows		rows;
	Jsonb	   *input = NULL;
	bool		isnull;

	open_rows(&rows, &instances, "t_instance_pkey", active);
	if (rom_rows_find(&rows, instance_id))
	{
		Datum		value = rom_rows_column(&rows, 1, &isnull);

		if (!isnull)
			input = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
	}
	rom_rows_close(&rows);
	return input;
}

/* value_of is the document's value, or NULL. */
static Jsonb *
value_of(const pg_uuid_t *id, bool active)
{
	RomRows		rows;
	Jsonb	   *found = NULL;

	open_rows(&rows, &documents, "t_document_pkey", active);
	if (rom_rows_find(&rows, id))
	{
		bool		isnull;
		Datum		value = rom_rows_column(&rows, 3, &isnull);

		if (!isnull)
			found = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
		else
		{
			value = rom_rows_column(&rows, 2, &isnull);
			found = input_of(DatumGetUUIDP(value), active);
		}
	}
	rom_rows_close(&rows);
	return found;
}

Jsonb *
rom_document_find(const pg_uuid_t *id)
{
	Jsonb	   *value = value_of(id, false);

	/* a query that began before its instance was deleted */
	if (value == NULL && ActiveSnapshotSet())
		value = value_of(id, true);
	return value;
}

Jsonb *
rom_document_get(const pg_uuid_t *id)
{
	Jsonb	   *value = rom_document_find(id);

	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a value of a workflow instance is not there any more"),
				 errdetail("The instance has been deleted meanwhile.")));
	return value;
}

/* romancy.t_document_value(id uuid) -> jsonb. Errors: 55000 its instance has been deleted meanwhile. */
Datum
romancy_document(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(rom_document_get(PG_GETARG_UUID_P(0)));
}
