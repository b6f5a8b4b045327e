/*-------------------------------------------------------------------------
 *
 * module.c
 *		The library romancy_http, as the server loads it: for one major version of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
