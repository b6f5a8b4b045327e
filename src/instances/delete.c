/*-------------------------------------------------------------------------
 *
 * delete.c
 *		Deleting finished instances with all that belongs to them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "instances/delete.h"

static RomDeleteHook hooks[8];
static int	n_hooks = 0;

/* The engine's own tables; each has an index that begins with instance_id. */
static RomStatement delete_parts[] = {
	{"DELETE FROM romancy.t_history WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	{"DELETE FROM romancy.t_history_archive WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	{"DELETE FROM romancy.t_value WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	{"DELETE FROM romancy.t_idempotency WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	{"DELETE FROM romancy.t_document WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	{"DELETE FROM romancy.t_inbox WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}}
};

static RomStatement delete_rows = {
	"DELETE FROM romancy.t_instance WHERE instance_id = ANY ($1)",
	1, {UUIDARRAYOID}
};

void
rom_delete_on(RomDeleteHook hook)
{
	if (n_hooks == lengthof(hooks))
		elog(ERROR, "too many delete hooks");
	hooks[n_hooks++] = hook;
}

int64
rom_delete_instances(Datum ids)
{
	for (int i = 0; i < n_hooks; i++)
		hooks[i] (ids);
	for (int i = 0; i < lengthof(delete_parts); i++)
		rom_execute(&delete_parts[i], &ids, NULL, 0);
	return (int64) rom_execute(&delete_rows, &ids, NULL, 0);
}
