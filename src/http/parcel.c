/*-------------------------------------------------------------------------
 *
 * parcel.c
 *		A request, made of events and the way to their destination.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "base/version.h"
#include "http/guc.h"
#include "http/parcel.h"
#include "outbox/sign.h"

/* batch_id stands for the events of a batch: the same again for the same ones. */
static char *
batch_id(const RomTaken *events, int n)
{
	StringInfoData to;

	initStringInfo(&to);
	for (int i = 0; i < n; i++)
		appendStringInfo(&to, INT64_FORMAT ",", events[i].outbox_id);
	return psprintf("batch_%s", rom_sign_digest(to.data, to.len));
}

int
rom_parcel_sign(const char *keys, const char *id, const char *body, size_t length, const char **headers)
{
	int64		seconds = GetCurrentTimestamp() / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400);

	if (keys == NULL)
		return 0;
	headers[0] = psprintf("webhook-id: %s", id);
	headers[1] = psprintf("webhook-timestamp: " INT64_FORMAT, seconds);
	headers[2] = psprintf("webhook-signature: %s", rom_sign_message(keys, id, seconds, body, length));
	return ROM_PARCEL_SIGNED;
}

void
rom_parcel_make(const RomRoute *route, RomFormat format, const RomTaken *events, int n_events, RomParcel *parcel)
{
	RomTransportRequest *send = &parcel->send;
	RomFormatted formatted;
	const char **headers;
	int			n = 0;

	rom_format_events(format, events, n_events, &formatted);
	headers = palloc_array(const char *, route->nheaders + formatted.nheaders + 3 + ROM_PARCEL_SIGNED);
	for (int i = 0; i < formatted.nheaders; i++)
		headers[n++] = formatted.headers[i];
	for (int i = 0; i < route->nheaders; i++)
		headers[n++] = pstrdup(route->headers[i]);
	/* libcurl adds a type of its own unless it is taken back */
	headers[n++] = formatted.content_type ? psprintf("Content-Type: %s", formatted.content_type) : "Content-Type:";
	if (!route->has_agent)
		headers[n++] = "User-Agent: romancy/" ROM_VERSION;
	n += rom_parcel_sign(route->keys, format == ROM_FORMAT_BATCH ? batch_id(events, n_events) : rom_format_header(events[0].id),
						 formatted.body, formatted.length, headers + n);
	headers[n] = NULL;
	send->method = "POST";
	send->url = pstrdup(route->url);
	send->headers = headers;
	send->body = formatted.body;
	send->body_length = formatted.length;
	send->has_body = 1;
	send->timeout_ms = rom_guc_http_timeout;
	send->max_response = rom_guc_http_max_response;
	send->private = route->private;
	send->ca_file = rom_guc_http_ca_file[0] ? pstrdup(rom_guc_http_ca_file) : NULL;
	parcel->label = pstrdup(route->label);
	for (int i = 0; i < list_length(route->secrets); i++)
		parcel->secrets = lappend(parcel->secrets, pstrdup(list_nth(route->secrets, i)));
}

size_t
rom_parcel_size(const RomTaken *event)
{
	return 1000 + (event->data ? VARSIZE(event->data) : 0) + (event->binary ? VARSIZE_ANY(event->binary) * 4 / 3 : 0);
}
