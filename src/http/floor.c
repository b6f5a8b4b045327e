/*-------------------------------------------------------------------------
 *
 * floor.c
 *		The room http: what it registers with the rooms below.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/floor.h"
#include "http/push.h"
#include "http/route.h"
#include "http/spec.h"

void
rom_http_init(void)
{
	rom_spec_init();
	rom_route_init();
	rom_push_init();
}
