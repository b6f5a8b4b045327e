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
 * Makes the request of a task of the HTTP worker's queues, in the current context. False with *error, an error as
 * rom_error_make() makes it, where it must not or cannot be sent. Enters the engine by itself. It may raise errors, too.
 */
extern bool rom_request_make(const RomTask *task, RomHttpRequest *request, Jsonb **error);

#endif							/* ROM_HTTP_REQUEST_H */
