/*-------------------------------------------------------------------------
 *
 * filter.c
 *		Filters over instances: reading them, and their pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "optimizer/cost.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "base/arg.h"
#include "base/errors.h"
#include "instances/filter.h"
#include "memory/slot.h"

/* A token is a version, the microseconds of created_at and the id, in hexadecimal. */
#define TOKEN_VERSION "1"
#define TOKEN_BYTES (sizeof(int64) + UUID_LEN)

static void wrong_value(const char *key, const char *expected) pg_attribute_noreturn();

static void
wrong_value(const char *key, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid value for filter key \"%s\"", key),
			 errdetail("It has to be %s.", expected)));
}

static char *
string_value(const JsonbValue *v, const char *key)
{
	if (v->type != jbvString)
		wrong_value(key, "a string");
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static TimestampTz
time_value(const JsonbValue *v, const char *key)
{
	TimestampTz value;

	if (v->type != jbvString ||
		!rom_arg_input_timestamptz(pnstrdup(v->val.string.val, v->val.string.len),
								   &value))
		wrong_value(key, "a date and time");
	return value;
}

static Jsonb *
object_value(const JsonbValue *v, const char *key)
{
	if (v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
		wrong_value(key, "an object");
	return JsonbValueToJsonb(unconstify(JsonbValue *, v));
}

static void
add_status(RomFilter *filter, const JsonbValue *v)
{
	char	   *name = string_value(v, "status");
	int			status = rom_instance_status_from_name(name);

	if (status < 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%s\" is not a status", name),
				 errhint("Statuses are pending, running, waiting_for_timer, waiting_for_message, waiting_for_activity, waiting_for_workflow, paused, compensating, completed, failed, cancelled and recurred.")));
	for (int i = 0; i < filter->nstatuses; i++)
	{
		if (filter->statuses[i] == status)
			return;
	}
	filter->statuses[filter->nstatuses++] = (RomStatus) status;
}

/* read_status takes a status, or a list of some. */
static void
read_status(RomFilter *filter, const JsonbValue *v)
{
	JsonbIterator *it;
	JsonbValue	item;
	JsonbIteratorToken token;

	if (v->type != jbvBinary)
	{
		add_status(filter, v);
		return;
	}
	if (!JsonContainerIsArray(v->val.binary.data) ||
		JsonContainerSize(v->val.binary.data) == 0)
		wrong_value("status", "a status or a list of statuses");
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			add_status(filter, &item);
	}
}

/* check_path raises RM012 unless path is keys joined by dots. */
static void
check_path(const char *path)
{
	size_t		len = strlen(path);

	if (len == 0 || path[0] == '.' || path[len - 1] == '.' ||
		strstr(path, "..") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("\"%s\" is not a path into the input", path),
				 errhint("A path is keys joined by dots, such as \"customer.city\".")));
}

static Jsonb *
read_input(const JsonbValue *v)
{
	Jsonb	   *paths = object_value(v, "input");
	JsonbIterator *it = JsonbIteratorInit(&paths->root);
	JsonbValue	item;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_path(pnstrdup(item.val.string.val, item.val.string.len));
	}
	return paths;
}

static void
read_key(RomFilter *filter, const char *key, const JsonbValue *v)
{
	if (strcmp(key, "status") == 0)
		read_status(filter, v);
	else if (strcmp(key, "workflow") == 0)
		filter->workflow = string_value(v, key);
	else if (strcmp(key, "search") == 0)
		filter->search = string_value(v, key);
	else if (strcmp(key, "created_after") == 0)
		filter->created_after = time_value(v, key);
	else if (strcmp(key, "created_before") == 0)
		filter->created_before = time_value(v, key);
	else if (strcmp(key, "input") == 0)
		filter->input = read_input(v);
	else if (strcmp(key, "labels") == 0)
		filter->labels = object_value(v, key);
	else
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("unknown filter key \"%s\"", key),
				 errhint("Filter keys are status, workflow, search, created_after, created_before, input and labels.")));
}

void
rom_filter_parse(Jsonb *json, RomFilter *filter)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *key = NULL;

	memset(filter, 0, sizeof(*filter));
	filter->created_after = DT_NOBEGIN;
	filter->created_before = DT_NOEND;
	if (json == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("a filter must be a JSON object")));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && key != NULL)
			read_key(filter, key, &v);
	}
}

void
rom_filter_start(const RomFilter *filter, RomFilterPos *pos)
{
	pos->created_at = filter->created_before;
	/* before is exclusive; the end of time has no rows, but no end either */
	memset(&pos->id, filter->created_before == DT_NOEND ? 0xff : 0,
		   sizeof(pos->id));
}

/* status_array is a text[] of the filter's statuses. */
static Datum
status_array(const RomFilter *filter)
{
	Datum		names[lengthof(filter->statuses)];

	for (int i = 0; i < filter->nstatuses; i++)
		names[i] = CStringGetTextDatum(rom_instance_status_name(filter->statuses[i]));
	return PointerGetDatum(construct_array(names, filter->nstatuses, TEXTOID,
										   -1, false, TYPALIGN_INT));
}

/* running_array is a uuid[] of the instances that run a turn now. */
static Datum
running_array(void)
{
	pg_uuid_t  *ids;
	int			n = rom_slot_running(&ids);
	Datum	   *elements = palloc_array(Datum, Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elements, n, UUIDOID, UUID_LEN,
										   false, TYPALIGN_CHAR));
}

Oid
rom_filter_labels_index(void)
{
	Oid			schema = get_namespace_oid("romancy", true);

	return OidIsValid(schema) ? get_relname_relid(ROM_FILTER_LABELS_INDEX, schema) : InvalidOid;
}

/* by_labels: is the filter answered by the index on labels? */
static bool
by_labels(const RomFilter *filter)
{
	return filter->labels != NULL && OidIsValid(rom_filter_labels_index());
}

/* The parameters of a filter's statement. */
typedef struct Parameters
{
	Datum		values[ROM_FILTER_NARGS];
	bool		nulls[ROM_FILTER_NARGS];
} Parameters;

/* bind fills in the parameters. */
static void
bind(Parameters *p, const RomFilter *filter, const RomFilterPos *pos,
	 Oid role, bool steer, int64 limit)
{
	ArrayType  *owners;

	memset(p, 0, sizeof(*p));
	p->values[0] = TimestampTzGetDatum(pos->created_at);
	p->values[1] = UUIDPGetDatum(&pos->id);
	p->values[2] = TimestampTzGetDatum(filter->created_after);
	/* one alone is a constant of the statement */
	p->nulls[3] = filter->nstatuses < (by_labels(filter) ? 1 : 2);
	if (!p->nulls[3])
		p->values[3] = status_array(filter);
	p->nulls[4] = filter->workflow == NULL;
	if (!p->nulls[4])
		p->values[4] = CStringGetTextDatum(filter->workflow);
	p->nulls[5] = filter->search == NULL;
	if (!p->nulls[5])
		p->values[5] = CStringGetTextDatum(filter->search);
	p->nulls[6] = filter->labels == NULL;
	p->values[6] = PointerGetDatum(filter->labels);
	p->nulls[7] = filter->input == NULL;
	p->values[7] = PointerGetDatum(filter->input);
	p->values[8] = ObjectIdGetDatum(role);
	p->values[9] = BoolGetDatum(steer);
	p->values[10] = Int64GetDatum(limit);
	p->values[11] = running_array();
	owners = rom_instance_owners(role, steer);
	p->nulls[12] = owners == NULL;

	p->values[12] = PointerGetDatum(owners);
}

/* choose picks the statement that has the filter's status as a constant, or that which goes by the index on labels. */
static RomStatement *
choose(RomStatement *statements, const RomFilter *filter)
{
	if (by_labels(filter))
		return &statements[ROM_FILTER_LABELS];
	return &statements[filter->nstatuses == 1 ? filter->statuses[0] : ROM_FILTER_ANY];
}

uint64
rom_filter_execute(RomRowSet *set, RomStatement *statements, const RomFilter *filter,
				   const RomFilterPos *pos, Oid role, bool steer, int64 limit)
{
	RomStatement *statement = choose(statements, filter);
	bool		sort = enable_sort;
	Parameters	p;
	volatile uint64 rows = 0;

	bind(&p, filter, pos, role, steer, limit);

	/*
	 * of a role or a workflow there may be few: the planner's statistics say
	 * whether to go by time or by these
	 */
	if (!p.nulls[4] || !p.nulls[12])
		return rom_execute_rows_once(set, statement, p.values, p.nulls);

	/*
	 * An index has the rows in this order. A plan that sorts would read all
	 * of a status for each page. (There is none for running ones, which are
	 * few, and for labels.)
	 */
	if (statement != &statements[ROM_FILTER_NOW] && statement != &statements[ROM_FILTER_LABELS])
		enable_sort = false;
	PG_TRY();
	{
		rows = rom_execute_rows(set, statement, p.values, p.nulls, 0);
	}
	PG_FINALLY();
	{
		enable_sort = sort;
	}
	PG_END_TRY();
	return rows;
}

Portal
rom_filter_open(RomStatement *statements, const RomFilter *filter, Oid role,
				bool steer)
{
	RomStatement *statement = choose(statements, filter);
	RomFilterPos pos;
	Parameters	p;
	char		nulls[ROM_FILTER_NARGS + 1] = {0};
	Portal		portal;

	rom_filter_start(filter, &pos);
	bind(&p, filter, &pos, role, steer, PG_INT64_MAX);
	for (int i = 0; i < ROM_FILTER_NARGS; i++)
		nulls[i] = p.nulls[i] ? 'n' : ' ';
	portal = SPI_cursor_open_with_args(NULL, statement->sql,
									   statement->nargs, statement->argtypes,
									   p.values, nulls, true, 0);
	if (portal == NULL)
		elog(ERROR, "could not open a cursor: %s",
			 SPI_result_code_string(SPI_result));
	return portal;
}

char *
rom_filter_token(const RomFilterPos *pos)
{
	unsigned char bytes[TOKEN_BYTES];
	char		hex[2 * TOKEN_BYTES + 1];

	for (int i = 0; i < sizeof(int64); i++)
		bytes[i] = (unsigned char) ((uint64) pos->created_at >> (56 - 8 * i));
	memcpy(bytes + sizeof(int64), pos->id.data, UUID_LEN);
	hex_encode((const char *) bytes, TOKEN_BYTES, hex);
	hex[2 * TOKEN_BYTES] = '\0';
	return psprintf("%s%s", TOKEN_VERSION, hex);
}

void
rom_filter_from_token(const RomFilter *filter, const char *token,
					  RomFilterPos *pos)
{
	unsigned char bytes[TOKEN_BYTES];
	const char *hex = token + strlen(TOKEN_VERSION);
	uint64		usec = 0;

	if (strlen(token) != strlen(TOKEN_VERSION) + 2 * TOKEN_BYTES ||
		strncmp(token, TOKEN_VERSION, strlen(TOKEN_VERSION)) != 0 ||
		strspn(hex, "0123456789abcdef") != 2 * TOKEN_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_DEFINITION),
				 errmsg("invalid page token"),
				 errhint("Pass the next_page_token of the page before, or null for the first page.")));
	hex_decode(hex, 2 * TOKEN_BYTES, (char *) bytes);
	for (int i = 0; i < sizeof(int64); i++)
		usec = usec << 8 | bytes[i];
	/* with another created_before than on the page before, the earlier counts */
	rom_filter_start(filter, pos);
	if ((TimestampTz) usec < pos->created_at)
	{
		pos->created_at = (TimestampTz) usec;
		memcpy(pos->id.data, bytes + sizeof(int64), UUID_LEN);
	}
}
