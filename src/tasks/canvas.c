/*-------------------------------------------------------------------------
 *
 * canvas.c
 *		Canvas: running signatures.
 *
 * What is to come after a task is a list of frames, innermost first, which its
 * row carries (t_task.next):
 *
 *	{"t": "chain", "s": [signature...], "p", "i", "o"}	the rest of a chain
 *	{"t": "join", "j": id, "i": member}			a member of a group: the end
 *	{"t": "error", "s": signature, "of": signature, "p", "o"}	an on_error
 *	{"t": "raise", "e": error}				after an on_error: go on failing
 *
 * deliver() takes frames off until one of them starts something, in the
 * transaction that ends the task: so a chain goes on without a turn. The end
 * of a member is a row of t_canvas_result; that of the whole, one in the
 * instance's inbox.
 *
 * A group's end is the work of a turn of the instance, and of nobody else: it
 * holds the instance's row, finds groups with a row for each member, and starts
 * what comes after in the same transaction in which it deletes the group. So a
 * callback starts exactly once. Who ends a member cannot see whether others, that
 * have not committed yet, are the last; fanin.c counts the commits, as a hint when
 * to look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/fanin.h"
#include "base/insert.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/waiter.h"
#include "base/wake.h"
#include "engine/define.h"
#include "engine/delete.h"
#include "engine/inbox.h"
#include "engine/start.h"
#include "engine/turn.h"
#include "tasks/canvas.h"
#include "tasks/quota.h"
#include "tasks/signature.h"
#include "tasks/task.h"

#define CANVAS_STEP "canvas:1"

/* For whom something is started or delivered. */
typedef struct Canvas
{
	pg_uuid_t	id;
	int32		def_id;
	int32		priority;		/* the instance's */
	Oid			owner;
	char	   *owner_name;
	bool		in_turn;
	bool		paused;			/* out of a turn: what is started is parked */
	/* in a turn: the whole has ended */
	bool		over;
	Jsonb	   *result;
	Jsonb	   *error;
	/* what was looked up last */
	char	   *activity;
	char	   *queue;
	int64		close_us;
	int64		beat_us;
	int64		start_us;
	int64		keyed;
} Canvas;

static void start(Canvas *canvas, Jsonb *json, Jsonb *previous, Jsonb *next,
				  Jsonb *inherited, const char *path);
static void deliver(Canvas *canvas, Jsonb *next, Jsonb *result, Jsonb *error,
					bool is_task);

/* uuid_text and text_uuid convert. */
static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static pg_uuid_t
text_uuid(const char *text)
{
	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

/* push puts a frame before the others. */
static Jsonb *
push(Jsonb *frame, Jsonb *next)
{
	int			n = JsonContainerSize(&next->root);
	Jsonb	  **frames = palloc_array(Jsonb *, n + 1);

	frames[0] = frame;
	for (int i = 0; i < n; i++)
		frames[i + 1] = rom_signature_member(next, i);
	return rom_jb_array(frames, n + 1);
}

/* tail is an array without its first element. */
static Jsonb *
tail(Jsonb *array)
{
	int			n = JsonContainerSize(&array->root);
	Jsonb	  **rest = palloc_array(Jsonb *, n + 1);

	for (int i = 1; i < n; i++)
		rest[i - 1] = rom_signature_member(array, i);
	return rom_jb_array(rest, Max(n - 1, 0));
}

/* merge overlays inherited options with a signature's own; on_error is not inherited. */
static Jsonb *
merge(Jsonb *inherited, Jsonb *own)
{
	static const char *const keys[] = {"retry", "priority", "immutable"};
	RomJb		jb;

	if (own == NULL)
		return inherited;
	rom_jb_begin(&jb);
	for (int i = 0; i < lengthof(keys); i++)
	{
		Jsonb	   *value = rom_jb_get_json(own, keys[i]);

		if (value == NULL && inherited != NULL)
			value = rom_jb_get_json(inherited, keys[i]);
		rom_jb_json(&jb, keys[i], value);
	}
	return rom_jb_end(&jb);
}

/* input_of is what a task gets: its own input, the result before it, or both. */
static Jsonb *
input_of(RomSignature *s, Jsonb *previous, Jsonb *options)
{
	RomJb		jb;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (s->input == NULL)
		return previous;
	if (previous == NULL || !JB_ROOT_IS_OBJECT(s->input) ||
		(options != NULL && rom_jb_get_bool(options, "immutable", false)))
		return s->input;
	rom_jb_begin(&jb);
	it = JsonbIteratorInit(&s->input->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);

			if (strcmp(key, "previous") != 0)
				rom_jb_json(&jb, key, rom_jb_get_json(s->input, key));
		}
	rom_jb_json(&jb, "previous", previous);
	return rom_jb_end(&jb);
}

/* look_up reads how an activity is defined; an undefined one is a function, found by who runs it. */
static void
look_up(Canvas *canvas, const char *name)
{
	static RomStatement select = {
		"SELECT queue, (extract(epoch FROM start_to_close_timeout) * 1000000)::bigint,"
		" (extract(epoch FROM heartbeat_timeout) * 1000000)::bigint,"
		" (extract(epoch FROM schedule_to_start_timeout) * 1000000)::bigint"
		" FROM romancy.t_activity WHERE name = $1",
		1, {TEXTOID}
	};
	Datum		values[1];
	int64	   *us[3];

	if (canvas->activity != NULL && strcmp(canvas->activity, name) == 0)
		return;
	us[0] = &canvas->close_us;
	us[1] = &canvas->beat_us;
	us[2] = &canvas->start_us;
	canvas->activity = pstrdup(name);
	canvas->queue = "";
	canvas->close_us = canvas->beat_us = canvas->start_us = 0;
	values[0] = CStringGetTextDatum(name);
	if (rom_execute(&select, values, NULL, 1) == 0)
		return;
	canvas->queue = rom_value_text(0, 1, CurrentMemoryContext);
	if (canvas->queue == NULL)
		canvas->queue = "";
	for (int i = 0; i < 3; i++)
	{
		bool		isnull;
		Datum		value = rom_value(0, i + 2, &isnull);

		*us[i] = isnull ? 0 : DatumGetInt64(value);
	}
}

/* start_task makes a task's row. */
static void
start_task(Canvas *canvas, RomSignature *s, Jsonb *previous, Jsonb *next,
		   Jsonb *options, const char *path)
{
	RomTask		task = {0};

	look_up(canvas, s->task);
	task.kind = ROM_TASK_CANVAS;
	task.state = canvas->paused ? ROM_TASK_PARKED : ROM_TASK_READY;
	task.instance_id = canvas->id;
	task.def_id = canvas->def_id;
	task.priority = options ? rom_jb_get_int(options, "priority", canvas->priority) : canvas->priority;
	task.owner = canvas->owner_name;
	task.activity = s->task;
	task.step = psprintf("%s:%s", s->task, path[0] ? path : "0");
	task.queue = canvas->queue;
	task.close_us = canvas->close_us;
	task.beat_us = canvas->beat_us;
	task.input = input_of(s, previous, options);
	task.retry = options ? rom_jb_get_json(options, "retry") : NULL;
	task.next = next;
	task.limit_key = rom_quota_key_of(task.queue, task.activity, task.input);
	rom_task_insert(&task, canvas->owner,
					canvas->start_us > 0 ? rom_now() + canvas->start_us : DT_NOEND);
}

/* start_chain starts the first of a chain's signatures; the rest is a frame. */
static void
start_chain(Canvas *canvas, Jsonb *members, int index, Jsonb *previous, Jsonb *next,
			Jsonb *options, const char *path)
{
	if (JsonContainerSize(&members->root) > 1)
	{
		RomJb		frame;

		rom_jb_begin(&frame);
		rom_jb_text(&frame, "t", "chain");
		rom_jb_json(&frame, "s", tail(members));
		rom_jb_text(&frame, "p", path);
		rom_jb_int(&frame, "i", index + 1);
		rom_jb_json(&frame, "o", options);
		next = push(rom_jb_end(&frame), next);
	}
	start(canvas, rom_signature_member(members, 0), previous, next, options,
		  psprintf("%s%s%d", path, path[0] ? "." : "", index));
}

/* start_group makes a join and starts its members. body: a chord's callback, or NULL. */
static void
start_group(Canvas *canvas, RomSignature *s, Jsonb *previous, Jsonb *next,
			Jsonb *options, const char *path)
{
	static RomStatement insert = {
		"INSERT INTO romancy.t_canvas_join (join_id, instance_id, members, path, body, options, next)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7)",
		7, {UUIDOID, UUIDOID, INT4OID, TEXTOID, JSONBOID, JSONBOID, JSONBOID}
	};
	Datum		values[7];
	bool		nulls[7] = {0};
	pg_uuid_t	join;
	int			n = JsonContainerSize(&s->members->root);
	char	   *join_text;
	MemoryContext part;

	if (n == 0)
	{
		Jsonb	   *empty = rom_jb_array(NULL, 0);

		if (s->body != NULL)
			start(canvas, s->body, empty, next, options,
				  psprintf("%s%sbody", path, path[0] ? "." : ""));
		else
			deliver(canvas, next, empty, NULL, false);
		return;
	}
	rom_uuid_v7(&join);
	join_text = uuid_text(&join);
	values[0] = UUIDPGetDatum(&join);
	values[1] = UUIDPGetDatum(&canvas->id);
	values[2] = Int32GetDatum(n);
	values[3] = CStringGetTextDatum(path);
	values[4] = PointerGetDatum(s->body);
	nulls[4] = s->body == NULL;
	values[5] = PointerGetDatum(options);
	nulls[5] = options == NULL;
	values[6] = PointerGetDatum(next);
	rom_execute(&insert, values, nulls, 0);
	rom_fanin_set(&join, n);
	part = AllocSetContextCreate(CurrentMemoryContext, "romancy group", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < n; i++)
	{
		MemoryContext old;
		RomJb		frame;
		Jsonb	   *end;

		CHECK_FOR_INTERRUPTS();
		/* what is looked up lives longer than a member */
		old = MemoryContextSwitchTo(part);
		rom_jb_begin(&frame);
		rom_jb_text(&frame, "t", "join");
		rom_jb_text(&frame, "j", join_text);
		rom_jb_int(&frame, "i", i);
		end = rom_jb_end(&frame);
		canvas->activity = NULL;
		start(canvas, rom_signature_member(s->members, i), previous, rom_jb_array(&end, 1), options,
			  psprintf("%s%s%d", path, path[0] ? "." : "", i));
		MemoryContextSwitchTo(old);
		MemoryContextReset(part);
	}
	canvas->activity = NULL;
	MemoryContextDelete(part);
}

/* start starts a signature. previous: the result before it, or NULL. next: what comes after. path: where it stands. */
static void
start(Canvas *canvas, Jsonb *json, Jsonb *previous, Jsonb *next, Jsonb *inherited,
	  const char *path)
{
	RomSignature s;
	Jsonb	   *options;
	Jsonb	   *on_error = NULL;

	check_stack_depth();
	rom_signature_read(json, &s);
	options = merge(inherited, s.options);
	if (s.options != NULL)
		on_error = rom_jb_get_json(s.options, "on_error");
	if (on_error != NULL)
	{
		RomJb		frame;

		rom_jb_begin(&frame);
		rom_jb_text(&frame, "t", "error");
		rom_jb_json(&frame, "s", on_error);
		rom_jb_json(&frame, "of", json);
		rom_jb_text(&frame, "p", path);
		next = push(rom_jb_end(&frame), next);
	}
	switch (s.kind)
	{
		case ROM_SIGNATURE_TASK:
			start_task(canvas, &s, previous, next, options, path);
			break;
		case ROM_SIGNATURE_CHAIN:
			start_chain(canvas, s.members, 0, previous, next, options, path);
			break;
		case ROM_SIGNATURE_GROUP:
		case ROM_SIGNATURE_CHORD:
			start_group(canvas, &s, previous, next, options, path);
			break;
	}
}

/* end_row notes the end of a task, or of a group, in a row of its own. */
static void
end_row(Canvas *canvas, const pg_uuid_t *join, int member, bool is_task,
		Jsonb *result, Jsonb *error)
{
	static RomTable table = {
		"t_canvas_result", 6, {"instance_id", "join_id", "member", "is_task", "value", "error"}
	};
	Datum		values[6];
	bool		nulls[6] = {false, join == NULL, join == NULL, false, result == NULL, error == NULL};

	values[0] = UUIDPGetDatum(&canvas->id);
	values[1] = UUIDPGetDatum(join);
	values[2] = Int32GetDatum(member);
	values[3] = BoolGetDatum(is_task);
	values[4] = PointerGetDatum(result);
	values[5] = PointerGetDatum(error);
	rom_table_insert(&table, values, nulls);
}

/* error_input is what an on_error gets. */
static Jsonb *
error_input(Jsonb *error, Jsonb *signature)
{
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_json(&jb, "error", error);
	rom_jb_json(&jb, "signature", signature);
	return rom_jb_end(&jb);
}

/* end_whole: nothing comes after. */
static void
end_whole(Canvas *canvas, Jsonb *result, Jsonb *error)
{
	if (canvas->in_turn)
	{
		canvas->over = true;
		canvas->result = result;
		canvas->error = error;
		return;
	}
	rom_inbox_insert(&canvas->id, ROM_INBOX_RESULT, CANVAS_STEP, result, error, NULL);
	rom_wake_end(&canvas->id, &canvas->id, canvas->owner, canvas->priority);
}

/* deliver goes on after an end: one of result and error is NULL. is_task: a task's end, which is counted. */
static void
deliver(Canvas *canvas, Jsonb *next, Jsonb *result, Jsonb *error, bool is_task)
{
	int			n = JsonContainerSize(&next->root);
	Jsonb	   *first = NULL;
	char	   *type = NULL;

	/* the first frame tells whether the row of a member's end is the count as well; an on_error does not count */
	if (n > 0)
	{
		first = rom_signature_member(next, 0);
		type = rom_jb_get_text(first, "t");
		if (strcmp(type, "raise") == 0)
			is_task = false;
	}
	if (is_task && (type == NULL || strcmp(type, "join") != 0))
		end_row(canvas, NULL, 0, true, NULL, error);
	for (int i = 0; i < n; i++)
	{
		Jsonb	   *frame = rom_signature_member(next, i);
		Jsonb	   *options = rom_jb_get_json(frame, "o");
		char	   *path = rom_jb_get_text(frame, "p");

		type = rom_jb_get_text(frame, "t");
		if (strcmp(type, "join") == 0)
		{
			pg_uuid_t	join = text_uuid(rom_jb_get_text(frame, "j"));

			end_row(canvas, &join, rom_jb_get_int(frame, "i", 0), is_task && i == 0, result, error);
			rom_wake_end(&join, &canvas->id, canvas->owner, canvas->priority);
			return;
		}
		if (strcmp(type, "raise") == 0)
		{
			error = rom_jb_get_json(frame, "e");
			result = NULL;
		}
		else if (strcmp(type, "chain") == 0 && error == NULL)
		{
			for (; i >= 0; i--)
				next = tail(next);
			canvas->paused = !canvas->in_turn && rom_task_is_paused(&canvas->id);
			start_chain(canvas, rom_jb_get_json(frame, "s"), rom_jb_get_int(frame, "i", 0),
						result, next, options, path);
			return;
		}
		else if (strcmp(type, "error") == 0 && error != NULL)
		{
			RomJb		jb;

			for (; i >= 0; i--)
				next = tail(next);
			canvas->paused = !canvas->in_turn && rom_task_is_paused(&canvas->id);
			rom_jb_begin(&jb);
			rom_jb_text(&jb, "t", "raise");
			rom_jb_json(&jb, "e", error);
			start(canvas, rom_jb_get_json(frame, "s"),
				  error_input(error, rom_jb_get_json(frame, "of")),
				  push(rom_jb_end(&jb), next), NULL,
				  psprintf("%s%son_error", path, path[0] ? "." : ""));
			return;
		}
	}
	end_whole(canvas, result, error);
}

/* canvas_deliver is what rom_task_deliver() calls. */
static void
canvas_deliver(RomTask *task, Oid owner, Jsonb *result, Jsonb *error)
{
	Canvas		canvas = {0};

	canvas.id = task->instance_id;
	canvas.def_id = task->def_id;
	canvas.priority = task->priority;
	canvas.owner = owner;
	canvas.owner_name = task->owner;
	deliver(&canvas, task->next ? task->next : rom_jb_array(NULL, 0), result, error, true);
}

/* ---------------------------------------------------------------- joins */

/* An open group. */
typedef struct OpenJoin
{
	pg_uuid_t	id;
	int32		members;
	char	   *path;
	Jsonb	   *body;
	Jsonb	   *options;
	Jsonb	   *next;
	int64		ended;
} OpenJoin;

static Jsonb *
jsonb_column(uint64 row, int col)
{
	bool		isnull;
	Datum		value = rom_value_copy(row, col, &isnull, CurrentMemoryContext);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* open_joins reads an instance's groups and how many members of each have ended. */
static int
open_joins(const pg_uuid_t *id, OpenJoin **joins)
{
	static RomStatement list = {
		"SELECT join_id FROM romancy.t_canvas_join WHERE instance_id = $1",
		1, {UUIDOID}
	};
	static RomStatement select = {
		"SELECT j.join_id, j.members, j.path, j.body, j.options, j.next,"
		" (SELECT count(*) FROM romancy.t_canvas_result r WHERE r.instance_id = j.instance_id AND r.join_id = j.join_id)"
		" FROM romancy.t_canvas_join j WHERE j.instance_id = $1",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1];
	uint64		rows;
	bool		isnull;

	/* forget first, then count: an end in between wakes the instance again */
	values[0] = UUIDPGetDatum(id);
	rows = rom_execute(&list, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
		rom_fanin_forget(DatumGetUUIDP(rom_value(i, 1, &isnull)));
	rows = rom_execute(&select, values, NULL, 0);
	MemoryContextSwitchTo(cxt);
	*joins = palloc_array(OpenJoin, rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		OpenJoin   *join = &(*joins)[i];

		join->id = *DatumGetUUIDP(rom_value(i, 1, &isnull));
		join->members = DatumGetInt32(rom_value(i, 2, &isnull));
		join->path = rom_value_text(i, 3, cxt);
		join->body = jsonb_column(i, 4);
		join->options = jsonb_column(i, 5);
		join->next = jsonb_column(i, 6);
		join->ended = DatumGetInt64(rom_value(i, 7, &isnull));
	}
	return rows;
}

/* close_join gathers a group's results and goes on after it. */
static void
close_join(Canvas *canvas, OpenJoin *join)
{
	static RomStatement select = {
		"SELECT value, error FROM romancy.t_canvas_result WHERE instance_id = $1 AND join_id = $2 ORDER BY member",
		2, {UUIDOID, UUIDOID}
	};
	static RomStatement delete = {
		"DELETE FROM romancy.t_canvas_join WHERE join_id = $1",
		1, {UUIDOID}
	};
	Datum		values[2];
	uint64		rows;
	Jsonb	  **results;
	Jsonb	   *error = NULL;

	values[0] = UUIDPGetDatum(&canvas->id);
	values[1] = UUIDPGetDatum(&join->id);
	rows = rom_execute(&select, values, NULL, 0);
	results = palloc_array(Jsonb *, rows + 1);
	for (uint64 i = 0; i < rows && error == NULL; i++)
	{
		error = jsonb_column(i, 2);
		results[i] = jsonb_column(i, 1);
	}
	values[0] = UUIDPGetDatum(&join->id);
	rom_execute(&delete, values, NULL, 0);
	if (error != NULL)
		deliver(canvas, join->next, NULL, error, false);
	else if (join->body != NULL)
		start(canvas, join->body, rom_jb_array(results, rows), join->next, join->options,
			  psprintf("%s%sbody", join->path, join->path[0] ? "." : ""));
	else
		deliver(canvas, join->next, rom_jb_array(results, rows), NULL, false);
}

/* close_joins closes groups whose members have all ended, until there is none. */
static void
close_joins(Canvas *canvas)
{
	bool		again = true;

	while (again && !canvas->over)
	{
		OpenJoin   *joins;
		int			n = open_joins(&canvas->id, &joins);

		again = false;
		for (int i = 0; i < n && !canvas->over; i++)
		{
			if (joins[i].ended >= joins[i].members)
			{
				close_join(canvas, &joins[i]);
				again = true;
			}
			else
				rom_fanin_set(&joins[i].id, joins[i].members - joins[i].ended);
		}
	}
}

int
rom_canvas_find(const char *owner, pg_uuid_t *ids, int max)
{
	static RomStatement select = {
		"SELECT DISTINCT i.instance_id, i.owner, i.priority FROM romancy.t_canvas_join j"
		" JOIN romancy.t_instance i ON i.instance_id = j.instance_id"
		" WHERE i.wake_at IS NOT NULL AND i.status <> 'paused' AND ($1 IS NULL OR i.owner = $1)"
		" AND j.members <= (SELECT count(*) FROM romancy.t_canvas_result r"
		" WHERE r.instance_id = j.instance_id AND r.join_id = j.join_id) LIMIT $2",
		2, {TEXTOID, INT4OID}
	};
	Datum		values[2];
	bool		nulls[2] = {owner == NULL, false};
	bool		isnull;
	uint64		rows;

	values[0] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	values[1] = Int32GetDatum(max);
	rows = rom_execute(&select, values, nulls, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		pg_uuid_t  *id = DatumGetUUIDP(rom_value(i, 1, &isnull));
		Oid			role;

		if (owner != NULL)
		{
			ids[i] = *id;
			continue;
		}
		role = get_role_oid(rom_value_text(i, 2, CurrentMemoryContext), true);
		if (OidIsValid(role))
			rom_wake_ready(id, role, DatumGetInt32(rom_value(i, 3, &isnull)));
	}
	return rows;
}

/* ---------------------------------------------------------------- the instance */

/* canvas_execute starts the whole at first; later turns look for groups that have ended, and for the end. */
static RomOutcome
canvas_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomInboxItem *item = rom_turn_inbox_take(turn, call->step);
	Canvas		canvas = {0};
	RomEngine	engine;
	MemoryContext cxt = CurrentMemoryContext;

	canvas.id = turn->inst->id;
	canvas.def_id = turn->inst->def_id;
	canvas.priority = turn->inst->priority;
	canvas.owner = turn->owner;
	canvas.owner_name = turn->inst->owner_name;
	canvas.in_turn = true;
	if (item != NULL)
	{
		canvas.over = true;
		canvas.result = item->result;
		canvas.error = item->error;
	}
	else
	{
		rom_engine_begin(&engine);
		MemoryContextSwitchTo(cxt);
		if (rom_turn_waited(turn, call) == NULL)
		{
			turn->inst->flags |= ROM_HAS_TASKS;
			start(&canvas, rom_jb_get_json(turn->inst->input, "signature"),
				  rom_jb_get_json(turn->inst->input, "input"), rom_jb_array(NULL, 0), NULL, "");
		}
		else
			close_joins(&canvas);
		/* statements leave the current context in SPI's, which goes with the engine */
		if (canvas.over)
		{
			canvas.result = rom_turn_copy_jsonb(turn, canvas.result);
			canvas.error = rom_turn_copy_jsonb(turn, canvas.error);
		}
		MemoryContextSwitchTo(cxt);
		rom_engine_end(&engine);
	}
	if (!canvas.over)
		return rom_turn_wait(turn, call, ROM_STATUS_WAITING_ACTIVITY, "activity", DT_NOEND, NULL);
	event->type = canvas.error ? ROM_EVENT_ACTIVITY_FAILED : ROM_EVENT_ACTIVITY_COMPLETED;
	event->result = rom_turn_copy_jsonb(turn, canvas.error ? canvas.error :
										canvas.result ? canvas.result : rom_jb_null_document());
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_canvas = {
	.name = "canvas",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_ACTIVITY_COMPLETED, ROM_EVENT_ACTIVITY_FAILED},
	.execute = canvas_execute,
	.ignore_input = true,
};

PG_FUNCTION_INFO_V1(romancy_canvas);

/* romancy.canvas(input jsonb) -> jsonb: the handler of canvas instances. RM004 elsewhere. */
Datum
romancy_canvas(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_turn_require("canvas()");
	RomCall		call = {0};
	RomEvent   *event;

	if (!(turn->inst->flags & ROM_IS_CANVAS))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_CONTEXT),
				 errmsg("a canvas is started by romancy.run_canvas()")));
	call.primitive = &primitive_canvas;
	call.step_base = call.name = "canvas";
	event = rom_turn_step(&call);
	if (event->type == ROM_EVENT_ACTIVITY_FAILED)
		rom_error_raise(event->result);
	PG_RETURN_JSONB_P(event->result);
}

PG_FUNCTION_INFO_V1(romancy_run_canvas);

/*
 * romancy.run_canvas(signature jsonb, input jsonb, labels jsonb, result_expires interval) -> uuid
 *
 * Starts a signature as an instance. input: what its first tasks get as the result before them.
 * Errors: RM012 with the path of the fault; RM004 in a handler.
 */
Datum
romancy_run_canvas(PG_FUNCTION_ARGS)
{
	Jsonb	   *signature = rom_arg_jsonb(fcinfo, 0, "signature");
	Jsonb	   *input = rom_arg_jsonb_opt(fcinfo, 1);
	pg_uuid_t  *id = palloc_object(pg_uuid_t);
	RomStart	request = {0};
	int64		total;
	RomJb		jb;

	rom_refuse_in_handler("run_canvas");
	total = rom_signature_check(signature);
	rom_payload_check(input, "input");
	rom_jb_begin(&jb);
	rom_jb_json(&jb, "signature", signature);
	rom_jb_json(&jb, "input", input);
	rom_jb_int(&jb, "total", total);
	request.workflow = rom_workflow_resolve("romancy.canvas", 0);
	request.name = "canvas";
	request.owner = GetUserId();
	request.input = rom_jb_end(&jb);
	request.labels = rom_arg_jsonb_opt(fcinfo, 2);
	request.result_expires = rom_arg_interval_opt(fcinfo, 3, "result_expires");
	request.flags = ROM_IS_CANVAS;
	rom_start_warn();
	(void) rom_instance_start(&request, id);
	PG_RETURN_UUID_P(id);
}

void
rom_canvas_count(const pg_uuid_t *id, RomCanvasCount *count)
{
	static RomStatement ended = {
		"SELECT count(*) FILTER (WHERE error IS NULL), count(*) FILTER (WHERE error IS NOT NULL)"
		" FROM romancy.t_canvas_result WHERE instance_id = $1 AND is_task",
		1, {UUIDOID}
	};
	static RomStatement running = {
		"SELECT count(*) FROM romancy.t_task WHERE instance_id = $1 AND state = 1",
		1, {UUIDOID}
	};
	Datum		values[1];
	bool		isnull;

	values[0] = UUIDPGetDatum(id);
	rom_execute(&ended, values, NULL, 0);
	count->completed = DatumGetInt64(rom_value(0, 1, &isnull));
	count->failed = DatumGetInt64(rom_value(0, 2, &isnull));
	rom_execute(&running, values, NULL, 0);
	count->running = DatumGetInt64(rom_value(0, 1, &isnull));
}

/* canvas_end keeps the last count with the instance and takes the rows away. */
static void
canvas_end(RomTurn *turn, RomStatus status)
{
	static RomStatement delete_results = {
		"DELETE FROM romancy.t_canvas_result WHERE instance_id = $1",
		1, {UUIDOID}
	};
	static RomStatement delete_joins = {
		"DELETE FROM romancy.t_canvas_join WHERE instance_id = $1",
		1, {UUIDOID}
	};
	RomCanvasCount count;
	Datum		values[1];
	MemoryContext old;
	RomJb		jb;
	char	   *note = turn->inst->progress ? rom_jb_get_text(turn->inst->progress, "note") : NULL;

	rom_canvas_count(&turn->inst->id, &count);
	old = MemoryContextSwitchTo(turn->cxt);
	rom_jb_begin(&jb);
	rom_jb_int(&jb, "done", count.completed);
	rom_jb_int(&jb, "failed", count.failed);
	rom_jb_int(&jb, "total", rom_jb_get_int(turn->inst->input, "total", 0));
	rom_jb_text(&jb, "note", note);
	turn->inst->progress = rom_jb_end(&jb);
	MemoryContextSwitchTo(old);
	values[0] = UUIDPGetDatum(&turn->inst->id);
	rom_execute(&delete_results, values, NULL, 0);
	rom_execute(&delete_joins, values, NULL, 0);
}

/* progress_end tells those who follow an instance's progress of its end. */
static void
progress_end(RomTurn *turn, RomStatus status)
{
	rom_wake_key(rom_waiter_key('p', &turn->inst->id, sizeof(pg_uuid_t)));
}

/* delete_instances is for instances that are deleted. */
static void
delete_instances(Datum ids)
{
	static RomStatement delete = {
		"DELETE FROM romancy.t_task WHERE instance_id = ANY ($1)",
		1, {UUIDARRAYOID}
	};
	Datum		values[1];

	values[0] = ids;
	rom_execute(&delete, values, NULL, 0);
}

void
rom_canvas_init(void)
{
	rom_task_on_canvas(canvas_deliver);
	rom_turn_on_end(ROM_IS_CANVAS, canvas_end);
	rom_turn_on_end(0, progress_end);
	rom_instance_on_delete(delete_instances);
}
