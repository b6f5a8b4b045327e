/*-------------------------------------------------------------------------
 *
 * app_settings.h
 *		Settings that applications have made up (app.region), as a role, a database or the server's configuration has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_APP_SETTINGS_H
#define ROM_APP_SETTINGS_H

#include "utils/jsonb.h"

/* The values with which this session began, by name: an object, which stays until the configuration is read again. */
extern Jsonb *rom_app_settings_now(void);

/*
 * Puts the values of an instance's first turn in force until the current GUC nest level ends (handler); or, for its activities, those with
 * which this session began. A setting that was not set then reads as ''.
 */
extern void rom_app_settings_apply(const Jsonb *kept, bool handler);

#endif							/* ROM_APP_SETTINGS_H */
