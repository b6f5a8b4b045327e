/*-------------------------------------------------------------------------
 *
 * jb.c
 *		Building and reading small jsonb objects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/jb.h"

void
rom_jb_string(JsonbValue *v, const char *s)
{
	v->type = jbvString;
	v->val.string.val = (char *) s;
	v->val.string.len = strlen(s);
}

/* push_key starts a member. */
static void
push_key(RomJb *jb, const char *key)
{
	JsonbValue	v;

	rom_jb_string(&v, key);
	pushJsonbValue(&jb->state, WJB_KEY, &v);
}

/* push_document adds a whole document as a value or an element. */
static void
push_document(RomJb *jb, JsonbIteratorToken token, Jsonb *value)
{
	JsonbValue	v;

	if (JB_ROOT_IS_SCALAR(value))
		JsonbExtractScalar(&value->root, &v);
	else
	{
		v.type = jbvBinary;
		v.val.binary.data = &value->root;
		v.val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
	pushJsonbValue(&jb->state, token, &v);
}

void
rom_jb_begin(RomJb *jb)
{
	jb->state = NULL;
	pushJsonbValue(&jb->state, WJB_BEGIN_OBJECT, NULL);
}

Jsonb *
rom_jb_end(RomJb *jb)
{
	return JsonbValueToJsonb(pushJsonbValue(&jb->state, WJB_END_OBJECT, NULL));
}

void
rom_jb_text(RomJb *jb, const char *key, const char *value)
{
	JsonbValue	v;

	if (value == NULL)
		return;
	push_key(jb, key);
	rom_jb_string(&v, value);
	pushJsonbValue(&jb->state, WJB_VALUE, &v);
}

void
rom_jb_int(RomJb *jb, const char *key, int64 value)
{
	JsonbValue	v;

	push_key(jb, key);
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(value);
	pushJsonbValue(&jb->state, WJB_VALUE, &v);
}

void
rom_jb_bool(RomJb *jb, const char *key, bool value)
{
	JsonbValue	v;

	push_key(jb, key);
	v.type = jbvBool;
	v.val.boolean = value;
	pushJsonbValue(&jb->state, WJB_VALUE, &v);
}

void
rom_jb_time(RomJb *jb, const char *key, TimestampTz value)
{
	char		buffer[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(value))
		return;
	JsonEncodeDateTime(buffer, TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL);
	rom_jb_text(jb, key, pstrdup(buffer));
}

void
rom_jb_json(RomJb *jb, const char *key, Jsonb *value)
{
	if (value == NULL)
		return;
	push_key(jb, key);
	push_document(jb, WJB_VALUE, value);
}

void
rom_jb_null(RomJb *jb, const char *key)
{
	JsonbValue	v;

	push_key(jb, key);
	v.type = jbvNull;
	pushJsonbValue(&jb->state, WJB_VALUE, &v);
}

void
rom_jb_begin_array(RomJb *jb, const char *key)
{
	push_key(jb, key);
	pushJsonbValue(&jb->state, WJB_BEGIN_ARRAY, NULL);
}

void
rom_jb_element(RomJb *jb, Jsonb *value)
{
	push_document(jb, WJB_ELEM, value);
}

void
rom_jb_end_array(RomJb *jb)
{
	pushJsonbValue(&jb->state, WJB_END_ARRAY, NULL);
}

void
rom_jb_value(Jsonb *document, JsonbValue *v)
{
	if (JB_ROOT_IS_SCALAR(document))
	{
		(void) JsonbExtractScalar(&document->root, v);
		return;
	}
	v->type = jbvBinary;
	v->val.binary.data = &document->root;
	v->val.binary.len = VARSIZE(document) - VARHDRSZ;
}

/* size_of is the number of bytes of a value, without those that align it. */
static Size
size_of(const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return v->val.string.len;
		case jbvNumeric:
			return VARSIZE_ANY(v->val.numeric);
		case jbvBinary:
			return v->val.binary.len;
		default:
			return 0;
	}
}

/* append copies a value to place at of the data, aligned where it has to be; its entry, as convertJsonbValue() in jsonb_util.c makes it. */
static JEntry
append(char *data, Size *at, const JsonbValue *v)
{
	Size		begin = *at;
	Size		size = size_of(v);
	const void *bytes = NULL;
	JEntry		type;

	switch (v->type)
	{
		case jbvString:
			type = JENTRY_ISSTRING;
			bytes = v->val.string.val;
			break;
		case jbvNumeric:
			type = JENTRY_ISNUMERIC;
			bytes = v->val.numeric;
			break;
		case jbvBinary:
			type = JENTRY_ISCONTAINER;
			bytes = v->val.binary.data;
			break;
		case jbvBool:
			return v->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		default:
			return JENTRY_ISNULL;
	}
	if (v->type != jbvString)
		while (*at % sizeof(JEntry) != 0)
			data[(*at)++] = '\0';
	if (size > 0)
		memcpy(data + *at, bytes, size);
	*at += size;
	return type | (JEntry) (*at - begin);
}

/* too_large raises the server's error for a document that no jsonb can hold. */
static void
too_large(const char *parts)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("total size of jsonb %s elements exceeds the maximum of %d bytes", parts, JENTRY_OFFLENMASK)));
}

/*
 * assemble makes an array of n values, or an object with these keys, in the order that jsonb has. Documents are copied as they are, where the
 * server's functions would take each apart and put it together again. (A document in jsonb's format is the same wherever it stands.)
 */
static Jsonb *
assemble(const JsonbValue *keys, const JsonbValue *values, int n)
{
	int			nentries = keys ? 2 * n : n;
	Size		size = offsetof(Jsonb, root) + offsetof(JsonbContainer, children) + (Size) nentries * sizeof(JEntry);
	Size		bound = 0;
	Size		at = 0;
	Jsonb	   *result;
	char	   *data;

	for (int i = 0; i < nentries; i++)
		bound += size_of(keys == NULL ? &values[i] : i < n ? &keys[i] : &values[i - n]) + sizeof(JEntry) - 1;
	if (nentries > JB_CMASK || size + bound > MaxAllocSize)
		too_large(keys ? "object" : "array");
	result = palloc(size + bound);
	result->root.header = n | (keys ? JB_FOBJECT : JB_FARRAY);
	data = (char *) &result->root.children[nentries];
	for (int i = 0; i < nentries; i++)
	{
		JEntry		entry = append(data, &at, keys == NULL ? &values[i] : i < n ? &keys[i] : &values[i - n]);

		if (at > JENTRY_OFFLENMASK)
			too_large(keys ? "object" : "array");
		if (i % JB_OFFSET_STRIDE == 0)
			entry = (entry & JENTRY_TYPEMASK) | (JEntry) at | JENTRY_HAS_OFF;
		result->root.children[i] = entry;
	}
	if (size + at - VARHDRSZ > JENTRY_OFFLENMASK)
		too_large(keys ? "object" : "array");
	SET_VARSIZE(result, size + at);
	return result;
}

Jsonb *
rom_jb_array(Jsonb **elements, int n)
{
	JsonbValue *values = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(JsonbValue));
	Jsonb	   *result;

	for (int i = 0; i < n; i++)
	{
		if (elements[i] != NULL)
			rom_jb_value(elements[i], &values[i]);
		else
			values[i].type = jbvNull;
	}
	result = assemble(NULL, values, n);
	pfree(values);
	return result;
}

#ifdef USE_ASSERT_CHECKING
/* precedes is jsonb's order of keys: shorter ones first. */
static bool
precedes(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len) < 0;
}
#endif

Jsonb *
rom_jb_object(const char *const *keys, const JsonbValue *values, int n)
{
	JsonbValue	names[ROM_JB_MEMBERS];

	Assert(n <= ROM_JB_MEMBERS);
	for (int i = 0; i < n; i++)
	{
		rom_jb_string(&names[i], keys[i]);
		Assert(i == 0 || precedes(&names[i - 1], &names[i]));
	}
	return assemble(names, values, n);
}

Jsonb *
rom_jb_null_document(void)
{
	JsonbValue	v;

	v.type = jbvNull;
	return JsonbValueToJsonb(&v);
}

Jsonb *
rom_jb_string_document(const char *value)
{
	JsonbValue	v;

	rom_jb_string(&v, value);
	return JsonbValueToJsonb(&v);
}

bool
rom_jb_is_null(Jsonb *jb)
{
	JsonbValue	v;

	return jb == NULL ||
		(JB_ROOT_IS_SCALAR(jb) && JsonbExtractScalar(&jb->root, &v) &&
		 v.type == jbvNull);
}

/* get finds a member of an object, or returns NULL. */
static JsonbValue *
get(Jsonb *jb, const char *key, JsonbValue *buffer)
{
	if (jb == NULL || !JB_ROOT_IS_OBJECT(jb))
		return NULL;
	return getKeyJsonValueFromContainer(&jb->root, key, strlen(key), buffer);
}

bool
rom_jb_has(Jsonb *jb, const char *key)
{
	JsonbValue	buffer;

	return get(jb, key, &buffer) != NULL;
}

char *
rom_jb_get_text(Jsonb *jb, const char *key)
{
	JsonbValue	buffer;
	JsonbValue *v = get(jb, key, &buffer);

	if (v == NULL || v->type != jbvString)
		return NULL;
	return pnstrdup(v->val.string.val, v->val.string.len);
}

int64
rom_jb_get_int(Jsonb *jb, const char *key, int64 fallback)
{
	JsonbValue	buffer;
	JsonbValue *v = get(jb, key, &buffer);

	if (v == NULL || v->type != jbvNumeric)
		return fallback;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(v->val.numeric)));
}

bool
rom_jb_get_bool(Jsonb *jb, const char *key, bool fallback)
{
	JsonbValue	buffer;
	JsonbValue *v = get(jb, key, &buffer);

	if (v == NULL || v->type != jbvBool)
		return fallback;
	return v->val.boolean;
}

/* number reads n digits at s; -1: they are not all digits. */
static int
number(const char *s, int n)
{
	int			result = 0;

	for (int i = 0; i < n; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return -1;
		result = 10 * result + s[i] - '0';
	}
	return result;
}

/*
 * read_time reads a time of this century as rom_jb_time() writes it, 2026-11-30T08:33:45.123456+01:00 (fraction and minutes of the zone may be
 * left out). False: it is of another form, or no time. A replay reads one for each message that its handler received.
 */
static bool
read_time(const char *s, TimestampTz *result)
{
	static const char form[] = "nnnn-nn-nnTnn:nn:nn";
	int			year;
	int			month;
	int			day;
	int64		us = 0;
	int			east;
	int			minutes = 0;

	for (int i = 0; form[i] != '\0'; i++)
		if (form[i] == 'n' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	year = number(s, 4);
	month = number(s + 5, 2);
	day = number(s + 8, 2);
	if (year < 2000 || year > 2099 || month < 1 || month > 12 || day < 1 || day > day_tab[isleap(year)][month - 1] ||
		number(s + 11, 2) > 23 || number(s + 14, 2) > 59 || number(s + 17, 2) > 59)
		return false;
	us = ((number(s + 11, 2) * 60 + number(s + 14, 2)) * 60 + number(s + 17, 2)) * USECS_PER_SEC;
	s += 19;
	if (*s == '.')
	{
		int64		unit = USECS_PER_SEC / 10;

		for (s++; *s >= '0' && *s <= '9' && unit > 0; s++, unit /= 10)
			us += (*s - '0') * unit;
	}
	if ((*s != '+' && *s != '-') || (east = number(s + 1, 2)) < 0 || east > 14)
		return false;
	if (s[3] != '\0' && (s[3] != ':' || (minutes = number(s + 4, 2)) < 0 || minutes > 59 || s[6] != '\0'))
		return false;
	minutes = (east * 60 + minutes) * (*s == '+' ? 1 : -1);
	*result = (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY + us - minutes * USECS_PER_MINUTE;
	return true;
}

TimestampTz
rom_jb_get_time(Jsonb *jb, const char *key)
{
	char	   *s = rom_jb_get_text(jb, key);
	TimestampTz result;

	if (s == NULL)
		return DT_NOEND;
	if (read_time(s, &result))
		return result;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(s),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

Jsonb *
rom_jb_get_json(Jsonb *jb, const char *key)
{
	JsonbValue	buffer;
	JsonbValue *v = get(jb, key, &buffer);

	return v ? JsonbValueToJsonb(v) : NULL;
}

Jsonb *
rom_jb_with(Jsonb *object, const char *key, Jsonb *value)
{
	RomJb		jb;
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	v;

	rom_jb_begin(&jb);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		pushJsonbValue(&jb.state, WJB_KEY, &v);
		(void) JsonbIteratorNext(&it, &v, true);
		pushJsonbValue(&jb.state, WJB_VALUE, &v);
	}
	rom_jb_json(&jb, key, value);
	return rom_jb_end(&jb);
}

Jsonb *
rom_jb_int_document(int64 value)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(value);
	return JsonbValueToJsonb(&v);
}

int64
rom_jb_document_int(Jsonb *value)
{
	JsonbValue	v;

	if (value == NULL || !JsonbExtractScalar(&value->root, &v) || v.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(v.val.numeric)));
}

/* A text has at most so many times the bytes of a document, and so many more: but for numbers like 1e100000, whose digits the document leaves out. */
#define TEXT_TIMES 8
#define TEXT_MORE (1024 * 1024)

/* The longest number: digits before and after the point (numeric.c, NUMERIC_WEIGHT_MAX and NUMERIC_DSCALE_MAX), sign and point. */
#define NUMBER_MAX (131072 + 16383 + 2)

/* numbers_size is the size of all numbers of a document as text. Stops above max. */
static Size
numbers_size(Jsonb *document, Size max)
{
	JsonbIterator *it = JsonbIteratorInit(&document->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	Size		size = 0;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE && size <= max)
	{
		char	   *text;

		if ((token != WJB_VALUE && token != WJB_ELEM) || v.type != jbvNumeric)
			continue;
		text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));

		size += strlen(text);
		pfree(text);
	}
	return size;
}

bool
rom_jb_swells(Jsonb *document)
{
	Size		max = (Size) VARSIZE(document) * TEXT_TIMES + TEXT_MORE;

	/* a number of the document has at least 8 bytes */
	return VARSIZE(document) / 8 * NUMBER_MAX > TEXT_MORE && numbers_size(document, max) > max;
}
