/*-------------------------------------------------------------------------
 *
 * library.h
 *		The library romancy_http: is it there, and loading it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_HTTP_LIBRARY_H
#define ROM_HTTP_LIBRARY_H

#include "http/transport.h"

/* Raises RM010, with what to install, where the library is not there. */
extern void rom_library_require(void);

/* Loads it. For the worker only. Errors: as rom_library_require(), and where it is of another build. */
extern const RomTransport *rom_library_load(void);

#endif							/* ROM_HTTP_LIBRARY_H */
