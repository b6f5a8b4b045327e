/*-------------------------------------------------------------------------
 *
 * calendar.h
 *		When a rule comes on a clock that never changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CALENDAR_H
#define ROM_CALENDAR_H

#include "schedules/rule.h"

/* Finds the first time from "from" on that a rule of fields names, both in seconds since 1970; false where none comes. */
extern bool rom_calendar_next(const RomCronRule *rule, int64 from, int64 *found);

/* Does the rule's date ever come? */
extern bool rom_calendar_comes(const RomCronRule *rule);

#endif							/* ROM_CALENDAR_H */
