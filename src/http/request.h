/*-------------------------------------------------------------------------
 *
 * request.h
 *		A request, made of a task.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_REQUEST_H
#define ROM_HTTP_REQUEST_H

#include "http/spec.h"
#include "http/transport.h"
#include "http/url.h"
#include "tasks/task.h"

typedef struct RomHttpRequest
{
	RomTransportRequest send;
	char	   *label;			/* "POST https://api.example.com/v1/x",
								 * without the query: for messages */
	List	   *secrets;		/* values that were put in: to be kept out of
								 * everything */
	RomHttpResult result;
	char	   *expect;
	bool		callback;		/* a 202 leaves the step to a call of
								 * complete_activity() */
} RomHttpRequest;

/*
 * Makes the request of an HTTP activity's task, in the current context. False with *error, an error as
 * rom_error_make() makes it, where it must not or cannot be sent. Enters the engine by itself. It may raise errors, too.
 */
extern bool rom_request_make(const RomTask *task, RomHttpRequest *request, Jsonb **error);

/* Copies a request: what is sent to cargo, the rest to the current context. */
extern void rom_request_copy(RomHttpRequest *to, const RomHttpRequest *from, MemoryContext cargo);

/* The error of a request that cannot be made; why: a phrase. Returns false. */
extern bool rom_request_failed(const RomTask *task, const char *why, Jsonb **error);

/* Makes the body of a value; *type: its content type. False with *why, a phrase. */
extern bool rom_request_body(Jsonb *value, RomHttpEncoding encoding, RomTransportRequest *send, const char **type, const char **why);

/* The key that all attempts of a step have in common, as the value of a header: all but printable ASCII is percent-encoded. */
extern char *rom_request_key(const RomTask *task);

/* The header that names the instance as the trace and the attempt as the span. */
extern char *rom_request_trace(const RomTask *task);

/* The header with the token by which the server completes the step; one that the server sends back is kept out of everything, as secrets are. */
extern char *rom_request_callback(const RomTask *task, List **secrets);

#endif							/* ROM_HTTP_REQUEST_H */
