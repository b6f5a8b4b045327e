/*-------------------------------------------------------------------------
 *
 * secret.h
 *		Secrets for the headers of requests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SECRET_H
#define ROM_SECRET_H

#include "http/url.h"

/*
 * The value of a secret of a namespace, for a request to this URL, in the current context. NULL with *why, a phrase without the
 * value, where there is none, or it must not go there. clear: the connection may be without TLS. Enters the engine by itself.
 */
extern char *rom_secret_value(int32 namespace, const char *name, const RomUrl *url, bool clear, const char **why);

#endif							/* ROM_SECRET_H */
