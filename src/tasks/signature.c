/*-------------------------------------------------------------------------
 *
 * signature.c
 *		Signatures: the tasks of a canvas, as jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/jb.h"
#include "defs/retry.h"
#include "tasks/signature.h"

/* Deepest nesting of signatures. */
#define DEPTH_MAX 200

Jsonb *
rom_signature_member(Jsonb *array, int i)
{
	return JsonbValueToJsonb(getIthJsonbValueFromContainer(&array->root, i));
}

/* is_array: a document that is an array (a scalar is kept as one of a single element). */
static bool
is_array(Jsonb *json)
{
	return json != NULL && JB_ROOT_IS_ARRAY(json) && !JB_ROOT_IS_SCALAR(json);
}

void
rom_signature_read(Jsonb *json, RomSignature *s)
{
	Jsonb	   *chord;

	memset(s, 0, sizeof(RomSignature));
	s->options = rom_jb_get_json(json, "options");
	if ((s->task = rom_jb_get_text(json, "task")) != NULL)
	{
		s->kind = ROM_SIGNATURE_TASK;
		s->input = rom_jb_get_json(json, "input");
	}
	else if ((s->members = rom_jb_get_json(json, "chain")) != NULL)
		s->kind = ROM_SIGNATURE_CHAIN;
	else if ((s->members = rom_jb_get_json(json, "group")) != NULL)
		s->kind = ROM_SIGNATURE_GROUP;
	else
	{
		chord = rom_jb_get_json(json, "chord");
		s->kind = ROM_SIGNATURE_CHORD;
		s->members = rom_jb_get_json(chord, "header");
		s->body = rom_jb_get_json(chord, "body");
		if (!is_array(s->members))
		{
			if (rom_jb_get_json(s->members, "options") != NULL)
				s->header = s->members;
			s->members = rom_jb_get_json(s->members, "group");
		}
	}
}

bool
rom_signature_is_empty(Jsonb *json)
{
	RomSignature s;
	int			n;

	rom_signature_read(json, &s);
	switch (s.kind)
	{
		case ROM_SIGNATURE_TASK:
			return false;
		case ROM_SIGNATURE_GROUP:
			return JsonContainerSize(&s.members->root) == 0;
		case ROM_SIGNATURE_CHORD:
			return JsonContainerSize(&s.members->root) == 0 && rom_signature_is_empty(s.body);
		case ROM_SIGNATURE_CHAIN:
			n = JsonContainerSize(&s.members->root);
			for (int i = 0; i < n; i++)
				if (!rom_signature_is_empty(rom_signature_member(s.members, i)))
					return false;
			return true;
	}
	return false;
}

static void fault(const char *path, const char *what) pg_attribute_noreturn();

/* fault raises RM012 for the signature at path. */
static void
fault(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_ROM_DEFINITION),
			 errmsg("invalid signature at \"%s\": %s", path[0] ? path : "$", what),
			 errhint("Build signatures with romancy.task(), chain(), group(), chord() and options().")));
}

/* below names a part of the signature at path. */
static char *
below(const char *path, const char *part)
{
	return psprintf("%s%s%s", path, path[0] ? "." : "", part);
}

static int64 check(Jsonb *json, const char *path, int depth);

/* Called for each task while a signature is walked through, or NULL. */
static RomSignatureVisit visitor = NULL;
static void *visitor_arg = NULL;

/* check_members checks the elements of a list. */
static int64
check_members(Jsonb *list, const char *path, int depth)
{
	int64		count = 0;
	int			n;
	MemoryContext part;
	MemoryContext old;

	if (list == NULL || !is_array(list))
		fault(path, "an array of signatures is expected");
	n = JsonContainerSize(&list->root);
	part = AllocSetContextCreate(CurrentMemoryContext, "romancy signature", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(part);
	for (int i = 0; i < n; i++)
	{
		count += check(rom_signature_member(list, i), psprintf("%s[%d]", path, i), depth + 1);
		MemoryContextReset(part);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(part);
	return count;
}

/* is_int32: is the member of an object an integer of 32 bits? */
static bool
is_int32(Jsonb *json, const char *key, const JsonbValue *v)
{
	int64		value;

	if (v->type != jbvNumeric)
		return false;
	value = rom_jb_get_int(json, key, PG_INT64_MAX);
	return value >= PG_INT32_MIN && value <= PG_INT32_MAX &&
		DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(v->val.numeric),
										 NumericGetDatum(int64_to_numeric(value))));
}

/* is_interval: is value a string that reads as an interval, longer than nothing? */
static bool
is_interval(const JsonbValue *v)
{
	Interval	interval;
	int64		us;

	return v->type == jbvString &&
		rom_arg_input_interval(pnstrdup(v->val.string.val, v->val.string.len), &interval) &&
		rom_arg_interval_usec(&interval, &us) && us > 0;
}

int64
rom_signature_interval(Jsonb *options, const char *key)
{
	char	   *text = options ? rom_jb_get_text(options, key) : NULL;
	Interval	interval;
	int64		us = 0;

	if (text == NULL || !rom_arg_input_interval(text, &interval) || !rom_arg_interval_usec(&interval, &us))
		return 0;
	return us;
}

/* check_options checks the options at path, and adds the tasks of an on_success to *callbacks. */
static void
check_options(Jsonb *options, const char *path, int depth, int64 *callbacks)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(options))
		fault(path, "an object is expected");
	it = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *key;
		Jsonb	   *value;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(v.val.string.val, v.val.string.len);
		(void) JsonbIteratorNext(&it, &v, true);
		value = rom_jb_get_json(options, key);
		if (strcmp(key, "retry") == 0)
		{
			RomRetryPolicy policy;

			if (!JB_ROOT_IS_OBJECT(value))
				fault(below(path, key), "a retry policy is expected");
			rom_retry_defaults(&policy);
			rom_retry_overlay(&policy, value, below(path, key));
		}
		else if (strcmp(key, "priority") == 0)
		{
			if (!is_int32(options, key, &v))
				fault(below(path, key), "an integer is expected");
		}
		else if (strcmp(key, "immutable") == 0)
		{
			if (v.type != jbvBool)
				fault(below(path, key), "true or false is expected");
		}
		else if (strcmp(key, "on_error") == 0)
			(void) check(value, below(path, key), depth + 1);
		else if (strcmp(key, "on_success") == 0)
			*callbacks += check(value, below(path, key), depth + 1);
		else if (strcmp(key, "delay") == 0 || strcmp(key, "timeout") == 0 || strcmp(key, "expires") == 0)
		{
			if (!is_interval(&v))
				fault(below(path, key), "an interval that is longer than nothing is expected");
		}
		else
			fault(below(path, key), "unknown option");
	}
}

/* check_keys: has the object no other keys than these? */
static void
check_keys(Jsonb *json, const char *path, const char *one, const char *two, const char *three)
{
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbValue	v;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);

			if (strcmp(key, one) != 0 && (two == NULL || strcmp(key, two) != 0) &&
				(three == NULL || strcmp(key, three) != 0))
				fault(below(path, key), "unknown key");
		}
}

/* check checks the signature at path and counts its tasks. */
static int64
check(Jsonb *json, const char *path, int depth)
{
	Jsonb	   *part;
	int64		count;
	int64		callbacks = 0;

	CHECK_FOR_INTERRUPTS();
	if (depth > DEPTH_MAX)
		fault(path, psprintf("it is nested deeper than %d", DEPTH_MAX));
	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		fault(path, "an object is expected");
	if ((part = rom_jb_get_json(json, "options")) != NULL)
		check_options(part, below(path, "options"), depth, &callbacks);
	if (rom_jb_has(json, "task"))
	{
		char	   *name = rom_jb_get_text(json, "task");

		check_keys(json, path, "task", "input", "options");
		if (name == NULL || name[0] == '\0' || strlen(name) > 200)
			fault(below(path, "task"), "the name of an activity is expected");
		rom_arg_check_payload(rom_jb_get_json(json, "input"), below(path, "input"));
		if (visitor != NULL)
			visitor(name, path[0] ? path : "$", visitor_arg);
		return 1 + callbacks;
	}
	if ((part = rom_jb_get_json(json, "chain")) != NULL)
	{
		check_keys(json, path, "chain", "options", NULL);
		count = check_members(part, below(path, "chain"), depth);
		if (JsonContainerSize(&part->root) == 0)
			fault(below(path, "chain"), "a chain must not be empty");
		return count + callbacks;
	}
	if ((part = rom_jb_get_json(json, "group")) != NULL)
	{
		check_keys(json, path, "group", "options", NULL);
		return check_members(part, below(path, "group"), depth) + callbacks;
	}
	if ((part = rom_jb_get_json(json, "chord")) != NULL)
	{
		Jsonb	   *header;

		check_keys(json, path, "chord", "options", NULL);
		path = below(path, "chord");
		if (!JB_ROOT_IS_OBJECT(part))
			fault(path, "an object with header and body is expected");
		check_keys(part, path, "header", "body", NULL);
		header = rom_jb_get_json(part, "header");
		if (header != NULL && JB_ROOT_IS_OBJECT(header))
		{
			if (rom_jb_get_json(header, "group") == NULL)
				fault(below(path, "header"), "a group or an array is expected");
			count = check(header, below(path, "header"), depth + 1);
		}
		else
			count = check_members(header, below(path, "header"), depth);
		return callbacks + count + check(rom_jb_get_json(part, "body"), below(path, "body"), depth + 1);
	}
	fault(path, "it is none of task, chain, group and chord");
}

int64
rom_signature_walk(Jsonb *json, RomSignatureVisit visit, void *arg)
{
	visitor = visit;
	visitor_arg = arg;
	return check(json, "", 1);
}

int64
rom_signature_check(Jsonb *json)
{
	return rom_signature_walk(json, NULL, NULL);
}

/* name_value is a name as a value; a longer one than jsonb can hold is refused as the server refuses it. */
static void
name_value(text *name, JsonbValue *v)
{
	v->type = jbvString;
	v->val.string.val = VARDATA_ANY(name);
	v->val.string.len = VARSIZE_ANY_EXHDR(name);
	if (v->val.string.len > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("string too long to represent as jsonb string"),
				 errdetail("Due to an implementation restriction, jsonb strings cannot exceed %d bytes.", JENTRY_OFFLENMASK)));
}

PG_FUNCTION_INFO_V1(romancy_task);

/* romancy.task(name text, input jsonb) -> jsonb: the signature of a task. It is checked when it is started. */
Datum
romancy_task(PG_FUNCTION_ARGS)
{
	static const char *const keys[] = {"task", "input"};
	JsonbValue	values[2];

	values[0].type = jbvNull;
	if (!PG_ARGISNULL(0))
		name_value(PG_GETARG_TEXT_PP(0), &values[0]);
	if (!PG_ARGISNULL(1))
		rom_jb_value(PG_GETARG_JSONB_P(1), &values[1]);
	PG_RETURN_JSONB_P(rom_jb_object(keys, values, PG_ARGISNULL(1) ? 1 : 2));
}

/* nested is an array of documents with these dimensions, from *elements on, as to_jsonb() has it. */
static Jsonb *
nested(Jsonb ***elements, int ndim, const int *dims)
{
	Jsonb	  **parts;
	Jsonb	   *result;

	if (ndim <= 1)
	{
		result = rom_jb_array(*elements, ndim == 0 ? 0 : dims[0]);
		*elements += ndim == 0 ? 0 : dims[0];
		return result;
	}
	parts = palloc_array(Jsonb *, dims[0]);
	for (int i = 0; i < dims[0]; i++)
		parts[i] = nested(elements, ndim - 1, dims + 1);
	return rom_jb_array(parts, dims[0]);
}

/* list is {key: signatures} of the first argument, an array. */
static Jsonb *
list(FunctionCallInfo fcinfo, const char *key)
{
	JsonbValue	value = {.type = jbvNull};

	if (!PG_ARGISNULL(0))
	{
		ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
		Datum	   *datums;
		bool	   *nulls;
		Jsonb	  **elements;
		int			n;

		deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &datums, &nulls, &n);
		elements = palloc_array(Jsonb *, Max(n, 1));
		for (int i = 0; i < n; i++)
			elements[i] = nulls[i] ? NULL : DatumGetJsonbP(datums[i]);
		rom_jb_value(nested(&elements, ARR_NDIM(array), ARR_DIMS(array)), &value);
	}
	return rom_jb_object(&key, &value, 1);
}

PG_FUNCTION_INFO_V1(romancy_chain);

/* romancy.chain(variadic signatures jsonb[]) -> jsonb: the signature of a chain. It is checked when it is started. */
Datum
romancy_chain(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(list(fcinfo, "chain"));
}

PG_FUNCTION_INFO_V1(romancy_group);

/* romancy.group(variadic signatures jsonb[]) -> jsonb: likewise of a group. */
Datum
romancy_group(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(list(fcinfo, "group"));
}

/* keep has an option stay as it was. */
static void
keep(RomJb *options, Jsonb *before, const char *key)
{
	if (before != NULL)
		rom_jb_json(options, key, rom_jb_get_json(before, key));
}

/* interval_option sets an option to argument n, an interval, or lets it stay; as seconds, which no IntervalStyle changes. */
static void
interval_option(FunctionCallInfo fcinfo, int n, RomJb *options, Jsonb *before, const char *key)
{
	Interval   *interval = rom_arg_duration_opt(fcinfo, n, key);
	int64		us;

	if (interval == NULL)
		keep(options, before, key);
	else if (rom_arg_interval_usec(interval, &us))
		rom_jb_text(options, key, us % USECS_PER_SEC == 0 ? psprintf(INT64_FORMAT "s", us / USECS_PER_SEC) :
					psprintf(INT64_FORMAT "us", us));
}

PG_FUNCTION_INFO_V1(romancy_options);

/*
 * romancy.options(signature jsonb, retry jsonb, priority int, on_error jsonb, immutable boolean,
 * on_success jsonb, delay interval, timeout interval, expires interval) -> jsonb
 *
 * The signature with these options; a null changes nothing. Errors: RM012 for an interval that is not longer than
 * nothing. The rest is checked when it is started.
 */
Datum
romancy_options(PG_FUNCTION_ARGS)
{
	Jsonb	   *signature = rom_arg_jsonb(fcinfo, 0, "signature");
	Jsonb	   *before = NULL;
	RomJb		options;
	RomJb		whole;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(signature))
		fault("", "an object is expected");
	before = rom_jb_get_json(signature, "options");
	rom_jb_begin(&options);
	rom_jb_json(&options, "retry", !PG_ARGISNULL(1) ? PG_GETARG_JSONB_P(1) :
				before ? rom_jb_get_json(before, "retry") : NULL);
	if (!PG_ARGISNULL(2))
		rom_jb_int(&options, "priority", PG_GETARG_INT32(2));
	else
		rom_jb_json(&options, "priority", before ? rom_jb_get_json(before, "priority") : NULL);
	rom_jb_json(&options, "on_error", !PG_ARGISNULL(3) ? PG_GETARG_JSONB_P(3) :
				before ? rom_jb_get_json(before, "on_error") : NULL);
	if (!PG_ARGISNULL(4))
		rom_jb_bool(&options, "immutable", PG_GETARG_BOOL(4));
	else
		rom_jb_json(&options, "immutable", before ? rom_jb_get_json(before, "immutable") : NULL);
	if (!PG_ARGISNULL(5))
		rom_jb_json(&options, "on_success", PG_GETARG_JSONB_P(5));
	else
		keep(&options, before, "on_success");
	interval_option(fcinfo, 6, &options, before, "delay");
	interval_option(fcinfo, 7, &options, before, "timeout");
	interval_option(fcinfo, 8, &options, before, "expires");

	rom_jb_begin(&whole);
	it = JsonbIteratorInit(&signature->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);

			if (strcmp(key, "options") != 0)
				rom_jb_json(&whole, key, rom_jb_get_json(signature, key));
		}
	rom_jb_json(&whole, "options", rom_jb_end(&options));
	PG_RETURN_JSONB_P(rom_jb_end(&whole));
}
