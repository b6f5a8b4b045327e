/*-------------------------------------------------------------------------
 *
 * transport.c
 *		The library romancy_http: sends requests over libcurl, hundreds at once, and waits for none of them.
 *
 * Two multi handles: connections that may lead to private addresses are never used for a request that must not go there.
 * Their sockets are in one epoll descriptor, which the worker waits for beside its latch.
 *
 * libcurl resolves a name in a thread of its own, for each request anew until one has an answer. So at most LOOKUPS names
 * are looked up at a time, each once: the other requests to that host wait until there is a connection, or none. All signals are
 * blocked in calls of libcurl, so that its threads never get one of PostgreSQL's.
 *
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "http/transport.h"

/* Names that are looked up at a time. */
#define LOOKUPS 8

/* Seconds for which an answer about a name holds, and how much sooner it is asked for anew. */
#define NAME_SECONDS 60
#define NAME_EARLY 5

/* A connection has to be there after so long, at the most. */
#define CONNECT_MS 10000

typedef struct Host
{
	struct Host *next;
	bool		private;
	bool		asking;			/* a request to it is under way that looks it
								 * up */
	long		known_until;	/* seconds of the monotonic clock */
	char		name[];			/* host:port */
} Host;

typedef struct Request
{
	struct Request *next;		/* in the list that it is in */
	CURL	   *easy;
	struct curl_slist *headers;
	Host	   *host;
	bool		sent;			/* given to libcurl */
	bool		asks;			/* it is the one that looks its host up */
	bool		private;
	bool		forbidden;
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
} Request;

static RomTransportSettings settings;
static CURLM *multis[2];		/* [1]: private addresses may be reached */
static long deadlines[2];		/* milliseconds of the monotonic clock; -1:
								 * none */
static int	epoll = -1;
static Host *hosts;
static int	lookups;
static Request *waiting;		/* for the look-up of their host */
static Request *ended;
static sigset_t all_signals;

static long
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- callbacks of libcurl */

static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	struct epoll_event event = {0};
	int			which = (int) (intptr_t) userp;

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	event.data.u64 = (uint64_t) fd << 1 | (unsigned) which;
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT)
		(void) epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	return 0;
}

static int
timer_changed(CURLM *multi, long ms, void *userp)
{
	deadlines[(int) (intptr_t) userp] = ms < 0 ? -1 : clock_ms() + ms;
	return 0;
}

/* looked_up: the request has found the address of its host, or will not; the others need not wait. */
static void
looked_up(Request *r, bool found)
{
	if (!r->asks)
		return;
	r->asks = false;
	r->host->asking = false;
	lookups--;
	r->host->known_until = found ? clock_ms() / 1000 + NAME_SECONDS - NAME_EARLY : 0;
}

static curl_socket_t
open_socket(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	Request    *r = userp;

	looked_up(r, true);
	if (!settings.may_connect(&address->addr, r->private))
	{
		r->forbidden = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t
take_body(char *data, size_t size, size_t n, void *userp)
{
	Request    *r = userp;
	RomTransportAnswer *a = r->answer;

	n *= size;
	if (n > r->max_response - a->length)
	{
		r->too_long = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (a->length + n + 1 > r->room)
	{
		size_t		room = r->room < 1024 ? 1024 : r->room;
		char	   *body;

		while (room < a->length + n + 1)
			room *= 2;
		body = realloc(a->body, room);
		if (body == NULL)
			return CURL_WRITEFUNC_ERROR;
		a->body = body;
		r->room = room;
	}
	memcpy(a->body + a->length, data, n);
	a->length += n;
	a->body[a->length] = '\0';
	return n;
}

static void
free_headers(RomTransportAnswer *a)
{
	for (int i = 0; i < a->nheaders; i++)
	{
		free(a->headers[i].name);
		free(a->headers[i].value);
	}
	a->nheaders = 0;
}

static size_t
take_header(char *data, size_t size, size_t n, void *userp)
{
	Request    *r = userp;
	RomTransportAnswer *a = r->answer;
	const char *colon;
	const char *end;
	RomTransportHeader *h;

	n *= size;
	r->header_bytes += n;
	if (r->header_bytes > settings.max_headers)
	{
		r->headers_too_long = true;
		return 0;
	}
	if (n >= 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		free_headers(a);		/* those of a 1xx before it */
		r->headers_complete = false;
		return n;
	}
	if (data[0] == '\r' || data[0] == '\n')
		r->headers_complete = true;
	colon = memchr(data, ':', n);
	if (colon == NULL)
		return n;
	if (a->nheaders == r->header_room)
	{
		int			room = r->header_room ? r->header_room * 2 : 16;

		h = realloc(a->headers, room * sizeof(RomTransportHeader));
		if (h == NULL)
			return 0;
		a->headers = h;
		r->header_room = room;
	}
	h = &a->headers[a->nheaders];
	h->name = strndup(data, colon - data);
	for (colon++, end = data + n; colon < end && isspace((unsigned char) *colon); colon++)
		;
	while (end > colon && isspace((unsigned char) end[-1]))
		end--;
	h->value = strndup(colon, end - colon);
	if (h->name == NULL || h->value == NULL)
	{
		free(h->name);
		free(h->value);
		return 0;
	}
	for (char *p = h->name; *p; p++)
		*p = (char) tolower((unsigned char) *p);
	a->nheaders++;
	return n;
}

/* ---------------------------------------------------------------- requests */

static void
free_answer(RomTransportAnswer *answer)
{
	free_headers(answer);
	free(answer->headers);
	free(answer->body);
	free(answer);
}

/* free_request frees it, but for its answer. */
static void
free_request(Request *r)
{
	if (r->sent)
		curl_multi_remove_handle(multis[r->private], r->easy);
	looked_up(r, false);
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	free(r);
}

static void
unlink_request(Request **list, Request *r)
{
	for (; *list != NULL; list = &(*list)->next)
		if (*list == r)
		{
			*list = r->next;
			return;
		}
}

/* fail ends a request that never got an answer. */
static void
fail(Request *r, RomTransportResult result, const char *message)
{
	r->answer->result = result;
	snprintf(r->answer->message, sizeof(r->answer->message), "%s", message);
	r->next = ended;
	ended = r;
}

/* find_host finds or makes the entry of the host of a URL. Entries stay as long as the process. */
static Host *
find_host(const char *url, bool private)
{
	const char *begin = strstr(url, "://");
	size_t		length;
	Host	   *host;

	begin = begin ? begin + 3 : url;
	length = strcspn(begin, "/");
	for (host = hosts; host != NULL; host = host->next)
		if (host->private == private && strlen(host->name) == length && memcmp(host->name, begin, length) == 0)
			return host;
	host = calloc(1, sizeof(Host) + length + 1);
	if (host == NULL)
		return NULL;
	memcpy(host->name, begin, length);
	host->private = private;
	host->next = hosts;
	hosts = host;
	return host;
}

/* start gives a request to libcurl, if its host is known or may be looked up now. */
static bool
start(Request *r)
{
	struct timespec now;
	long		left;

	if (r->host->known_until <= clock_ms() / 1000)
	{
		if (r->host->asking || lookups >= LOOKUPS)
			return false;
		r->host->asking = r->asks = true;
		lookups++;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	left = r->timeout_ms - (now.tv_sec - r->begun.tv_sec) * 1000L - (now.tv_nsec - r->begun.tv_nsec) / 1000000;
	curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, left > 1 ? left : 1L);
	if (curl_multi_add_handle(multis[r->private], r->easy) != CURLM_OK)
		fail(r, ROM_TRANSPORT_FAILED, "libcurl does not take the request");
	else
		r->sent = true;
	return true;
}

/* start_waiting starts those that waited for a look-up, and ends those that have waited too long. */
static void
start_waiting(void)
{
	Request   **at = &waiting;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	while (*at != NULL)
	{
		Request    *r = *at;
		Request    *next = r->next;

		if ((now.tv_sec - r->begun.tv_sec) * 1000L + (now.tv_nsec - r->begun.tv_nsec) / 1000000 >= r->timeout_ms)
		{
			*at = next;
			fail(r, ROM_TRANSPORT_TIMEOUT, "the time limit was reached before the name of its host was looked up");
		}
		else if (start(r))
			*at = next;
		else
			at = &r->next;
	}
}

/* set_options has libcurl do this, and nothing that the environment or an answer asks for. */
static void
set_options(Request *r, const RomTransportRequest *request)
{
	CURL	   *easy = r->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (request->ca_file != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}

	/*
	 * With TLS, the handshake tells whether a connection can have several
	 * requests; others wait for it. Without TLS they would wait for the first
	 * answer.
	 */
	if (strncmp(request->url, "https:", 6) == 0)
	{
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
		curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	}
	else
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* a cancel does not wait for the thread that looks the name up */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, request->timeout_ms < CONNECT_MS ? request->timeout_ms : (long) CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long) NAME_SECONDS);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, r);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
	if (request->has_body)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_length);
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
	}
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/* add_headers makes libcurl's list of the request's headers, and takes back one that libcurl adds. */
static bool
add_headers(Request *r, const RomTransportRequest *request)
{
	r->headers = curl_slist_append(NULL, "Expect:");
	for (const char *const *h = request->headers; r->headers != NULL && *h != NULL; h++)
	{
		struct curl_slist *list = curl_slist_append(r->headers, *h);

		if (list == NULL)
			return false;
		r->headers = list;
	}
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
	return r->headers != NULL;
}

static void *
send_request(const RomTransportRequest *request)
{
	Request    *r = calloc(1, sizeof(Request));
	sigset_t	before;

	if (r == NULL)
		return NULL;
	sigprocmask(SIG_SETMASK, &all_signals, &before);
	r->private = request->private != 0;
	r->max_response = request->max_response;
	r->timeout_ms = request->timeout_ms;
	clock_gettime(CLOCK_MONOTONIC, &r->begun);
	r->answer = calloc(1, sizeof(RomTransportAnswer));
	r->host = find_host(request->url, r->private);
	r->easy = curl_easy_init();
	if (r->answer == NULL || r->host == NULL || r->easy == NULL || !add_headers(r, request))
	{
		free(r->answer);
		free_request(r);
		r = NULL;
	}
	else
	{
		r->answer->tag = request->tag;
		set_options(r, request);
		if (!start(r))
		{
			r->next = waiting;
			waiting = r;
		}
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void
cancel_request(void *handle)
{
	Request    *r = handle;
	sigset_t	before;

	sigprocmask(SIG_SETMASK, &all_signals, &before);
	unlink_request(&waiting, r);
	unlink_request(&ended, r);
	free_answer(r->answer);
	free_request(r);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static long
next_timeout(void)
{
	long		now = clock_ms();
	long		ms = -1;

	for (int i = 0; i < 2; i++)
		if (deadlines[i] >= 0)
		{
			long		left = deadlines[i] > now ? deadlines[i] - now : 0;

			ms = ms < 0 || left < ms ? left : ms;
		}
	/* those that wait have time limits of their own */
	if (waiting != NULL && (ms < 0 || ms > 100))
		ms = 100;
	return ended != NULL ? 0 : ms;
}

/* judge says how a request that libcurl has ended went. */
static void
judge(Request *r, CURLcode code)
{
	RomTransportAnswer *a = r->answer;
	const char *message = curl_easy_strerror(code);

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &a->status);
	a->result = ROM_TRANSPORT_FAILED;
	if (r->too_long)
		a->result = ROM_TRANSPORT_BODY_LIMIT;
	else if (r->headers_too_long)
		a->result = ROM_TRANSPORT_HEADER_LIMIT;
	else if (code == CURLE_OK)
		a->result = ROM_TRANSPORT_ANSWERED;
	else if (code == CURLE_OPERATION_TIMEDOUT)
		a->result = ROM_TRANSPORT_TIMEOUT;
	else if (r->forbidden && code == CURLE_COULDNT_CONNECT)
		a->result = ROM_TRANSPORT_FORBIDDEN;
	else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR ||
			 code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CIPHER)
		a->result = ROM_TRANSPORT_TLS;
	if (a->result == ROM_TRANSPORT_ANSWERED && !r->headers_complete)
	{
		/* libcurl takes a connection that is closed there for an answer */
		a->result = ROM_TRANSPORT_FAILED;
		message = "the connection was closed within the answer's headers";
	}
	snprintf(a->message, sizeof(a->message), "%s", message);
}

static void
collect(int which)
{
	CURLMsg    *m;
	int			left;

	while ((m = curl_multi_info_read(multis[which], &left)) != NULL)
	{
		Request    *r = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **) &r);
		judge(r, m->data.result);
		/* of a connection that stood already nothing was looked up */
		looked_up(r, r->answer->result == ROM_TRANSPORT_ANSWERED);
		r->next = ended;
		ended = r;
	}
}

static void
run(void)
{
	struct epoll_event events[256];
	sigset_t	before;
	int			running;
	int			n;

	sigprocmask(SIG_SETMASK, &all_signals, &before);
	n = epoll_wait(epoll, events, 256, 0);
	for (int i = 0; i < n; i++)
	{
		int			mask = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
			(events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			(events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);

		curl_multi_socket_action(multis[events[i].data.u64 & 1], (curl_socket_t) (events[i].data.u64 >> 1), mask, &running);
	}
	for (int i = 0; i < 2; i++)
	{
		if (deadlines[i] >= 0 && deadlines[i] <= clock_ms())
		{
			deadlines[i] = -1;
			curl_multi_socket_action(multis[i], CURL_SOCKET_TIMEOUT, 0, &running);
		}
		collect(i);
	}
	if (waiting != NULL)
		start_waiting();
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static RomTransportAnswer *
next_answer(void)
{
	Request    *r = ended;
	RomTransportAnswer *answer;
	sigset_t	before;

	if (r == NULL)
		return NULL;
	sigprocmask(SIG_SETMASK, &all_signals, &before);
	ended = r->next;
	answer = r->answer;
	free_request(r);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return answer;
}

static int
open_transport(const RomTransportSettings *with, const char **error)
{
	sigset_t	before;

	settings = *with;
	sigfillset(&all_signals);
	/* faults of the process itself come all the same */
	sigdelset(&all_signals, SIGSEGV);
	sigdelset(&all_signals, SIGBUS);
	sigdelset(&all_signals, SIGFPE);
	sigdelset(&all_signals, SIGILL);
	sigdelset(&all_signals, SIGABRT);
	sigprocmask(SIG_SETMASK, &all_signals, &before);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		*error = strerror(errno);
	else if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
	{
		*error = "libcurl could not be initialized";
		epoll = -1;
	}
	for (int i = 0; i < 2 && epoll >= 0; i++)
	{
		multis[i] = curl_multi_init();
		deadlines[i] = -1;
		curl_multi_setopt(multis[i], CURLMOPT_SOCKETFUNCTION, socket_changed);
		curl_multi_setopt(multis[i], CURLMOPT_SOCKETDATA, (void *) (intptr_t) i);
		curl_multi_setopt(multis[i], CURLMOPT_TIMERFUNCTION, timer_changed);
		curl_multi_setopt(multis[i], CURLMOPT_TIMERDATA, (void *) (intptr_t) i);
		curl_multi_setopt(multis[i], CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX);
		curl_multi_setopt(multis[i], CURLMOPT_MAXCONNECTS, 64L);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return epoll;
}

static const RomTransport transport = {
	.version = ROM_TRANSPORT_VERSION,
	.open = open_transport,
	.send = send_request,
	.cancel = cancel_request,
	.timeout = next_timeout,
	.run = run,
	.next = next_answer,
	.free_answer = free_answer,
};

extern __attribute__((visibility("default")))
const RomTransport *rom_transport_get(void);

const RomTransport *
rom_transport_get(void)
{
	return &transport;
}
