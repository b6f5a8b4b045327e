/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room outbox, alphabetically.
 *
 * All can be changed by a reload: the processes read them where they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/guc.h"
#include "outbox/guc.h"

int			rom_guc_outbox_batch_size = 100;
int			rom_guc_outbox_interval = 30000;
int			rom_guc_outbox_max_age = 0;
int			rom_guc_outbox_max_attempts = 5;
int			rom_guc_outbox_retention = 24 * 60 * 60;
char	   *rom_guc_outbox_url = NULL;

/* as it is written */
static char *outbox_max_age = NULL;

static void
assign_outbox_max_age(const char *newval, void *extra)
{
	(void) rom_guc_read_duration(newval, &rom_guc_outbox_max_age, NULL);
}

void
rom_outbox_guc_init(void)
{
	DefineCustomIntVariable("romancy.outbox_batch_size",
							"Sets how many events of the outbox are sent in one go.",
							"Each is marked as sent in the same transaction.",
							&rom_guc_outbox_batch_size,
							100, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.outbox_interval",
							"Sets the time between two runs of the sweep for events of the outbox whose lease has ended, or that are kept no longer.",
							"The first are a safety net: due times are served exactly by other means.",
							&rom_guc_outbox_interval,
							30000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.outbox_max_age",
							   "Sets the age at which an unsent event of the outbox expires.",
							   "A duration, in seconds without a unit, or \"off\".",
							   &outbox_max_age,
							   "off",
							   PGC_SIGHUP, 0,
							   rom_guc_check_duration, assign_outbox_max_age, NULL);
	DefineCustomIntVariable("romancy.outbox_max_attempts",
							"Sets how often an event of the outbox is sent before it is given up.",
							"An event that is given up has the state \"dead\".",
							&rom_guc_outbox_max_attempts,
							5, 1, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.outbox_retention",
							"Sets how long a published event of the outbox is kept.",
							"So long it can be replayed, and its id is known. Zero keeps them for ever.",
							&rom_guc_outbox_retention,
							24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.outbox_url",
							   "Sets the URL that events of the outbox are posted to.",
							   "When empty, they stay until a program fetches them.",
							   &rom_guc_outbox_url,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}
