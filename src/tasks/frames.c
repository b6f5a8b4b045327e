/*-------------------------------------------------------------------------
 *
 * frames.c
 *		Canvas: starts signatures, and the successors of a task.
 *
 * The successors of a task are a list of frames, innermost first, in its row
 * (t_task.next):
 *
 *	{"t": "chain", ...}						the rest of a chain (chain.c)
 *	{"t": "join", "j": id, "i": member, "q"}	a member of a group: the end; q: of
 *											an on_error, and not counted
 *	{"t": "error", "s": signature, "of": signature, "p", "h"}	an on_error; h: of a
 *											chord's header, not of its callback; "c" in place of
 *											"of": it is kept by chain.c
 *	{"t": "raise", "e": error}				after an on_error: go on failing
 *	{"t": "success", "s": signature, "p"}	an on_success
 *	{"t": "return", "v": result}			after an on_success: go on with that, however that ended
 *
 * rom_frames_go_on() takes frames off until one of them starts something, in the
 * transaction that ends the task: so a chain continues without a turn. The end
 * of a member is a row of t_canvas_result; that of the whole, one in the
 * instance's inbox.
 *
 * The ends of groups are canvas.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/spi.h"
#include "base/table.h"
#include "base/uuid.h"
#include "instances/document.h"
#include "instances/inbox.h"
#include "instances/instance.h"
#include "memory/expect.h"
#include "memory/fanin.h"
#include "memory/wake.h"
#include "steps/invoke.h"
#include "tasks/chain.h"
#include "tasks/frames.h"
#include "tasks/notify.h"
#include "tasks/quota.h"
#include "tasks/signature.h"
#include "tasks/task.h"
#include "turn/kinds.h"

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

/* tail is an array without its first few elements. */
static Jsonb *
tail(Jsonb *array, int without)
{
	int			n = JsonContainerSize(&array->root);
	Jsonb	  **rest = palloc_array(Jsonb *, n + 1);

	for (int i = without; i < n; i++)
		rest[i - without] = rom_signature_member(array, i);
	return rom_jb_array(rest, Max(n - without, 0));
}

/* error_frame has on_error come when the signature at path fails. Each task of a chain has the frame, so a long signature is kept once. */
static Jsonb *
error_frame(RomCanvas *canvas, Jsonb *on_error, Jsonb *signature, const char *path, bool header)
{
	RomJb		frame;

	rom_jb_begin(&frame);
	rom_jb_text(&frame, "t", "error");
	rom_jb_json(&frame, "s", on_error);
	if (VARSIZE(signature) > ROM_CHAIN_SHORT)
		rom_jb_text(&frame, "c", rom_chain_keep(&canvas->id, signature));
	else
		rom_jb_json(&frame, "of", signature);
	rom_jb_text(&frame, "p", path);
	if (header)
		rom_jb_bool(&frame, "h", true);
	return rom_jb_end(&frame);
}

/* success_frame has on_success come when the signature at path succeeds. */
static Jsonb *
success_frame(Jsonb *on_success, const char *path)
{
	RomJb		frame;

	rom_jb_begin(&frame);
	rom_jb_text(&frame, "t", "success");
	rom_jb_json(&frame, "s", on_success);
	rom_jb_text(&frame, "p", path);
	return rom_jb_end(&frame);
}

/* on_error_of is a signature's on_error, or NULL. */
static Jsonb *
on_error_of(Jsonb *options)
{
	return options ? rom_jb_get_json(options, "on_error") : NULL;
}

/* merge overlays inherited options with a signature's own; on_error, on_success and delay are not inherited. */
static Jsonb *
merge(Jsonb *inherited, Jsonb *own)
{
	static const char *const keys[] = {"retry", "priority", "immutable", "timeout", "expires"};
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

/* interval_column is column column of the row found, in microseconds as extract(epoch) has it; 0 for null. */
static int64
interval_column(RomRows *rows, int column)
{
	bool		isnull;
	Datum		value = rom_rows_column(rows, column, &isnull);

	if (isnull)
		return 0;
	return (int64) rint(DatumGetFloat8(DirectFunctionCall2(interval_part, CStringGetTextDatum("epoch"), value)) * USECS_PER_SEC);
}

/* look_up reads how an activity is defined, without a plan; an undefined one is a function, which the role that runs it finds. */
static void
look_up(RomCanvas *canvas, const char *name)
{
	static RomTable table = {
		"t_activity", 4, {"queue", "start_to_close_timeout", "heartbeat_timeout", "schedule_to_start_timeout"}, true
	};
	MemoryContext cxt = canvas->keep ? canvas->keep : CurrentMemoryContext;
	RomRows		rows;

	if (canvas->activity != NULL && strcmp(canvas->activity, name) == 0)
		return;
	canvas->activity = MemoryContextStrdup(cxt, name);
	canvas->queue = "";
	canvas->key_path = NULL;
	canvas->close_us = canvas->beat_us = canvas->start_us = 0;
	rom_rows_open_select(&rows, &table, "t_activity_pkey", false);
	if (rom_rows_find_int_text(&rows, canvas->namespace, name))
	{
		char	   *queue = rom_rows_text(&rows, 0);

		if (queue != NULL)
		{
			char	   *path;

			canvas->queue = MemoryContextStrdup(cxt, rom_notify_queue_stored(canvas->namespace, queue));
			path = rom_quota_path_of(canvas->queue);
			canvas->key_path = path ? MemoryContextStrdup(cxt, path) : NULL;
		}
		canvas->close_us = interval_column(&rows, 1);
		canvas->beat_us = interval_column(&rows, 2);
		canvas->start_us = interval_column(&rows, 3);
	}
	rom_rows_close(&rows);
}

bool
rom_frames_count(Jsonb *next)
{
	int			n = JsonContainerSize(&next->root);

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *frame = rom_signature_member(next, i);

		if (strcmp(rom_jb_get_text(frame, "t"), "raise") == 0 || rom_jb_get_bool(frame, "q", false))
			return false;
	}
	return true;
}

void
rom_frames_task(RomCanvas *canvas, RomTask *task, int64 expires_us)
{
	look_up(canvas, task->activity);
	task->kind = ROM_TASK_CANVAS;
	task->state = canvas->paused ? ROM_TASK_PARKED : ROM_TASK_READY;
	task->instance_id = canvas->id;
	task->def_id = canvas->def_id;
	task->owner = canvas->owner_name;
	task->queue = canvas->queue;
	if (task->close_us == 0)
		task->close_us = canvas->close_us;
	task->beat_us = canvas->beat_us;
	task->limit_key = rom_quota_key_at(canvas->key_path, task->input);
	/* (of one that programs fetch that does not matter) */
	task->is_short = task->queue[0] == '\0' && rom_invoke_short_task(canvas->namespace, task->activity);
	if (task->queue[0] == '\0' && !task->is_short && task->state == ROM_TASK_READY && task->delay_us == 0)
		rom_expect(++canvas->started);
	rom_task_insert(task, canvas->owner,
					expires_us > 0 ? rom_now() + expires_us :
					canvas->start_us > 0 ? rom_now() + canvas->start_us : DT_NOEND);
}

/* start_task starts a signature's task. */
static void
start_task(RomCanvas *canvas, RomSignature *s, Jsonb *previous, Jsonb *next,
		   Jsonb *options, const char *path)
{
	RomTask		task = {0};

	task.priority = options ? rom_jb_get_int(options, "priority", canvas->priority) : canvas->priority;
	task.activity = s->task;
	task.step = psprintf("%s:%s", s->task, path[0] ? path : "0");
	task.input = input_of(s, previous, options);
	task.retry = options ? rom_jb_get_json(options, "retry") : NULL;
	task.next = next;
	task.close_us = rom_signature_interval(options, "timeout");
	task.delay_us = canvas->delay_us;
	rom_frames_task(canvas, &task, rom_signature_interval(options, "expires"));
}

/*
 * start_chain starts the first of a chain's signatures that has a task; the rest is a
 * frame. Those before it are stepped over here, however many: each would cost a
 * recursion and a copy of the rest.
 */
static void
start_chain(RomCanvas *canvas, const RomChain *chain, Jsonb *previous, Jsonb *next,
			Jsonb *options, const char *path)
{
	int			skip = 0;
	Jsonb	   *member = rom_chain_member(chain, 0);

	while (skip < chain->count - 1 && rom_signature_is_empty(member))
		member = rom_chain_member(chain, ++skip);
	if (skip > 0)
		previous = rom_jb_array(NULL, 0);
	if (chain->count > skip + 1)
		next = push(rom_chain_frame(chain, skip + 1, path, options), next);
	rom_frames_start(canvas, member, previous, next, options,
					 psprintf("%s%s%d", path, path[0] ? "." : "", chain->first + skip));
}

/* The members of a group. */
typedef struct Members
{
	Jsonb	   *list;
	Jsonb	   *previous;
	const char *join;
	bool		counted;		/* their ends count */
	Jsonb	   *options;
	const char *path;
} Members;

/* join_frame is the frame of member i. */
static Jsonb *
join_frame(const Members *members, int i)
{
	static const char *const counted[] = {"i", "j", "t"};
	static const char *const uncounted[] = {"i", "j", "q", "t"};
	JsonbValue	values[4];
	int			n = 0;

	values[n].type = jbvNumeric;
	values[n++].val.numeric = int64_to_numeric(i);
	rom_jb_string(&values[n++], members->join);
	if (!members->counted)
	{
		values[n].type = jbvBool;
		values[n++].val.boolean = true;
	}
	rom_jb_string(&values[n++], "join");
	return rom_jb_object(members->counted ? counted : uncounted, values, n);
}

/* start_each starts the members of a group. */
static void
start_each(RomCanvas *canvas, const Members *members)
{
	int			n = JsonContainerSize(&members->list->root);
	MemoryContext part = AllocSetContextCreate(CurrentMemoryContext, "romancy group", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < n; i++)
	{
		MemoryContext old;
		Jsonb	   *end;

		CHECK_FOR_INTERRUPTS();
		old = MemoryContextSwitchTo(part);
		end = join_frame(members, i);
		rom_frames_start(canvas, rom_signature_member(members->list, i), members->previous, rom_jb_array(&end, 1), members->options,
						 psprintf("%s%s%d", members->path, members->path[0] ? "." : "", i));
		MemoryContextSwitchTo(old);
		MemoryContextReset(part);
	}
	MemoryContextDelete(part);
}

/* start_members does the same with the tables kept open, and the rows of many tasks written together. */
static void
start_members(RomCanvas *canvas, const Members *members)
{
	bool		opened = rom_table_keep_open();
	bool		gathers = rom_task_gather();

	start_each(canvas, members);
	if (gathers)
		rom_task_gather_end();
	if (opened)
		rom_table_close_kept();
}

/* start_group makes a join and starts its members. body: a chord's callback, or NULL. */
static void
start_group(RomCanvas *canvas, RomSignature *s, Jsonb *previous, Jsonb *next,
			Jsonb *options, const char *path)
{
	static RomTable table = {
		"t_canvas_join", 8, {"join_id", "instance_id", "members", "failed", "path", "body", "options", "next"}
	};
	Datum		values[8];
	bool		nulls[8] = {0};
	pg_uuid_t	join;
	int			n = JsonContainerSize(&s->members->root);
	Members		members = {.list = s->members,.previous = previous,.path = path,.counted = rom_frames_count(next)};
	Jsonb	   *header = s->header ? rom_jb_get_json(s->header, "options") : NULL;
	bool		outermost;

	if (n == 0)
	{
		Jsonb	   *empty = rom_jb_array(NULL, 0);

		if (s->body != NULL)
			rom_frames_start(canvas, s->body, empty, next, options,
							 psprintf("%s%sbody", path, path[0] ? "." : ""));
		else
			rom_frames_go_on(canvas, next, empty, NULL, false);
		return;
	}
	if (s->body != NULL && on_error_of(rom_jb_get_json(s->body, "options")) != NULL)
		next = push(error_frame(canvas, on_error_of(rom_jb_get_json(s->body, "options")), s->body,
								psprintf("%s%sbody", path, path[0] ? "." : ""), true), next);
	if (on_error_of(header) != NULL)
		next = push(error_frame(canvas, on_error_of(header), s->header,
								psprintf("%s%sheader", path, path[0] ? "." : ""), true), next);
	rom_uuid_v7(&join);
	members.join = rom_uuid_text(&join);
	values[0] = UUIDPGetDatum(&join);
	values[1] = UUIDPGetDatum(&canvas->id);
	values[2] = Int32GetDatum(n);
	values[3] = BoolGetDatum(false);
	values[4] = CStringGetTextDatum(path);
	values[5] = PointerGetDatum(s->body);
	nulls[5] = s->body == NULL;
	values[6] = PointerGetDatum(options);
	nulls[6] = options == NULL;
	values[7] = PointerGetDatum(next);
	rom_table_insert(&table, values, nulls);
	rom_fanin_set(&join, canvas->namespace, n);

	/*
	 * a header's own options are for its members, those above for the
	 * callback too
	 */
	options = merge(options, header);
	/* what is looked up lives longer than a member */
	outermost = canvas->keep == NULL;
	if (outermost)
	{
		canvas->keep = CurrentMemoryContext;
		canvas->activity = NULL;
	}
	members.options = options;
	start_members(canvas, &members);
	if (outermost)
	{
		canvas->keep = NULL;
		canvas->activity = NULL;
	}
}

void
rom_frames_start(RomCanvas *canvas, Jsonb *json, Jsonb *previous, Jsonb *next,
				 Jsonb *inherited, const char *path)
{
	RomSignature s;
	Jsonb	   *options;
	int64		delay = canvas->delay_us;
	RomChain	chain;

	check_stack_depth();
	rom_signature_read(json, &s);
	options = merge(inherited, s.options);
	canvas->delay_us += rom_signature_interval(s.options, "delay");
	if (s.options != NULL && rom_jb_get_json(s.options, "on_success") != NULL)
		next = push(success_frame(rom_jb_get_json(s.options, "on_success"), path), next);
	if (on_error_of(s.options) != NULL)
		next = push(error_frame(canvas, on_error_of(s.options), json, path, false), next);
	switch (s.kind)
	{
		case ROM_SIGNATURE_TASK:
			start_task(canvas, &s, previous, next, options, path);
			break;
		case ROM_SIGNATURE_CHAIN:
			rom_chain_begin(&chain, &canvas->id, s.members);
			start_chain(canvas, &chain, previous, next, options, path);
			break;
		case ROM_SIGNATURE_GROUP:
		case ROM_SIGNATURE_CHORD:
			start_group(canvas, &s, previous, next, options, path);
			break;
	}
	canvas->delay_us = delay;
}

RomTable	rom_frames_ends = {
	"t_canvas_result", 14, {
		"instance_id", "join_id", "member", "is_task", "value", "error", "step", "activity", "input",
		"attempt", "started_at", "finished_at", "value_document", "input_document"
	}
};

/* end_row notes the end of a task, or of a group (task NULL), in a row of its own. is_task: it counts. */
static void
end_row(RomCanvas *canvas, const pg_uuid_t *join, int member, bool is_task,
		Jsonb *result, Jsonb *error, const RomTask *task)
{
	Datum		values[14];
	bool		nulls[14] = {false, false, false, false, true, error == NULL,
	task == NULL, task == NULL, true, task == NULL, true, task == NULL, true, true};
	pg_uuid_t	documents[2];
	pg_uuid_t	own;

	if (join == NULL)
	{
		rom_uuid_v7(&own);
		join = &own;
	}
	values[0] = UUIDPGetDatum(&canvas->id);
	values[1] = UUIDPGetDatum(join);
	values[2] = Int32GetDatum(member);
	values[3] = BoolGetDatum(is_task);
	rom_document_columns(&canvas->id, result, &documents[0], values, nulls, 4, 12);
	values[5] = PointerGetDatum(error);
	if (task != NULL)
	{
		TimestampTz started = task->started_at != 0 ? task->started_at :
			task->cost != NULL ? rom_now() - task->cost->us : 0;

		values[6] = CStringGetTextDatum(task->step);
		values[7] = CStringGetTextDatum(task->activity);
		rom_document_columns(&canvas->id, task->input, &documents[1], values, nulls, 8, 13);
		values[9] = Int32GetDatum(task->attempt);
		values[10] = TimestampTzGetDatum(started);
		nulls[10] = started == 0;
		values[11] = TimestampTzGetDatum(rom_now());
	}
	rom_table_insert(&rom_frames_ends, values, nulls);
}

/* error_input is what the on_error of a frame gets. */
static Jsonb *
error_input(RomCanvas *canvas, Jsonb *error, Jsonb *frame)
{
	Jsonb	   *signature = rom_jb_get_json(frame, "of");
	RomJb		jb;

	if (signature == NULL)
		signature = rom_chain_kept(&canvas->id, rom_jb_get_text(frame, "c"));

	rom_jb_begin(&jb);
	rom_jb_json(&jb, "error", error);
	rom_jb_json(&jb, "signature", signature);
	return rom_jb_end(&jb);
}

/* end_whole: nothing comes after. */
static void
end_whole(RomCanvas *canvas, Jsonb *result, Jsonb *error)
{
	if (canvas->in_turn)
	{
		canvas->over = true;
		canvas->result = result;
		canvas->error = error;
		return;
	}
	rom_inbox_insert(&canvas->id, ROM_INBOX_RESULT, ROM_CANVAS_STEP, result, error, NULL);
	rom_wake_end(&canvas->id, &canvas->id, canvas->owner, canvas->priority);
}

/*
 * may_start says whether something may be started after an end: not when the canvas is being undone or is over. Out
 * of a turn what is started is parked while the instance is paused.
 */
static bool
may_start(RomCanvas *canvas)
{
	RomStatus	status = ROM_STATUS_RUNNING;

	if (canvas->in_turn)
		return true;
	if (!rom_task_live(&canvas->id, &status) || status == ROM_STATUS_COMPENSATING)
		return false;
	canvas->paused = status == ROM_STATUS_PAUSED;
	return true;
}

void
rom_frames_go_on(RomCanvas *canvas, Jsonb *next, Jsonb *result, Jsonb *error, bool is_task)
{
	int			n = JsonContainerSize(&next->root);
	Jsonb	   *frame = NULL;
	char	   *type = NULL;
	const RomTask *task = canvas->task;

	canvas->task = NULL;
	is_task = is_task && rom_frames_count(next);

	/*
	 * the first frame tells whether the row of a member's end is the count as
	 * well
	 */
	if (n > 0)
	{
		frame = rom_signature_member(next, 0);
		type = rom_jb_get_text(frame, "t");
	}
	if (task != NULL && (n == 0 || strcmp(type, "join") != 0))
		end_row(canvas, NULL, 0, is_task, result, error, task);
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
		{
			frame = rom_signature_member(next, i);
			type = rom_jb_get_text(frame, "t");
		}
		if (strcmp(type, "join") == 0)
		{
			pg_uuid_t	join = rom_uuid_from_text(rom_jb_get_text(frame, "j"));

			end_row(canvas, &join, rom_jb_get_int(frame, "i", 0), is_task && i == 0, result, error,
					i == 0 ? task : NULL);
			rom_wake_end(&join, &canvas->id, canvas->owner, canvas->priority);
			return;
		}
		if (strcmp(type, "raise") == 0)
		{
			error = rom_jb_get_json(frame, "e");
			result = NULL;
		}
		else if (strcmp(type, "return") == 0)
		{
			result = rom_jb_get_json(frame, "v");
			error = NULL;
		}
		else if (strcmp(type, "success") == 0 && error == NULL)
		{
			char	   *path = rom_jb_get_text(frame, "p");
			RomJb		jb;

			next = tail(next, i + 1);
			if (!may_start(canvas))
				return;
			rom_jb_begin(&jb);
			rom_jb_text(&jb, "t", "return");
			rom_jb_json(&jb, "v", result ? result : rom_jb_null_document());
			rom_frames_start(canvas, rom_jb_get_json(frame, "s"), result, push(rom_jb_end(&jb), next), NULL,
							 psprintf("%s%son_success", path, path[0] ? "." : ""));
			return;
		}
		else if (strcmp(type, "chain") == 0 && error == NULL)
		{
			RomChain	chain;

			next = tail(next, i + 1);
			if (!may_start(canvas))
				return;
			rom_chain_read(&chain, &canvas->id, frame);
			start_chain(canvas, &chain, result, next, rom_jb_get_json(frame, "o"), rom_jb_get_text(frame, "p"));
			return;
		}
		else if (strcmp(type, "error") == 0 && error != NULL)
		{
			char	   *path = rom_jb_get_text(frame, "p");
			RomJb		jb;

			next = tail(next, i + 1);
			if (!may_start(canvas))
				return;
			rom_jb_begin(&jb);
			rom_jb_text(&jb, "t", "raise");
			rom_jb_json(&jb, "e", error);
			rom_frames_start(canvas, rom_jb_get_json(frame, "s"),
							 error_input(canvas, error, frame),
							 push(rom_jb_end(&jb), next), NULL,
							 psprintf("%s%son_error", path, path[0] ? "." : ""));
			return;
		}
	}
	end_whole(canvas, result, error);
}

void
rom_frames_callback(RomCanvas *canvas, Jsonb *body, Jsonb *results, Jsonb *next,
					Jsonb *options, const char *path)
{
	while (JsonContainerSize(&next->root) > 0 &&
		   rom_jb_get_bool(rom_signature_member(next, 0), "h", false))
		next = tail(next, 1);
	rom_frames_start(canvas, body, results, next, options,
					 psprintf("%s%sbody", path, path[0] ? "." : ""));
}

/*
 * end_unknown notes the end of a task of a canvas that is about to end, of which is not known how far it came: gather() has it undone. It ends no
 * group, and nothing comes after it.
 */
static void
end_unknown(RomCanvas *canvas, const RomTask *task, Jsonb *next, Jsonb *error, Jsonb *detail)
{
	error = rom_jb_with(error, ROM_OUTCOME_UNKNOWN, rom_jb_get_json(detail, ROM_OUTCOME_UNKNOWN));
	end_row(canvas, NULL, 0, rom_frames_count(next), NULL, error, task);
	rom_wake_ready(&canvas->id, canvas->owner, canvas->priority);
}

void
rom_frames_deliver(RomTask *task, Oid owner, Jsonb *result, Jsonb *error, Jsonb *detail)
{
	RomCanvas	canvas = {0};
	Jsonb	   *next = task->next ? task->next : rom_jb_array(NULL, 0);

	canvas.id = task->instance_id;
	canvas.def_id = task->def_id;
	canvas.namespace = rom_definition_by_id(task->def_id)->namespace;
	canvas.priority = task->priority;
	canvas.owner = owner;
	canvas.owner_name = task->owner;
	canvas.task = task;
	if (error != NULL && detail != NULL && rom_jb_has(detail, ROM_OUTCOME_UNKNOWN))
		end_unknown(&canvas, task, next, error, detail);
	else
		rom_frames_go_on(&canvas, next, result, error, true);
}
