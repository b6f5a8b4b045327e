/*-------------------------------------------------------------------------
 *
 * picture.c
 *		The steps that diagram and timeline draw: an instance's, with those of
 *		its children.
 *
 * History tells when a step ended. A step that was not spawned began when the
 * one recorded before it had ended. The steps of a canvas are its tasks, and its signature
 * says which follows which. Shared memory knows what runs now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "base/uuid.h"
#include "instances/history.h"
#include "instances/steer.h"
#include "monitor/picture.h"
#include "tasks/canvas_calls.h"
#include "tasks/signature.h"
#include "tasks/state.h"

static RomStatement select_instance = {
	"SELECT workflow, status, error, coalesce(started_at, created_at), finished_at, wait, flags & " ROM_SQL_IS_CANVAS " <> 0,"
	" owner, parent_id::text, parent_step, continued_from::text"
	" FROM romancy.t_instance WHERE instance_id = $1",
	1, {UUIDOID}
};

/* Columns of rom_canvas_calls_tasks(). */
enum
{
	COLUMN_PATH = 1,
	COLUMN_ACTIVITY,
	COLUMN_STATUS,
	COLUMN_ATTEMPT,
	COLUMN_ERROR = 7,
	COLUMN_STARTED,
	COLUMN_FINISHED
};

typedef struct Walk
{
	RomPicture *picture;
	RomRowSet	set;
	uint64		rows;
	uint64		next;			/* the row to look at */
	MemoryContext cxt;
} Walk;

static RomPicture *read_picture(const pg_uuid_t *id, int depth);

char *
rom_picture_line(const char *s, int max)
{
	char	   *line = pstrdup(s);
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	int			len;

	for (char *c = line; *c; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			*c = ' ';
		else if (utf8 && (unsigned char) c[0] == 0xC2 && (unsigned char) c[1] < 0xA0)
			c[0] = c[1] = ' ';	/* U+0080 to U+009F */
	}
	len = pg_mbcharcliplen(line, strlen(line), max);
	if (line[len] != '\0')
	{
		len = pg_mbcharcliplen(line, strlen(line), max - 3);
		line[len] = '\0';
		return psprintf("%s...", line);
	}
	return line;
}

char *
rom_picture_label(const RomPictureStep *step)
{
	if (step->kind != ROM_PICTURE_COMPENSATION)
		return step->id;
	return psprintf("undo %s: %s", step->id, step->name ? step->name : "");
}

char *
rom_picture_span(int64 usec)
{
	double		s = usec / 1000000.0;
	int64		seconds = (usec + 500000) / 1000000;
	int64		minutes = (seconds + 30) / 60;

	if (usec < 1000)
		return psprintf("%d us", (int) usec);
	if (usec < 1000000)
		return psprintf("%d ms", (int) (usec / 1000));
	if (s < 60)
		return psprintf("%.1f s", s);
	if (seconds < 3600)
		return psprintf("%d min %d s", (int) (seconds / 60), (int) (seconds % 60));
	if (minutes < 48 * 60)
		return psprintf("%d h %d min", (int) (minutes / 60), (int) (minutes % 60));
	return psprintf("%d d %d h", (int) (minutes / 1440), (int) (minutes / 60 % 24));
}

/* kind_of says what an event is in a picture; false: not shown. */
static bool
kind_of(RomEventType type, RomPictureKind *kind)
{
	switch (type)
	{
		case ROM_EVENT_ACTIVITY_COMPLETED:
		case ROM_EVENT_ACTIVITY_FAILED:
		case ROM_EVENT_ACTIVITY_SCHEDULED:
			*kind = ROM_PICTURE_ACTIVITY;
			return true;
		case ROM_EVENT_TIMER_EXPIRED:
		case ROM_EVENT_TIMER_SCHEDULED:
		case ROM_EVENT_AWAIT_TIMEOUT:
			*kind = ROM_PICTURE_TIMER;
			return true;
		case ROM_EVENT_CHILD_SCHEDULED:
		case ROM_EVENT_CHILD_COMPLETED:
		case ROM_EVENT_CHILD_FAILED:
			*kind = ROM_PICTURE_CHILD;
			return true;
		case ROM_EVENT_MESSAGE_RECEIVED:
		case ROM_EVENT_MESSAGE_TIMEOUT:
		case ROM_EVENT_EVENT_RECEIVED:
		case ROM_EVENT_RECEIVE_SCHEDULED:
		case ROM_EVENT_MESSAGE_PUBLISHED:
		case ROM_EVENT_MESSAGE_SENT:
		case ROM_EVENT_EVENT_RAISED:
		case ROM_EVENT_OUTBOX_SENT:
			*kind = ROM_PICTURE_MESSAGE;
			return true;
		case ROM_EVENT_COMPENSATION_EXECUTED:
		case ROM_EVENT_COMPENSATION_FAILED:
			*kind = ROM_PICTURE_COMPENSATION;
			return true;
		case ROM_EVENT_WORKFLOW_STARTED:
		case ROM_EVENT_CANCEL_REQUESTED:
		case ROM_EVENT_STATEMENT_RECORDED:
		case ROM_EVENT_CALL_FAILED:
			*kind = ROM_PICTURE_OTHER;
			return true;
		default:
			return false;
	}
}

static bool
is_schedule(RomEventType type)
{
	return type == ROM_EVENT_ACTIVITY_SCHEDULED || type == ROM_EVENT_TIMER_SCHEDULED ||
		type == ROM_EVENT_RECEIVE_SCHEDULED || type == ROM_EVENT_CHILD_SCHEDULED;
}

static bool
is_failure(RomEventType type)
{
	return type == ROM_EVENT_ACTIVITY_FAILED || type == ROM_EVENT_CHILD_FAILED ||
		type == ROM_EVENT_COMPENSATION_FAILED || type == ROM_EVENT_CALL_FAILED ||
		type == ROM_EVENT_MESSAGE_TIMEOUT || type == ROM_EVENT_AWAIT_TIMEOUT;
}

static void
add_mark(RomPicture *picture, RomPictureStep *step, bool begin, bool end)
{
	RomPictureMark *mark = palloc_object(RomPictureMark);

	mark->step = step;
	mark->begin = begin;
	mark->end = end;
	picture->marks = lappend(picture->marks, mark);
}

/* end_step fills in what the event of a step's end says. */
static void
end_step(RomPictureStep *step, RomEvent *event)
{
	Jsonb	   *retry = event->detail ? rom_jb_get_json(event->detail, "retry") : NULL;

	step->to = event->at;
	step->state = is_failure(event->type) ? ROM_PICTURE_FAILED : ROM_PICTURE_DONE;
	if (step->state == ROM_PICTURE_FAILED && event->result != NULL)
		step->note = rom_jb_get_text(event->result, "message");
	if (retry != NULL)
	{
		int64		ms = rom_jb_get_int(retry, "total_duration_ms", 0);

		step->attempts = (int) rom_jb_get_int(retry, "total_attempts", 1);
		step->errors = rom_jb_get_json(retry, "errors");
		if (!step->parallel)
			step->from = Min(step->from, event->at - ms * 1000);
	}
}

/* pending_step finds the spawned step that an outcome belongs to: the latest of its id that is open. */
static RomPictureStep *
pending_step(RomPicture *picture, const char *id)
{
	for (int i = list_length(picture->steps) - 1; i >= 0; i--)
	{
		RomPictureStep *step = list_nth(picture->steps, i);

		if (step->parallel && step->state == ROM_PICTURE_OPEN && strcmp(step->id, id) == 0)
			return step;
	}
	return NULL;
}

static RomPictureStep *
new_step(RomPicture *picture, RomPictureKind kind, const char *id, const char *name,
		 TimestampTz from)
{
	RomPictureStep *step = palloc0_object(RomPictureStep);

	step->kind = kind;
	step->state = ROM_PICTURE_OPEN;
	step->id = pstrdup(id);
	step->name = name ? pstrdup(name) : NULL;
	step->attempts = 1;
	step->from = from;
	step->to = from;
	picture->steps = lappend(picture->steps, step);
	return step;
}

/* add_event adds what one event shows. at: when what is before it had ended. */
static void
add_event(RomPicture *picture, RomEvent *event, TimestampTz at, int depth)
{
	RomPictureKind kind;
	RomPictureStep *step;

	if (!kind_of(event->type, &kind) || (picture->canvas && kind != ROM_PICTURE_COMPENSATION))
		return;
	step = is_schedule(event->type) || event->step == NULL ? NULL :
		pending_step(picture, event->step);
	if (step != NULL && kind != ROM_PICTURE_COMPENSATION)
	{
		end_step(step, event);
		add_mark(picture, step, false, true);
		return;
	}
	if (list_length(picture->steps) >= ROM_PICTURE_STEPS)
	{
		picture->cut = true;
		return;
	}
	step = new_step(picture, kind, event->step ? event->step : rom_event_name(event->type),
					event->name, is_schedule(event->type) ? event->at : at);
	if (is_schedule(event->type))
	{
		char	   *child = event->detail ? rom_jb_get_text(event->detail, "instance_id") : NULL;

		step->parallel = true;
		if (kind == ROM_PICTURE_CHILD && child != NULL && depth < ROM_PICTURE_DEPTH)
			step->child = read_picture(DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(child))),
									   depth + 1);
		add_mark(picture, step, true, false);
		return;
	}
	end_step(step, event);
	add_mark(picture, step, true, true);
}

/* add_wait adds what a live instance waits for, where no spawned step shows it. */
static void
add_wait(RomPicture *picture, Jsonb *wait, TimestampTz at)
{
	char	   *kind = rom_jb_get_text(wait, "kind");
	char	   *id = rom_jb_get_text(wait, "step");
	Jsonb	   *detail = rom_jb_get_json(wait, "detail");
	TimestampTz until = rom_jb_get_time(wait, "until");
	RomPictureKind shown = ROM_PICTURE_ACTIVITY;
	RomPictureStep *step;

	if (id == NULL || rom_jb_get_bool(wait, "await", false))
		return;					/* nothing, or spawned steps */
	if (strcmp(kind, "timer") == 0)
		shown = ROM_PICTURE_TIMER;
	else if (strcmp(kind, "message") == 0 || strcmp(kind, "event") == 0)
		shown = ROM_PICTURE_MESSAGE;
	else if (rom_jb_get_text(wait, "undoes") != NULL)
	{
		shown = ROM_PICTURE_COMPENSATION;
		id = rom_jb_get_text(wait, "undoes");
	}
	step = new_step(picture, shown, id, rom_jb_get_text(wait, "name"), at);
	if (detail != NULL)
		step->attempts = (int) rom_jb_get_int(detail, "attempt", 1);
	if (!TIMESTAMP_NOT_FINITE(until))
		step->note = psprintf("%s %s", shown == ROM_PICTURE_TIMER ? "until" :
							  strcmp(kind, "retry") == 0 ? "next attempt" : "at most until",
							  timestamptz_to_str(until));
	else
		step->note = pstrdup("waiting");
	add_mark(picture, step, true, true);
}

/* read_row reads what the instance's row tells; false when there is none. */
static bool
read_row(RomPicture *picture, Jsonb **wait)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		values[1] = {UUIDPGetDatum(&picture->id)};
	RomEngine	engine;
	Datum		value;
	bool		isnull;
	bool		found;
	RomRowSet	set;

	rom_engine_begin(&engine);
	found = rom_execute_rows(&set, &select_instance, values, NULL, 1) == 1;
	if (found)
	{
		picture->workflow = rom_value_text(&set, 0, 1, cxt);
		picture->status = rom_instance_status_from_datum(rom_value(&set, 0, 2, &isnull));
		value = rom_value_copy(&set, 0, 3, &isnull, cxt);
		if (!isnull)
			picture->error = rom_jb_get_text((Jsonb *) DatumGetPointer(value), "message");
		if (picture->error != NULL)
			picture->error = MemoryContextStrdup(cxt, picture->error);
		picture->from = DatumGetTimestampTz(rom_value(&set, 0, 4, &isnull));
		value = rom_value(&set, 0, 5, &isnull);
		picture->to = isnull ? rom_now() : DatumGetTimestampTz(value);
		value = rom_value_copy(&set, 0, 6, &isnull, cxt);
		*wait = isnull ? NULL : (Jsonb *) DatumGetPointer(value);
		picture->canvas = DatumGetBool(rom_value(&set, 0, 7, &isnull));
		picture->owner = rom_value_text(&set, 0, 8, cxt);
		picture->parent = rom_value_text(&set, 0, 9, cxt);
		picture->parent_step = rom_value_text(&set, 0, 10, cxt);
		picture->continued_from = rom_value_text(&set, 0, 11, cxt);
	}
	rom_engine_end(&engine);
	return found;
}

/* read_history makes steps of an instance's events and of what it waits for. */
static void
read_history(RomPicture *picture, Jsonb *wait, int depth)
{
	MemoryContext cxt = CurrentMemoryContext;
	RomEventList events = {0};
	RomEngine	engine;
	TimestampTz at = picture->from;

	rom_engine_begin(&engine);
	if (picture->status == ROM_STATUS_RECURRED)
		rom_history_load_archived(&picture->id, &events, cxt);
	else
		rom_history_load(&picture->id, false, &events, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);

	for (int i = 0; i < events.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_event(picture, events.events[i], at, depth);
		at = Max(at, events.events[i]->at);
	}
	if (wait != NULL)
		add_wait(picture, wait, at);
	picture->to = Max(picture->to, at);
}

/* time_of is a column that is a time, or otherwise where it is null. */
static TimestampTz
time_of(Walk *w, uint64 row, int column, TimestampTz otherwise)
{
	bool		isnull;
	Datum		value = rom_value(&w->set, row, column, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(value);
}

/* note_error is the message of a row's error, or NULL. */
static char *
note_error(Walk *w, uint64 row)
{
	bool		isnull;
	Datum		value = rom_value_copy(&w->set, row, COLUMN_ERROR, &isnull, w->cxt);

	return isnull ? NULL : rom_jb_get_text(DatumGetJsonbP(value), "message");
}

/* add_task makes a step of a row; NULL when there are too many. */
static RomPictureStep *
add_task(Walk *w, uint64 row)
{
	RomPicture *picture = w->picture;
	char	   *status = rom_value_text(&w->set, row, COLUMN_STATUS, w->cxt);
	char	   *activity = rom_value_text(&w->set, row, COLUMN_ACTIVITY, w->cxt);
	char	   *path = rom_value_text(&w->set, row, COLUMN_PATH, w->cxt);
	bool		isnull;
	Datum		attempt = rom_value(&w->set, row, COLUMN_ATTEMPT, &isnull);
	RomPictureStep *step;

	if (list_length(picture->steps) >= ROM_PICTURE_STEPS)
	{
		picture->cut = true;
		return NULL;
	}
	step = new_step(picture, ROM_PICTURE_ACTIVITY, psprintf("%s:%s", activity, path), activity,
					time_of(w, row, COLUMN_STARTED, picture->to));
	step->attempts = isnull ? 1 : Max(1, DatumGetInt32(attempt));
	step->to = time_of(w, row, COLUMN_FINISHED, picture->to);
	if (strcmp(status, "completed") == 0)
		step->state = ROM_PICTURE_DONE;
	else if (strcmp(status, "failed") == 0)
	{
		step->state = ROM_PICTURE_FAILED;
		step->note = note_error(w, row);
	}
	else if (strcmp(status, "waiting") == 0)
		step->note = "waits for its next attempt";
	else
		step->note = status;
	return step;
}

/* row_of finds the row of the task at path, from the one before on; false: there is none. */
static bool
row_of(Walk *w, const char *path, uint64 *row)
{
	for (uint64 i = w->next; i < w->rows; i++)
		if (strcmp(rom_value_text(&w->set, i, COLUMN_PATH, w->cxt), path) == 0)
		{
			*row = i;
			w->next = i + 1;
			return true;
		}
	return false;
}

/* walk adds the tasks of a signature that was checked, to begin after the given steps, and returns the steps after which it has ended. */
static List *
walk(Walk *w, Jsonb *json, const char *path, List *before)
{
	const char *dot = path[0] ? "." : "";
	List	   *ends = NIL;
	RomSignature s;
	uint64		row;
	int			n;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	rom_signature_read(json, &s);
	if (s.kind == ROM_SIGNATURE_TASK)
	{
		RomPictureStep *step = w->picture->cut || !row_of(w, path[0] ? path : "0", &row) ? NULL : add_task(w, row);

		if (step == NULL)
			return before;
		step->after = before;
		return list_make1(step);
	}
	n = JsonContainerSize(&s.members->root);
	if (s.kind == ROM_SIGNATURE_CHAIN || n == 0)
		ends = before;
	for (int i = 0; i < n && !w->picture->cut; i++)
	{
		char	   *member = psprintf("%s%s%d", path, dot, i);
		Jsonb	   *signature = rom_signature_member(s.members, i);

		if (s.kind == ROM_SIGNATURE_CHAIN)
			ends = walk(w, signature, member, ends);
		else
			ends = list_concat(ends, walk(w, signature, member, before));
	}
	if (s.body != NULL && !w->picture->cut)
		ends = walk(w, s.body, psprintf("%s%sbody", path, dot), ends);
	return ends;
}

/*
 * read_canvas makes steps of a canvas's tasks. The signature is walked in the order in which rom_canvas_calls_tasks() lists
 * them, so each task's row is found by going on in that list. The rows that are left are of callbacks (on_error,
 * on_success) that were started.
 */
static void
read_canvas(RomPicture *picture)
{
	Walk		w = {0};
	RomEngine	engine;
	Jsonb	   *signature;

	w.picture = picture;
	w.cxt = CurrentMemoryContext;
	rom_engine_begin(&engine);
	signature = rom_canvas_calls_signature(&picture->id, w.cxt);
	MemoryContextSwitchTo(w.cxt);
	if (signature != NULL)
	{
		w.rows = rom_canvas_calls_tasks(&picture->id, signature, &w.set);
		MemoryContextSwitchTo(w.cxt);
		picture->last = walk(&w, signature, "", NIL);
		for (uint64 i = w.next; i < w.rows && !picture->cut; i++)
		{
			RomPictureStep *step = add_task(&w, i);

			if (step != NULL)
				step->after = picture->last;
		}
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(w.cxt);
}

/* note_running adds the step that a turn runs now, and marks those that run as tasks, in a program or in the database. */
static void
note_running(RomPicture *picture)
{
	static RomStatement select = {
		"SELECT r.step, r.since, r.id = r.instance_id FROM romancy.t_running() r WHERE r.instance_id = $1 AND r.step IS NOT NULL"
		" UNION ALL SELECT t.step, t.claimed_at, false FROM romancy.t_task t WHERE t.instance_id = $1 AND t.state IN (" ROM_SQL_TASK_RUNNING ", " ROM_SQL_TASK_LEFT ")",
		1, {UUIDOID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	Datum		value = UUIDPGetDatum(&picture->id);
	RomEngine	engine;
	RomRowSet	set;
	uint64		rows;

	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, &value, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		char	   *id = rom_value_text(&set, i, 1, cxt);
		TimestampTz since = DatumGetTimestampTz(rom_value(&set, i, 2, &isnull));
		bool		in_turn = DatumGetBool(rom_value(&set, i, 3, &isnull));
		RomPictureStep *step = NULL;
		MemoryContext old = MemoryContextSwitchTo(cxt);
		ListCell   *lc;

		foreach(lc, picture->steps)
		{
			RomPictureStep *other = lfirst(lc);

			if (other->state == ROM_PICTURE_OPEN && strcmp(other->id, id) == 0)
				step = other;
		}
		if (step == NULL && in_turn)
		{
			step = new_step(picture, ROM_PICTURE_ACTIVITY, id, NULL, since);
			add_mark(picture, step, true, true);
		}
		if (step != NULL)
			step->note = "running";
		MemoryContextSwitchTo(old);
	}
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);
}

static RomPicture *
read_picture(const pg_uuid_t *id, int depth)
{
	RomPicture *picture = palloc0_object(RomPicture);
	Jsonb	   *wait = NULL;
	ListCell   *lc;

	picture->id = *id;
	picture->id_text = rom_uuid_text(id);
	if (!read_row(picture, &wait))
		return NULL;			/* a child that was deleted */
	if (picture->canvas)
		read_canvas(picture);
	read_history(picture, picture->canvas ? NULL : wait, depth);
	if (!ROM_STATUS_IS_FINAL(picture->status) && !picture->canvas)
		note_running(picture);
	foreach(lc, picture->steps)
	{
		RomPictureStep *step = lfirst(lc);

		if (step->state != ROM_PICTURE_OPEN)
			continue;
		step->to = step->child ? Max(picture->to, step->child->to) : picture->to;
		if (ROM_STATUS_IS_FINAL(picture->status))
			step->note = "not awaited";
	}
	return picture;
}

RomPicture *
rom_picture_find(const pg_uuid_t *id)
{
	RomPicture *picture = read_picture(id, 0);

	/* another role's looks like none at all */
	return picture != NULL && rom_instance_may_read(picture->owner) ? picture : NULL;
}

RomPicture *
rom_picture_read(const pg_uuid_t *id)
{
	RomInstanceHead head;
	RomPicture *picture;

	rom_steer_head(id, false, &head);
	picture = read_picture(id, 0);
	if (picture == NULL)
		rom_steer_missing(id);
	return picture;
}
