/*-------------------------------------------------------------------------
 *
 * command.h
 *		The commands of a program that runs workflow code: romancy.suspend().
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_COMMAND_H
#define ROM_COMMAND_H

#include "utils/jsonb.h"

#include "base/errors.h"
#include "instances/event.h"
#include "turn/primitive.h"

/* The step in which the instance waits for its program; no activity_id. */
#define ROM_OUTSIDE_STEP "romancy.outside"

/* Most commands of one call. */
#define ROM_COMMANDS_MAX 10000

/*
 * Checks the arguments of romancy.suspend() (wait_for may be NULL) and returns the command that the
 * instance's task keeps for its executor. Errors: RM012 and RM011, which name the
 * command's number and its key. Allocates in the current context.
 */
extern Jsonb *rom_command_check(Jsonb *commands, Jsonb *wait_for);

/*
 * Carries such a command out inside the evaluation of romancy.t_outside(), as a handler's calls. Returns
 * when all commands are in history and what they are to wait for is there; unwinds
 * otherwise. A command whose id history holds for another step pauses the instance (RM003); after
 * resume_workflow() false is returned instead: the program is to begin anew.
 */
extern bool rom_command_carry_out(RomTurn *turn, Jsonb *command);

/* The error RM003 of a program that does something else ("asks for sleep "sleep:1"") than what history holds at number seq. */
extern Jsonb *rom_command_mismatch(const char *workflow, int64 seq, const char *what,
								   const char *does, RomEventType held);

/* Pauses the instance with error; does not return. */
extern void rom_command_pause(RomTurn *turn, Jsonb *error) pg_attribute_noreturn();

/* The value of a step id at key of object, checked; "what" names the element in errors. */
extern char *rom_command_step(Jsonb *object, const char *what);

/* Makes one of a handler's calls by its SQL function, as the owner. */
extern void rom_command_sql(const char *sql, int nargs, Oid *types, Datum *values,
							const char *nulls);

#endif							/* ROM_COMMAND_H */
