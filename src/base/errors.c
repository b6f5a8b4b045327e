/*-------------------------------------------------------------------------
 *
 * errors.c
 *		Errors as jsonb, and back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/errors.h"
#include "base/guc.h"
#include "base/jb.h"

/* Longest text of an error that is kept, in bytes, the mark behind a text that was cut, and the mark's longest form. */
#define TEXT_MAX (64 * 1024)
#define MARK "... (cut: it had "
#define MARK_MAX 64

/* make builds the object; code: a name given in place of a SQLSTATE, or NULL. */
static Jsonb *
make(int sqlerrcode, const char *message, const char *detail, const char *hint,
	 const char *context, const char *code)
{
	RomJb		jb;
	char		sqlstate[6];

	strlcpy(sqlstate, unpack_sql_state(sqlerrcode), sizeof(sqlstate));
	rom_jb_begin(&jb);
	rom_jb_text(&jb, "sqlstate", sqlstate);
	rom_jb_text(&jb, "message", message ? message : "");
	rom_jb_text(&jb, "detail", detail);
	rom_jb_text(&jb, "hint", hint);
	rom_jb_text(&jb, "context", context);
	rom_jb_text(&jb, "code", code);
	return rom_jb_end(&jb);
}

Jsonb *
rom_error_make(int sqlerrcode, const char *message, const char *detail,
			   const char *hint, const char *context)
{
	return make(sqlerrcode, message, detail, hint, context, NULL);
}

bool
rom_error_is_terminal(const ErrorData *edata)
{
	return edata->datatype_name != NULL &&
		strcmp(edata->datatype_name, ROM_TERMINAL_MARK) == 0;
}

bool
rom_error_is_of_result(const ErrorData *edata)
{
	return edata->datatype_name != NULL &&
		strcmp(edata->datatype_name, ROM_RESULT_MARK) == 0;
}

/* has_code: is the constraint's name an error code that is no SQLSTATE? */
static bool
has_code(const ErrorData *edata)
{
	return rom_error_is_terminal(edata) ||
		(edata->datatype_name != NULL && strcmp(edata->datatype_name, ROM_CODE_MARK) == 0);
}

/*
 * clip cuts a text to TEXT_MAX bytes, or to romancy.max_payload_size where that is less, and says so behind. An error's
 * texts may be longer than any jsonb holds; its activity would then fail at being recorded, and be tried for ever.
 */
static const char *
clip(const char *text)
{
	int			max = Min(rom_guc_max_payload_size, TEXT_MAX);
	Size		len;

	if (text == NULL || (len = strlen(text)) <= max)
		return text;

	/* one that was cut before, and its mark */
	if (len <= max + MARK_MAX && text[len - 1] == ')' && strstr(text +max - MAX_MULTIBYTE_CHAR_LEN, MARK) != NULL)
		return text;

	return psprintf("%.*s" MARK "%zu bytes)", pg_mbcliplen(text, Min(len, max + 1), max), text, len);
}

char *
rom_error_bound(char *text)
{
	char	   *bounded = unconstify(char *, clip(text));

	if (bounded != text)
		pfree(text);
	return bounded;
}

static void
bound(char **text)
{
	*text = rom_error_bound(*text);
}

ErrorData *
rom_error_take(void)
{
	ErrorData  *edata = CopyErrorData();

	/* the server's own copy goes first: it may be hundreds of megabytes */
	FlushErrorState();
	bound(&edata->message);
	bound(&edata->detail);
	bound(&edata->hint);
	bound(&edata->context);
	if (edata->sqlerrcode == ERRCODE_INVALID_TRANSACTION_TERMINATION && edata->hint == NULL)
		edata->hint = pstrdup("The engine commits turns and steps itself. Code that has to commit belongs in the procedure of an activity with transactional => false.");
	return edata;
}

bool
rom_error_is_passing(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

char *
rom_error_own_context(char *context)
{
	char	   *last;

	if (context == NULL)
		return NULL;
	last = strrchr(context, '\n');
	if (strncmp(last ? last + 1 : context, ROM_CONTEXT_MARK, strlen(ROM_CONTEXT_MARK)) != 0)
		return context;
	return last ? pnstrdup(context, last - context) : NULL;
}

Jsonb *
rom_error_to_jsonb(const ErrorData *edata)
{
	return make(edata->sqlerrcode, clip(edata->message), clip(edata->detail), clip(edata->hint),
				clip(rom_error_own_context(edata->context)),
				has_code(edata) ? edata->constraint_name : NULL);
}

char *
rom_error_field(Jsonb *error, const char *key)
{
	return rom_jb_get_text(error, key);
}

int
rom_error_sqlstate(Jsonb *error)
{
	char	   *s = rom_error_field(error, "sqlstate");

	if (s == NULL || strlen(s) != 5)
		return ERRCODE_INTERNAL_ERROR;
	return MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4]);
}

Jsonb *
rom_error_timeout(Jsonb *error, const char *message)
{
	char	   *original = rom_error_field(error, "message");
	char	   *detail = rom_error_field(error, "detail");

	return make(ERRCODE_ROM_TIMEOUT, message,
				psprintf("%s: %s%s%s", rom_error_field(error, "sqlstate"),
						 original ? original : "", detail ? "\n" : "", detail ? detail : ""),
				rom_error_field(error, "hint"), rom_error_field(error, "context"), NULL);
}

Jsonb *
rom_error_catchable(Jsonb *error, const char *message)
{
	int			sqlstate = rom_error_sqlstate(error);

	if (sqlstate != ERRCODE_QUERY_CANCELED && sqlstate != ERRCODE_ASSERT_FAILURE)
		return error;
	return rom_error_timeout(error, message);
}

void
rom_error_raise(Jsonb *error)
{
	char	   *message = rom_error_field(error, "message");
	char	   *detail = rom_error_field(error, "detail");
	char	   *hint = rom_error_field(error, "hint");
	char	   *code = rom_error_field(error, "code");
	char	   *context = rom_error_field(error, "context");

	ereport(ERROR,
			(errcode(rom_error_sqlstate(error)),
			 errmsg_internal("%s", message ? message : "unknown error"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 context ? errcontext("%s", context) : 0,
			 code ? err_generic_string(PG_DIAG_DATATYPE_NAME, ROM_CODE_MARK) : 0,
			 code ? err_generic_string(PG_DIAG_CONSTRAINT_NAME, code) : 0));
}

bool
rom_error_parse_sqlstate(const char *code, int *sqlstate)
{
	if (code == NULL || strlen(code) != 5 ||
		strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
		strcmp(code, "00000") == 0)
		return false;
	*sqlstate = MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
	return true;
}
