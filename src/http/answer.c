/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What comes of a request: a result, or an error and whether there is another attempt.
 *
 * Statuses 408, 425, 429 and 5xx, and failures of the connection, are tried again by the activity's policy; other statuses, an answer
 * that is too large, and an address that must not be reached are not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#include "base/arg.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"
#include "http/answer.h"
#include "http/guc.h"
#include "http/redact.h"
#include "messages/message.h"

PG_FUNCTION_INFO_V1(romancy_http_retry_after);

/* So much of a failure's body is kept. */
#define DETAIL_MAX 4096

/* A server that asks for more is asked again all the same. */
#define RETRY_AFTER_MAX_S (24 * 3600)

/* ---------------------------------------------------------------- Retry-After */

/* month_number is 1 to 12 for the three letters of a month's name, 0 for others. */
static int
month_number(const char *name)
{
	static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

	for (int i = 0; i < lengthof(names); i++)
		if (pg_strncasecmp(name, names[i], 3) == 0)
			return i + 1;
	return 0;
}

/* read_date reads an HTTP date, in any of its three forms. */
static bool
read_date(const char *value, TimestampTz *at)
{
	const char *comma = strchr(value, ',');
	char		month[4];
	int			day;
	int			year;
	int			hour;
	int			minute;
	int			second;
	int			n;

	if (comma != NULL)
	{
		n = sscanf(comma + 1, " %2d%*1[ -]%3[A-Za-z]%*1[ -]%4d %2d:%2d:%2d GMT", &day, month, &year, &hour, &minute, &second);
		if (n == 6 && year < 100)
			year += year < 70 ? 2000 : 1900;
	}
	else
		n = sscanf(value, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d", month, &day, &hour, &minute, &second, &year);
	if (n != 6 || month_number(month) == 0 || day < 1 || day > 31 || year < 1970 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	*at = (date2j(year, month_number(month), day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		((hour * 60 + minute) * INT64CONST(60) + second) * USECS_PER_SEC;
	return true;
}

bool
rom_answer_retry_after(const char *value, TimestampTz now, TimestampTz *at)
{
	size_t		digits = strspn(value, "0123456789");

	if (digits > 0 && value[digits] == '\0')
		*at = now + Min(digits > 6 ? RETRY_AFTER_MAX_S : atol(value), RETRY_AFTER_MAX_S) * USECS_PER_SEC;
	else if (!read_date(value, at))
		return false;
	*at = Min(*at, now + RETRY_AFTER_MAX_S * USECS_PER_SEC);
	*at = Max(*at, now);
	return true;
}

/* romancy.t_http_retry_after(value text, now timestamptz) -> interval: how long to wait; null for what says nothing */
Datum
romancy_http_retry_after(PG_FUNCTION_ARGS)
{
	TimestampTz now = PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz at;
	Interval   *wait;

	if (!rom_answer_retry_after(text_to_cstring(PG_GETARG_TEXT_PP(0)), now, &at))
		PG_RETURN_NULL();
	wait = palloc0(sizeof(Interval));
	wait->time = at - now;
	PG_RETURN_INTERVAL_P(wait);
}

/* ---------------------------------------------------------------- bodies */

const char *
rom_answer_header(const RomTransportAnswer *answer, const char *name)
{
	for (int i = 0; i < answer->nheaders; i++)
		if (strcmp(answer->headers[i].name, name) == 0)
			return answer->headers[i].value;
	return NULL;
}

/* to_text is the bytes as text of the database; NULL where they are none: not UTF-8, with a zero, or with a character that the database lacks. */
static char *
to_text(RomBytes bytes)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *volatile text = NULL;
	char	   *copy;

	if (memchr(bytes.data, '\0', bytes.length) != NULL || !pg_verify_mbstr(PG_UTF8, bytes.data, bytes.length, true))
		return NULL;
	copy = pnstrdup(bytes.data, bytes.length);
	if (GetDatabaseEncoding() == PG_UTF8)
		return copy;
	PG_TRY();
	{
		text = pg_any_to_server(copy, bytes.length, PG_UTF8);
	}
	PG_CATCH();
	{
		/* a conversion leaves nothing behind */
		if (geterrcode() != ERRCODE_UNTRANSLATABLE_CHARACTER && geterrcode() != ERRCODE_CHARACTER_NOT_IN_REPERTOIRE)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
	}
	PG_END_TRY();
	return text;
}

/* binary is a document of bytes that are no text. */
static Jsonb *
binary(const RomTransportAnswer *answer, RomBytes bytes, List *secrets)
{
	bytea	   *value = palloc(VARHDRSZ + bytes.length);
	const char *type = rom_answer_header(answer, "content-type");
	RomJb		jb;

	if (type != NULL)
	{
		RomBytes	raw = {type, strlen(type)};

		type = to_text(rom_redact(raw, secrets));
	}
	SET_VARSIZE(value, VARHDRSZ + bytes.length);
	memcpy(VARDATA(value), bytes.data, bytes.length);
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "content_type", type);
	rom_jb_text(&jb, "data_binary", rom_message_base64_encode(value));
	return rom_jb_end(&jb);
}

/* document_without_secrets is a document without them in its strings, where a server may have written them with escapes. */
static Jsonb *
document_without_secrets(Jsonb *document, List *secrets)
{
	JsonbIterator *it = JsonbIteratorInit(&document->root);
	JsonbParseState *state = NULL;
	JsonbValue *whole = NULL;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (secrets == NIL)
		return document;
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvString)
		{
			RomBytes	bytes = {v.val.string.val, v.val.string.len};

			bytes = rom_redact(bytes, secrets);
			v.val.string.val = unconstify(char *, bytes.data);
			v.val.string.len = (int) bytes.length;
		}
		whole = pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ||
							   (token == WJB_BEGIN_ARRAY && v.val.array.rawScalar) ? &v : NULL);
	}
	return JsonbValueToJsonb(whole);
}

/* body_document is the body as a document; NULL where it has to be JSON, and is not. */
static Jsonb *
body_document(const RomTransportAnswer *answer, RomBytes bytes, RomHttpResult as, List *secrets)
{
	const char *type = rom_answer_header(answer, "content-type");
	bool		json = type == NULL || strstr(type, "json") != NULL;
	char	   *string;
	Jsonb	   *value;

	if (bytes.length == 0 && as != ROM_HTTP_RESULT_JSON)
		return rom_jb_null_document();
	string = to_text(bytes);
	if (string != NULL && as != ROM_HTTP_RESULT_TEXT && (json || as == ROM_HTTP_RESULT_JSON) &&
		rom_arg_input_jsonb(string, &value))
		return document_without_secrets(value, secrets);
	if (as == ROM_HTTP_RESULT_JSON)
		return NULL;
	return string != NULL ? rom_jb_string_document(string) : binary(answer, bytes, secrets);
}

/* compare_headers orders headers by name, those of one name as they came: they are elements of one array. */
static int
compare_headers(const void *a, const void *b)
{
	const RomTransportHeader *x = *(const RomTransportHeader *const *) a;
	const RomTransportHeader *y = *(const RomTransportHeader *const *) b;
	int			order = strcmp(x->name, y->name);

	return order != 0 ? order : x < y ? -1 : x > y;
}

/* push_string adds a string to a document that is made. */
static void
push_string(JsonbParseState **state, JsonbIteratorToken token, char *string)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = string;
	v.val.string.len = strlen(string);
	pushJsonbValue(state, token, &v);
}

/* header_document is the answer's headers as an object; those of one name are put together, as the protocol has it. */
static Jsonb *
header_document(const RomTransportAnswer *answer, List *secrets)
{
	const RomTransportHeader **sorted = palloc_array(const RomTransportHeader *, answer->nheaders + 1);
	JsonbParseState *state = NULL;
	int			next;

	for (int i = 0; i < answer->nheaders; i++)
		sorted[i] = &answer->headers[i];
	qsort(sorted, answer->nheaders, sizeof(RomTransportHeader *), compare_headers);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < answer->nheaders; i = next)
	{
		StringInfoData all;
		RomBytes	bytes;
		char	   *name;
		char	   *value;

		initStringInfo(&all);
		for (next = i; next < answer->nheaders && strcmp(sorted[i]->name, sorted[next]->name) == 0; next++)
			appendStringInfo(&all, "%s%s", all.len > 0 ? ", " : "", sorted[next]->value);
		bytes.data = all.data;
		bytes.length = all.len;
		value = to_text(rom_redact(bytes, secrets));
		bytes.data = sorted[i]->name;
		bytes.length = strlen(bytes.data);
		name = to_text(bytes);
		if (name == NULL || value == NULL)
			continue;
		push_string(&state, WJB_KEY, name);
		push_string(&state, WJB_VALUE, value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* ---------------------------------------------------------------- the outcome */

static void
fail(RomHttpOutcome *outcome, int sqlstate, const char *message, const char *hint, bool again)
{
	outcome->error = rom_error_make(sqlstate, message, NULL, hint, NULL);
	outcome->retry = again ? ROM_TASK_RETRY_POLICY : ROM_TASK_RETRY_NEVER;
}

/* not_answered judges a request without an answer. */
static void
not_answered(const RomTransportAnswer *answer, const char *label, RomHttpOutcome *outcome)
{
	switch (answer->result)
	{
		case ROM_TRANSPORT_TIMEOUT:
			fail(outcome, ERRCODE_ROM_TIMEOUT, psprintf("%s: no answer within the time limit", label), NULL, true);
			break;
		case ROM_TRANSPORT_FORBIDDEN:
			fail(outcome, ERRCODE_INSUFFICIENT_PRIVILEGE,
				 psprintf("%s: its host has an address that HTTP requests may not go to", label),
				 "Loopback, private, link-local and reserved addresses may be reached where romancy.allow_http() says private => true.",
				 false);
			break;
		case ROM_TRANSPORT_NEVER:
			fail(outcome, ERRCODE_INSUFFICIENT_PRIVILEGE,
				 psprintf("%s: its host has an address that HTTP requests may never go to", label),
				 "Multicast and broadcast addresses cannot be allowed.", false);
			break;
		case ROM_TRANSPORT_BODY_LIMIT:
			fail(outcome, ERRCODE_ROM_LIMIT,
				 psprintf("%s: the answer has more than %d bytes", label, rom_guc_http_max_response),
				 "The limit is romancy.http_max_response, for the body when it is decompressed.", false);
			break;
		case ROM_TRANSPORT_HEADER_LIMIT:
			fail(outcome, ERRCODE_ROM_LIMIT,
				 psprintf("%s: the answer has more than %d headers, or they are longer than %d kB", label, ROM_ANSWER_HEADERS_MAX, ROM_ANSWER_HEADER_BYTES_MAX / 1024),
				 NULL, false);
			break;
		default:
			fail(outcome, ERRCODE_ROM_EXHAUSTED, psprintf("%s: %s", label, answer->message), NULL, true);
			outcome->error = rom_jb_with(outcome->error, "code",
										 rom_jb_string_document(answer->result == ROM_TRANSPORT_TLS ? "HTTP TLS" : "HTTP connection"));
			break;
	}
}

/* begin is the beginning of a body as text; NULL. */
static char *
begin(RomBytes bytes)
{
	if (bytes.length > DETAIL_MAX)
	{
		/* not within a character */
		bytes.length = DETAIL_MAX;
		while (bytes.length > 0 && (bytes.data[bytes.length] & 0xc0) == 0x80)
			bytes.length--;
	}
	return bytes.length > 0 ? to_text(bytes) : NULL;
}

char *
rom_answer_begin(const RomTransportAnswer *answer, List *secrets)
{
	RomBytes	bytes = {answer->body ? answer->body : "", answer->length};

	return begin(rom_redact(bytes, secrets));
}

bool
rom_answer_again(long status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

/* unexpected judges an answer with a status that is none of those expected. */
static void
unexpected(const RomTransportAnswer *answer, const char *label, RomBytes bytes, RomHttpOutcome *outcome)
{
	long		status = answer->status;
	bool		again = rom_answer_again(status);
	const char *after = rom_answer_header(answer, "retry-after");
	RomJb		jb;

	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", unpack_sql_state(ERRCODE_ROM_EXHAUSTED));
	rom_jb_text(&jb, "message", psprintf("%s: HTTP %ld", label, status));
	rom_jb_text(&jb, "detail", begin(bytes));
	rom_jb_text(&jb, "code", psprintf("HTTP %ld", status));
	outcome->error = rom_jb_end(&jb);
	outcome->retry = again ? ROM_TASK_RETRY_POLICY : ROM_TASK_RETRY_NEVER;
	if (again && after != NULL)
		(void) rom_answer_retry_after(after, GetCurrentTimestamp(), &outcome->not_before);
}

void
rom_answer_judge(const RomTransportAnswer *answer, const char *label, List *secrets, RomHttpResult as, const char *expect,
				 RomHttpOutcome *outcome)
{
	RomBytes	bytes = {answer->body ? answer->body : "", answer->length};
	RomJb		jb;

	memset(outcome, 0, sizeof(RomHttpOutcome));
	if (answer->result != ROM_TRANSPORT_ANSWERED)
	{
		not_answered(answer, label, outcome);
		return;
	}
	bytes = rom_redact(bytes, secrets);
	if (!rom_spec_expects(expect, answer->status))
	{
		unexpected(answer, label, bytes, outcome);
		return;
	}
	if (as == ROM_HTTP_RESULT_NONE)
		outcome->result = rom_jb_null_document();
	else if (as == ROM_HTTP_RESULT_FULL)
	{
		rom_jb_begin(&jb);
		rom_jb_int(&jb, "status", answer->status);
		rom_jb_json(&jb, "headers", header_document(answer, secrets));
		rom_jb_json(&jb, "body", body_document(answer, bytes, ROM_HTTP_RESULT_AUTO, secrets));
		outcome->result = rom_jb_end(&jb);
	}
	else
		outcome->result = body_document(answer, bytes, as, secrets);
	if (outcome->result == NULL)
		fail(outcome, ERRCODE_ROM_EXHAUSTED, psprintf("%s: the answer is not JSON", label), NULL, false);
	else if (VARSIZE(outcome->result) > rom_guc_max_payload_size)
	{
		fail(outcome, ERRCODE_ROM_LIMIT,
			 psprintf("%s: the result has %d bytes, the limit is %d", label, (int) VARSIZE(outcome->result), rom_guc_max_payload_size),
			 "The limit is romancy.max_payload_size.", false);
		outcome->result = NULL;
	}
}
