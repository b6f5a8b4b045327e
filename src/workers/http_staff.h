/*-------------------------------------------------------------------------
 *
 * http_staff.h
 *		Starting HTTP workers: for the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_STAFF_H
#define ROM_HTTP_STAFF_H

#include "datatype/timestamp.h"

/*
 * Starts an HTTP worker for each database that has requests to send and no such worker. Returns when to look again, though
 * it is not told before; DT_NOEND: not before. Only the launcher calls this.
 */
extern TimestampTz rom_http_staff_plan(TimestampTz now);

#endif							/* ROM_HTTP_STAFF_H */
