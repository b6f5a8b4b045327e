/*-------------------------------------------------------------------------
 *
 * life.c
 *		What compensation.c, child.c, recur.c and fork.c share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "steps/child.h"
#include "steps/life.h"
#include "turn/recur.h"
#include "turn/saga.h"

Jsonb *
rom_life_number(int64 value)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(value);
	return JsonbValueToJsonb(&v);
}

int64
rom_life_to_int(Jsonb *value)
{
	JsonbValue	v;

	if (value == NULL || !JsonbExtractScalar(&value->root, &v) || v.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(v.val.numeric)));
}

char *
rom_life_uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

pg_uuid_t
rom_life_text_uuid(const char *text)
{
	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

/*
 * The look-up's error is caught outside any subtransaction of its own: nothing but
 * the caches was touched, and the unwind that follows rolls the evaluation back.
 */
void
rom_life_require_activity(RomTurn *turn, const char *name)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool missing = false;

	PG_TRY();
	{
		(void) rom_activity_resolve(name, turn->workflow->search_path);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(turn->cxt);
		edata = CopyErrorData();
		FlushErrorState();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(edata);
		turn->pause_error = rom_error_to_jsonb(edata);
		missing = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	if (missing)
		rom_turn_unwind(turn);
}

void
rom_life_init(void)
{
	rom_saga_init();
	rom_child_init();
	rom_recur_init();
}
