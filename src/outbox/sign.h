/*-------------------------------------------------------------------------
 *
 * sign.h
 *		Signatures of requests, by Standard Webhooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_OUTBOX_SIGN_H
#define ROM_OUTBOX_SIGN_H

/*
 * Is the text a signing secret: base64 of 24 to 64 bytes, perhaps behind "whsec_", or several of them with spaces between? False with *why, a
 * phrase without the secret.
 */
extern bool rom_sign_check(const char *secret, const char **why);

/*
 * The value of header webhook-signature: "v1," and the base64 of HMAC-SHA256 over id, timestamp (seconds) and body, for each key of the secret, which has been checked.
 * In the current context, within a transaction.
 */
extern char *rom_sign_message(const char *secret, const char *id, int64 timestamp, const char *body, size_t length);

/* A text of 32 hexadecimal digits that stands for a list of bytes: the beginning of its SHA-256. In the current context. */
extern char *rom_sign_digest(const char *data, size_t length);

#endif							/* ROM_OUTBOX_SIGN_H */
