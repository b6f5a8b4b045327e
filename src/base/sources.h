/*-------------------------------------------------------------------------
 *
 * sources.h
 *		Settings by where their values come from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROM_SOURCES_H
#define ROM_SOURCES_H

#include "utils/guc_tables.h"

/*
 * Calls check with each setting whose value, or the one that RESET gives it, comes from a source above "than", until
 * one is false: false. Cheap enough for each call of a client's. check defines and drops no setting.
 */
extern bool rom_sources_above(GucSource than, bool (*check) (const struct config_generic *setting));

/* The setting of the server of that name. */
extern const struct config_generic *rom_sources_find(const char *name);

#endif							/* ROM_SOURCES_H */
