/*-------------------------------------------------------------------------
 *
 * trace.c
 *		Ids of spans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "base/trace.h"

uint64
rom_trace_span(const char *step, int attempt)
{
	uint64		span = hash_bytes_extended((const unsigned char *) step, strlen(step), attempt);

	return span != 0 ? span : 1;
}
