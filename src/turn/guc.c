/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room turn, alphabetically. Evaluations and histories.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "turn/guc.h"

int			rom_guc_evaluation_timeout = 60000;
int			rom_guc_max_history_events = 50000;
int			rom_guc_turn_mode = 0;

/* RomTurnMode (turn.h) */
static const struct config_enum_entry turn_mode_options[] = {
	{"auto", 0, false},
	{"inline", 1, false},
	{"step", 2, false},
	{NULL, 0, false}
};

void
rom_turn_guc_init(void)
{
	DefineCustomIntVariable("romancy.evaluation_timeout",
							"Sets how long one evaluation of a handler may run without reaching a step.",
							"Zero means no limit.",
							&rom_guc_evaluation_timeout,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_history_events",
							"Sets the number of history events that an instance may have.",
							"A workflow that goes on for longer continues itself by romancy.recur().",
							&rom_guc_max_history_events,
							50000, 10, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("romancy.turn_mode",
							 "Sets how handlers are evaluated; for tests.",
							 "Both ways give the same results.",
							 &rom_guc_turn_mode,
							 0, turn_mode_options,
							 PGC_SUSET, GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
}
