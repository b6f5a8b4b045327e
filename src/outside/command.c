/*-------------------------------------------------------------------------
 *
 * command.c
 *		The commands of a program that runs workflow code: romancy.suspend().
 *
 * A command is one call that a handler could make, with the step's id given by the
 * program. romancy.suspend() checks all of them and leaves them in the instance's task;
 * the executor carries them out in the place of the handler (outside.c), by the same SQL
 * functions. So a program can do what a handler can, and history looks the same.
 *
 * Without wait_for the last command is called as a handler calls it: an activity, a child,
 * a timer, a receive is waited for. All other commands schedule (spawn and its like), and
 * wait_for names the steps that are awaited after that.
 *
 * The evaluation is repeated until every command is in history, as with any handler. A
 * command that history answers is compared with it and not called again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "defs/retry.h"
#include "instances/event.h"
#include "messages/message.h"
#include "outside/command.h"
#include "outside/op.h"
#include "steps/timer.h"
#include "tasks/signature.h"
#include "turn/call.h"
#include "turn/carry.h"
#include "turn/context.h"
#include "turn/replay.h"
#include "turn/schedule.h"
#include "turn/turn.h"

/* ---------------------------------------------------------------- checking */

/* bad raises RM012 for a key of an element. */
static void bad(const char *what, const char *key, const char *must) pg_attribute_noreturn();

static void
bad(const char *what, const char *key, const char *must)
{
	ereport(ERROR, (errcode(ERRCODE_ROM_DEFINITION), errmsg("%s: \"%s\" must be %s", what, key, must)));
}

/* member is a member of an object as a document; NULL when it is absent or null. */
static Jsonb *
member(Jsonb *object, const char *key)
{
	Jsonb	   *value = rom_jb_get_json(object, key);

	return value == NULL || rom_jb_is_null(value) ? NULL : value;
}

char *
rom_command_step(Jsonb *object, const char *what)
{
	char	   *step = rom_jb_get_text(object, "id");

	if (step == NULL || step[0] == '\0' || strlen(step) > ROM_NAME_MAX)
		bad(what, "id", "a text of 1 to 200 bytes");
	if (step[0] == ROM_STEP_ENGINE || strcmp(step, ROM_OUTSIDE_STEP) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: activity id \"%s\" is reserved", what, step)));
	return step;
}

/* find_op finds a command's op. */
static const RomOp *
find_op(Jsonb *command, const char *what)
{
	char	   *name = rom_jb_get_text(command, "op");
	const RomOp *op = name ? rom_op_find(name) : NULL;

	if (op != NULL)
		return op;
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 name == NULL ? errmsg("%s: \"op\" is missing", what) :
			 errmsg("%s: unknown op \"%s\"", what, name),
			 errhint("Ops are " ROM_OP_NAMES ".")));
	return NULL;
}

/* check_arg raises RM012 where a member is not what its parameter takes. */
static void
check_arg(Jsonb *command, const RomOpArg *arg, const char *what)
{
	Jsonb	   *value = member(command, arg->key);
	char	   *text;
	Interval	interval;
	pg_uuid_t	uuid;
	TimestampTz at;
	int64		us;

	if (value == NULL)
	{
		if (arg->needed)
			bad(what, arg->key, "given");
		return;
	}
	text = rom_jb_get_text(command, arg->key);

	switch (arg->type)
	{
		case ROM_OP_ARG_TEXT:
			if (text == NULL)
				bad(what, arg->key, "a text");
			if (strcmp(arg->key, "channel") == 0 || strcmp(arg->key, "type") == 0)
				rom_arg_check_short_name(text, arg->key);
			if (strcmp(arg->key, "name") == 0)
				rom_call_check_name(text);
			break;
		case ROM_OP_ARG_JSONB:
			if (strcmp(arg->key, "retry") == 0)
			{
				RomRetryPolicy policy;

				rom_retry_defaults(&policy);
				rom_retry_overlay(&policy, value, "retry");
			}
			if (strcmp(arg->key, "signature") == 0)
				(void) rom_signature_check(value);
			rom_arg_check_payload(value, arg->key);
			break;
		case ROM_OP_ARG_INTERVAL:
			if (text == NULL || !rom_arg_input_interval(text, &interval) ||
				!rom_arg_interval_usec(&interval, &us) || us < 0)
				bad(what, arg->key, "an interval that is not negative, as text");
			break;
		case ROM_OP_ARG_UUID:
			if (text == NULL || !rom_arg_input_uuid(text, &uuid))
				bad(what, arg->key, "a uuid, as text");
			break;
		case ROM_OP_ARG_BYTEA:
			if (text == NULL || rom_message_base64_decode(text) == NULL)
				bad(what, arg->key, "base64");
			break;
		case ROM_OP_ARG_INT:
			if (rom_jb_get_int(command, arg->key, PG_INT64_MIN) < PG_INT32_MIN ||
				rom_jb_get_int(command, arg->key, PG_INT64_MAX) > PG_INT32_MAX)
				bad(what, arg->key, "an integer");
			break;
		case ROM_OP_ARG_INSTANT:
			if (text == NULL || !rom_arg_input_timestamptz(text, &at) || TIMESTAMP_NOT_FINITE(at))
				bad(what, arg->key, "an instant, as text");
			break;
		case ROM_OP_ARG_TIME:
		case ROM_OP_ARG_STEP:
			break;
	}
}

/* timer_until is the end of a timer: its key "until", or "duration" from now. */
static TimestampTz
timer_until(Jsonb *command, const char *what)
{
	char	   *until = rom_jb_get_text(command, "until");
	char	   *duration = rom_jb_get_text(command, "duration");
	TimestampTz at;
	Interval	interval;

	if ((until == NULL) == (duration == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: a timer needs one of \"until\" and \"duration\"", what)));
	if (until != NULL)
	{
		if (!rom_arg_input_timestamptz(until, &at) || TIMESTAMP_NOT_FINITE(at))
			bad(what, "until", "an instant, as text");
		return at;
	}
	if (!rom_arg_input_interval(duration, &interval))
		bad(what, "duration", "an interval, as text");
	return rom_arg_timestamp_plus(rom_now(), &interval);
}

/* array_of reads an argument that must be a JSON array of at most max elements. */
static int
array_of(Jsonb *array, const char *argument, int max)
{
	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"%s\" must be a JSON array", argument)));
	if (JB_ROOT_COUNT(array) > max)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_LIMIT),
				 errmsg("argument \"%s\" has %d elements, the limit is %d",
						argument, (int) JB_ROOT_COUNT(array), max)));
	return JB_ROOT_COUNT(array);
}

/* element is the n-th of such an array, which must be an object. */
static Jsonb *
element(Jsonb *array, int n, const char *what)
{
	Jsonb	   *value = JsonbValueToJsonb(getIthJsonbValueFromContainer(&array->root, n));

	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s must be a JSON object", what)));
	return value;
}

/* check_command checks one command and returns it, a timer with its end. waits: may it be called so that it waits? */
static Jsonb *
check_command(Jsonb *command, const char *what, bool waits)
{
	const RomOp *op = find_op(command, what);

	(void) rom_command_step(command, what);
	if (strcmp(op->name, "timer") == 0)
	{
		RomJb		jb;

		rom_jb_begin(&jb);
		rom_jb_time(&jb, "until", timer_until(command, what));
		command = rom_jb_with(command, "until", rom_jb_get_json(rom_jb_end(&jb), "until"));
	}
	else
		for (int i = 0; i < ROM_OP_ARGS_MAX && op->args[i].key != NULL; i++)
			check_arg(command, &op->args[i], what);
	if (op->waits && !waits && op->spawn == NULL && strcmp(op->name, "timer") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: op \"%s\" must be the last command, without wait_for", what, op->name)));
	if (!waits && strcmp(op->name, "receive") == 0 && member(command, "timeout") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("%s: a receive that is scheduled has no timeout", what),
				 errhint("Give the timeout to wait_for.")));
	return command;
}

/* check_wait checks wait_for and returns it with the end of its timeout. */
static Jsonb *
check_wait(Jsonb *wait)
{
	Jsonb	   *any;
	Jsonb	   *ids;
	char	   *timeout;
	int			n;

	if (!JB_ROOT_IS_OBJECT(wait))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"wait_for\" must be a JSON object")));
	any = member(wait, "any");
	ids = any ? any : member(wait, "all");
	if (ids == NULL || (any != NULL && member(wait, "all") != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"wait_for\" must have one of the keys \"any\" and \"all\"")));
	n = array_of(ids, "wait_for", ROM_COMMANDS_MAX);
	/* (all of none: the instance comes back at once) */
	if (n == 0 && any != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"wait_for\" names no step")));
	for (int i = 0; i < n; i++)
		if (getIthJsonbValueFromContainer(&ids->root, i)->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"wait_for\" must name steps by text")));
	if (member(wait, "id") != NULL)
		(void) rom_command_step(wait, "argument \"wait_for\"");
	timeout = rom_jb_get_text(wait, "timeout");
	if (timeout != NULL)
	{
		Interval	interval;
		int64		us;
		RomJb		jb;

		if (any == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("argument \"wait_for\": a timeout goes with \"any\""),
					 errhint("Schedule a timer and wait for any of the steps.")));
		if (!rom_arg_input_interval(timeout, &interval) || !rom_arg_interval_usec(&interval, &us) || us < 0)
			bad("argument \"wait_for\"", "timeout", "an interval that is not negative, as text");
		rom_jb_begin(&jb);
		rom_jb_time(&jb, "until", rom_arg_timestamp_plus(rom_now(), &interval));
		wait = rom_jb_with(wait, "until", rom_jb_get_json(rom_jb_end(&jb), "until"));
	}
	else if (member(wait, "timeout") != NULL)
		bad("argument \"wait_for\"", "timeout", "an interval, as text");
	return wait;
}

Jsonb *
rom_command_check(Jsonb *commands, Jsonb *wait_for)
{
	int			n = array_of(commands, "commands", ROM_COMMANDS_MAX);
	Jsonb	  **checked = palloc_array(Jsonb *, n + 1);
	HTAB	   *seen = rom_replay_make_table("romancy commands", ROM_STEP_KEY, CurrentMemoryContext);
	RomJb		jb;

	if (n == 0 && wait_for == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("argument \"commands\" is empty, and there is nothing to wait for")));
	for (int i = 0; i < n; i++)
	{
		char	   *what = psprintf("command %d", i + 1);
		bool		found;

		checked[i] = check_command(element(commands, i, what), what, wait_for == NULL && i == n - 1);
		(void) hash_search(seen, rom_jb_get_text(checked[i], "id"), HASH_ENTER, &found);
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_ROM_DEFINITION),
					 errmsg("%s: id \"%s\" is used twice", what, rom_jb_get_text(checked[i], "id"))));
	}
	hash_destroy(seen);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "do", "suspend");
	rom_jb_json(&jb, "commands", rom_jb_array(checked, n));
	if (wait_for != NULL)
		rom_jb_json(&jb, "wait_for", check_wait(wait_for));
	return rom_jb_end(&jb);
}

/* ---------------------------------------------------------------- carrying out */

void
rom_command_sql(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	SPI_connect();
	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not carry out a command");
	SPI_finish();
}

/* argument makes a datum of a member; false where it is null. *type is its type in any case. */
static bool
argument(Jsonb *command, const RomOpArg *arg, Datum *value, Oid *type)
{
	static const Oid types[] = {
		[ROM_OP_ARG_TEXT] = TEXTOID,[ROM_OP_ARG_JSONB] = JSONBOID,[ROM_OP_ARG_INTERVAL] = INTERVALOID,[ROM_OP_ARG_UUID] = UUIDOID,
		[ROM_OP_ARG_BYTEA] = BYTEAOID,[ROM_OP_ARG_INT] = INT4OID,[ROM_OP_ARG_TIME] = TIMESTAMPTZOID,
		[ROM_OP_ARG_INSTANT] = TIMESTAMPTZOID,[ROM_OP_ARG_STEP] = TEXTOID,
	};
	char	   *text = rom_jb_get_text(command, arg->key);
	Jsonb	   *json;
	Interval   *interval;
	pg_uuid_t  *uuid;
	TimestampTz at;

	*type = types[arg->type];
	switch (arg->type)
	{
		case ROM_OP_ARG_JSONB:
			/* the document null is a value of its own */
			json = rom_jb_get_json(command, arg->key);
			*value = PointerGetDatum(json);
			return json != NULL;
		case ROM_OP_ARG_INT:
			*value = Int32GetDatum(rom_jb_get_int(command, arg->key, 0));
			return member(command, arg->key) != NULL;
		case ROM_OP_ARG_TIME:
			*value = TimestampTzGetDatum(rom_jb_get_time(command, arg->key));
			return true;
		case ROM_OP_ARG_INSTANT:
			at = 0;
			if (text == NULL || !rom_arg_input_timestamptz(text, &at))
				return false;
			*value = TimestampTzGetDatum(at);
			return true;
		case ROM_OP_ARG_INTERVAL:
			interval = palloc_object(Interval);
			*value = PointerGetDatum(interval);
			return text !=NULL && rom_arg_input_interval(text, interval);

		case ROM_OP_ARG_UUID:
			uuid = palloc_object(pg_uuid_t);
			*value = UUIDPGetDatum(uuid);
			return text !=NULL && rom_arg_input_uuid(text, uuid);

		case ROM_OP_ARG_BYTEA:
			*value = text ? PointerGetDatum(rom_message_base64_decode(text)) : (Datum) 0;
			return text !=NULL;

		case ROM_OP_ARG_TEXT:
		case ROM_OP_ARG_STEP:
			*value = text ? CStringGetTextDatum(text) : (Datum) 0;
			return text !=NULL;
	}
	return false;
}

/* spawn_timer schedules a timer that ends at a given instant. */
static void
spawn_timer(Jsonb *command)
{
	char	   *duration = rom_jb_get_text(command, "duration");
	Interval	interval;
	RomCall		call = {0};
	RomJb		jb;

	call.primitive = &rom_primitive_spawn_timer;
	call.step_base = "spawn_timer";
	if (duration != NULL && rom_arg_input_interval(duration, &interval))
		call.input = rom_jb_string_document(rom_arg_interval_text(&interval));
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "until", rom_jb_get_time(command, "until"));
	call.detail = rom_jb_end(&jb);
	(void) rom_call_step(&call);
}

/* make_call has the step of a command carried out by a handler's call. waits: so that it waits for its end. */
static void
make_call(RomTurn *turn, const RomOp *op, Jsonb *command, bool waits)
{
	Oid			types[ROM_OP_ARGS_MAX];
	Datum		values[ROM_OP_ARGS_MAX];
	char		nulls[ROM_OP_ARGS_MAX];
	bool		spawned = op->waits && !waits;
	int			n = 0;
	int			most = ROM_OP_ARGS_MAX;
	bool		has_id = false;

	if (!spawned && strcmp(op->name, "timer") == 0 && member(command, "duration") != NULL)
		op = &rom_op_sleep;
	/* spawn_receive() takes the channel alone */
	if (spawned && strcmp(op->name, "receive") == 0)
		most = 1;
	for (; n < most && op->args[n].key != NULL; n++)
	{
		nulls[n] = argument(command, &op->args[n], &values[n], &types[n]) ? ' ' : 'n';
		has_id |= op->args[n].type == ROM_OP_ARG_STEP;
	}
	/* a call that takes no activity_id gets it all the same */
	turn->eval.given_step = NULL;
	if (!has_id || (spawned && op->spawn == NULL))
		turn->eval.given_step = rom_context_copy_text(turn, rom_jb_get_text(command, "id"));
	if (spawned && op->spawn == NULL)
	{
		spawn_timer(command);
		return;
	}
	rom_command_sql(spawned ? op->spawn : op->call, n, types, values, nulls);
}

Jsonb *
rom_command_mismatch(const char *workflow, int64 seq, const char *what, const char *does, RomEventType held)
{
	return rom_error_make(ERRCODE_ROM_REPLAY,
						  psprintf("replay of workflow \"%s\" does not match its history at position %lld: %s",
								   workflow, (long long) seq, what),
						  psprintf("The program %s; history holds %s.", does, rom_event_name(held)),
						  "Run the former program, or guard the change with patched; then call romancy.resume_workflow().",
						  NULL);
}

/* is_same compares a command with the event that history holds for its id; where that is another step's, the instance is paused, and false returned. */
static bool
is_same(RomTurn *turn, const RomOp *op, Jsonb *command, RomEvent *event)
{
	const char *what = NULL;
	char	   *id = rom_jb_get_text(command, "id");
	char	   *label = op->label ? rom_jb_get_text(command, op->label) : NULL;
	bool		kind = event->type == ROM_EVENT_CALL_FAILED;
	char	   *name = event->name;

	for (int i = 0; i < lengthof(op->events) && op->events[i] != 0; i++)
		kind |= op->events[i] == event->type;
	if (name == NULL && event->step != NULL)
	{
		char	   *colon;

		name = pstrdup(event->step);
		colon = strrchr(name, ':');
		if (colon != NULL)
			*colon = '\0';
	}
	if (!kind)
		what = "another kind of step";
	else if (label != NULL && name != NULL && strcmp(op->label, "name") == 0 && strcmp(label, name) != 0)
		what = "another name";
	else if (op->label != NULL && strcmp(op->label, "name") == 0 && event->type != ROM_EVENT_CALL_FAILED &&
			 !rom_carry_same_jsonb(event->input, rom_jb_get_json(command, "input")))
		what = "another input";
	else if (strcmp(op->name, "canvas") == 0 && event->type != ROM_EVENT_CALL_FAILED &&
			 (event->input == NULL ||
			  !rom_carry_same_jsonb(rom_jb_get_json(event->input, "signature"), rom_jb_get_json(command, "signature"))))
		what = "another signature";
	if (what == NULL)
		return true;
	if (!turn->wait.was_paused)
	{
		rom_command_pause(turn, rom_command_mismatch(turn->inst->workflow, event->seq, what,
													 psprintf("asks for %s \"%s\"", op->name, id),
													 event->type));
	}
	return false;
}

/* known_steps is a table of the steps in a turn's program. */
typedef struct KnownStep
{
	char		step[ROM_STEP_KEY];
	RomEvent   *event;
} KnownStep;

static HTAB *
known_steps(RomTurn *turn)
{
	HTAB	   *table = rom_replay_make_table("romancy known steps", sizeof(KnownStep), turn->cxt);

	for (int i = 0; i < turn->replay.program.count; i++)
	{
		RomEvent   *event = turn->replay.program.events[i];
		KnownStep  *entry;
		bool		found;

		if (event->step == NULL || strlen(event->step) >= ROM_STEP_KEY)
			continue;
		entry = hash_search(table, event->step, HASH_ENTER, &found);
		if (!found)
			entry->event = event;
	}
	return table;
}

/* await waits for the steps that wait_for names. False: one of them is unknown, as in is_same(). */
static bool
await(RomTurn *turn, Jsonb *wait, HTAB *known)
{
	Jsonb	   *any = member(wait, "any");
	Jsonb	   *ids = any ? any : member(wait, "all");
	int			n = JB_ROOT_COUNT(ids);
	char	  **pending = palloc_array(char *, n + 1);
	int			npending = 0;
	int			over = 0;
	char	   *label = rom_jb_get_text(wait, "id");

	for (int i = 0; i < n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(&ids->root, i);
		char	   *id = pnstrdup(v->val.string.val, v->val.string.len);

		bool		at_once = strlen(id) < ROM_STEP_KEY && hash_search(known, id, HASH_FIND, NULL) != NULL;

		if (rom_replay_completion(turn, id) == NULL && rom_replay_scheduled(turn, id) != NULL)
			pending[npending++] = id;
		else if (rom_replay_completion(turn, id) != NULL || at_once)
			over++;
		else
		{
			if (turn->wait.was_paused)
				return false;
			rom_command_pause(turn, rom_error_make(ERRCODE_ROM_STATE,
												   psprintf("workflow \"%s\" waits for \"%s\", which is no step of it",
															turn->inst->workflow, id),
												   NULL, "wait_for names ids of commands of this or an earlier suspend().", NULL));
		}
	}
	if (label == NULL)
		label = psprintf("%s_%s", any ? "await_any" : "await_all",
						 npending > 0 ? pending[0] : "");
	if (npending == 0 || (any != NULL && over > 0))
		return true;
	if (any != NULL && strlen(label) < ROM_STEP_KEY && hash_search(known, label, HASH_FIND, NULL) != NULL)
		return true;			/* its timeout is over */
	rom_schedule_wait_until(turn, label, pending, npending, any != NULL,
							rom_jb_get_time(wait, "until"));
	return true;
}

bool
rom_command_carry_out(RomTurn *turn, Jsonb *command)
{
	Jsonb	   *commands = rom_jb_get_json(command, "commands");
	Jsonb	   *wait = rom_jb_get_json(command, "wait_for");
	int			n = JB_ROOT_COUNT(commands);
	HTAB	   *known = known_steps(turn);

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *c = JsonbValueToJsonb(getIthJsonbValueFromContainer(&commands->root, i));
		const RomOp *op = find_op(c, "command");
		KnownStep  *entry = hash_search(known, rom_jb_get_text(c, "id"), HASH_FIND, NULL);

		if (entry != NULL)
		{
			if (!is_same(turn, op, c, entry->event))
				return false;
		}
		else
			make_call(turn, op, c, wait == NULL && i == n - 1);
	}
	return wait == NULL || await(turn, wait, known_steps(turn));
}

void
rom_command_pause(RomTurn *turn, Jsonb *error)
{
	rom_context_end_pause(turn, error);
	rom_context_unwind(turn);
}
