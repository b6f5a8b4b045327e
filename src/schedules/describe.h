/*-------------------------------------------------------------------------
 *
 * describe.h
 *		An expression in English.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_DESCRIBE_H
#define ROM_DESCRIBE_H

#include "schedules/rule.h"

/* For example "at 03:00 on Monday to Friday". In the current context. */
extern char *rom_describe_cron(const RomCron *cron);

#endif							/* ROM_DESCRIBE_H */
