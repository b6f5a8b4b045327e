/*-------------------------------------------------------------------------
 *
 * timer.c
 *		Durable sleeps.
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
#include "turn/primitives.h"
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
	RomWait    *before = rom_turn_waited(turn, call);
	TimestampTz until = before ? before->until : ((SleepOptions *) call->options)->until;
	RomJb		jb;

	if (until > rom_now())
		return rom_turn_wait(turn, call, ROM_STATUS_WAITING_TIMER, "timer", until, NULL);
	event->type = ROM_EVENT_TIMER_EXPIRED;
	rom_jb_begin(&jb);
	rom_jb_time(&jb, "until", until);
	event->detail = rom_jb_end(&jb);
	return ROM_OUTCOME_DONE;
}

const RomPrimitive rom_primitive_sleep = {
	.name = "sleep",
	.kind = ROM_PRIMITIVE_BLOCKING,
	.events = {ROM_EVENT_TIMER_EXPIRED},
	.execute = sleep_execute,
	.own_subxact = true,
};

/*
 * sleep_until's instant is not compared on replay: it is often computed from
 * the clock, and what counts is the one that was recorded.
 */
const RomPrimitive rom_primitive_sleep_until = {
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
	(void) rom_turn_step(&call);
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
	RomTurn    *turn = rom_turn_require("sleep()");
	TimestampTz until = rom_arg_until(fcinfo, 0, "duration");

	do_sleep(turn, &rom_primitive_sleep, rom_arg_text_opt(fcinfo, 1), until,
			 rom_interval_text(PG_GETARG_INTERVAL_P(0)));
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
	RomTurn    *turn = rom_turn_require("sleep_until()");
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
	do_sleep(turn, &rom_primitive_sleep_until, rom_arg_text_opt(fcinfo, 1), until,
			 timestamptz_to_str(until));
	PG_RETURN_VOID();
}
