/*-------------------------------------------------------------------------
 *
 * chain.c
 *		Canvas: what is left of a chain while a task of it runs.
 *
 * A short rest stands in the frame itself, as an array: {"t": "chain", "s": [signature...], "p", "i", "o"}. A long
 * one would be copied into the row of each of its tasks, which for n tasks is n * n / 2 signatures; so it is
 * written once, a row of t_canvas_chain for each signature, and the frame names it: {"t": "chain", "c": chain,
 * "n": how many are left, "p", "i", "o"}. "i" is the place of the next signature in the whole chain. The rows are
 * never changed. A long signature with an on_error is kept likewise, as one row. They go when the canvas has ended, or, of a failed one, which retry_workflow may continue, with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "base/jb.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "tasks/chain.h"
#include "tasks/signature.h"

void
rom_chain_begin(RomChain *chain, const pg_uuid_t *instance_id, Jsonb *members)
{
	memset(chain, 0, sizeof(RomChain));
	chain->members = members;
	chain->instance_id = *instance_id;
	chain->count = JsonContainerSize(&members->root);
}

void
rom_chain_read(RomChain *chain, const pg_uuid_t *instance_id, Jsonb *frame)
{
	char	   *id = rom_jb_get_text(frame, "c");

	memset(chain, 0, sizeof(RomChain));
	chain->instance_id = *instance_id;
	chain->first = rom_jb_get_int(frame, "i", 0);
	if (id == NULL)
	{
		chain->members = rom_jb_get_json(frame, "s");
		chain->count = JsonContainerSize(&chain->members->root);
		return;
	}
	chain->id = rom_uuid_from_text(id);
	chain->count = rom_jb_get_int(frame, "n", 0);
}

Jsonb *
rom_chain_member(const RomChain *chain, int i)
{
	static RomStatement select = {
		"SELECT signature FROM romancy.t_canvas_chain WHERE instance_id = $1 AND chain_id = $2 AND place = $3",
		3, {UUIDOID, UUIDOID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[3];
	bool		isnull;
	RomRowSet	set;
	Jsonb	   *member;

	if (chain->members != NULL)
		return rom_signature_member(chain->members, i);
	values[0] = UUIDPGetDatum(&chain->instance_id);
	values[1] = UUIDPGetDatum(&chain->id);
	values[2] = Int32GetDatum(chain->first + i);
	if (rom_execute_rows(&set, &select, values, NULL, 1) == 0)
		elog(ERROR, "signature %d of a chain is missing", chain->first + i);
	member = DatumGetJsonbP(rom_value_copy(&set, 0, 1, &isnull, cxt));
	rom_execute_free(&set);
	MemoryContextSwitchTo(cxt);
	return member;
}

/* put writes a row. */
static void
put(const pg_uuid_t *instance_id, const pg_uuid_t *id, int place, Jsonb *signature)
{
	static RomTable table = {
		"t_canvas_chain", 4, {"instance_id", "chain_id", "place", "signature"}
	};
	bool		nulls[4] = {false};
	Datum		values[4];

	values[0] = UUIDPGetDatum(instance_id);
	values[1] = UUIDPGetDatum(id);
	values[2] = Int32GetDatum(place);
	values[3] = PointerGetDatum(signature);
	rom_table_insert(&table, values, nulls);
}

/* store writes the rows of all but the first few of a chain that has none, under a new id. */
static void
store(const RomChain *chain, int without, pg_uuid_t *id)
{
	rom_uuid_v7(id);
	for (int i = without; i < chain->count; i++)
	{
		Jsonb	   *member = rom_signature_member(chain->members, i);

		CHECK_FOR_INTERRUPTS();
		put(&chain->instance_id, id, chain->first + i, member);
		pfree(member);
	}
}

Jsonb *
rom_chain_frame(const RomChain *chain, int without, const char *path, Jsonb *options)
{
	int			left = chain->count - without;
	pg_uuid_t	id = chain->id;
	RomJb		frame;

	rom_jb_begin(&frame);
	rom_jb_text(&frame, "t", "chain");
	/* (of one that is left there is no second copy) */
	if (chain->members != NULL && (left == 1 || VARSIZE(chain->members) <= ROM_CHAIN_SHORT))
	{
		Jsonb	  **rest = palloc_array(Jsonb *, left);

		for (int i = 0; i < left; i++)
			rest[i] = rom_signature_member(chain->members, without + i);
		rom_jb_json(&frame, "s", rom_jb_array(rest, left));
	}
	else
	{
		if (chain->members != NULL)
			store(chain, without, &id);
		rom_jb_text(&frame, "c", rom_uuid_text(&id));
		rom_jb_int(&frame, "n", left);
	}
	rom_jb_text(&frame, "p", path);
	rom_jb_int(&frame, "i", chain->first + without);
	rom_jb_json(&frame, "o", options);
	return rom_jb_end(&frame);
}

char *
rom_chain_keep(const pg_uuid_t *instance_id, Jsonb *signature)
{
	pg_uuid_t	id;

	rom_uuid_v7(&id);
	put(instance_id, &id, 0, signature);
	return rom_uuid_text(&id);
}

Jsonb *
rom_chain_kept(const pg_uuid_t *instance_id, const char *id)
{
	RomChain	kept = {.instance_id = *instance_id,.id = rom_uuid_from_text(id)};

	return rom_chain_member(&kept, 0);
}

void
rom_chain_forget(Datum ids)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_canvas_chain WHERE instance_id = ANY ($1)",
		1, {UUIDARRAYOID}
	};

	rom_execute(&delete, &ids, NULL, 0);
}
