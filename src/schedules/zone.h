/*-------------------------------------------------------------------------
 *
 * zone.h
 *		Time zones of schedules: the server's own, never the C library's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_ZONE_H
#define ROM_ZONE_H

#include "pgtime.h"

/* A zone by its name. RM012 for one that does not exist, an abbreviation, or a POSIX rule. */
extern pg_tz *rom_zone_find(const char *name);

/* The same; NULL for an unknown one. */
extern pg_tz *rom_zone_find_opt(const char *name);

/* All times are in seconds since 1970. */

/*
 * The span of time from second "from" on in which the zone's clock does not
 * change: returns its end (PG_INT64_MAX: there is none), and its offset from UTC in
 * *offset, in seconds, positive in the east.
 */
extern int64 rom_zone_segment(pg_tz *zone, int64 from, int64 *offset);

/* The offset at a second. */
extern int64 rom_zone_offset(pg_tz *zone, int64 second);

/* The first second at which the zone's clock shows "local", or what comes after it. */
extern int64 rom_zone_first(pg_tz *zone, int64 local);

#endif							/* ROM_ZONE_H */
