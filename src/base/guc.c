/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room base, alphabetically: those that every room uses, and how durations are read.
 *
 * Sizes of shared memory are POSTMASTER, settings that only tests change are
 * SUSET, all others can be changed by a reload: the processes read them where
 * they use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"

#include "base/guc.h"

int			rom_guc_max_payload_size = 1024 * 1024;

bool
rom_guc_read_duration(const char *value, int *seconds, const char **hint)
{
	*seconds = 0;
	return pg_strcasecmp(value, "off") == 0 ||
		(parse_int(value, seconds, GUC_UNIT_S, hint) && *seconds >= 0);
}

bool
rom_guc_check_duration(char **newval, void **extra, GucSource source)
{
	const char *hint = NULL;
	int			seconds;

	if (rom_guc_read_duration(*newval, &seconds, &hint))
		return true;
	GUC_check_errdetail("It must be a duration that is not negative, or \"off\".");
	if (hint != NULL)
		GUC_check_errhint("%s", _(hint));
	return false;
}

/* (That makes durable what the transaction has seen, too.) */
void
rom_guc_outlast(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

void
rom_base_guc_init(void)
{
	DefineCustomIntVariable("romancy.max_payload_size",
							"Sets the size that an input, a result or a message may have.",
							"Larger ones are refused with an error that names this setting.",
							&rom_guc_max_payload_size,
							1024 * 1024, 1024, 1024 * 1024 * 1024 - 1,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
}
