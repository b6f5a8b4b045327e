/*-------------------------------------------------------------------------
 *
 * source.c
 *		Queues that have requests to send: of HTTP activities, and those that are served by a URL.
 *
 * A queue that is served by a URL sends on behalf of its owner, as a program of the owner's would fetch: only while that role is there, and may use the namespace.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/spi.h"
#include "defs/activity_definition.h"
#include "defs/namespace.h"
#include "http/source.h"
#include "tasks/notify.h"
#include "tasks/state.h"

/* A queue whose tasks cannot be claimed is looked at again after this time; the log has a line about such ones at most once in the other. */
#define FAULTY_MS 10000
#define FAULTY_LOG_MS 60000

/* share says what part of the room each source has. They are in the order of their namespaces. */
static void
share(RomSource *sources, int n)
{
	int			namespaces = 0;
	int			end;

	for (int i = 0; i < n; i++)
		namespaces += i == 0 || sources[i].namespace != sources[i - 1].namespace;
	for (int i = 0; i < n; i = end)
	{
		for (end = i; end < n && sources[end].namespace == sources[i].namespace; end++)
			;
		for (int j = i; j < end; j++)
			sources[j].sharers = namespaces * (end - i);
	}
}

int
rom_source_find(RomSource **sources)
{
	static RomStatement select = {
		"SELECT s.* FROM (SELECT n.namespace_id || q.name, NULL::oid, NULL, NULL::jsonb, NULL, n.namespace_id FROM romancy.t_namespace n"
		" CROSS JOIN (VALUES ('/" ROM_QUEUE_HTTP "'), ('/" ROM_QUEUE_HTTP_CALL "')) q (name)"
		" WHERE EXISTS (SELECT FROM romancy.t_task t WHERE t.queue = n.namespace_id || q.name AND t.state = " ROM_SQL_TASK_READY ")"
		" UNION ALL SELECT q.name, r.oid, q.push_url, q.headers, q.signing_secret, pg_catalog.split_part(q.name, '/', 1)::int"
		" FROM romancy.t_queue q JOIN pg_catalog.pg_roles r ON r.rolname = q.owner WHERE q.push_url IS NOT NULL AND NOT q.paused"
		" AND EXISTS (SELECT FROM romancy.t_task t WHERE t.queue = q.name AND t.state = " ROM_SQL_TASK_READY ")"
		" AND pg_catalog.has_schema_privilege(r.oid, 'romancy', 'USAGE') AND (r.rolsuper OR EXISTS (SELECT FROM romancy.t_grant g"
		" JOIN pg_catalog.pg_roles x ON x.rolname = g.role WHERE g.namespace_id = pg_catalog.split_part(q.name, '/', 1)::int"
		" AND pg_catalog.pg_has_role(r.oid, x.oid, 'USAGE')))) s (queue, owner, url, headers, signing_secret, namespace)"
		" ORDER BY s.namespace, s.queue",
		0, {0}
	};
	MemoryContext cxt = CurrentMemoryContext;
	RomEngine	engine;
	RomRowSet	set;
	int			n;
	bool		isnull;

	rom_engine_begin(&engine);
	n = (int) rom_execute_rows(&set, &select, NULL, NULL, 0);
	*sources = MemoryContextAllocZero(cxt, (n + 1) * sizeof(RomSource));
	for (int i = 0; i < n; i++)
	{
		RomSource  *source = &(*sources)[i];
		Datum		value;

		source->queue = rom_value_text(&set, i, 1, cxt);
		value = rom_value(&set, i, 2, &isnull);
		source->owner = isnull ? InvalidOid : DatumGetObjectId(value);
		source->url = rom_value_text(&set, i, 3, cxt);
		value = rom_value_copy(&set, i, 4, &isnull, cxt);
		source->headers = isnull ? NULL : DatumGetJsonbP(value);
		source->signing_secret = rom_value_text(&set, i, 5, cxt);
		source->namespace = DatumGetInt32(rom_value(&set, i, 6, &isnull));
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	share(*sources, n);
	return n;
}

TimestampTz
rom_source_faulty(const RomSource *source, const ErrorData *edata)
{
	static TimestampTz logged_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	int32		namespace;

	if (logged_at == 0 || now >= TimestampTzPlusMilliseconds(logged_at, FAULTY_LOG_MS))
	{
		logged_at = now;
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("could not send the activities of queue \"%s\" of namespace \"%s\": %s",
						rom_notify_queue_name(source->queue, &namespace), rom_namespace_name(source->namespace), edata->message)));
	}
	return TimestampTzPlusMilliseconds(now, FAULTY_MS);
}
