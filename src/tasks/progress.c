/*-------------------------------------------------------------------------
 *
 * progress.c
 *		get_progress and await_progress.
 *
 * A canvas's progress is counted in its tables, that of any other instance is
 * what it said last by set_progress: while it runs, in shared memory, else in
 * its row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/instance.h"
#include "instances/steer.h"
#include "memory/progress.h"
#include "memory/waiter.h"
#include "tasks/canvas.h"
#include "tasks/fetch.h"
#include "turn/context.h"

/* How far an instance is. */
typedef struct Progress
{
	int64		total;			/* -1: not known, as below */
	int64		completed;
	int64		failed;
	int64		running;
	char	   *note;
	TimestampTz first_at;		/* 0: not known */
	bool		final;
} Progress;

/* read_report takes up what set_progress said. */
static void
read_report(const pg_uuid_t *id, Jsonb *kept, Progress *p, MemoryContext cxt)
{
	RomProgress live;

	if (!p->final && rom_progress_get(id, &live))
	{
		p->completed = live.done;
		p->total = live.total;
		p->first_at = live.first_at;
		if (live.note[0] != '\0')
			p->note = MemoryContextStrdup(cxt, live.note);
	}
	else if (kept != NULL)
	{
		char	   *note = rom_jb_get_text(kept, "note");
		TimestampTz at = rom_jb_get_time(kept, "first_at");

		p->completed = rom_jb_get_int(kept, "done", 0);
		p->total = rom_jb_get_int(kept, "total", -1);
		p->failed = rom_jb_get_int(kept, "failed", 0);
		p->first_at = TIMESTAMP_NOT_FINITE(at) ? 0 : at;
		p->note = note ? MemoryContextStrdup(cxt, note) : NULL;
	}
}

/* look reads an instance's progress into cxt; RM002 when there is none that the user may see. */
static void
look(const pg_uuid_t *id, Progress *p, MemoryContext cxt)
{
	static RomStatement select = {
		"SELECT status, owner, flags, progress, started_at,"
		" CASE WHEN flags & " ROM_SQL_IS_CANVAS " <> 0 THEN (input OPERATOR(pg_catalog.->>) 'total')::bigint END"
		" FROM romancy.t_instance WHERE instance_id = $1",
		1, {UUIDOID}
	};
	RomEngine	engine;
	Datum		values[1];
	bool		found;
	char	   *owner = NULL;
	RomRowSet	set;

	StaticAssertStmt(ROM_IS_CANVAS == 256, "the statement tests the flag");
	memset(p, 0, sizeof(Progress));
	p->total = -1;
	values[0] = UUIDPGetDatum(id);
	rom_engine_begin(&engine);
	found = rom_execute_rows(&set, &select, values, NULL, 1) > 0;
	if (found)
	{
		bool		isnull;
		Datum		value;
		bool		is_canvas;
		int64		total = -1;

		owner = rom_value_text(&set, 0, 2, cxt);
		p->final = ROM_STATUS_IS_FINAL(rom_instance_status_from_datum(rom_value(&set, 0, 1, &isnull)));
		is_canvas = (DatumGetInt32(rom_value(&set, 0, 3, &isnull)) & ROM_IS_CANVAS) != 0;
		value = rom_value(&set, 0, 6, &isnull);
		if (!isnull)
			total = DatumGetInt64(value);
		value = rom_value(&set, 0, 4, &isnull);
		read_report(id, isnull ? NULL : DatumGetJsonbP(value), p, cxt);
		if (is_canvas && !p->final)
		{
			RomCanvasCount count;

			value = rom_value(&set, 0, 5, &isnull);
			p->first_at = isnull ? 0 : DatumGetTimestampTz(value);
			rom_canvas_count(id, &count);
			p->total = total;
			p->completed = count.completed;
			p->failed = count.failed;
			p->running = rom_canvas_running(id);
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
	if (!found || !rom_instance_may_read(owner))
		rom_steer_missing(id);
}

/* eta estimates the end from the speed so far; 0 when nothing can be said. */
static TimestampTz
eta(const Progress *p, TimestampTz now)
{
	int64		done = p->completed + p->failed;
	double		rest;

	if (p->final || p->first_at == 0 || p->total < 0 || done <= 0 || done > p->total)
		return 0;
	rest = (double) (now - p->first_at) / done * (p->total - done);
	return rest < (double) (END_TIMESTAMP - now) ? now + (TimestampTz) rest : 0;
}

/* percent in hundredths; -1 when the total is not known. */
static int64
percent(const Progress *p)
{
	if (p->total < 0)
		return -1;
	if (p->total == 0)
		return 10000;
	/* what a program reports may be too large for that */
	if (p->completed > PG_INT64_MAX / 10000 - p->failed)
		return Min(10000, (int64) ((double) p->completed / p->total * 10000));
	return Min(10000, (p->completed + p->failed) * 10000 / p->total);
}

PG_FUNCTION_INFO_V1(romancy_get_progress);

/*
 * romancy.get_progress(instance_id uuid) -> (total, completed, failed, running, percent, note, eta)
 *
 * Errors: RM002 unknown or not to be seen; RM004 in a handler.
 */
Datum
romancy_get_progress(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Progress	p;
	Datum		values[7];
	bool		nulls[7] = {0};

	rom_context_refuse_handler("get_progress");
	look(rom_arg_uuid(fcinfo, 0, "instance_id"), &p, CurrentMemoryContext);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(p.total);
	nulls[0] = p.total < 0;
	values[1] = Int64GetDatum(p.completed);
	values[2] = Int64GetDatum(p.failed);
	values[3] = Int64GetDatum(p.running);
	nulls[4] = percent(&p) < 0;
	if (!nulls[4])
		values[4] = NumericGetDatum(int64_div_fast_to_numeric(percent(&p), 2));
	nulls[5] = p.note == NULL;
	if (!nulls[5])
		values[5] = CStringGetTextDatum(p.note);
	values[6] = TimestampTzGetDatum(eta(&p, rom_now()));
	nulls[6] = eta(&p, rom_now()) == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/* progress_json is the form that await_progress returns: what changes by itself with time (eta) is left out. */
static Jsonb *
progress_json(const Progress *p)
{
	RomJb		jb;
	JsonbValue	v;

	rom_jb_begin(&jb);
	if (p->total >= 0)
		rom_jb_int(&jb, "total", p->total);
	else
		rom_jb_null(&jb, "total");
	rom_jb_int(&jb, "completed", p->completed);
	rom_jb_int(&jb, "failed", p->failed);
	rom_jb_int(&jb, "running", p->running);
	if (percent(p) >= 0)
	{
		v.type = jbvNumeric;
		v.val.numeric = int64_div_fast_to_numeric(percent(p), 2);
		rom_jb_json(&jb, "percent", JsonbValueToJsonb(&v));
	}
	else
		rom_jb_null(&jb, "percent");
	if (p->note)
		rom_jb_text(&jb, "note", p->note);
	else
		rom_jb_null(&jb, "note");
	rom_jb_bool(&jb, "finished", p->final);
	return rom_jb_end(&jb);
}

/* same: do since and now say the same? Keys that since lacks do not count. */
static bool
same(Jsonb *since, Jsonb *now)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (since == NULL || !JB_ROOT_IS_OBJECT(since))
		return false;
	it = JsonbIteratorInit(&since->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);
			Jsonb	   *a = rom_jb_get_json(since, key);
			Jsonb	   *b = rom_jb_get_json(now, key);

			if (b != NULL && compareJsonbContainers(&a->root, &b->root) != 0)
				return false;
		}
	return true;
}

/* await waits until the progress differs from since, or until until. */
static Jsonb *
await(const pg_uuid_t *id, Jsonb *since, TimestampTz until, MemoryContext cxt)
{
	Jsonb	   *volatile now = NULL;

	PG_TRY();
	{
		for (;;)
		{
			Progress	p;
			MemoryContext old;

			rom_waiter_register(rom_waiter_key(ROM_INSTANCE_PROGRESS_KEY, id, sizeof(pg_uuid_t)));
			old = MemoryContextSwitchTo(cxt);
			PushActiveSnapshot(GetTransactionSnapshot());
			look(id, &p, cxt);
			now = progress_json(&p);
			PopActiveSnapshot();
			SPI_commit();
			MemoryContextSwitchTo(old);
			if (!same(since, now) || p.final || !rom_waiter_sleep(until))
				break;
		}
	}
	PG_CATCH();
	{
		rom_waiter_unregister();
		PG_RE_THROW();
	}
	PG_END_TRY();
	rom_waiter_unregister();
	return now;
}

PG_FUNCTION_INFO_V1(romancy_await_progress);

/*
 * call romancy.await_progress(instance_id uuid, since jsonb, timeout interval, inout progress jsonb)
 *
 * Returns when the progress differs from since (null: at once), when the instance is over, or
 * at the timeout: the progress as it is then. Errors: RM002, 25001 in a transaction block.
 */
Datum
romancy_await_progress(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	pg_uuid_t	id;
	Jsonb	   *since;
	Jsonb	   *now;
	Interval   *timeout;
	TupleDesc	tupdesc;

	rom_fetch_wait_check(fcinfo, "await_progress");
	id = *rom_arg_uuid(fcinfo, 0, "instance_id");
	since = rom_arg_jsonb_opt(fcinfo, 1);
	timeout = rom_arg_interval_opt(fcinfo, 2, "timeout");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	now = await(&id, since, timeout ? rom_arg_timestamp_plus(GetCurrentTimestamp(), timeout) : DT_NOEND, cxt);
	SPI_finish();
	MemoryContextSwitchTo(cxt);
	return rom_fetch_wait_result(tupdesc, now);
}
