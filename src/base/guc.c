/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings, alphabetically.
 *
 * Sizes of shared memory are POSTMASTER, what only tests change is SUSET, all
 * else can be changed by a reload: the processes read it where they use it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/guc.h"

int			rom_guc_activity_timeout_interval = 10000;
int			rom_guc_channel_cleanup_interval = 300000;
char	   *rom_guc_databases = NULL;
char	   *rom_guc_default_retry = NULL;
bool		rom_guc_enabled = true;
int			rom_guc_evaluation_timeout = 60000;
int			rom_guc_executors = 4;
int			rom_guc_lock_cleanup_interval = 60000;
int			rom_guc_lock_timeout = 300000;
bool		rom_guc_log_failures = true;
int			rom_guc_max_concurrent_resumptions = 10;
int			rom_guc_max_history_events = 50000;
int			rom_guc_max_payload_size = 1024 * 1024;
int			rom_guc_max_workers = 4;
int			rom_guc_message_check_interval = 5000;
int			rom_guc_message_retention = 24 * 60 * 60;
int			rom_guc_message_timeout_interval = 5000;
int			rom_guc_outbox_batch_size = 100;
int			rom_guc_outbox_interval = 30000;
int			rom_guc_outbox_max_age = 0;
int			rom_guc_outbox_max_attempts = 5;
char	   *rom_guc_namespace = NULL;
char	   *rom_guc_outbox_url = NULL;
int			rom_guc_result_expires = 0;
int			rom_guc_queue_notify_interval = 60000;
int			rom_guc_resumption_interval = 30000;
int			rom_guc_retention = 30 * 24 * 60 * 60;
int			rom_guc_retention_interval = 300000;
int			rom_guc_retry_backoff_max = 60000;
int			rom_guc_schedule_interval = 60000;
int			rom_guc_schedulers = 1;
int			rom_guc_sweep_batch_size = 100;
double		rom_guc_sweep_jitter = 0.25;
int			rom_guc_timer_interval = 10000;
int			rom_guc_turn_mode = 0;
int			rom_guc_worker_idle_timeout = 60000;

/* as they are written */
static char *outbox_max_age = NULL;
static char *result_expires = NULL;

/* RomTurnMode of turn/turn.h, a floor above */
static const struct config_enum_entry turn_mode_options[] = {
	{"auto", 0, false},
	{"inline", 1, false},
	{"step", 2, false},
	{NULL, 0, false}
};

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

/* read_duration reads seconds, with a unit or without, or "off", which is 0. *hint may be NULL. */
static bool
read_duration(const char *value, int *seconds, const char **hint)
{
	*seconds = 0;
	return pg_strcasecmp(value, "off") == 0 ||
		(parse_int(value, seconds, GUC_UNIT_S, hint) && *seconds >= 0);
}

/* Accepts a duration or "off". (The server has no such type: a setting with a unit takes numbers only.) */
static bool
check_duration(char **newval, void **extra, GucSource source)
{
	const char *hint = NULL;
	int			seconds;

	if (read_duration(*newval, &seconds, &hint))
		return true;
	GUC_check_errdetail("It must be a duration that is not negative, or \"off\".");
	if (hint != NULL)
		GUC_check_errhint("%s", _(hint));
	return false;
}

static void
assign_result_expires(const char *newval, void *extra)
{
	(void) read_duration(newval, &rom_guc_result_expires, NULL);
}

static void
assign_outbox_max_age(const char *newval, void *extra)
{
	(void) read_duration(newval, &rom_guc_outbox_max_age, NULL);
}

void
rom_guc_init(GucStringCheckHook check_default_retry, GucStringAssignHook assign_namespace)
{
	/*
	 * A library that is loaded later has no shared memory to size, and the
	 * server would refuse such a setting.
	 */
	GucContext	restart = process_shared_preload_libraries_in_progress ?
		PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable("romancy.activity_timeout_interval",
							"Sets the time between two runs of the sweep for activities that are over their time.",
							"A safety net: due times are served exactly by other means. Each interval is drawn anew, by romancy.sweep_jitter.",
							&rom_guc_activity_timeout_interval,
							10000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.channel_cleanup_interval",
							"Sets the time between two runs of the sweep that deletes old channel messages.",
							"See romancy.message_retention.",
							&rom_guc_channel_cleanup_interval,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.databases",
							   "Names the databases that workers serve, separated by commas.",
							   "When empty, every database that has the extension is served.",
							   &rom_guc_databases,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);
	DefineCustomStringVariable("romancy.default_retry",
							   "Sets the retry policy of activities that have none, as a JSON object.",
							   "Its keys replace those of the built-in policy. When empty, the built-in policy holds.",
							   &rom_guc_default_retry,
							   "",
							   PGC_SIGHUP, 0,
							   check_default_retry, NULL, NULL);
	DefineCustomBoolVariable("romancy.enabled",
							 "Lets the workers run.",
							 "When off, the SQL API works and no worker runs anything.",
							 &rom_guc_enabled,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.evaluation_timeout",
							"Sets how long one evaluation of a handler may run without reaching a step.",
							"Zero means no limit.",
							&rom_guc_evaluation_timeout,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.executors",
							"Sets the number of executors per database.",
							"They are started on demand, each serving one owner at a time.",
							&rom_guc_executors,
							4, 1, 256,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.lock_cleanup_interval",
							"Sets the time between two runs of the sweep that takes work back from external workers whose lease is over.",
							"See romancy.lock_timeout.",
							&rom_guc_lock_cleanup_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.lock_timeout",
							"Sets the length of an external worker's lease.",
							"It holds for calls that name no lease of their own.",
							&rom_guc_lock_timeout,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("romancy.log_failures",
							 "Writes a line to the log for each instance that fails or is paused by the engine.",
							 "With the SQLSTATE and the message of its error, never with payloads.",
							 &rom_guc_log_failures,
							 true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_concurrent_resumptions",
							"Sets how many instances the resumption sweep hands out at a time.",
							"These are instances whose wake-up was lost, in a crash for example.",
							&rom_guc_max_concurrent_resumptions,
							10, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_history_events",
							"Sets the number of history events that an instance may have.",
							"A workflow that goes on for longer continues itself by romancy.recur().",
							&rom_guc_max_history_events,
							50000, 10, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_payload_size",
							"Sets the size that an input, a result or a message may have.",
							"Larger ones are refused with an error that names this setting.",
							&rom_guc_max_payload_size,
							1024 * 1024, 1024, 1024 * 1024 * 1024 - 1,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.max_workers",
							"Sets the number of workers of all databases together.",
							"They are taken out of max_worker_processes. The launcher is not counted.",
							&rom_guc_max_workers,
							4, 1, 1024,
							restart, 0,
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
	DefineCustomIntVariable("romancy.message_timeout_interval",
							"Sets the time between two runs of the sweep for receivers whose timeout is over.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_message_timeout_interval,
							5000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.namespace",
							   "Sets the namespace that the session's names belong to.",
							   "It must be granted to the current role or one that it is a member of. When empty, it is the only one that is, or the role's own.",
							   &rom_guc_namespace,
							   "",
							   PGC_USERSET, 0,
							   NULL, assign_namespace, NULL);
	DefineCustomIntVariable("romancy.outbox_batch_size",
							"Sets how many events of the outbox are sent in one go.",
							"Each is marked as sent in the same transaction.",
							&rom_guc_outbox_batch_size,
							100, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.outbox_interval",
							"Sets the time between two runs of the sweep that sends the outbox.",
							"A safety net: new events are sent at once by other means.",
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
							   check_duration, assign_outbox_max_age, NULL);
	DefineCustomIntVariable("romancy.outbox_max_attempts",
							"Sets how often an event of the outbox is sent before it is given up.",
							"An event that is given up has the state \"dead\".",
							&rom_guc_outbox_max_attempts,
							5, 1, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.outbox_url",
							   "Sets the URL that events of the outbox are posted to.",
							   "When empty, they stay until a program fetches them.",
							   &rom_guc_outbox_url,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.queue_notify_interval",
							"Sets the time between two runs of the sweep that notifies the channels of queues.",
							"A safety net: it is run as soon as there is a task to tell of.",
							&rom_guc_queue_notify_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("romancy.result_expires",
							   "Sets how long the output of a finished instance is kept.",
							   "A duration, in seconds without a unit, or \"off\": as long as the instance.",
							   &result_expires,
							   "off",
							   PGC_SIGHUP, 0,
							   check_duration, assign_result_expires, NULL);
	DefineCustomIntVariable("romancy.resumption_interval",
							"Sets the time between two runs of the sweep for instances that are ready and were not run.",
							"A safety net for lost wake-ups.",
							&rom_guc_resumption_interval,
							30000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retention",
							"Sets how long a finished instance is kept.",
							"A workflow may define its own. Zero keeps them for ever.",
							&rom_guc_retention,
							30 * 24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retention_interval",
							"Sets the time between two runs of the sweep that deletes old instances.",
							"See romancy.retention.",
							&rom_guc_retention_interval,
							300000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.retry_backoff_max",
							"Caps the back-off of a sweep that finds nothing, or its lock taken.",
							"It caps that of workers that cannot be started, too.",
							&rom_guc_retry_backoff_max,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.schedule_interval",
							"Sets the time between two runs of the sweep for schedules.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_schedule_interval,
							60000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.schedulers",
							"Sets the number of schedulers per database.",
							"They share the sweeps by a hash of the instance id.",
							&rom_guc_schedulers,
							1, 1, 16,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.sweep_batch_size",
							"Sets how many rows a sweep handles in one transaction.",
							"A sweep that fills its batch goes on with the next one.",
							&rom_guc_sweep_batch_size,
							100, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("romancy.sweep_jitter",
							 "Sets the fraction by which each interval of a sweep varies.",
							 "0.25 means up to 25 percent shorter or longer, drawn anew each time.",
							 &rom_guc_sweep_jitter,
							 0.25, 0.0, 0.9,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.timer_interval",
							"Sets the time between two runs of the sweep for due timers.",
							"A safety net: due times are served exactly by other means.",
							&rom_guc_timer_interval,
							10000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("romancy.turn_mode",
							 "Sets how handlers are evaluated; for tests.",
							 "Both ways give the same results.",
							 &rom_guc_turn_mode,
							 0, turn_mode_options,
							 PGC_SUSET, GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.worker_idle_timeout",
							"Sets the time after which an idle worker leaves.",
							"Zero means never.",
							&rom_guc_worker_idle_timeout,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("romancy");
}
