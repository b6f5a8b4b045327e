/*-------------------------------------------------------------------------
 *
 * cron.h
 *		Expressions of schedules: what schedule(cron => ...) takes, as bitmaps.
 *
 * An expression has one or several rules, joined by "|": its times are those of
 * all of them. A rule is five or six fields, a name (@daily), or a period
 * (@every 90s).
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_CRON_H
#define ROM_CRON_H

#include "schedules/rule.h"

/*
 * Reads an expression. name: the schedule's, whose hash "H" stands for; ""
 * where there is none. Errors: RM012, which names the field and the position
 * (in characters, from 1) of what is wrong, and says so of a date that never comes.
 */
extern void rom_cron_parse(const char *expression, const char *name, RomCron *cron);

/* A hash that is the same on every machine and in every version. */
extern uint64 rom_cron_hash(const char *value, uint64 seed);

#endif							/* ROM_CRON_H */
