/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room messages, alphabetically.
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

#include "messages/guc.h"

int			rom_guc_channel_cleanup_interval = 300000;
int			rom_guc_message_check_interval = 5000;
int			rom_guc_message_retention = 24 * 60 * 60;

void
rom_messages_guc_init(void)
{
	DefineCustomIntVariable("romancy.channel_cleanup_interval",
							"Sets the time between two runs of the sweep that deletes old channel messages.",
							"See romancy.message_retention.",
							&rom_guc_channel_cleanup_interval,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.message_check_interval",
							"Sets the time between two runs of the sweep that offers undelivered messages to waiting receivers again.",
							"A safety net: deliveries are made at once by other means.",
							&rom_guc_message_check_interval,
							5000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.message_retention",
							"Sets how long a competing message without a taker is kept.",
							"Zero keeps them for ever.",
							&rom_guc_message_retention,
							24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
}
