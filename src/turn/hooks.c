/*-------------------------------------------------------------------------
 *
 * hooks.c
 *		Hooks of other rooms for the end, pause, recur and renewal of an
 *		instance.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/spi.h"
#include "instances/inbox.h"
#include "memory/wake.h"
#include "turn/hooks.h"
#include "turn/saga.h"

static struct
{
	int32		flags;
	RomEndHook	hook;
}			end_hooks[16];
static int	n_end_hooks = 0;

void
rom_hooks_on_end(int32 flags, RomEndHook hook)
{
	if (n_end_hooks == lengthof(end_hooks))
		elog(ERROR, "too many end hooks");
	end_hooks[n_end_hooks].flags = flags;
	end_hooks[n_end_hooks++].hook = hook;
}

static struct
{
	int32		flags;
	RomBusyHook hook;
}			busy_hooks[4];
static int	n_busy_hooks = 0;

void
rom_hooks_on_busy(int32 flags, RomBusyHook hook)
{
	if (n_busy_hooks == lengthof(busy_hooks))
		elog(ERROR, "too many busy hooks");
	busy_hooks[n_busy_hooks].flags = flags;
	busy_hooks[n_busy_hooks++].hook = hook;
}

bool
rom_hooks_busy(RomTurn *turn)
{
	bool		busy = false;
	RomEngine	engine;

	rom_engine_begin(&engine);
	for (int i = 0; i < n_busy_hooks; i++)
		if (busy_hooks[i].flags & turn->inst->flags)
			busy |= busy_hooks[i].hook(turn);
	rom_engine_end(&engine);
	return busy;
}

static struct
{
	int32		flags;
	RomPauseHook hook;
}			pause_hooks[4];
static int	n_pause_hooks = 0;

void
rom_hooks_on_pause(int32 flags, RomPauseHook hook)
{
	if (n_pause_hooks == lengthof(pause_hooks))
		elog(ERROR, "too many pause hooks");
	pause_hooks[n_pause_hooks].flags = flags;
	pause_hooks[n_pause_hooks++].hook = hook;
}

static struct
{
	int32		flags;
	RomLookAgainHook hook;
}			look_hooks[4];
static int	n_look_hooks = 0;

void
rom_hooks_on_look_again(int32 flags, RomLookAgainHook hook)
{
	if (n_look_hooks == lengthof(look_hooks))
		elog(ERROR, "too many hooks for a second look");
	look_hooks[n_look_hooks].flags = flags;
	look_hooks[n_look_hooks++].hook = hook;
}

void
rom_hooks_look_again(RomTurn *turn, const char *step)
{
	for (int i = 0; i < n_look_hooks; i++)
		if (look_hooks[i].flags & turn->inst->flags)
			look_hooks[i].hook(turn, step);
}

void
rom_hooks_look_later(RomTurn *turn, const char *step)
{
	rom_inbox_insert(&turn->inst->id, ROM_INBOX_LOOK_AGAIN, step, NULL, NULL, NULL);
	rom_wake_at(&turn->inst->id, turn->owner, turn->inst->priority,
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROM_LOOK_AGAIN_MS));
}

static struct
{
	int32		flags;
	RomMoveHook hook;
}			move_hooks[16];
static int	n_move_hooks = 0;

void
rom_hooks_on_move(int32 flags, RomMoveHook hook)
{
	if (n_move_hooks == lengthof(move_hooks))
		elog(ERROR, "too many move hooks");
	move_hooks[n_move_hooks].flags = flags;
	move_hooks[n_move_hooks++].hook = hook;
}

void
rom_hooks_move(RomTurn *turn, const pg_uuid_t *successor)
{
	for (int i = 0; i < n_move_hooks; i++)
		if (move_hooks[i].flags == 0 || (move_hooks[i].flags & turn->inst->flags))
			move_hooks[i].hook(turn, successor);
}

static RomRenewHook renew_hooks[4];
static int	n_renew_hooks = 0;

void
rom_hooks_on_renew(RomRenewHook hook)
{
	if (n_renew_hooks == lengthof(renew_hooks))
		elog(ERROR, "too many renew hooks");
	renew_hooks[n_renew_hooks++] = hook;
}

void
rom_hooks_renew(RomTurn *turn)
{
	RomEngine	engine;

	rom_engine_begin(&engine);
	for (int i = 0; i < n_renew_hooks; i++)
		renew_hooks[i] (turn);
	rom_engine_end(&engine);
}

static RomSaveHook save_hooks[4];
static int	n_save_hooks = 0;

void
rom_hooks_on_save(RomSaveHook hook)
{
	if (n_save_hooks == lengthof(save_hooks))
		elog(ERROR, "too many save hooks");
	save_hooks[n_save_hooks++] = hook;
}

void
rom_hooks_save(RomTurn *turn)
{
	for (int i = 0; i < n_save_hooks; i++)
		save_hooks[i] (turn);
}

void
rom_hooks_close_work(RomTurn *turn)
{
	RomEngine	engine;

	if (turn->saga->closed)
		return;
	turn->saga->closed = true;
	rom_engine_begin(&engine);
	for (int i = 0; i < n_end_hooks; i++)
		if (end_hooks[i].flags & turn->inst->flags & (ROM_HAS_CHILDREN | ROM_HAS_TASKS))
			end_hooks[i].hook(turn, turn->out.status);
	rom_engine_end(&engine);
}

void
rom_hooks_end(RomTurn *turn)
{
	for (int i = 0; i < n_end_hooks; i++)
		if (end_hooks[i].flags == 0 || (end_hooks[i].flags & turn->inst->flags))
			end_hooks[i].hook(turn, turn->out.status);
}

void
rom_hooks_pause(RomTurn *turn, bool paused)
{
	for (int i = 0; i < n_pause_hooks; i++)
		if (pause_hooks[i].flags & turn->inst->flags)
			pause_hooks[i].hook(turn, paused);
}
