/*-------------------------------------------------------------------------
 *
 * settings.h
 *		The settings that an instance's code reads and writes values with, fixed at its first turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SETTINGS_H
#define ROM_SETTINGS_H

#include "turn/primitive.h"

/*
 * Fixes the settings of an instance that has none yet, to those with which this session began: in an
 * executor, the owner's as of the connection. Returns NULL, or the error to pause it with: RM011 where the
 * owner's instances have too many different ones. Raises the errors of engine SQL.
 */
extern Jsonb *rom_settings_fix(RomTurn *turn);

/*
 * Puts the settings number id (t_settings) in force until the current GUC nest level ends, for a handler or an activity; 0:
 * changes nothing. A value that this server does not accept any more (a time zone that it lacks) is
 * skipped, with a line in the log. Plans that were made with other settings are made anew. Returns whether those that are made
 * now are of no use to the session afterwards, which rom_settings_left() is to be told.
 */
extern bool rom_settings_apply(int32 id, bool handler);

/* The handler or the activity has ended, and the settings before it are in force again. Plans that it left, made with settings of its own, are made anew. */
extern void rom_settings_left(bool plans_go);

/* Is it one of the settings that are fixed? It decides what a plan means, then. */
extern bool rom_settings_in_plans(const char *name);

/*
 * The same for the session, until its settings are reset, or until rom_settings_put_back(*before): what they
 * were, in cxt. before: NULL where that is not wanted. Needs a transaction.
 */
extern void rom_settings_set(int32 id, MemoryContext cxt, List **before);
extern void rom_settings_put_back(List *before);

/* Registers with the ends of transactions; called from _PG_init. */
extern void rom_settings_init(void);

#endif							/* ROM_SETTINGS_H */
