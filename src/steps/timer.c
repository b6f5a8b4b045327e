/*-------------------------------------------------------------------------
 *
 * timer.c
 *		Durable sleeps, and timers that a handler awaits.
 *
 * The instant at which a sleep ends is fixed when the handler reaches it
 * first and kept in the instance's wait; replay does not ask the clock again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/arg.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/jb.h"
#include "instances/event.h"
#include "steps/timer.h"
#include "turn/call.h"
#include "turn/context.h"
#include "turn/kinds.h"
#include "turn/replay.h"
#include "turn/turn.h"

/* The instant that a call sleeps until; kept over the unwind. */
typedef struct SleepOptions
{
	TimestampTz until;
} SleepOptions;

/* sleep_execute waits until the instant fixed at first, or records that it is over. */
static RomOutcome
sleep_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	RomWait    *before = rom_call_waited(turn, call);
	TimestampTz until = before ? before->until : ((SleepOptions *) call->options)->until;
	RomJb		jb;

	if (until > rom_now())
		return rom_call_wait(turn, call, ROM_STATUS_WAITING_TIMER, "timer", until, NULL);
	event->type = ROM_EVENT_TIMER_EXPIRED;
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "until", until);
	event->detail = rom_jb_end(&jb);
	return ROM_OUTCOME_DONE;
}

static const RomPrimitive primitive_sleep = {
	.name = "sleep",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_TIMER_EXPIRED},
	.execute = sleep_execute,
	.own_subxact = true,
};

/*
 * The time of sleep_until is not compared on replay: it is often computed from the clock, and the
 * recorded time counts.
 */
static const RomPrimitive primitive_sleep_until = {
	.name = "sleep_until",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_TIMER_EXPIRED},
	.execute = sleep_execute,
	.own_subxact = true,
	.ignore_input = true,
};

/* do_sleep asks for the step. */
static void
do_sleep(RomTurn *turn, const RomPrimitive *primitive, const char *step,
		 TimestampTz until, const char *input)
{
	RomCall		call = {0};
	SleepOptions *options = MemoryContextAlloc(turn->cxt, sizeof(SleepOptions));

	options->until = until;
	call.primitive = primitive;
	call.step_base = primitive->name;
	call.name = primitive->name;
	call.step = step;
	call.input = rom_jb_string_document(input);
	call.options = options;
	(void) rom_call_step(&call);
}

PG_FUNCTION_INFO_V1(romancy_sleep);

/*
 * romancy.sleep(duration interval, activity_id text)
 *
 * Durable sleep; zero or less is over at once, and recorded.
 */
Datum
romancy_sleep(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("sleep()");
	TimestampTz until = rom_arg_until(fcinfo, 0, "duration");

	do_sleep(turn, &primitive_sleep, rom_arg_text_opt(fcinfo, 1), until,
			 rom_arg_interval_text(PG_GETARG_INTERVAL_P(0)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(romancy_sleep_until);

/*
 * romancy.sleep_until(until timestamptz, activity_id text)
 *
 * Durable sleep up to an instant; one in the past returns at once, and is recorded.
 */
Datum
romancy_sleep_until(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("sleep_until()");
	TimestampTz until;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"until\" of romancy.sleep_until() must not be null")));
	until = PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_IS_NOEND(until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"until\" of romancy.sleep_until() must be finite")));
	do_sleep(turn, &primitive_sleep_until, rom_arg_text_opt(fcinfo, 1), until,
			 timestamptz_to_str(until));
	PG_RETURN_VOID();
}


static RomOutcome
spawn_timer_execute(RomTurn *turn, RomCall *call, RomEvent *event)
{
	event->type = ROM_EVENT_TIMER_SCHEDULED;
	return ROM_OUTCOME_DONE;
}

const RomPrimitive rom_primitive_spawn_timer = {
	.name = "spawn_timer",
	.kind = ROM_PRIMITIVE_PURE,
	.events = {ROM_EVENT_TIMER_SCHEDULED},
	.execute = spawn_timer_execute,
};

PG_FUNCTION_INFO_V1(romancy_spawn_timer);

/* romancy.spawn_timer(duration interval) -> text: a handle whose await() returns null after duration; at once where that is negative */
Datum
romancy_spawn_timer(PG_FUNCTION_ARGS)
{
	RomTurn    *turn = rom_context_require("spawn_timer()");
	TimestampTz until;
	RomCall		call = {0};
	RomJb		jb;

	if (turn->eval.unwinding)
		rom_context_unwind(turn);
	until = rom_arg_until(fcinfo, 0, "duration");
	call.primitive = &rom_primitive_spawn_timer;
	call.step_base = "spawn_timer";
	call.input = rom_jb_string_document(rom_arg_interval_text(PG_GETARG_INTERVAL_P(0)));
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "until", until);
	call.detail = rom_jb_end(&jb);
	PG_RETURN_TEXT_P(cstring_to_text(rom_call_step(&call)->step));
}

/* timer_poll: is the timer over? */
static RomEvent *
timer_poll(RomTurn *turn, RomEvent *scheduled, TimestampTz *due)
{
	TimestampTz until = rom_jb_get_time(scheduled->detail, "until");
	RomWait    *before = turn->wait.before;
	int64		ahead = scheduled->at - rom_now();

	/*
	 * begun by a clock that has been set back: it ends when the await that
	 * waits for it was found to (run.c)
	 */
	if (ahead >= ROM_AHEAD_MIN)
	{
		until -= ahead;
		if (before != NULL && before->await && !TIMESTAMP_NOT_FINITE(before->until))
			until = Min(until, before->until);
	}
	if (until > rom_now())
	{
		*due = until;
		return NULL;
	}
	return rom_replay_event(turn, ROM_EVENT_TIMER_EXPIRED, scheduled->step);
}

static Jsonb *
timer_value(RomTurn *turn, RomEvent *outcome)
{
	return rom_jb_null_document();
}

static const RomScheduleKind timer_kind = {
	.scheduled = ROM_EVENT_TIMER_SCHEDULED,
	.waiting = ROM_STATUS_WAITING_TIMER,
	.wait_kind = "timer",
	.poll = timer_poll,
	.value = timer_value,
};

void
rom_timer_init(void)
{
	rom_kinds_register(&timer_kind);
}
