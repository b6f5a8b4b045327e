/*-------------------------------------------------------------------------
 *
 * clean.c
 *		A client's session in the state of an executor's, for the length of a turn.
 *
 * An instance that runs in the session that starts it (eager.c) must come to the
 * same end as in an executor, which is a fresh session of the owner's. All that a
 * session has of its own is therefore either put aside, or the instance is left
 * to an executor:
 *
 * - settings that were SET have, meanwhile, the values with which the session
 *   began; a session that began with other ones than its role's (sent by the
 *   client when it connected) runs nothing, but for those that the engine pins;
 * - a temporary schema, an open cursor, an advisory lock: it runs nothing;
 * - prepared statements, LISTEN, holdable cursors, LOAD and other commands that
 *   work on the session itself are refused meanwhile, by the hook of utility
 *   commands; the turn is then rolled back and left to an executor;
 * - so are functions, triggers among them, of languages with an interpreter, which
 *   keeps what other calls have left in it, by the hooks of function calls;
 * - messages go to the log, and never to the client.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/proclang.h"
#include "fmgr.h"
#include "jit/jit.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/session.h"
#include "base/sources.h"
#include "run/clean.h"
#include "run/command.h"
#include "turn/context.h"
#include "turn/settings.h"

/* A session with more settings of its own runs nothing. */
#define ASIDE_MAX 32

/*
 * Microseconds: the transaction, whose begin is now() for the code, may have begun so long before the statement. (By
 * the extended protocol it begins when the statement is parsed.)
 */
#define JUST_BEGUN	1000000

/*
 * Settings that are looked at by other means, or pinned: role and session_authorization by the users, client_encoding
 * by its value, those of the transaction by its properties. A transaction_timeout has been armed and stays.
 */
static const char *const others[] = {
	"application_name", "client_encoding", "role", "seed", "session_authorization", "transaction_deferrable",
	"transaction_isolation", "transaction_read_only", "transaction_timeout"
};

/* The values that executors have, whatever the role's settings say. */
static const struct
{
	const char *name;
	const char *value;
	int		   *variable;
}			pins[] = {
	{"idle_in_transaction_session_timeout", "0", &IdleInTransactionSessionTimeout},
	{"idle_session_timeout", "0", &IdleSessionTimeout},
	{"lock_timeout", "0", &LockTimeout},
	{"statement_timeout", "0", &StatementTimeout},
};

/* Names of the settings that rom_clean_possible() found to have values of the session's own. */
static const char *aside[ASIDE_MAX];
static int	naside = 0;

/* Is jit, when those are put aside, as the server has it without a setting? Executors then have it off. */
static bool jit_unset = false;

static char executors_name[] = "romancy executor";

#if PG_VERSION_NUM < 160000
/* Put aside by assign(). */
static bool assigned = false;
static char *outer_name;
static bool outer_jit;
static GucSource outer_sources[2];
#endif

static bool active = false;
static bool broken = false;
static bool plans_differ = false;	/* from those that the session makes */
static int	guc_level = 0;
static CommandDest outer_dest;
static const char *outer_query;
static emit_log_hook_type prev_log_hook = NULL;
static needs_fmgr_hook_type prev_needs_call_hook = NULL;
static fmgr_hook_type prev_call_hook = NULL;

/* ---------------------------------------------------------------- is it possible? */

/* is_other: is the setting one of others[]? */
static bool
is_other(const struct config_generic *setting)
{
	for (int i = 0; i < lengthof(others); i++)
		if (strcmp(setting->name, others[i]) == 0)
			return true;
	return false;
}

/* is_pinned: has it a value of its own in executors, whatever it is here? (application_name is among others[].) */
static bool
is_pinned(const struct config_generic *setting)
{
	for (int i = 0; i < lengthof(pins); i++)
		if (strcmp(setting->name, pins[i].name) == 0)
			return true;
	return false;
}

/* must_aside: is the value that the session has of its own one that matters? */
static bool
must_aside(const struct config_generic *setting)
{
	return setting->context > PGC_SIGHUP && !is_other(setting) && !is_pinned(setting);
}

/* check_aside notes a setting if it has to be put aside; false where that cannot be done. */
static bool
check_aside(const struct config_generic *setting)
{
	if (!must_aside(setting))
		return true;
	if (setting->reset_source > PGC_S_DATABASE_USER ||
		(setting->flags & (GUC_CUSTOM_PLACEHOLDER | GUC_NO_RESET_ALL)) != 0 || naside == ASIDE_MAX)
		return false;
	aside[naside++] = setting->name;
	return true;
}

/* find_aside notes the settings that have to be put aside; false where that cannot be done. */
static bool
find_aside(void)
{
	static const struct config_generic *jit = NULL;

	if (jit == NULL)
		jit = rom_sources_find("jit");
	jit_unset = jit->reset_source <= PGC_S_DYNAMIC_DEFAULT;
	naside = 0;
	return pg_get_client_encoding() == GetDatabaseEncoding() &&
		rom_sources_above(PGC_S_DATABASE_USER, check_aside);
}

/* is_its_own: are all users of the session the current one? */
static bool
is_its_own(void)
{
	Oid			userid;
	int			sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	return sec_context == 0 && rom_session_is(userid) && GetOuterUserId() == userid &&
		!OidIsValid(GetCurrentRoleId());
}

/* has_temporary: has the session a temporary schema? */
static bool
has_temporary(void)
{
	Oid			namespace;
	Oid			toast;

	GetTempNamespaceState(&namespace, &toast);
	return OidIsValid(namespace);
}

/* holds_advisory_lock: does this process hold one, for its session or its transaction? */
static bool
holds_advisory_lock(void)
{
	bool		found = false;

	for (int i = 0; i < NUM_LOCK_PARTITIONS && !found; i++)
	{
		/*
		 * without the lock: what is ours and no lock on a relation is put
		 * there by us
		 */
		if (rom_first_proclock(&MyProc->myProcLocks[i]) == NULL)
			continue;
		LWLockAcquire(LockHashPartitionLockByIndex(i), LW_SHARED);
		for (PROCLOCK *lock = rom_first_proclock(&MyProc->myProcLocks[i]); lock != NULL && !found;
			 lock = rom_next_proclock(&MyProc->myProcLocks[i], lock))
			found = lock->holdMask != 0 && lock->tag.myLock->tag.locktag_type == LOCKTAG_ADVISORY;
		LWLockRelease(LockHashPartitionLockByIndex(i));
	}
	return found;
}

bool
rom_clean_possible(void)
{
	return MyBackendType == B_BACKEND && !active && is_its_own() &&
	/* a statement of its own, at its beginning */
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		GetCurrentTransactionNestLevel() == 1 &&
		GetCurrentStatementStartTimestamp() - GetCurrentTransactionStartTimestamp() < JUST_BEGUN &&
		XactIsoLevel == XACT_READ_COMMITTED && !XactReadOnly && !XactDeferrable &&
		!has_temporary() && ThereAreNoReadyPortals() && !holds_advisory_lock() &&
		find_aside();
}

/* ---------------------------------------------------------------- for the length of a turn */

/* tell_client has the last message of a process that ends meanwhile reach its client. */
static void
tell_client(ErrorData *edata)
{
	if (active && edata->elevel >= FATAL)
	{
		whereToSendOutput = outer_dest;
		edata->output_to_client = true;
	}
	if (prev_log_hook != NULL)
		prev_log_hook(edata);
}

/* refuse leaves the turn to an executor. */
static void
refuse(const char *what)
{
	broken = true;
	if (rom_context_turn != NULL)
		rom_context_end(rom_context_turn, ROM_EVAL_ABANDONED);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s runs in an executor only", what)));
}

/* keeps_state: has the language an interpreter that lives as long as the session? SQL and PL/pgSQL have none; code in C is the server's, as it were. */
static bool
keeps_state(Oid language)
{
	return language != INTERNALlanguageId && language != ClanguageId && language != SQLlanguageId &&
		language != get_language_oid("plpgsql", true);
}

/* check_function refuses a function of such a language. */
static void
check_function(Oid funcid)
{
	HeapTuple	tuple;
	Oid			language;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		return;
	language = ((Form_pg_proc) GETSTRUCT(tuple))->prolang;
	ReleaseSysCache(tuple);
	if (keeps_state(language))
		refuse("a function of this language");
}

/* needs_call_hook is asked about each function that is looked up to be called, but for those of SECURITY DEFINER or with settings. */
static bool
needs_call_hook(Oid funcid)
{
	if (active)
		check_function(funcid);
	return prev_needs_call_hook != NULL && prev_needs_call_hook(funcid);
}

/* call_hook is called with those. */
static void
call_hook(FmgrHookEventType event, FmgrInfo *flinfo, Datum *arg)
{
	if (active && event == FHET_START)
		check_function(flinfo->fn_oid);
	if (prev_call_hook != NULL)
		prev_call_hook(event, flinfo, arg);
}

/*
 * watch installs the hooks, once and for good: a library that the turn loads may install its own, which calls ours. To
 * take ours out and put it in again before the next turn would make the two call each other.
 */
static void
watch(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	prev_log_hook = emit_log_hook;
	emit_log_hook = tell_client;
	prev_needs_call_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_call_hook;
	prev_call_hook = fmgr_hook;
	fmgr_hook = call_hook;
}

/* set_to gives a setting a value until rom_clean_leave(). */
static void
set_to(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

#if PG_VERSION_NUM < 160000

/* record_of is the server's record of application_name (0) or jit (1). */
static struct config_generic *
record_of(int i)
{
	static struct config_generic *records[2];

	if (records[i] == NULL)
		records[i] = unconstify(struct config_generic *, rom_sources_find(i == 0 ? "application_name" : "jit"));
	return records[i];
}

/*
 * assign notes the session's application_name and jit, which differ from an executor's in nearly all sessions: they are changed, and
 * given back, by their variables. The server's own way would have PostgreSQL 15 look through all settings at the end of each nest
 * level, and of the statement: a twentieth of the time of a short workflow (later ones keep lists). Settings of the turn's code go on top of
 * that, and are taken back before assign_back(); so the server never frees the text. The source is changed with them, so that parallel
 * workers get the values.
 */
static void
assign(void)
{
	outer_name = application_name;
	outer_jit = jit_enabled;
	for (int i = 0; i < 2; i++)
	{
		outer_sources[i] = record_of(i)->source;
		record_of(i)->source = PGC_S_SESSION;
	}
	application_name = executors_name;
	assigned = true;
}

/* assign_back gives them back the session's, when what was set in the turn is taken back. */
static void
assign_back(void)
{
	if (!assigned)
		return;
	assigned = false;
	Assert(application_name == executors_name);
	application_name = outer_name;
	jit_enabled = outer_jit;
	for (int i = 0; i < 2; i++)
		record_of(i)->source = outer_sources[i];
	/* code that has set it has told the server's statistics, too */
	if (MyBEEntry != NULL && strncmp(MyBEEntry->st_appname, application_name, NAMEDATALEN - 1) != 0)
		pgstat_report_appname(application_name);
}

#else

static void
assign(void)
{
	set_to("application_name", executors_name);
}

static void
assign_back(void)
{
}

#endif

/* put_aside gives those settings the values that executors have. Plans of the session's may have been made with its own, and mean something else. */
static void
put_aside(void)
{
	plans_differ = false;
	for (int i = 0; i < naside; i++)
	{
		const char *value = GetConfigOptionResetString(aside[i]);

		plans_differ |= rom_settings_in_plans(aside[i]) && strcmp(GetConfigOption(aside[i], false, false), value) != 0;
		set_to(aside[i], value);
	}
	if (plans_differ)
		ResetPlanCache();
}

void
rom_clean_enter(void)
{
	guc_level = NewGUCNestLevel();
	assign();
	put_aside();
	for (int i = 0; i < lengthof(pins); i++)
		if (*pins[i].variable != 0)
			set_to(pins[i].name, pins[i].value);
	if (jit_unset && jit_enabled)
#if PG_VERSION_NUM < 160000
		jit_enabled = false;
#else
		set_to("jit", "off");
#endif
	active = true;
	broken = false;
	outer_dest = whereToSendOutput;
	outer_query = debug_query_string;
	watch();
	whereToSendOutput = DestNone;
	debug_query_string = NULL;
}

void
rom_clean_leave(bool rolled_back)
{
	if (!active)
		return;
	active = false;
	whereToSendOutput = outer_dest;
	debug_query_string = outer_query;
	if (!rolled_back)
	{
		AtEOXact_GUC(false, guc_level);
		assign_back();
	}
	if (plans_differ)
		ResetPlanCache();
}

void
rom_clean_rolled_back(void)
{
	assign_back();
}

bool
rom_clean_broken(void)
{
	return broken;
}

/* is_do: is the command a DO of a language with an interpreter? */
static bool
is_do(const Node *command)
{
	ListCell   *cell;

	if (!IsA(command, DoStmt))
		return false;
	foreach(cell, ((const DoStmt *) command)->args)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "language") == 0)
			return keeps_state(get_language_oid(strVal(option->arg), true));
	}
	return false;
}

void
rom_clean_check(const Node *command)
{
	if (active && (rom_command_reach(command) != ROM_COMMAND_TRANSACTION || is_do(command)))
		refuse("this command");
}

void
rom_clean_scrub(void)
{
	/* it held none before */
	LockReleaseAll(USER_LOCKMETHOD, true);
}
