/*-------------------------------------------------------------------------
 *
 * next.h
 *		The times of an expression in a zone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_NEXT_H
#define ROM_NEXT_H

#include "pgtime.h"

#include "schedules/rule.h"

/*
 * The first time of cron in zone that comes after the instant "after";
 * DT_NOEND where there is none that a timestamp can hold. anchor: where the periods of
 * @every begin.
 */
extern TimestampTz rom_next_time(const RomCron *cron, pg_tz *zone,
								 TimestampTz anchor, TimestampTz after);

#endif							/* ROM_NEXT_H */
