/*-------------------------------------------------------------------------
 *
 * hooks.h
 *		Hooks of other rooms for the end, pause, recur and renewal of an
 *		instance.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HOOKS_H
#define ROM_HOOKS_H

#include "turn/primitive.h"

/*
 * Others' tidying at the end of an instance (subscriptions, children, tasks): called in an engine scope for every
 * terminal transition with any of flags set.
 */
typedef void (*RomEndHook) (RomTurn *turn, RomStatus status);
extern void rom_hooks_on_end(int32 flags, RomEndHook hook);

/*
 * Registers a function that tells whether parts of an instance that is about to end still run
 * elsewhere. It is called in an engine scope, after the end hooks, if any of flags is set. While
 * one returns true the end waits; the code that ends such a part makes the instance ready.
 */
typedef bool (*RomBusyHook) (RomTurn *turn);
extern void rom_hooks_on_busy(int32 flags, RomBusyHook hook);

/* rom_hooks_busy asks them. Enters the engine by itself. */
extern bool rom_hooks_busy(RomTurn *turn);

/*
 * Registers a function for a pause (paused) and for its end. It is called in an engine scope when a turn has paused
 * the instance, or when a paused instance continues or ends, if any of flags is set.
 */
typedef void (*RomPauseHook) (RomTurn *turn, bool paused);
extern void rom_hooks_on_pause(int32 flags, RomPauseHook hook);

/*
 * A turn waits for no transaction that has a row of its instance's parts: it leaves it as it is, and notes that for the turns after it by
 * rom_hooks_look_later() (engine scope needed; step: that of the row, or NULL). These call the hooks of rom_hooks_on_look_again(), if any of flags is
 * set, in an engine scope before their row is written, until nothing is noted. An instance that has ended by then has such a turn, too.
 */
typedef void (*RomLookAgainHook) (RomTurn *turn, const char *step);
extern void rom_hooks_on_look_again(int32 flags, RomLookAgainHook hook);
extern void rom_hooks_look_again(RomTurn *turn, const char *step);
extern void rom_hooks_look_later(RomTurn *turn, const char *step);

/* After so long (ms). */
#define ROM_LOOK_AGAIN_MS	1000

/*
 * Others' moving of what goes over from an instance that ends as recurred to its successor (subscriptions, groups;
 * undelivered messages have a mailbox that stays): called in an engine scope, before the end hooks, with any of flags
 * set (0: always). The successor's row exists and has the flags for subscriptions and groups.
 */
typedef void (*RomMoveHook) (RomTurn *turn, const pg_uuid_t *successor);
extern void rom_hooks_on_move(int32 flags, RomMoveHook hook);

/*
 * Others' making again of what the program says to be there (subscriptions, groups): called in an engine scope in the
 * first turns of a fork and of an instance that is retried, perhaps more than once.
 */
typedef void (*RomRenewHook) (RomTurn *turn);
extern void rom_hooks_on_renew(RomRenewHook hook);
extern void rom_hooks_renew(RomTurn *turn);
extern void rom_hooks_move(RomTurn *turn, const pg_uuid_t *successor);


/*
 * Others' look at what a turn is about to save: called in an engine scope for every turn that changes its instance, last before the row is
 * written. turn->inst is as it was loaded, turn->out is its next state; new events of history are those from turn->replay.stored on.
 */
typedef void (*RomSaveHook) (RomTurn *turn);
extern void rom_hooks_on_save(RomSaveHook hook);
extern void rom_hooks_save(RomTurn *turn);

/* Asks children and tasks of an instance that begins to compensate to end; once. */
extern void rom_hooks_close_work(RomTurn *turn);

/* Calls the hooks for the end of an instance, and those for a pause (paused), or its end. Engine scope needed. */
extern void rom_hooks_end(RomTurn *turn);
extern void rom_hooks_pause(RomTurn *turn, bool paused);

#endif							/* ROM_HOOKS_H */
