/*-------------------------------------------------------------------------
 *
 * suggest.c
 *		Suggests a name for a misspelt one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "base/spi.h"
#include "defs/suggest.h"

/* Names that are looked at. */
#define NAMES_MAX 1000

/* schemas_of makes a text[] of the schemas of a path. */
static Datum
schemas_of(const char *path)
{
	List	   *schemas = NIL;
	ListCell   *lc;
	Datum	   *elements;
	int			n = 0;

	if (path != NULL && !SplitIdentifierString(pstrdup(path), ',', &schemas))
		schemas = NIL;
	elements = palloc(sizeof(Datum) * (list_length(schemas) + 1));
	foreach(lc, schemas)
		elements[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* distance counts the letters that differ; more than most: any larger number. */
static int
distance(const char *a, const char *b, int most)
{
	int			na = strlen(a);
	int			nb = strlen(b);

	if (na > 255 || nb > 255 || abs(na - nb) > most * 4)
		return most + 1;
	return varstr_levenshtein_less_equal(a, na, b, nb, 1, 1, 1, most, true);
}

/* is_swapped: do two neighbours stand the other way round, and nothing else differs? */
static bool
is_swapped(const char *a, const char *b)
{
	int			i = 0;

	while (a[i] != '\0' && a[i] == b[i])
		i++;
	return a[i] != '\0' && b[i] != '\0' && a[i] == b[i + 1] && a[i + 1] == b[i] && strcmp(a + i + 2, b + i + 2) == 0;
}

/*
 * unlikeness orders candidates: that differ in fewer letters first; of equal ones those with a letter too many or too few, or in another
 * case, before those with another letter (pay before pay2, for payy). At most "most" letters differ; more: a number from 4 * (most + 1) on.
 */
static int
unlikeness(const char *name, const char *candidate, int most)
{
	int			d;

	if (pg_strcasecmp(name, candidate) == 0)
		return 1;
	if (is_swapped(name, candidate))
		return 4;
	d = distance(name, candidate, most);
	return 4 * d + (d <= most && strlen(name) == strlen(candidate) ? 2 : 0);
}

char *
rom_suggest_name(int32 namespace, const char *what, const char *name, const char *path)
{
	static RomStatement select = {
		"SELECT w.name FROM romancy.t_workflow w WHERE $1 AND w.defined AND w.is_current AND w.namespace = $5 AND romancy.t_may_access(w.owner, $3, false)"
		" UNION SELECT a.name FROM romancy.t_activity a WHERE NOT $1 AND a.namespace = $5 AND romancy.t_may_access(a.owner, $3, false)"
		" UNION SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
		" WHERE n.nspname = ANY ($2) AND p.prokind = 'f' AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype"
		" AND p.prorettype = 'pg_catalog.jsonb'::pg_catalog.regtype AND n.nspname <> 'pg_catalog'"
		" LIMIT $4",
		5, {BOOLOID, TEXTARRAYOID, OIDOID, INT4OID, INT4OID}
	};
	MemoryContext cxt = CurrentMemoryContext;
	int			most = Min(3, 1 + (int) strlen(name) / 4);
	int			best = 4 * most + 3;
	char	   *found = NULL;
	Datum		values[5];
	RomEngine	engine;
	uint64		rows;
	RomRowSet	set;

	values[0] = BoolGetDatum(strcmp(what, "workflow") == 0);
	values[1] = schemas_of(path);
	values[2] = ObjectIdGetDatum(GetUserId());
	values[3] = Int32GetDatum(NAMES_MAX);
	values[4] = Int32GetDatum(namespace);
	rom_engine_begin(&engine);
	rows = rom_execute_rows(&set, &select, values, NULL, 0);
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *candidate = rom_value_text(&set, i, 1, cxt);
		int			d = unlikeness(name, candidate, most);

		/* (by name, so that it is the same each time) */
		if (d < best || (d == best && (found == NULL || strcmp(candidate, found) < 0)))
		{
			found = candidate;
			best = d;
		}
	}
	rom_engine_end(&engine);
	return found;
}
