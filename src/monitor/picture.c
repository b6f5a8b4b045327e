/*-------------------------------------------------------------------------
 *
 * picture.c
 *		The steps that diagram and timeline draw: an instance's, with those of
 *		its children.
 *
 * History tells when a step ended. A step that was not spawned began when the
 * one recorded before it had ended.
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

static RomStatement select_instance = {
	"SELECT workflow, status, error, coalesce(started_at, created_at), finished_at, wait"
	" FROM romancy.t_instance WHERE instance_id = $1",
	1, {UUIDOID}
};

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

	if (!kind_of(event->type, &kind))
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
	}
	rom_engine_end(&engine);
	return found;
}

static RomPicture *
read_picture(const pg_uuid_t *id, int depth)
{
	RomPicture *picture = palloc0_object(RomPicture);
	MemoryContext cxt = CurrentMemoryContext;
	RomEventList events = {0};
	RomEngine	engine;
	Jsonb	   *wait = NULL;
	TimestampTz at;
	ListCell   *lc;

	picture->id = *id;
	picture->id_text = rom_uuid_text(id);
	if (!read_row(picture, &wait))
		return NULL;			/* a child that was deleted */
	rom_engine_begin(&engine);
	if (picture->status == ROM_STATUS_RECURRED)
		rom_history_load_archived(id, &events, cxt);
	else
		rom_history_load(id, false, &events, cxt);
	rom_engine_end(&engine);
	MemoryContextSwitchTo(cxt);

	at = picture->from;
	for (int i = 0; i < events.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_event(picture, events.events[i], at, depth);
		at = Max(at, events.events[i]->at);
	}
	if (wait != NULL)
		add_wait(picture, wait, at);
	picture->to = Max(picture->to, at);
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
