/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings that an instance's code reads and writes values with, fixed at its first turn.
 *
 * A handler asks for to_jsonb(romancy.workflow_now()): the text depends on
 * TimeZone. So what a role, a database, the server's configuration or another
 * version's defaults say later must not reach an instance that has begun. The
 * values are the session's reset values, those of a fresh session: values that
 * the session has SET itself do not count. The instances of an owner share rows
 * of t_settings; most owners have one. A row that no instance has goes
 * (run/unused.c), so invalidation messages are processed before one is chosen.
 *
 * client_encoding says how a client is talked to, and code in the server has none: it reads the database's encoding, whatever a role, a
 * database or the session of a drain has. Messages go to that session's client as it wants them.
 *
 * Values are compared by the server's own variables, through the records of its settings, which stay where
 * they are for the life of the process. A record is asked about many times for each step, its name is
 * looked up once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/plancache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/jb.h"
#include "base/rows.h"
#include "base/session.h"
#include "base/spi.h"
#include "memory/xact.h"
#include "turn/app_settings.h"
#include "turn/settings.h"

/* The settings that decide how values and texts are converted, and the language of messages. */
static const char *const names[] = {
	"client_encoding", "TimeZone", "timezone_abbreviations", "DateStyle", "IntervalStyle",
	"extra_float_digits", "bytea_output", "xmlbinary", "xmloption",
	"lc_messages", "lc_monetary", "lc_numeric", "lc_time",
	"default_text_search_config", "array_nulls", "transform_null_equals",
	"standard_conforming_strings", "backslash_quote", "quote_all_identifiers"
};

/* Of these no plan depends on: client_encoding is a matter of sending, and no literal is read by the others. */
static const char *const not_in_plans[] = {
	"client_encoding", "xmlbinary", "lc_messages", "lc_time", "quote_all_identifiers"
};

/* The place of client_encoding, which is not kept: it is always the database's. */
#define ENCODING 0

#define N_SETTINGS lengthof(names)

/* The key of a row under which those of app_settings.c are. */
#define APP "app"

/* Rows that an owner may have. */
#define ROWS_MAX 1000

/* A row of t_settings. A setting that the row does not have is left as it is. */
typedef struct Profile
{
	int32		id;
	bool		fits;			/* for new instances of profiles_owner's */
	char	   *texts[N_SETTINGS];	/* or NULL */
	int			numbers[N_SETTINGS];	/* of settings that are no strings */
	Jsonb	   *app;			/* app_settings.c; NULL: they are not kept */
	bool		told;			/* the log says that one was not accepted */
	struct Profile *next;
} Profile;

static struct config_generic *records[N_SETTINGS];
static bool matters[N_SETTINGS];	/* plans depend on it */
static Profile *profiles = NULL;
static MemoryContext profiles_cxt = NULL;
static Oid	profiles_of = InvalidOid;	/* the extension that they were read
										 * from */
static Oid	profiles_owner = InvalidOid;	/* whose rows were read */
static Oid	settings_relid = InvalidOid;
static bool stale = false;		/* a row that was read may be gone */
static bool inserted = false;	/* by this transaction */
static bool foreign = false;	/* another process: settings that are not the
								 * session's are in force, or were in this
								 * transaction */
static uint64 applied = 0;		/* hash of those that were applied last in
								 * this transaction; 0: none */
static uint64 read_with = 0;	/* of those with which statements were read
								 * since plans were made anew, the last; 0:
								 * none */
static bool read_differently = false;	/* some with others */
static post_parse_analyze_hook_type prev_read = NULL;
static planner_hook_type prev_planner = NULL;

/* The columns of t_settings that add_row() and its callers read. */
static RomTable settings_table = {"t_settings", 3, {"settings_id", "settings", "leaving"}, true};

static RomStatement count_own = {
	"SELECT 1 FROM romancy.t_settings WHERE owner = $1", 1, {TEXTOID}
};

static RomStatement insert_settings = {
	"INSERT INTO romancy.t_settings (owner, settings) VALUES ($1, $2) RETURNING settings_id", 2, {TEXTOID, JSONBOID}
};

/* in_plans: can the meaning of a plan depend on the setting? */
static bool
in_plans(const char *name)
{
	for (int i = 0; i < lengthof(not_in_plans); i++)
		if (strcmp(not_in_plans[i], name) == 0)
			return false;
	return true;
}

/* find_records looks the server's records up, once. */
static void
find_records(void)
{
	struct config_generic **all;
	int			n;

	if (records[0] != NULL)
		return;
	all = rom_guc_variables(&n);
	for (int i = N_SETTINGS - 1; i >= 0; i--)
	{
		for (int j = 0; j < n && records[i] == NULL; j++)
			if (strcmp(all[j]->name, names[i]) == 0)
				records[i] = all[j];
		if (records[i] == NULL)
			elog(ERROR, "setting \"%s\" does not exist", names[i]);
		matters[i] = in_plans(names[i]);
	}
}

/* number is the value of a setting that is no string: the one in force, or (reset) the one that the session began with. */
static int
number(struct config_generic *record, bool reset)
{
	switch (record->vartype)
	{
		case PGC_BOOL:
			{
				struct config_bool *c = (struct config_bool *) record;

				return reset ? c->reset_val : *c->variable;
			}
		case PGC_INT:
			{
				struct config_int *c = (struct config_int *) record;

				return reset ? c->reset_val : *c->variable;
			}
		case PGC_ENUM:
			{
				struct config_enum *c = (struct config_enum *) record;

				return reset ? c->reset_val : *c->variable;
			}
		default:
			return 0;
	}
}

/* string is the value of one that is a string, likewise. */
static const char *
string(struct config_generic *record, bool reset)
{
	struct config_string *c = (struct config_string *) record;
	const char *value = reset ? c->reset_val : *c->variable;

	return value ? value : "";
}

/* reset_text is the text of the value that the session began with. */
static const char *
reset_text(struct config_generic *record)
{
	int			n = number(record, true);

	switch (record->vartype)
	{
		case PGC_STRING:
			return string(record, true);
		case PGC_BOOL:
			return n ? "on" : "off";
		case PGC_ENUM:
			return config_enum_lookup_by_value((struct config_enum *) record, n);
		default:
			return psprintf("%d", n);
	}
}

/* parse gives the number of a text; false where this server does not know it. */
static bool
parse(struct config_generic *record, const char *text, int *result)
{
	bool		b;

	switch (record->vartype)
	{
		case PGC_BOOL:
			if (!parse_bool(text, &b))
				return false;
			*result = b;
			return true;
		case PGC_ENUM:
			return config_enum_lookup_by_name((struct config_enum *) record, text, result);
		case PGC_INT:
			return parse_int(text, result, record->flags, NULL);
		default:
			*result = 0;
			return true;
	}
}

/* is_value: has the setting the profile's value, in force or as the session began? */
static inline bool
is_value(const Profile *profile, int i, bool reset)
{
	if (profile->texts[i] == NULL)
		return true;
	if (records[i]->vartype == PGC_STRING)
		return strcmp(string(records[i], reset), profile->texts[i]) == 0;
	return number(records[i], reset) == profile->numbers[i];
}

/* add_profile files a row of t_settings; fits: new instances may have it. */
static Profile *
add_profile(int32 id, Jsonb *json, bool fits)
{
	MemoryContext old = MemoryContextSwitchTo(profiles_cxt);
	Profile    *profile = palloc0_object(Profile);
	Profile   **place = &profiles;

	profile->id = id;
	profile->fits = fits;
	for (int i = 0; i < N_SETTINGS; i++)
	{
		char	   *text = i == ENCODING ? pstrdup(GetDatabaseEncodingName()) : rom_jb_get_text(json, names[i]);

		/*
		 * a value that this server cannot read is kept, and is refused where
		 * it is applied
		 */
		if (text !=NULL && !parse(records[i], text, &profile->numbers[i]))
			profile->numbers[i] = INT_MIN;
		profile->texts[i] = text;
	}
	profile->app = rom_jb_get_json(json, APP);
	/* the newest first, in whatever order they were found */
	while (*place != NULL && (*place)->id > id)
		place = &(*place)->next;
	profile->next = *place;
	*place = profile;
	MemoryContextSwitchTo(old);
	return profile;
}

/* relation_changed is called for each relcache invalidation; InvalidOid stands for all relations. */
static void
relation_changed(Datum arg, Oid relid)
{
	stale |= !OidIsValid(relid) || relid == settings_relid;
}

/* add_row files the row that was found. */
static void
add_row(RomRows *rows, bool fits)
{
	bool		isnull;
	int32		id = DatumGetInt32(rom_rows_column(rows, 0, &isnull));

	(void) add_profile(id, DatumGetJsonbP(rom_rows_column(rows, 1, &isnull)), fits);
}

/* read_profiles reads the rows that new instances of an owner's may have: what a SELECT would see, without a plan. */
static void
read_profiles(Oid owner, const char *owner_name)
{
	RomRows		rows;

	find_records();
	if (profiles_cxt == NULL)
	{
		profiles_cxt = AllocSetContextCreate(TopMemoryContext, "romancy settings", ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	}
	settings_relid = rom_relation_oid("t_settings");
	MemoryContextReset(profiles_cxt);
	profiles = NULL;
	stale = false;
	profiles_of = InvalidOid;	/* until all are read */
	profiles_owner = owner;
	if (OidIsValid(owner))
	{
		rom_rows_open_select(&rows, &settings_table, "t_settings_owner", false);
		for (bool more = rom_rows_find_text(&rows, owner_name); more; more = rom_rows_next(&rows))
		{
			bool		isnull;

			if (DatumGetInt16(rom_rows_column(&rows, 2, &isnull)) == 0)
				add_row(&rows, true);
		}
		rom_rows_close(&rows);
	}
	profiles_of = rom_extension_oid();
}

/* is_known: may what was read be believed? */
static bool
is_known(void)
{
	return profiles != NULL && !stale && profiles_of == rom_extension_oid();
}

/* find_profile finds one by its number, or NULL. */
static Profile *
find_profile(int32 id)
{
	if (!is_known())
		return NULL;
	for (Profile *p = profiles; p != NULL; p = p->next)
		if (p->id == id)
			return p;
	return NULL;
}

/* find_fresh finds the one of an owner's that has the values with which this session began, or NULL. */
static Profile *
find_fresh(Oid owner)
{
	if (!is_known() || profiles_owner != owner)
		return NULL;
	for (Profile *p = profiles; p != NULL; p = p->next)
	{
		bool		same = p->fits && p->app != NULL &&
			compareJsonbContainers(&p->app->root, &rom_app_settings_now()->root) == 0;

		for (int i = ENCODING + 1; i < N_SETTINGS && same; i++)
			same = p->texts[i] != NULL && is_value(p, i, true);
		if (same)
			return p;
	}
	return NULL;
}

/*
 * insert_fresh makes a row of the values with which this session began; NULL when the owner has too many. Engine
 * scope. Two transactions that do so at once make two rows, which does no harm.
 */
static Profile *
insert_fresh(const char *owner)
{
	Datum		values[2];
	RomRowSet	set;
	bool		isnull;
	Jsonb	   *json;
	RomJb		jb;

	values[0] = CStringGetTextDatum(owner);
	if (rom_execute(&count_own, values, NULL, ROWS_MAX) == ROWS_MAX)
		return NULL;
	rom_jb_begin(&jb);
	for (int i = ENCODING + 1; i < N_SETTINGS; i++)
		rom_jb_text(&jb, names[i], reset_text(records[i]));
	rom_jb_json(&jb, APP, rom_app_settings_now());
	json = rom_jb_end(&jb);
	values[1] = PointerGetDatum(json);
	inserted = true;
	rom_execute_rows(&set, &insert_settings, values, NULL, 0);
	return add_profile(DatumGetInt32(rom_value(&set, 0, 1, &isnull)), json, true);
}

/* too_many says why an instance cannot begin. */
static Jsonb *
too_many(const char *owner)
{
	return rom_error_make(ERRCODE_ROM_LIMIT,
						  psprintf("workflows of role \"%s\" have begun with too many different settings", owner),
						  psprintf("Time zone, formats and languages are kept for each instance; the limit is %d different sets of them.", ROWS_MAX),
						  "Let it have fewer different ones (ALTER ROLE ... SET), and resume the instance when others were deleted and the sweep of retention has run.",
						  NULL);
}

Jsonb *
rom_settings_fix(RomTurn *turn)
{
	Profile    *profile;
	const char *name = turn->inst->owner_name;

	if (turn->inst->settings != 0)
		return NULL;
	AcceptInvalidationMessages();
	profile = find_fresh(turn->owner);
	if (profile == NULL)
	{
		read_profiles(turn->owner, name);
		profile = find_fresh(turn->owner);
	}
	if (profile == NULL)
	{
		MemoryContext old = CurrentMemoryContext;
		RomEngine	engine;

		rom_engine_begin(&engine);
		profile = insert_fresh(name);
		rom_engine_end(&engine);
		MemoryContextSwitchTo(old);
	}
	if (profile == NULL)
		return too_many(name);
	turn->inst->settings = profile->id;
	return NULL;
}

/* profile_of is the row of that number, read where it is not known; NULL: there is none. */
static Profile *
profile_of(int32 id)
{
	Profile    *profile = id == 0 ? NULL : find_profile(id);

	if (profile == NULL && id != 0)
	{
		RomRows		rows;

		if (!is_known())
			read_profiles(InvalidOid, NULL);
		rom_rows_open_select(&rows, &settings_table, "t_settings_pkey", false);
		if (rom_rows_find_int(&rows, id))
			add_row(&rows, false);
		rom_rows_close(&rows);
		profile = find_profile(id);
	}
	return profile;
}

/* set_one sets a setting that has another value than the profile's. */
static void
set_one(Profile *profile, int i, GucAction action)
{
	int			of_client = pg_get_client_encoding();

	if (set_config_option(names[i], profile->texts[i], PGC_SUSET, PGC_S_SESSION,
						  action, true, DEBUG1, false) > 0)
	{
		if (i == ENCODING && whereToSendOutput == DestRemote)
			(void) SetClientEncoding(of_client);
		return;
	}
	if (profile->told)
		return;
	profile->told = true;
	ereport(LOG,
			(errmsg("workflows that began with \"%s\" set to \"%s\" continue without it",
					names[i], profile->texts[i]),
			 errdetail("This server does not accept the value any more."),
			 errhint("If a replay differs, the instance is paused with RM003.")));
}

/* in_force is a hash of the settings in force that plans depend on, never 0. */
static uint64
in_force(void)
{
	uint64		hash = 0;

	for (int i = 0; i < N_SETTINGS; i++)
	{
		if (!matters[i])
			continue;
		if (records[i]->vartype == PGC_STRING)
		{
			const char *value = string(records[i], false);

			hash = hash_combine64(hash, hash_bytes_extended((const unsigned char *) value, strlen(value), i));
		}
		else
			hash = hash_combine64(hash, (uint64) number(records[i], false));
	}
	return hash | 1;
}

/*
 * note_reading notes with which settings the process reads a statement, but not the engine's, which have no literals of this kind. A literal is read
 * when a statement is ('05/04/2026'::date), so a plan that is kept has the meaning that it had then: a session that calls a workflow's
 * functions itself may have other settings meanwhile, and so may an activity (SET LOCAL, CREATE FUNCTION ... SET).
 */
static void
note_reading(void)
{
	uint64		hash;

	if (rom_spi_under_way())
		return;
	hash = in_force();
	read_differently |= read_with != 0 && read_with != hash;
	read_with = hash;
}

static void
statement_read(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (prev_read)
		prev_read(pstate, query, jstate);
	note_reading();
}

/* statement_planned: the planner reads the bodies of SQL functions that it puts in place of their calls. */
static PlannedStmt *
statement_planned(Query *parse, const char *query_string, int cursorOptions, ParamListInfo boundParams)
{
	note_reading();
	return prev_planner ? prev_planner(parse, query_string, cursorOptions, boundParams) :
		standard_planner(parse, query_string, cursorOptions, boundParams);
}

/* plans_differ: can a plan have been made with other settings than those that were applied last? */
static bool
plans_differ(void)
{
	return read_differently || (applied != 0 && read_with != 0 && read_with != applied);
}

/* plan_anew has all plans made anew. */
static void
plan_anew(void)
{
	ResetPlanCache();
	read_with = 0;
	read_differently = false;
}

/*
 * plans_fit has plans made anew where they were made with other settings than those that have just been applied. A worker runs no code
 * but instances'; in another process (changed: its own settings differ; of a job of pg_cron's, say) that has its own code the plans are
 * of no use afterwards, either. Returns whether that is so.
 */
static bool
plans_fit(bool changed)
{
	applied = in_force();
	if (plans_differ())
		plan_anew();
	if (OidIsValid(rom_session_owner()))
		return false;
	foreign |= changed;
	return changed;
}

bool
rom_settings_apply(int32 id, bool handler)
{
	Profile    *profile = profile_of(id);
	bool		changed = false;

	if (profile == NULL)
		return false;
	for (int i = 0; i < N_SETTINGS; i++)
		if (!is_value(profile, i, false))
		{
			set_one(profile, i, GUC_ACTION_SAVE);
			changed |= matters[i];
		}
	if (profile->app != NULL)
		rom_app_settings_apply(profile->app, handler);
	return plans_fit(changed);
}

void
rom_settings_left(bool plans_go)
{
	if (plans_go || plans_differ())
		plan_anew();
}

bool
rom_settings_in_plans(const char *name)
{
	for (int i = 0; i < N_SETTINGS; i++)
		if (pg_strcasecmp(names[i], name) == 0)
			return in_plans(names[i]);
	return false;
}

void
rom_settings_set(int32 id, MemoryContext cxt, List **before)
{
	Profile    *profile = profile_of(id);
	bool		changed = false;

	if (profile == NULL)
		return;
	for (int i = 0; i < N_SETTINGS; i++)
	{
		if (is_value(profile, i, false))
			continue;
		changed |= matters[i];
		if (before != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			*before = lappend(*before, pstrdup(names[i]));
			*before = lappend(*before, pstrdup(GetConfigOption(names[i], false, false)));
			MemoryContextSwitchTo(old);
		}
		set_one(profile, i, GUC_ACTION_SET);
	}
	(void) plans_fit(changed);
}

void
rom_settings_put_back(List *before)
{
	for (int i = 0; i < list_length(before); i += 2)
		(void) set_config_option(list_nth(before, i), list_nth(before, i + 1), PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SET, true, DEBUG1, false);
	rom_settings_left(before != NIL);
}

/* ---------------------------------------------------------------- ends of transactions */

/* end_foreign: code that failed has not ended the use of its settings itself */
static void
end_foreign(void)
{
	if (foreign)
		plan_anew();
	foreign = false;
	applied = 0;
}

static void
committed(void)
{
	inserted = false;
	end_foreign();
}

/* a row of this transaction may be gone */
static void
aborted(void)
{
	stale |= inserted;
	inserted = false;
	end_foreign();
}

/* a turn that waits or fails ends so: the code that goes on has plans of its own made, in the same transaction */
static void
sub_aborted(int level)
{
	stale |= inserted;
	/* (most subtransactions that end so are of sessions that run no workflow) */
	if (foreign || applied != 0)
		rom_settings_left(foreign);
}

void
rom_settings_init(void)
{
	static const RomXactPart part = {
		.name = "rows of settings",
		.order = ROM_XACT_WATCH,
		.committed = committed,
		.prepared = aborted,
		.aborted = aborted,
		.sub_aborted = sub_aborted,
	};

	rom_xact_register(&part);

	/* (plans of a session that loads the library late may be of any settings) */
	read_differently = !process_shared_preload_libraries_in_progress;
	find_records();
	prev_read = post_parse_analyze_hook;
	post_parse_analyze_hook = statement_read;
	prev_planner = planner_hook;
	planner_hook = statement_planned;
}
