/*-------------------------------------------------------------------------
 *
 * health.c
 *		Is it alive, and why not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/version.h"
#include "client/obstacles.h"
#include "turn/context.h"

PG_FUNCTION_INFO_V1(romancy_health);

/* Work that has been due for so many seconds is overdue; and where counting it ends. */
#define OVERDUE_SECONDS 60
#define OVERDUE_MAX 1000

/* count_overdue counts what should have had a turn long ago; *oldest: since when, in seconds. */
static int64
count_overdue(int64 *oldest)
{
	static RomStatement select = {
		"SELECT count(*), min(wake_at) FROM (SELECT wake_at FROM romancy.t_instance"
		" WHERE wake_at < $1 ORDER BY wake_at LIMIT $2) AS due",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	TimestampTz now = rom_now();
	RomEngine	engine;
	Datum		values[2];
	bool		isnull;
	int64		count;
	TimestampTz first;

	values[0] = TimestampTzGetDatum(now - OVERDUE_SECONDS * USECS_PER_SEC);
	values[1] = Int32GetDatum(OVERDUE_MAX);
	rom_engine_begin(&engine);
	rom_execute(&select, values, NULL, 0);
	count = DatumGetInt64(rom_value(0, 1, &isnull));
	first = DatumGetTimestampTz(rom_value(0, 2, &isnull));
	*oldest = isnull ? 0 : (now - first) / USECS_PER_SEC;
	rom_engine_end(&engine);
	return count;
}

/*
 * romancy.health() → jsonb
 *
 * {"healthy": …, "problems": [text, …], …}: whether workflows run in this database, and what keeps them from it.
 * RM004 in a workflow.
 */
Datum
romancy_health(PG_FUNCTION_ARGS)
{
	RomObstacles found;
	Jsonb	   *texts[lengthof(found.texts)];
	int64		oldest;
	int64		overdue;
	RomJb		jb;

	rom_refuse_in_handler("health");
	rom_obstacles_find(&found);
	overdue = count_overdue(&oldest);
	if (overdue > 0)
		rom_obstacles_add(&found, psprintf("%s" INT64_FORMAT " instances have been due for up to " INT64_FORMAT " seconds",
										   overdue >= OVERDUE_MAX ? "at least " : "", overdue, oldest));

	for (int i = 0; i < found.count; i++)
		texts[i] = rom_jb_string_document(found.texts[i]);
	rom_jb_begin(&jb);
	rom_jb_bool(&jb, "healthy", found.count == 0);
	rom_jb_json(&jb, "problems", rom_jb_array(texts, found.count));
	rom_jb_bool(&jb, "preloaded", found.preloaded);
	rom_jb_bool(&jb, "enabled", rom_guc_enabled);
	rom_jb_bool(&jb, "launcher", found.launcher);
	rom_jb_bool(&jb, "adopted", found.adopted);
	rom_jb_text(&jb, "library_version", ROM_VERSION);
	rom_jb_text(&jb, "extension_version", found.sql_version ? found.sql_version : ROM_VERSION);
	rom_jb_int(&jb, "workers", found.workers);
	rom_jb_int(&jb, "max_workers", found.max_workers);
	rom_jb_int(&jb, "overdue", overdue);
	PG_RETURN_JSONB_P(rom_jb_end(&jb));
}
