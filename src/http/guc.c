/*-------------------------------------------------------------------------
 *
 * guc.c
 *		Settings of the room http, alphabetically.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "http/guc.h"

char	   *rom_guc_http_ca_file = NULL;
int			rom_guc_http_max_in_flight = 500;
int			rom_guc_http_max_response = 1024 * 1024;
int			rom_guc_http_timeout = 30000;

void
rom_http_guc_init(void)
{
	DefineCustomStringVariable("romancy.http_ca_file",
							   "Sets the file of the certificates that HTTP servers are verified with.",
							   "If empty, those that libcurl was built with. Servers are always verified.",
							   &rom_guc_http_ca_file,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.http_max_in_flight",
							"Sets the number of HTTP requests that a database has under way at a time.",
							NULL,
							&rom_guc_http_max_in_flight,
							500, 1, 10000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.http_max_response",
							"Sets the size that the body of an HTTP answer may have, when it is decompressed.",
							"A larger one fails its activity with an error that names this setting.",
							&rom_guc_http_max_response,
							1024 * 1024, 1024, 256 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("romancy.http_timeout",
							"Sets the time that an HTTP request may take where its definition says none.",
							NULL,
							&rom_guc_http_timeout,
							30000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}
