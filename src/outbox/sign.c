/*-------------------------------------------------------------------------
 *
 * sign.c
 *		Signatures of requests, by Standard Webhooks (www.standardwebhooks.com), with the server's own HMAC.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"

#include "messages/message.h"
#include "outbox/sign.h"

/* The beginning of a secret of Standard Webhooks. */
#define PREFIX "whsec_"

/* Bytes of a key, and keys of one secret. */
#define KEY_MIN 24
#define KEY_MAX 64
#define KEYS_MAX 8

/* next_key decodes the key that begins at *at, and moves *at behind it; NULL: there is no other one. *ok: it is one. */
static bytea *
next_key(const char **at, bool *ok)
{
	const char *begin = *at + strspn(*at, " ");
	size_t		length = strcspn(begin, " ");
	bytea	   *key;

	*at = begin + length;
	if (length == 0)
		return NULL;
	if (strncmp(begin, PREFIX, strlen(PREFIX)) == 0)
	{
		begin += strlen(PREFIX);
		length -= strlen(PREFIX);
	}
	key = rom_message_base64_decode(pnstrdup(begin, length));
	*ok = key != NULL && VARSIZE_ANY_EXHDR(key) >= KEY_MIN && VARSIZE_ANY_EXHDR(key) <= KEY_MAX;
	return key != NULL ? key : (bytea *) palloc0(VARHDRSZ);
}

bool
rom_sign_check(const char *secret, const char **why)
{
	bool		ok = true;
	int			n = 0;

	*why = "it is not base64 of 24 to 64 bytes behind \"" PREFIX "\", nor several of them with spaces between";
	while (ok && n <= KEYS_MAX && next_key(&secret, &ok) != NULL)
		n++;
	return ok && n > 0 && n <= KEYS_MAX;
}

/* base64 encodes bytes. */
static char *
base64(const uint8 *bytes, size_t length)
{
	bytea	   *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	return rom_message_base64_encode(value);
}

/* signature is HMAC-SHA256 over two pieces of data. */
static char *
signature(const bytea *key, const char *head, const char *body, size_t length)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool		ok;

	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	ok = pg_hmac_init(ctx, (const uint8 *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) >= 0 &&
		pg_hmac_update(ctx, (const uint8 *) head, strlen(head)) >= 0 &&
		pg_hmac_update(ctx, (const uint8 *) body, length) >= 0 &&
		pg_hmac_final(ctx, digest, sizeof(digest)) >= 0;
	pg_hmac_free(ctx);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not sign an HTTP request")));
	return base64(digest, sizeof(digest));
}

char *
rom_sign_message(const char *secret, const char *id, int64 timestamp, const char *body, size_t length)
{
	char	   *head = psprintf("%s." INT64_FORMAT ".", id, timestamp);
	StringInfoData to;
	bytea	   *key;
	bool		ok = true;

	initStringInfo(&to);
	while ((key = next_key(&secret, &ok)) != NULL)
		if (ok)
			appendStringInfo(&to, "%sv1,%s", to.len > 0 ? " " : "", signature(key, head, body, length));
	return to.data;
}

char *
rom_sign_digest(const char *data, size_t length)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	StringInfoData to;
	bool		ok;

	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	ok = pg_cryptohash_init(ctx) >= 0 &&
		pg_cryptohash_update(ctx, (const uint8 *) data, length) >= 0 &&
		pg_cryptohash_final(ctx, digest, sizeof(digest)) >= 0;
	pg_cryptohash_free(ctx);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not hash the ids of events")));
	initStringInfo(&to);
	for (int i = 0; i < 16; i++)
		appendStringInfo(&to, "%02x", digest[i]);
	return to.data;
}
