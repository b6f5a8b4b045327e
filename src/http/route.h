/*-------------------------------------------------------------------------
 *
 * route.h
 *		The way to a destination, or to the URL of a queue: its URL, headers and signing keys, and whether requests may go there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_ROUTE_H
#define ROM_HTTP_ROUTE_H

#include "nodes/pg_list.h"

#include "base/errors.h"
#include "http/url.h"
#include "outbox/sender.h"

typedef struct RomRoute
{
	char	   *url;
	char	   *label;			/* "POST https://api.example.com/v1/x",
								 * without the query: for messages */
	bool		private;		/* private addresses may be reached */
	int			nheaders;
	char	  **headers;		/* "Name: value" */
	bool		has_agent;		/* a header User-Agent is among them */
	char	   *keys;			/* value of the signing secret; NULL: none */
	List	   *secrets;		/* values that were put in: to be kept out of
								 * everything */
} RomRoute;

/*
 * Makes the way to a receiver, in the current context. False with *why, a sentence, where no request may or can go there now. Enters the engine
 * by itself.
 */
extern bool rom_route_make(const RomReceiver *receiver, RomRoute *route, const char **why);

/*
 * The same to a URL that may be reached; private: also where its address is. headers, signing_secret (the name of a secret): NULL: none. False with *why, a phrase. Enters the
 * engine by itself.
 */
extern bool rom_route_fill(int32 namespace, const RomUrl *url, bool private, Jsonb *headers, const char *signing_secret, RomRoute *route,
						   const char **why);

/* Checks headers and signing_secret for such a URL. Raises RM012. Enters the engine by itself. */
extern void rom_route_check(int32 namespace, const RomUrl *url, bool private, Jsonb *headers, const char *signing_secret);

/* Raises RM012 for an argument of a definition; why: a phrase. */
extern void rom_route_wrong(const char *argument, const char *why) pg_attribute_noreturn();

/* Registers the check of definitions; called once from rom_http_init(). */
extern void rom_route_init(void);

#endif							/* ROM_HTTP_ROUTE_H */
