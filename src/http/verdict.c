/*-------------------------------------------------------------------------
 *
 * verdict.c
 *		What the answer of a destination means for its events and for itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "http/answer.h"
#include "http/verdict.h"

/* judge_status judges an answer by its status. */
static void
judge_status(const RomTransportAnswer *answer, const RomParcel *parcel, int n, RomVerdict *v)
{
	long		status = answer->status;
	const char *after = rom_answer_header(answer, "retry-after");
	char	   *body;

	if (status >= 200 && status < 300)
	{
		v->how = ROM_SETTLED_PUBLISHED;
		v->received = ROM_RECEIVED_WELL;
		return;
	}
	body = rom_answer_begin(answer, parcel->secrets);
	v->error = psprintf("%s: HTTP %ld%s%s", parcel->label, status, body ? ": " : "", body ? body : "");
	if (status == 410)
	{
		v->how = ROM_SETTLED_RELEASED;
		v->received = ROM_RECEIVED_GONE;
	}
	else if (rom_answer_again(status) || status < 400)
	{
		/* a redirect is not followed, and is nothing that the event can help */
		v->how = ROM_SETTLED_FAILED;
		v->received = status == 429 ? ROM_RECEIVED_LATER : ROM_RECEIVED_BADLY;
		if (after != NULL)
			(void) rom_answer_retry_after(after, rom_now(), &v->not_before);
	}
	else
	{
		/* which of the events of a batch is meant is found out one by one */
		v->split = n > 1;
		v->how = v->split ? ROM_SETTLED_RELEASED : ROM_SETTLED_INVALID;
		v->received = ROM_RECEIVED_WELL;
	}
}

void
rom_verdict_unsent(RomSettled how, char *error, int n, RomVerdict *v)
{
	memset(v, 0, sizeof(RomVerdict));
	/* which of the events of a batch is meant is found out one by one */
	v->split = how != ROM_SETTLED_RELEASED && n > 1;
	v->how = v->split ? ROM_SETTLED_RELEASED : how;
	v->received = ROM_RECEIVED_NOTHING;
	v->error = error;
}

void
rom_verdict_answer(const RomTransportAnswer *answer, const RomParcel *parcel, int n, RomVerdict *v)
{
	memset(v, 0, sizeof(RomVerdict));

	/*
	 * of an answer that is too long the status is known, and all that is
	 * wanted
	 */
	if (answer->result == ROM_TRANSPORT_ANSWERED || (answer->result == ROM_TRANSPORT_BODY_LIMIT && answer->status > 0))
	{
		judge_status(answer, parcel, n, v);
		return;
	}
	v->how = ROM_SETTLED_FAILED;
	v->received = ROM_RECEIVED_BADLY;
	switch (answer->result)
	{
		case ROM_TRANSPORT_TIMEOUT:
			v->error = psprintf("%s: no answer within the time limit", parcel->label);
			break;
		case ROM_TRANSPORT_FORBIDDEN:
		case ROM_TRANSPORT_NEVER:
			/* nothing was sent: it is the destination that needs a rule */
			v->how = ROM_SETTLED_RELEASED;
			v->received = ROM_RECEIVED_REFUSED;
			v->not_before = rom_now() + ROM_VERDICT_UNREACHABLE_US;
			v->error = psprintf("%s: its host has an address that HTTP requests may %s", parcel->label,
								answer->result == ROM_TRANSPORT_NEVER ? "never go to" :
								"not go to: a private one, which romancy.allow_http() with private => true allows");
			break;
		case ROM_TRANSPORT_HEADER_LIMIT:
			v->error = psprintf("%s: the answer has more than %d headers, or they are longer than %d kB", parcel->label, ROM_ANSWER_HEADERS_MAX, ROM_ANSWER_HEADER_BYTES_MAX / 1024);
			break;
		default:
			v->error = psprintf("%s: %s", parcel->label, answer->message);
			break;
	}
}
