/*-------------------------------------------------------------------------
 *
 * quiet.c
 *		Messages of a handler that its replay does not write again.
 *
 * A handler is run from the top in every evaluation, and what it says with RAISE NOTICE or WARNING would be
 * said each time. Between two steps it always does the same; so for each of these stretches it is known
 * whether an evaluation has been through it: turn->replay.told is the number of the last one, counted by the steps before it. In the others, and in
 * activities, messages come through; in these client_min_messages stands at ERROR, and log_min_messages at FATAL, which
 * is what holds back LOG. (An error is not written in any case, it is caught.) The variables are set directly: there is nothing to be rolled back or reported to a client.
 *
 * A turn that is rolled back and run again in another transaction says it twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "turn/quiet.h"

/* The state that the current evaluation found when it began. */
static RomQuiet outside;

void
rom_quiet_load(RomTurn *turn)
{
	/* while it waits for a step, it has been up to that */
	turn->replay.told = turn->wait.before != NULL && turn->wait.before->step != NULL ?
		turn->replay.program.count : turn->replay.program.count - 1;
}

/* set shows messages from these levels on. */
static void
set(int client, int log)
{
	client_min_messages = client;
	log_min_messages = log;
}

void
rom_quiet_move(RomTurn *turn)
{
	if (turn->replay.cursor <= turn->replay.told)
		set(Max(outside.client, ERROR), Max(outside.log, FATAL));
	else
		set(outside.client, outside.log);
}

void
rom_quiet_aloud(RomTurn *turn)
{
	set(outside.client, outside.log);
}

void
rom_quiet_begin(RomTurn *turn, RomQuiet *saved)
{
	saved->client = client_min_messages;
	saved->log = log_min_messages;
	outside = *saved;
	rom_quiet_move(turn);
}

void
rom_quiet_past_await(RomTurn *turn)
{
	if (turn->replay.told_await || turn->replay.told != turn->replay.cursor)
		return;
	turn->replay.told_await = true;
	turn->replay.told--;
	rom_quiet_move(turn);
}

void
rom_quiet_end(RomTurn *turn, const RomQuiet *saved, bool handler)
{
	if (handler)
		turn->replay.told = Max(turn->replay.told, turn->replay.cursor);
	set(saved->client, saved->log);
}
