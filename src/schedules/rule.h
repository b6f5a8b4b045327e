/*-------------------------------------------------------------------------
 *
 * rule.h
 *		An expression of a schedule, as bitmaps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_RULE_H
#define ROM_RULE_H

#include "datatype/timestamp.h"

/* Rules of one expression, and bytes of its text. */
#define ROM_CRON_RULES 16
#define ROM_CRON_TEXT 1000

/* The n-th weekday of a month, n from 1. */
#define ROM_CRON_NTH 5

typedef struct RomCronRule
{
	int64		period;			/* of @every, in microseconds; 0: fields */

	/* Fields. Bit n stands for the value n; Sunday is weekday 0. */
	uint64		seconds;
	uint64		minutes;
	uint32		hours;
	uint32		days;
	uint32		months;
	uint8		weekdays;

	/* Days that depend on the month. */
	uint32		from_last;		/* L: bit 0, L-3: bit 3 */
	bool		last_workday;	/* LW: the last of Monday to Friday */
	uint32		nearest;		/* 15W: bit 15, the day of Monday to Friday
								 * nearest to it */
	uint8		nth[ROM_CRON_NTH];	/* 1#2: bit 1 of nth[1] */
	uint8		nth_last[ROM_CRON_NTH]; /* 5L: bit 5 of nth_last[0]; 1#-2: bit
										 * 1 of nth_last[1] */

	bool		both;			/* both day fields must match, not either */
	bool		elapsed;		/* follows elapsed time where a zone's clock
								 * changes, because its minute or hour begins
								 * with "*" */
} RomCronRule;

typedef struct RomCron
{
	int			count;
	RomCronRule rules[ROM_CRON_RULES];
} RomCron;

#endif							/* ROM_RULE_H */
