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
 * A connection of HTTP/2 carries many requests. libcurl (7.88) has the others wait for a host's first connection, but once that is full it
 * opens one for each request. So one request at a time waits for a connection of a host with TLS, unless the host is known to take
 * one request at a time.
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

#include "http/curl/transfer.h"

/* Names that are looked up at a time. */
#define LOOKUPS 8

/* Seconds for which an answer about a name holds, and how much sooner it is asked for anew. */
#define NAME_SECONDS 60
#define NAME_EARLY 5

/* A connection has to be there after so long, at the most. */
#define CONNECT_MS 10000

RomTransportSettings rom_transport_settings;

static CURLM *multis[2];		/* [1]: private addresses may be reached */
static long deadlines[2];		/* milliseconds of the monotonic clock; -1:
								 * none */
static int	epoll = -1;
static int	lookups;
static Request *waiting;		/* for the look-up of their host; first come,
								 * first served */
static Request **waiting_end = &waiting;
static Request *unwatched;		/* are to be ended */
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
	Request    *r = NULL;

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	event.data.u64 = (uint64_t) fd << 1 | (unsigned) which;
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0 ||
		(errno == ENOENT && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0))
		return 0;

	/*
	 * A failure told to libcurl would end all requests of the handle. This
	 * one ends alone, when libcurl has returned.
	 */
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &r);
	if (r != NULL && !r->unwatched)
	{
		r->unwatched = true;
		r->next = unwatched;
		unwatched = r;
	}
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
	if (!r->asks || r->host == NULL)
		return;
	r->asks = false;
	r->host->asking = false;
	lookups--;
	r->host->known_until = found ? clock_ms() / 1000 + NAME_SECONDS - NAME_EARLY : 0;
}

/* got_connection: the request has a connection, or (found false) will have none; the others need not wait. */
static void
got_connection(Request *r, bool found)
{
	Host	   *host = r->host;

	if (host == NULL)
		return;
	if (found && !r->connected)
	{
		/* one that is in use took it, too */
		if (host->protocol == HOST_UNKNOWN && !r->opened && host->connected > 0)
			host->protocol = HOST_MANY;
		r->connected = true;
		host->connected++;
		r->sibling = host->first;
		host->first = r;
	}
	if (r->connects)
		host->connecting = r->connects = false;
}

/* before_request is called by libcurl when a request has its connection. */
static int
before_request(void *userp, char *to, char *from, int to_port, int from_port)
{
	got_connection(userp, true);
	((Request *) userp)->port = from_port;
	return CURL_PREREQFUNC_OK;
}

static curl_socket_t
open_socket(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	Request    *r = userp;
	int			may;

	looked_up(r, true);
	/* the connection that is in use takes no other */
	if (r->host->protocol == HOST_UNKNOWN && r->host->connected > 0)
		r->host->protocol = HOST_SINGLE;
	r->opened = true;
	may = rom_transport_settings.may_connect(&address->addr, r->private);
	if (may <= 0)
	{
		r->forbidden = true;
		r->never = may < 0;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---------------------------------------------------------------- requests */

/*
 * tell_peer has libcurl send what it has to say on the connection of a request that was taken from it. Since 7.88 it does not say at once that a stream of HTTP/2 is
 * given up (https://github.com/curl/curl/issues/17611), so the server would go on with its work. A change of another stream's window sends both. False: there is no other
 * request on it.
 */
static bool
tell_peer(const Request *r)
{
	bool		others = false;

	for (Request *other = r->host->first; other != NULL; other = other->sibling)
	{
		if (other == r || other->port != r->port)
			continue;
		others = true;
		if (curl_easy_pause(other->easy, CURLPAUSE_RECV) == CURLE_OK)
		{
			(void) curl_easy_pause(other->easy, CURLPAUSE_CONT);
			return true;
		}
	}
	return others;
}

/*
 * hang_up ends the connection of a request that has ended without an answer, and was the only one on it: libcurl keeps it, and would send what it has to say when it uses
 * it again. It then finds that it has ended, and makes another.
 */
static void
hang_up(const Request *r)
{
	curl_socket_t descriptor = CURL_SOCKET_BAD;

	if (curl_easy_getinfo(r->easy, CURLINFO_ACTIVESOCKET, &descriptor) == CURLE_OK && descriptor != CURL_SOCKET_BAD)
		(void) shutdown(descriptor, SHUT_RDWR);
}

/* free_request frees it, but for its answer. given_up: it may be under way. */
static void
free_request(Request *r, bool given_up)
{
	bool		tell = given_up && r->sent && r->connected && r->host->tls;

	/* of a connection that has no other request nothing is left */
	if (tell)
		curl_easy_setopt(r->easy, CURLOPT_FORBID_REUSE, 1L);
	if (r->sent)
		curl_multi_remove_handle(multis[r->private], r->easy);
	if (tell)
		(void) tell_peer(r);
	looked_up(r, false);
	got_connection(r, false);
	if (r->host != NULL)
		r->host->requests--;
	if (r->connected)
	{
		Request   **at = &r->host->first;

		while (*at != r)
			at = &(*at)->sibling;
		*at = r->sibling;
		r->host->connected--;
	}
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
			if (waiting_end == &r->next)
				waiting_end = list;
			*list = r->next;
			return;
		}
}

/* wait_for_host has a request wait, behind those that came before. */
static void
wait_for_host(Request *r)
{
	r->next = NULL;
	*waiting_end = r;
	waiting_end = &r->next;
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

/* start gives a request to libcurl, if its host is known or may be looked up now, and no other one waits for a connection that may do for both. */
static bool
start(Request *r)
{
	Host	   *host = r->host;
	bool		alone = host->tls && host->protocol != HOST_SINGLE;
	bool		asks = host->known_until <= clock_ms() / 1000;
	struct timespec now;
	long		left;

	if ((alone && host->connecting) || (asks && (host->asking || lookups >= LOOKUPS)))
		return false;
	if (asks)
	{
		host->asking = r->asks = true;
		lookups++;
	}
	if (alone)
		host->connecting = r->connects = true;
	/* the handshake tells what a connection takes */
	curl_easy_setopt(r->easy, CURLOPT_PIPEWAIT, alone ? 1L : 0L);
	clock_gettime(CLOCK_MONOTONIC, &now);
	left = r->timeout_ms - (now.tv_sec - r->begun.tv_sec) * 1000L - (now.tv_nsec - r->begun.tv_nsec) / 1000000;
	curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, left > 1 ? left : 1L);
	if (curl_multi_add_handle(multis[r->private], r->easy) != CURLM_OK)
		fail(r, ROM_TRANSPORT_FAILED, "libcurl does not take the request");
	else
		r->sent = true;
	return true;
}

/* start_waiting starts those that waited for a look-up or a connection, and ends those that have waited too long. Has it started any? */
static bool
start_waiting(void)
{
	bool		any = false;
	Request    *r = waiting;
	Request    *next;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	waiting = NULL;
	waiting_end = &waiting;
	for (; r != NULL; r = next)
	{
		next = r->next;
		if ((now.tv_sec - r->begun.tv_sec) * 1000L + (now.tv_nsec - r->begun.tv_nsec) / 1000000 >= r->timeout_ms)
			fail(r, ROM_TRANSPORT_TIMEOUT, "the time limit was reached before its host was looked up and connected");
		else if (start(r))
			any = true;
		else
			wait_for_host(r);
	}
	return any;
}

/* end_unwatched ends requests whose sockets cannot be waited for. */
static void
end_unwatched(void)
{
	Request    *r = unwatched;
	Request    *next;

	unwatched = NULL;
	for (; r != NULL; r = next)
	{
		next = r->next;
		curl_multi_remove_handle(multis[r->private], r->easy);
		r->sent = false;
		fail(r, ROM_TRANSPORT_FAILED, "the system does not let the server watch another connection");
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
	/* (without TLS the first answer tells whether the server has HTTP/2) */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, r->host->tls ? (long) CURL_HTTP_VERSION_2TLS : (long) CURL_HTTP_VERSION_1_1);
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
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, r);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, rom_receive_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, rom_receive_header);
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
	r->host = rom_host_find(request->url, r->private, clock_ms() / 1000);
	if (r->host != NULL)
		r->host->requests++;
	r->easy = curl_easy_init();
	if (r->answer == NULL || r->host == NULL || r->easy == NULL || !add_headers(r, request))
	{
		free(r->answer);
		free_request(r, false);
		r = NULL;
	}
	else
	{
		r->answer->tag = request->tag;
		set_options(r, request);
		if (!start(r))
			wait_for_host(r);
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
	unlink_request(&unwatched, r);
	rom_receive_free(r->answer);
	free_request(r, true);
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
	return ended != NULL || unwatched != NULL ? 0 : ms;
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
		a->result = r->never ? ROM_TRANSPORT_NEVER : ROM_TRANSPORT_FORBIDDEN;
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

/* learn notes what an answer, or none, tells of its host. */
static void
learn(Request *r)
{
	long		version = 0;

	/* of a connection that stood already nothing was looked up */
	looked_up(r, r->answer->result == ROM_TRANSPORT_ANSWERED);
	if (r->answer->result == ROM_TRANSPORT_ANSWERED && curl_easy_getinfo(r->easy, CURLINFO_HTTP_VERSION, &version) == CURLE_OK)
		r->host->protocol = version >= CURL_HTTP_VERSION_2_0 ? HOST_MANY : HOST_SINGLE;
	else if (r->connects)

		/*
		 * those behind it have the same trouble, and need not have it one
		 * after the other
		 */
		r->host->protocol = HOST_SINGLE;
	got_connection(r, false);
	if (r->answer->result != ROM_TRANSPORT_ANSWERED && r->connected && r->host->tls && !tell_peer(r))
		hang_up(r);
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
		if (r->unwatched)
			unlink_request(&unwatched, r);
		learn(r);
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

	/*
	 * each that is started may have its connection at once, and let the next
	 * one go
	 */
	do
	{
		for (int i = 0; i < 2; i++)
		{
			if (deadlines[i] >= 0 && deadlines[i] <= clock_ms())
			{
				deadlines[i] = -1;
				curl_multi_socket_action(multis[i], CURL_SOCKET_TIMEOUT, 0, &running);
			}
			collect(i);
		}
	} while (waiting != NULL && start_waiting());
	if (unwatched != NULL)
		end_unwatched();
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
	free_request(r, false);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return answer;
}

static int
open_transport(const RomTransportSettings *with, const char **error)
{
	sigset_t	before;

	rom_transport_settings = *with;
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
		close(epoll);
		epoll = -1;
	}
	for (int i = 0; i < 2 && epoll >= 0; i++)
	{
		multis[i] = curl_multi_init();
		deadlines[i] = -1;
		if (multis[i] == NULL)
		{
			*error = "out of memory";
			close(epoll);
			epoll = -1;
			break;
		}
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
	.free_answer = rom_receive_free,
};

extern __attribute__((visibility("default")))
const RomTransport *rom_transport_get(void);

const RomTransport *
rom_transport_get(void)
{
	return &transport;
}
