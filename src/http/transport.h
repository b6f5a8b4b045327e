/*-------------------------------------------------------------------------
 *
 * transport.h
 *		What sends requests: the interface between the HTTP worker and romancy_http, a library of its own.
 *
 * It knows nothing of PostgreSQL, so it includes nothing of it: its memory is malloc's, and it raises no error. It is
 * loaded by the worker only, which alone loads libcurl and TLS. Texts are of UTF-8 or any bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_TRANSPORT_H
#define ROM_TRANSPORT_H

#include <stddef.h>
#include <sys/socket.h>

/* Counts changes of this interface: the library and the worker must be of one build. */
#define ROM_TRANSPORT_VERSION 2

/* The file, beside romancy's own, and the function in it. */
#define ROM_TRANSPORT_LIBRARY "romancy_http"
#define ROM_TRANSPORT_FUNCTION "rom_transport_get"

typedef struct RomTransportSettings
{
	/*
	 * may a connection be made to this address? 1: yes; 0: not by this
	 * request; -1: by none
	 */
	int			(*may_connect) (const struct sockaddr *address, int private);
	size_t		max_header_bytes;	/* of an answer's headers */
	int			max_headers;	/* of an answer */
} RomTransportSettings;

/* A request. Everything is copied. */
typedef struct RomTransportRequest
{
	const char *method;
	const char *url;
	const char *const *headers; /* "Name: value", NULL at the end */
	const void *body;
	size_t		body_length;
	int			has_body;
	long		timeout_ms;		/* of all of it */
	size_t		max_response;	/* bytes of the answer's body, decompressed */
	int			private;		/* private addresses may be reached */
	const char *ca_file;		/* NULL: the system's */
	void	   *tag;			/* the caller's */
} RomTransportRequest;

/* How it ended. */
typedef enum RomTransportResult
{
	ROM_TRANSPORT_ANSWERED,		/* status, headers and body are there */
	ROM_TRANSPORT_TIMEOUT,
	ROM_TRANSPORT_FORBIDDEN,	/* the address must not be reached, */
	ROM_TRANSPORT_NEVER,		/* by any request */
	ROM_TRANSPORT_BODY_LIMIT,	/* the answer's body, */
	ROM_TRANSPORT_HEADER_LIMIT, /* or its headers, are too large, or too many */
	ROM_TRANSPORT_TLS,			/* no trust, or no handshake */
	ROM_TRANSPORT_FAILED		/* all else: no name, no connection, cut */
} RomTransportResult;

typedef struct RomTransportHeader
{
	char	   *name;			/* in small letters */
	char	   *value;
} RomTransportHeader;

typedef struct RomTransportAnswer
{
	void	   *tag;
	RomTransportResult result;
	char		message[256];	/* of a failure */
	long		status;
	int			nheaders;
	RomTransportHeader *headers;
	char	   *body;			/* length bytes, and a zero */
	size_t		length;
} RomTransportAnswer;

typedef struct RomTransport
{
	int			version;

	/*
	 * Begins; returns a descriptor that is readable when run() is to be
	 * called, or -1 with *error.
	 */
	int			(*open) (const RomTransportSettings *settings, const char **error);

	/* Sends a request; returns its handle, or NULL: no memory. */
	void	   *(*send) (const RomTransportRequest *request);

	/* Gives it up, and closes its connection; nothing comes of it any more. */
	void		(*cancel) (void *handle);

	/*
	 * Milliseconds until run() is to be called though the descriptor is not
	 * readable; -1: never.
	 */
	long		(*timeout) (void);

	/* Does what can be done without waiting. */
	void		(*run) (void);

	/*
	 * Gives the next request that has ended, or NULL; its handle is not valid
	 * any more. To be freed by free_answer().
	 */
	RomTransportAnswer *(*next) (void);
	void		(*free_answer) (RomTransportAnswer *answer);
} RomTransport;

typedef const RomTransport *(*RomTransportGet) (void);

#endif							/* ROM_TRANSPORT_H */
