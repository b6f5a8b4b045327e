/*-------------------------------------------------------------------------
 *
 * protocol.c
 *		record() and suspend(): all that a handler can do, for a program that runs
 *		workflow code, in one round trip each.
 *
 * record() writes steps that the program has done into history. A step that history holds
 * already is compared and left as it is, so that a call may be repeated after a lost
 * connection; one that differs pauses the instance with RM003, as a handler's replay does.
 *
 * suspend() leaves commands for the executor (command.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/spi.h"
#include "instances/document.h"
#include "instances/history.h"
#include "instances/instance.h"
#include "memory/progress.h"
#include "outside/command.h"
#include "outside/program.h"
#include "outside/seen.h"
#include "steps/report.h"
#include "tasks/lease.h"
#include "tasks/task.h"
#include "turn/call.h"
#include "turn/carry.h"
#include "turn/replay.h"
#include "turn/turn.h"

/* The versions of the protocol that this server speaks. */
#define ROM_PROTOCOL_OLDEST 1
#define ROM_PROTOCOL_NEWEST 1

/* Most events of one call. */
#define EVENTS_MAX 10000

/* An element of record()'s array. */
typedef struct Record
{
	RomEvent	event;			/* type 0: it is no event (progress) */
	bool		known;			/* history holds it */
	RomProgress progress;
	char	   *note;
} Record;

/* text_of is a member that must be a text of at most ROM_NAME_MAX bytes. */
static char *
text_of(Jsonb *object, const char *key, const char *what)
{
	char	   *text = rom_jb_get_text(object, key);

	if (text == NULL || text[0] == '\0' || strlen(text) > ROM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: \"%s\" must be a text of 1 to %d bytes", what, key, ROM_NAME_MAX)));
	return text;
}

/* or_null is a document, or the document null. */
static Jsonb *
or_null(Jsonb *document)
{
	return document ? document : rom_jb_null_document();
}

/* read_activity reads an activity that the program ran: its result, or with "error" that it failed for good. */
static void
read_activity(RomEvent *event, Jsonb *object, const char *what)
{
	Jsonb	   *error = rom_jb_get_json(object, "error");

	event->name = text_of(object, "name", what);
	event->input = rom_jb_get_json(object, "input");
	rom_arg_check_payload(event->input, "input");
	if (error != NULL && !rom_jb_is_null(error))
	{
		char	   *message;

		if (!JB_ROOT_IS_OBJECT(error) || (message = rom_jb_get_text(error, "message")) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("%s: \"error\" must be an object with the key \"message\"", what)));
		event->type = ROM_EVENT_ACTIVITY_FAILED;
		event->result = rom_lease_failure(message, rom_jb_get_text(error, "code"),
										  rom_jb_get_json(error, "detail"));
		event->result = rom_error_catchable(event->result,
											psprintf("activity \"%s\" was interrupted", event->name));
		rom_arg_check_payload(event->result, "error");
		return;
	}
	event->type = ROM_EVENT_ACTIVITY_COMPLETED;
	event->result = or_null(rom_jb_get_json(object, "result"));
	rom_arg_check_payload(event->result, "result");
}

/* read_value reads a recorded value: now, random, uuid. */
static void
read_value(RomEvent *event, Jsonb *object, const char *what)
{
	event->type = ROM_EVENT_VALUE_RECORDED;
	event->result = rom_jb_get_json(object, "value");
	if (event->result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: \"value\" is missing", what)));
	rom_arg_check_payload(event->result, "value");
}

/* read_progress reads how far the workflow is. */
static void
read_progress(Record *record, Jsonb *object, const char *what)
{
	record->progress.done = rom_jb_get_int(object, "done", -1);
	record->progress.total = rom_jb_get_int(object, "total", -1);
	record->note = rom_jb_get_text(object, "note");
	if (record->progress.done < 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: \"done\" must be a number that is not negative", what)));
}

/* read_record reads one element of the array. */
static void
read_record(Record *record, Jsonb *object, const char *what)
{
	RomEvent   *event = &record->event;
	char	   *op;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s must be a JSON object", what)));
	op = rom_jb_get_text(object, "op");
	if (op != NULL && strcmp(op, "progress") == 0)
	{
		read_progress(record, object, what);
		return;
	}
	event->step = rom_command_step(object, what);
	if (op != NULL && strcmp(op, "activity") == 0)
		read_activity(event, object, what);
	else if (op != NULL && (strcmp(op, "now") == 0 || strcmp(op, "random") == 0 || strcmp(op, "uuid") == 0))
		read_value(event, object, what);
	else if (op != NULL && strcmp(op, "patched") == 0)
	{
		event->type = ROM_EVENT_PATCHED;
		event->name = text_of(object, "change", what);
	}
	else if (op != NULL && strcmp(op, "set_value") == 0)
	{
		event->type = ROM_EVENT_VALUE_SET;
		event->name = text_of(object, "key", what);
		event->input = or_null(rom_jb_get_json(object, "value"));
		rom_arg_check_payload(event->input, "value");
	}
	else if (op != NULL && strcmp(op, "set_labels") == 0)
	{
		event->type = ROM_EVENT_LABELS_SET;
		event->input = rom_jb_get_json(object, "labels");
		if (event->input == NULL || !JB_ROOT_IS_OBJECT(event->input))
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("%s: \"labels\" must be an object", what)));
		rom_arg_check_payload(event->input, "labels");
	}
	else if (op != NULL && strcmp(op, "register_compensation") == 0)
	{
		event->type = ROM_EVENT_COMPENSATION_REGISTERED;
		event->name = text_of(object, "activity", what);
		event->input = or_null(rom_jb_get_json(object, "input"));
		rom_arg_check_payload(event->input, "input");
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 op ? errmsg("%s: unknown op \"%s\"", what, op) : errmsg("%s: \"op\" is missing", what),
				 errhint("Ops are activity, now, random, uuid, patched, set_value, set_labels, progress and register_compensation.")));
}

/* read_records reads the array. */
static Record *
read_records(Jsonb *events, int *count)
{
	Record	   *records;
	HTAB	   *seen = rom_replay_make_table("romancy records", ROM_STEP_KEY, CurrentMemoryContext);

	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"events\" must be a JSON array")));
	*count = JB_ROOT_COUNT(events);
	if (*count > EVENTS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("argument \"events\" has %d elements, the limit is %d", *count, EVENTS_MAX)));
	records = palloc0(sizeof(Record) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		char	   *what = psprintf("event %d", i + 1);
		bool		found = false;

		read_record(&records[i], JsonbValueToJsonb(getIthJsonbValueFromContainer(&events->root, i)), what);
		if (records[i].event.step != NULL)
			(void) hash_search(seen, records[i].event.step, HASH_ENTER, &found);
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("%s: id \"%s\" is used twice", what, records[i].event.step)));
	}
	hash_destroy(seen);
	return records;
}

/* differs says in what a step that history holds is another one than the record's, or is NULL. */
static const char *
differs(const RomEvent *event, const RomEvent *known)
{
	char	   *name = known->name;

	if (event->type != known->type)
		return "another kind of step";
	if (event->name != NULL)
	{
		if (name == NULL)
		{
			char	   *colon;

			name = pstrdup(event->step);
			colon = strrchr(name, ':');
			if (colon != NULL)
				*colon = '\0';
		}
		if (strcmp(name, event->name) != 0)
			return "another name";
	}
	if (!rom_carry_same_jsonb(event->input, known->input))
		return "another input";
	return NULL;
}

/* pause_for has the executor pause the instance: the program records another step than history holds. */
static void
pause_for(RomProgram *p, const RomEvent *event, const RomEvent *known, const char *what)
{
	Jsonb	   *error = rom_command_mismatch(p->task->activity, known->seq, what,
											 psprintf("records %s \"%s\"", rom_event_name(event->type), event->step),
											 known->type);

	rom_program_pause(p, error);
	ereport(WARNING,
			(errcode(ERRCODE_ROM_REPLAY),
			 errmsg("%s", rom_error_field(error, "message")),
			 errdetail("%s The instance is paused.", rom_error_field(error, "detail")),
			 errhint("%s", rom_error_field(error, "hint"))));
}

/* write_effects writes what records ask for besides their events. */
static void
write_effects(RomProgram *p, Record *records, int n)
{
	static RomStatement set_labels = {
		"UPDATE romancy.t_instance SET labels = $2 WHERE instance_id = $1",
		2, {UUIDOID, JSONBOID}
	};
	Datum		values[2];

	values[0] = UUIDPGetDatum(&p->task->instance_id);
	for (int i = 0; i < n; i++)
	{
		RomEvent   *event = &records[i].event;

		if (records[i].known)
			continue;
		if (event->type == ROM_EVENT_VALUE_SET)
			rom_document_set_value(&p->task->instance_id, event->name, event->input);
		else if (event->type == ROM_EVENT_LABELS_SET)
		{
			values[1] = PointerGetDatum(event->input);
			rom_execute(&set_labels, values, NULL, 0);
		}
		else if (event->type == 0)
			rom_report_put(&p->task->instance_id, p->namespace, &records[i].progress, records[i].note);
	}
}

/* append appends the events that history lacks; returns false when there are none. */
static bool
append(RomProgram *p, Record *records, int n)
{
	RomEventList list = {0};
	bool		compensations = false;
	TimestampTz now = rom_now();

	for (int i = 0; i < n; i++)
	{
		RomEvent   *event = &records[i].event;

		if (event->type == 0 || records[i].known)
			continue;
		event->at = now;
		if (event->type == ROM_EVENT_ACTIVITY_COMPLETED)
			rom_program_note_compensation(p, event);
		compensations |= event->detail != NULL || event->type == ROM_EVENT_COMPENSATION_REGISTERED;
		rom_event_list_add(&list, event, CurrentMemoryContext);
	}
	if (list.count == 0)
		return false;
	rom_program_append(p, &list, compensations);
	return true;
}

PG_FUNCTION_INFO_V1(romancy_record);

/*
 * romancy.record(token text, events jsonb) -> void
 *
 * Records steps that the program has done; events is an array of objects with "op", "id" and what the
 * op takes (doc/reference.md). A step that history holds is left as it is. Where it differs, nothing is
 * recorded, a warning RM003 says so, the instance is paused and the lease ends. Errors: RM009 lease lost,
 * RM012 for what is wrong with an element, RM011 too large.
 */
Datum
romancy_record(PG_FUNCTION_ARGS)
{
	RomProgram	p;
	RomSeen		look;
	Record	   *records;
	int			n;

	records = read_records(rom_arg_jsonb(fcinfo, 1, "events"), &n);
	rom_program_enter(fcinfo, &p, true);
	rom_seen_begin(&look, p.task, p.last_seq);
	for (int i = 0; i < n; i++)
	{
		RomEvent   *event = &records[i].event;
		RomEvent   *k = event->step ? rom_seen_find(&look, event->step) : NULL;
		const char *what;

		if (k == NULL)
			continue;
		what = differs(event, k);
		if (what != NULL)
		{
			pause_for(&p, event, k, what);
			PG_RETURN_VOID();
		}
		records[i].known = true;
	}
	(void) append(&p, records, n);
	write_effects(&p, records, n);
	rom_engine_end(&p.engine);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_suspend);

/*
 * romancy.suspend(token text, commands jsonb, wait_for jsonb) -> void
 *
 * Gives a claimed instance back with commands for its executor, an array of objects with "op", "id" and
 * what the op takes (doc/reference.md). wait_for: {"any": [ids], "timeout": interval} or {"all": [ids]}; null:
 * the last command is waited for, if it is of a kind that takes time. Errors: RM009 lease lost, RM012 for what
 * is wrong with a command, RM011 too large.
 */
Datum
romancy_suspend(PG_FUNCTION_ARGS)
{
	RomProgram	p;
	Jsonb	   *command = rom_command_check(rom_arg_jsonb(fcinfo, 1, "commands"), rom_arg_jsonb_opt(fcinfo, 2));

	rom_arg_check_payload(command, "commands");
	rom_program_enter(fcinfo, &p, false);
	rom_program_command(&p, command);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_protocol);

/*
 * romancy.protocol() -> (oldest int, newest int)
 *
 * The versions of the protocol that this server speaks. A program that was written for another one says so, and does not begin. A
 * version counts on when a program written for it would not do right with the next.
 */
Datum
romancy_protocol(PG_FUNCTION_ARGS)
{
	Datum		values[2] = {Int32GetDatum(ROM_PROTOCOL_OLDEST), Int32GetDatum(ROM_PROTOCOL_NEWEST)};
	bool		nulls[2] = {false, false};
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}
