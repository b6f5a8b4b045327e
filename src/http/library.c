/*-------------------------------------------------------------------------
 *
 * library.c
 *		The library romancy_http: is it there, and loading it.
 *
 * It stands beside romancy's own library. A session only looks for the file; the worker loads it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "postgres.h"

#include <dlfcn.h>
#include <unistd.h>

#include "fmgr.h"

#include "base/errors.h"
#include "http/library.h"

/* path is the file's path, in the current context; NULL where the system does not tell where we are. */
static char *
path(void)
{
	Dl_info		info;
	char	   *own;
	char	   *slash;

	if (dladdr((void *) rom_library_require, &info) == 0 || info.dli_fname == NULL)
		return NULL;
	own = pstrdup(info.dli_fname);
	slash = strrchr(own, '/');
	if (slash == NULL)
		return NULL;
	*slash = '\0';
	return psprintf("%s/%s%s", own, ROM_TRANSPORT_LIBRARY, DLSUFFIX);
}

void
rom_library_require(void)
{
	char	   *file = path();

	if (file == NULL || access(file, R_OK) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("this installation of romancy cannot send HTTP requests"),
				 errdetail("It was built without libcurl: there is no library \"%s\".", ROM_TRANSPORT_LIBRARY),
				 errhint("Install libcurl 7.85 or newer (Debian: libcurl4-openssl-dev), then run make and make install in romancy's sources.")));
}

const RomTransport *
rom_library_load(void)
{
	RomTransportGet get;
	const RomTransport *transport;

	rom_library_require();
	get = (RomTransportGet) load_external_function(path(), ROM_TRANSPORT_FUNCTION, true, NULL);
	transport = get();
	if (transport->version != ROM_TRANSPORT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_ROM_STATE),
				 errmsg("library \"%s\" is of another build than romancy", ROM_TRANSPORT_LIBRARY),
				 errhint("Run make install again.")));
	return transport;
}
