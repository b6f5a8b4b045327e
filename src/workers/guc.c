/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room workers, alphabetically. The launcher and its workers.
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
#include "utils/varlena.h"

#include "workers/guc.h"

char	   *rom_guc_databases = NULL;
bool		rom_guc_reindex_bloated = true;
int			rom_guc_reindex_interval = 300000;
int			rom_guc_schedulers = 1;
int			rom_guc_worker_idle_timeout = 60000;

/* Accepts a comma-separated list of database names. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok;

	ok = SplitGUCList(copy, ',', &names);
	if (ok)
		list_free(names);
	else
		GUC_check_errdetail("List syntax is invalid.");
	pfree(copy);
	return ok;
}

void
rom_workers_guc_init(void)
{
	DefineCustomStringVariable("romancy.databases",
							   "Names the databases that workers serve, separated by commas.",
							   "When empty, every database that has the extension is served.",
							   &rom_guc_databases,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);
	DefineCustomBoolVariable("romancy.reindex_bloated",
							 "Rebuilds indexes of romancy's tables that have become mostly empty.",
							 "A snapshot that is held for long makes them grow, and vacuum gives none of their pages back.",
							 &rom_guc_reindex_bloated,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.reindex_interval",
							"Sets the time between two looks at indexes that may be mostly empty.",
							"An index is rebuilt once in twelve times as long at most. Each interval is drawn anew, by romancy.sweep_jitter.",
							&rom_guc_reindex_interval,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.schedulers",
							"Sets the number of schedulers per database.",
							"They share the sweeps by a hash of the instance id.",
							&rom_guc_schedulers,
							1, 1, 16,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.worker_idle_timeout",
							"Sets the time after which an idle worker leaves.",
							"Zero means never.",
							&rom_guc_worker_idle_timeout,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
