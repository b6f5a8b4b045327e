/*-------------------------------------------------------------------------
 *
 * guc.h
 *		Settings of the room messages. Durations are in milliseconds, unless seconds is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_MESSAGES_GUC_H
#define ROM_MESSAGES_GUC_H

#include "utils/guc.h"

extern int	rom_guc_channel_cleanup_interval;
extern int	rom_guc_message_check_interval;
extern int	rom_guc_message_retention;	/* seconds; 0: off */

/* Defines them; called once from _PG_init. */
extern void rom_messages_guc_init(void);

#endif							/* ROM_MESSAGES_GUC_H */
