/*-------------------------------------------------------------------------
 *
 * receive.c
 *		Takes what arrives of an answer, within its bounds.
 *
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "http/curl/transfer.h"

size_t
rom_receive_body(char *data, size_t size, size_t n, void *userp)
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

size_t
rom_receive_header(char *data, size_t size, size_t n, void *userp)
{
	Request    *r = userp;
	RomTransportAnswer *a = r->answer;
	const char *colon;
	const char *end;
	RomTransportHeader *h;

	n *= size;
	r->header_bytes += n;
	if (r->header_bytes > rom_transport_settings.max_header_bytes)
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
	if (a->nheaders == rom_transport_settings.max_headers)
	{
		r->headers_too_long = true;
		return 0;
	}
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

void
rom_receive_free(RomTransportAnswer *answer)
{
	free_headers(answer);
	free(answer->headers);
	free(answer->body);
	free(answer);
}
