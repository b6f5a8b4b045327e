/*-------------------------------------------------------------------------
 *
 * app_settings.c
 *		Settings that applications have made up (app.region), as a role, a database or the server's configuration has them.
 *
 * A handler that passes current_setting('app.region') on asks for the same in each replay, whatever ALTER DATABASE ... SET says later. Its
 * activities read what a session of its owner has now, as other code does: a key that was changed is the new one. Counted are settings whose name has a dot and
 * which no library owns, and PL/pgSQL's, which say what a function means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/jb.h"
#include "turn/app_settings.h"

#define PLPGSQL "plpgsql."

/* of_plpgsql: is it one of PL/pgSQL's? */
static bool
of_plpgsql(const char *name)
{
	return strncmp(name, PLPGSQL, strlen(PLPGSQL)) == 0;
}

/* counts: is it one of those, and did this session begin with a value that a role, a database or the configuration has? */
static bool
counts(const struct config_generic *setting)
{
	return strchr(setting->name, '.') != NULL &&
		((setting->flags & GUC_CUSTOM_PLACEHOLDER) != 0 || strncmp(setting->name, PLPGSQL, strlen(PLPGSQL)) == 0) &&
		setting->reset_source >= PGC_S_FILE && setting->reset_source <= PGC_S_DATABASE_USER;
}

Jsonb *
rom_app_settings_now(void)
{
	static Jsonb *known = NULL;
	static TimestampTz known_at;
	struct config_generic **all;
	MemoryContext old;
	Jsonb	   *made;
	RomJb		jb;
	int			n;

	if (known != NULL && known_at == PgReloadTime)
		return known;
	all = rom_guc_variables(&n);
	rom_jb_begin(&jb);
	for (int i = 0; i < n; i++)
		if (counts(all[i]))
			rom_jb_text(&jb, all[i]->name, GetConfigOptionResetString(all[i]->name));
	if (ROM_GUC_LIST_IS_MADE)
		pfree(all);
	old = MemoryContextSwitchTo(TopMemoryContext);
	made = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(rom_jb_end(&jb)));
	MemoryContextSwitchTo(old);
	if (known != NULL)
		pfree(known);
	known = made;
	known_at = PgReloadTime;
	return known;
}

/* built_in is the value that a setting of PL/pgSQL's has without a setting; NULL: PL/pgSQL is not loaded, or it has another type. */
static const char *
built_in(const char *name)
{
	int			n;
	struct config_generic **all = rom_guc_variables(&n);
	const char *result = NULL;

	for (int i = 0; i < n; i++)
	{
		if (strcmp(all[i]->name, name) != 0)
			continue;
		if (all[i]->vartype == PGC_BOOL)
			result = ((struct config_bool *) all[i])->boot_val ? "on" : "off";
		else if (all[i]->vartype == PGC_ENUM)
			result = config_enum_lookup_by_value((struct config_enum *) all[i], ((struct config_enum *) all[i])->boot_val);
		else if (all[i]->vartype == PGC_STRING)
			result = ((struct config_string *) all[i])->boot_val;
	}
	if (ROM_GUC_LIST_IS_MADE)
		pfree(all);
	return result;
}

/*
 * put sets a setting that has another value, with the rights of any user: a library that was loaded meanwhile may own the name, and reserve the
 * setting for superusers. Only PL/pgSQL's are set whatever they need: only a superuser can have given a role or a database such a value.
 */
static void
put(const char *name, const char *value)
{
	const char *current = GetConfigOption(name, true, false);

	if (current == NULL ? value[0] != '\0' : strcmp(current, value) != 0)
		(void) set_config_option(name, value, of_plpgsql(name) ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, DEBUG1, false);
}

/* put_all sets those of "values", but for those that "but" has, which may be NULL; none: to '', PL/pgSQL's to what they are without a setting. */
static void
put_all(const Jsonb *values, const Jsonb *but, bool none)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &values->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		const char *value;
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		(void) JsonbIteratorNext(&it, &v, true);
		if (but != NULL && rom_jb_get_text((Jsonb *) but, name) != NULL)
			continue;
		if (!none)
			put(name, pnstrdup(v.val.string.val, v.val.string.len));
		else if (!of_plpgsql(name))
			put(name, "");
		else if ((value = built_in(name)) != NULL)
			put(name, value);
	}
}

void
rom_app_settings_apply(const Jsonb *kept, bool handler)
{
	const Jsonb *now = rom_app_settings_now();

	if (JB_ROOT_COUNT(kept) == 0 && JB_ROOT_COUNT(now) == 0)
		return;
	put_all(handler ? kept : now, NULL, false);
	put_all(handler ? now : kept, handler ? kept : now, true);
}
