/*-------------------------------------------------------------------------
 *
 * program.h
 *		An instance that a program outside holds by a token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_PROGRAM_H
#define ROM_PROGRAM_H

#include "fmgr.h"

#include "base/spi.h"
#include "instances/history.h"
#include "tasks/task.h"

/* A claimed instance. */
typedef struct RomProgram
{
	RomTask    *task;
	int64		last_seq;		/* 0 without the instance's row */
	int32		namespace;		/* likewise */
	RomEngine	engine;
} RomProgram;

/*
 * Finds what argument 0, a token, holds, enters the engine and locks the task; with_instance:
 * the instance's row before it. RM009 when the lease was lost.
 */
extern void rom_program_enter(FunctionCallInfo fcinfo, RomProgram *c, bool with_instance);

/*
 * Notes in an event of an activity that has completed which activity undoes it, as the instance's namespace
 * defines it. Needs the instance's row.
 */
extern void rom_program_note_compensation(RomProgram *c, RomEvent *event);

/* Ends the lease, has the executor carry the command out, and leaves the engine. */
extern void rom_program_command(RomProgram *c, Jsonb *command);

/* The same with a command that pauses the instance with error. */
extern void rom_program_pause(RomProgram *c, Jsonb *error);

/* Appends the events of list (at least one) to history. compensations: one of them registers a compensation. RM011 when history is full. */
extern void rom_program_append(RomProgram *c, RomEventList *list, bool compensations);

/* The first page of the history of a task's instance, as an array of objects with the columns of read_history(). Enters the engine. */
extern Jsonb *rom_program_history(RomTask *task);

#endif							/* ROM_PROGRAM_H */
