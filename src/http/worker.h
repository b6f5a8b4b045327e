/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The process that sends requests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_WORKER_H
#define ROM_HTTP_WORKER_H

#include "fmgr.h"

/* Main function of the HTTP worker. */
extern PGDLLEXPORT void rom_http_worker_main(Datum arg);

#endif							/* ROM_HTTP_WORKER_H */
