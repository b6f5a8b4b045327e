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
 * A part of a value may be large, too, and come from elsewhere or go there: a message in the result of receive(), the
 * elements of the result of map(). So a large member of an object or an array is a document of its own, and stands
 * in the value as null: the member with number places[i], from 0, is document parts[i].
 *
 * A row without a value stands for the instance's input, which is in the instance's own row, or a member of it: places has the numbers that
 * lead there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/instance.h"

PG_FUNCTION_INFO_V1(romancy_document);

/* Parts of a value are found so many levels down: {"signature": {"chain": [{"task": ..., "input": ...}]}}. */
#define PART_DEPTH 6

/*
 * Parts of an instance's input are noted at so many places of one value: to read one takes the whole input, and a group of a thousand
 * tasks would read it a thousand times. Parts of larger ones become documents when they are used.
 */
#define NOTED_PARTS 8

static RomTable documents = {"t_document", 6, {"id", "copy", "instance_id", "value", "places", "parts"}, true};
static RomTable instances = {"t_instance", 3, {"instance_id", "input", "owner"}, true};

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

/* int_array is an array of places. */
static Datum
int_array(const int *places, int n)
{
	Datum	   *elements = palloc_array(Datum, n);

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(places[i]);
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* add inserts a document; value NULL: the instance's input, or the member of it at the end of n places; parts: NULL there. */
static void
add(const pg_uuid_t *instance_id, const pg_uuid_t *id, const Jsonb *value, const int *places, const pg_uuid_t *parts, int n)
{
	Datum		values[6];
	bool		nulls[6] = {false, false, false, value == NULL, n == 0, n == 0 || parts == NULL};
	int64		copy;

	rom_uuid_random(&copy, sizeof(copy));
	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(copy);
	values[2] = UUIDPGetDatum(instance_id);
	values[3] = PointerGetDatum(value);
	values[4] = nulls[4] ? (Datum) 0 : int_array(places, n);
	values[5] = nulls[5] ? (Datum) 0 : rom_uuid_array(parts, n);
	rom_table_insert(&documents, values, nulls);
	CommandCounterIncrement();
}

/* begin starts to read the members of an object or an array; false: it is neither. */
static bool
begin(const Jsonb *value, JsonbIterator **it)
{
	JsonbValue	v;

	if (JB_ROOT_IS_SCALAR(value))
		return false;
	*it = JsonbIteratorInit((JsonbContainer *) &value->root);
	(void) JsonbIteratorNext(it, &v, true);
	return true;
}

/* next is the next member, or NULL. */
static Jsonb *
next(JsonbIterator **it)
{
	JsonbValue	v;
	JsonbIteratorToken token = JsonbIteratorNext(it, &v, true);

	if (token == WJB_KEY)
		token = JsonbIteratorNext(it, &v, true);
	return token == WJB_VALUE || token == WJB_ELEM ? JsonbValueToJsonb(&v) : NULL;
}

/* with_members is value (an object or an array) with other members at n places: NULL for null. */
static Jsonb *
with_members(const Jsonb *value, const int *places, Jsonb **members, int n)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &value->root);
	JsonbValue *result = NULL;
	JsonbIteratorToken token;
	JsonbValue	v;
	int			place = 0;
	int			i = 0;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && i < n && places[i] == place++)
		{
			Jsonb	   *member = members ? members[i] : NULL;

			i++;
			if (member == NULL)
				v.type = jbvNull;
			else if (JB_ROOT_IS_SCALAR(member))
				(void) JsonbExtractScalar(&member->root, &v);
			else
			{
				v.type = jbvBinary;
				v.val.binary.data = &member->root;
				v.val.binary.len = VARSIZE(member) - VARHDRSZ;
			}
		}
		result = pushJsonbValue(&state, token, token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT ||
								token == WJB_END_ARRAY || token == WJB_END_OBJECT ? NULL : &v);
	}
	return JsonbValueToJsonb(result);
}

/* large_members lists the large members of a value and their places; how many. */
static int
large_members(const Jsonb *value, int **places, Jsonb ***members)
{
	JsonbIterator *it;
	Jsonb	   *member;
	int			n = 0;
	int			max = 0;

	*places = NULL;
	*members = NULL;
	if (!begin(value, &it))
		return 0;
	for (int place = 0; (member = next(&it)) != NULL; place++)
	{
		if (!ROM_DOCUMENT_IS_LARGE(member))
		{
			pfree(member);
			continue;
		}
		if (n == max)
		{
			max = Max(8, 2 * max);
			*places = *places ? repalloc(*places, max * sizeof(int)) : palloc_array(int, max);
			*members = *members ? repalloc(*members, max * sizeof(Jsonb *)) : palloc_array(Jsonb *, max);
		}
		(*places)[n] = place;
		(*members)[n++] = member;
	}
	return n;
}

/* put is rom_document_put(), for a part so deep in a value. */
static void
put(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id, int depth)
{
	int		   *places;
	Jsonb	  **members;
	Jsonb	   *rest = NULL;
	pg_uuid_t  *parts;
	int			n;

	rom_document_id(instance_id, value, id);
	if (exists(id))
		return;
	n = depth < PART_DEPTH ? large_members(value, &places, &members) : 0;
	if (n > 0)
	{
		Jsonb	   *again;

		rest = with_members(value, places, NULL, n);
		again = with_members(rest, places, members, n);
		/* it is to be the same to the last byte */
		if (VARSIZE(again) != VARSIZE(value) || memcmp(again, value, VARSIZE(value)) != 0)
			n = 0;
	}
	if (n == 0)
	{
		add(instance_id, id, value, NULL, NULL, 0);
		return;
	}
	parts = palloc_array(pg_uuid_t, n);
	for (int i = 0; i < n; i++)
		put(instance_id, members[i], &parts[i], depth + 1);
	add(instance_id, id, rest, places, parts, n);
}

void
rom_document_put(const pg_uuid_t *instance_id, const Jsonb *value, pg_uuid_t *id)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy document", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);

	put(instance_id, value, id, 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
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
rom_document_set_value(const pg_uuid_t *instance_id, const char *key, Jsonb *value)
{
	static RomStatement upsert = {
		"INSERT INTO romancy.t_value (instance_id, key, value, document) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (instance_id, key) DO UPDATE SET value = excluded.value, document = excluded.document",
		4, {UUIDOID, TEXTOID, JSONBOID, UUIDOID}
	};
	Datum		values[4];
	bool		nulls[4] = {0};
	pg_uuid_t	document;

	values[0] = UUIDPGetDatum(instance_id);
	values[1] = CStringGetTextDatum(key);
	rom_document_columns(instance_id, value, &document, values, nulls, 2, 3);
	rom_execute(&upsert, values, nulls, 0);
}

/* note notes a large part of an instance's input, and its parts. */
static void
note(const pg_uuid_t *instance_id, const Jsonb *value, int *path, int depth)
{
	int		   *places;
	Jsonb	  **members;
	pg_uuid_t	id;
	int			n;

	rom_document_id(instance_id, value, &id);
	add(instance_id, &id, NULL, path, NULL, depth);
	if (depth == PART_DEPTH)
		return;
	n = large_members(value, &places, &members);
	for (int i = 0; i < n && n <= NOTED_PARTS; i++)
	{
		path[depth] = places[i];
		note(instance_id, members[i], path, depth + 1);
	}
}

void
rom_document_note_input(const pg_uuid_t *instance_id, const Jsonb *input)
{
	MemoryContext cxt;
	MemoryContext old;
	int			path[PART_DEPTH];

	if (!ROM_DOCUMENT_IS_LARGE(input))
		return;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy input", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	note(instance_id, input, path, 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Snapshots that are tried, in turn. */
typedef enum Look
{
	LOOK_SELECT,				/* what a SELECT of the transaction would see
								 * now */
	LOOK_QUERY,					/* what the query that runs sees: it began
								 * before the instance was deleted */
	LOOK_LATEST					/* what is committed: a row that the
								 * transaction has locked, or a value that it
								 * has found there, may be younger than its
								 * snapshot. (Documents never change.) */
} Look;

/* open_rows opens a table to read. */
static void
open_rows(RomRows *rows, RomTable *table, const char *index, Look look)
{
	if (look == LOOK_LATEST)
		rom_rows_open(rows, table, index, false);
	else if (look == LOOK_QUERY)
		rom_rows_open_active(rows, table, index);
	else
		rom_rows_open_select(rows, table, index, false);
}

/* input_of is the input of an instance, or NULL. */
static Jsonb *
input_of(const pg_uuid_t *instance_id, Look look)
{
	RomRows		rows;
	Jsonb	   *input = NULL;
	bool		isnull;

	open_rows(&rows, &instances, "t_instance_pkey", look);
	if (rom_rows_find(&rows, instance_id))
	{
		Datum		value = rom_rows_column(&rows, 1, &isnull);

		if (!isnull)
			input = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
	}
	rom_rows_close(&rows);
	return input;
}

/* check refuses a role that may not see the instance whose document it asks for; false: the instance is not there. */
static bool
check(const pg_uuid_t *instance_id, Look look)
{
	RomRows		rows;
	bool		there;
	bool		allowed = false;
	bool		isnull;

	open_rows(&rows, &instances, "t_instance_pkey", look);
	there = rom_rows_find(&rows, instance_id);
	if (there)
		allowed = rom_instance_may_read(TextDatumGetCString(rom_rows_column(&rows, 2, &isnull)));
	rom_rows_close(&rows);
	if (there && !allowed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for a value of a workflow instance")));
	return there;
}

/* at is the member of a value at the end of n places. */
static Jsonb *
at(Jsonb *value, const int *places, int n)
{
	for (int i = 0; i < n && value != NULL; i++)
	{
		JsonbIterator *it;
		Jsonb	   *member = NULL;

		if (begin(value, &it))
			for (int place = 0; (member = next(&it)) != NULL && place < places[i]; place++)
				pfree(member);
		value = member;
	}
	return value;
}

/* array_of gives the elements of an array column, copied; how many. */
static int
array_of(RomRows *rows, int column, int elem_size, void **elements)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, column, &isnull);
	ArrayType  *array;
	int			n;

	*elements = NULL;
	if (isnull)
		return 0;
	array = DatumGetArrayTypePCopy(value);
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (ARR_HASNULL(array) || VARSIZE(array) < ARR_OVERHEAD_NONULLS(ARR_NDIM(array)) + (Size) n * elem_size)
		elog(ERROR, "a document of a workflow instance cannot be read");
	*elements = ARR_DATA_PTR(array);
	return n;
}

/* value_of is the document's value, or NULL; checked: for who may see the instance. */
static Jsonb *
value_of(const pg_uuid_t *id, Look look, bool checked)
{
	RomRows		rows;
	Jsonb	   *found = NULL;
	pg_uuid_t	instance_id = {0};
	void	   *places = NULL;
	void	   *parts = NULL;
	int			n = 0;
	bool		isnull = true;
	bool		there;

	open_rows(&rows, &documents, "t_document_pkey", look);
	there = rom_rows_find(&rows, id);
	if (there)
	{
		Datum		value = rom_rows_column(&rows, 3, &isnull);

		if (!isnull)
			found = (Jsonb *) PG_DETOAST_DATUM_COPY(value);
		n = array_of(&rows, 4, sizeof(int32), &places);
		if (array_of(&rows, 5, sizeof(pg_uuid_t), &parts) != (isnull ? 0 : n))
			elog(ERROR, "a document of a workflow instance cannot be read");
		instance_id = *DatumGetUUIDP(rom_rows_column(&rows, 2, &isnull));
	}
	rom_rows_close(&rows);
	if (there && checked && !check(&instance_id, look))
		return NULL;
	if (there && found == NULL)
		found = at(input_of(&instance_id, look), places, n);
	else if (there && n > 0)
	{
		Jsonb	  **members = palloc_array(Jsonb *, n);

		for (int i = 0; i < n; i++)
		{
			members[i] = value_of(&((pg_uuid_t *) parts)[i], look, false);
			if (members[i] == NULL)
				return NULL;
		}
		found = with_members(found, places, members, n);
	}
	return found;
}

/* read_value is the document's value in the current context, or NULL. */
static Jsonb *
read_value(const pg_uuid_t *id, bool checked)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "romancy document", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Jsonb	   *value = value_of(id, LOOK_SELECT, checked);

	if (value == NULL && ActiveSnapshotSet())
		value = value_of(id, LOOK_QUERY, checked);
	if (value == NULL)
		value = value_of(id, LOOK_LATEST, checked);
	MemoryContextSwitchTo(old);
	if (value != NULL)
		value = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(value));
	MemoryContextDelete(cxt);
	return value;
}

/* not_missing is value; an error where it is not there. */
static Jsonb *
not_missing(Jsonb *value)
{
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a value of a workflow instance is not there any more"),
				 errdetail("The instance has been deleted meanwhile.")));
	return value;
}

Jsonb *
rom_document_find(const pg_uuid_t *id)
{
	return read_value(id, false);
}

Jsonb *
rom_document_get(const pg_uuid_t *id)
{
	return not_missing(read_value(id, false));
}

Jsonb *
rom_document_show(const pg_uuid_t *id)
{
	return not_missing(read_value(id, GetUserId() != rom_extension_owner()));
}

/* romancy.t_document_value(id uuid) -> jsonb. Errors: 42501 for a role that may not see its instance; 55000 its instance has been deleted meanwhile. */
Datum
romancy_document(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(rom_document_show(PG_GETARG_UUID_P(0)));
}
