/*-------------------------------------------------------------------------
 *
 * transfer.h
 *		A request under way, as the files of romancy_http share it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TRANSFER_H
#define ROM_TRANSFER_H

#include <stdbool.h>
#include <time.h>

#include <curl/curl.h>

#include "http/transport.h"

/* How many requests a connection to a host carries. */
typedef enum HostProtocol
{
	HOST_UNKNOWN = 0,
	HOST_SINGLE,				/* one at a time: HTTP/1.1 */
	HOST_MANY					/* many: HTTP/2 */
} HostProtocol;

typedef struct Request Request;

typedef struct Host
{
	struct Host *next;
	int			requests;		/* to it */
	bool		private;
	bool		asking;			/* a request to it is under way that looks it
								 * up */
	bool		tls;
	HostProtocol protocol;		/* with TLS */
	bool		connecting;		/* a request waits for a connection that may
								 * carry those behind it */
	int			connected;		/* requests that have a connection, */
	Request    *first;			/* and the list of them */
	long		known_until;	/* seconds of the monotonic clock */
	char		name[];			/* host:port */
} Host;

struct Request
{
	struct Request *next;		/* in the list that it is in */
	CURL	   *easy;
	struct curl_slist *headers;
	Host	   *host;
	bool		sent;			/* given to libcurl */
	bool		asks;			/* it is the one that looks its host up */
	bool		connects;		/* it is the one that waits for a connection */
	bool		opened;			/* a connection of its own, */
	bool		connected;		/* or any, is there: */
	int			port;			/* its own end; and the next one that has a
								 * connection */
	Request    *sibling;
	bool		private;
	bool		forbidden;
	bool		never;			/* for any request */
	bool		unwatched;		/* its socket cannot be waited for */
	bool		too_long;
	bool		headers_too_long;
	bool		headers_complete;
	size_t		header_bytes;
	size_t		max_response;
	size_t		room;			/* of the body */
	int			header_room;
	struct timespec begun;
	long		timeout_ms;
	RomTransportAnswer *answer;
};

extern RomTransportSettings rom_transport_settings;

/* libcurl's callbacks for an answer's body and its headers, one by one; userp: the request. */
extern size_t rom_receive_body(char *data, size_t size, size_t n, void *userp);
extern size_t rom_receive_header(char *data, size_t size, size_t n, void *userp);

extern void rom_receive_free(RomTransportAnswer *answer);

/* The entry of a URL's host, NULL without memory. It stays as long as requests to it are counted in it, or its name is known. now: seconds of the monotonic clock. */
extern Host *rom_host_find(const char *url, bool private, long now);

#endif							/* ROM_TRANSFER_H */
